# cython: language_level=3, binding=False, auto_pickle=False, always_allow_keywords=False
# cython: freethreading_compatible=True
"""The floors in C: an async context manager and awaitables that do nothing."""

cimport cython
from cpython.object cimport PyTypeObject

cdef extern from *:
    """
    /* To return True: am_send, for which Cython has no name, where the interpreter uses it, and
       elsewhere StopIteration(True), of which one instance is reused. */
    static PySendResult send_true(PyObject *self, PyObject *value, PyObject **result)
    {
        *result = Py_NewRef(Py_True);
        return PYGEN_RETURN;
    }

    static void set_send_true(PyTypeObject *type)
    {
        type->tp_as_async->am_send = send_true;
    }

    static PyObject *stop = NULL;

    static void set_stop_iteration_true(void)
    {
    #if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)
        if (stop == NULL) {
            stop = PyObject_CallOneArg(PyExc_StopIteration, Py_True);
        }
        if (stop != NULL) {
            PyErr_SetRaisedException(Py_NewRef(stop));
        }
    #else
        PyErr_SetObject(PyExc_StopIteration, Py_True);
    #endif
    }

    /* callgrind writes its counts before each call of this function, which it knows by name. */
    #ifdef __GNUC__
    __attribute__((noinline))
    #endif
    static void floor_mark(void)
    {
    #ifdef __GNUC__
        __asm__ volatile("");
    #endif
    }
    """
    void set_send_true(PyTypeObject*)
    void set_stop_iteration_true() noexcept
    void floor_mark()


def mark():
    """Mark a point in a count of instructions."""
    floor_mark()


@cython.final
cdef class Done:
    """An awaitable that has ended."""

    def __await__(self):
        return self

    # Outside of any try, a bare raise returns NULL without an exception: the cheapest end.
    def __next__(self):
        raise StopIteration


@cython.final
cdef class Given:
    """An awaitable that has ended and returns True."""

    def __await__(self):
        return self

    def __next__(self):
        set_stop_iteration_true()
        raise StopIteration


set_send_true(<PyTypeObject*> Given)

cdef Done done = Done()
cdef Given given = Given()


@cython.final
cdef class Lock:
    """An async context manager that does nothing, and an acquire() that returns True."""

    excludes = False  # tells the workloads not to check for mutual exclusion

    def __aenter__(self):
        return done

    def __aexit__(self, exc_type, exc, tb, /):
        return done

    def acquire(self):
        return given

    def release(self):
        pass


@cython.final
cdef class Event:
    """An event that has always been set."""

    def set(self):
        pass

    def wait(self):
        return given
