/* What _lock.pyx needs of the C API and Cython cannot express. Included by it alone. */
#ifndef AIOFASTLOCK_LOCK_H
#define AIOFASTLOCK_LOCK_H

#include <Python.h>

#include "_guard.h"

/* ---- What a thread keeps ----

   With the GIL, all threads have these in common. In free-threaded builds, each thread has its own. It
   drops them when its thread state is cleared, from whose dict `keeper` goes then. */

#ifdef Py_GIL_DISABLED

#ifdef _MSC_VER
#define kept static __declspec(thread)
#elif defined(__GLIBC__) /* finds a few bytes of a library without a call */
#define kept static _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define kept static _Thread_local
#endif

/* Whether this thread's reference is the only one. A waiter that others have looked for is marked for
   ever; they do so only while it is in a queue. */
static inline int is_only_reference(PyObject *object)
{
    return _Py_IsOwnedByCurrentThread(object)
           && _Py_atomic_load_uint32_relaxed(&object->ob_ref_local) == 1
           && (_Py_atomic_load_ssize_relaxed(&object->ob_ref_shared) & ~_Py_REF_MAYBE_WEAKREF) == 0;
}

#else

#define kept static
#define is_only_reference(object) (Py_REFCNT(object) == 1)

#endif

kept PyObject *spare_waiter = NULL;
kept PyObject *spare_stop = NULL; /* see below */

#ifdef Py_GIL_DISABLED

kept int has_keeper = 0;

static void forget_loops(void); /* of _loop.h */

static void drop_kept(PyObject *Py_UNUSED(keeper))
{
    has_keeper = 0;
    forget_loops();
    Py_CLEAR(spare_waiter);
    Py_CLEAR(spare_stop);
}

/* Whether this thread may keep something. */
static int may_keep(void)
{
    if (!has_keeper) {
        PyObject *dict = PyThreadState_GetDict();
        PyObject *keeper = dict == NULL ? NULL : PyCapsule_New(&has_keeper, NULL, drop_kept);
        has_keeper = keeper != NULL && PyDict_SetItemString(dict, "aiofastlock", keeper) == 0;
        if (!has_keeper) {
            PyErr_Clear();
        }
        Py_XDECREF(keeper);
    }
    return has_keeper;
}

#else
#define may_keep() 1
#endif

/* ---- One spare waiter ----

   Almost every await of a lock finds it unlocked and is over at once. The waiter of such an await
   is kept here, finished and tracked by the garbage collector, and the next await uses it again, if
   nothing else refers to it. This saves a deallocation, an allocation and the tracking. A spare waiter
   refers to no primitive. */

/* In free-threaded builds, gc.freeze() marks objects. A spare waiter that is marked is dropped; elsewhere
   track_anew() makes up for it. */
#ifndef Py_GIL_DISABLED
#define is_as_new(waiter) 1
#define learn_marks(waiter) ((void)0)
#define may_serve_again(waiter) 1
#else
static uint8_t marks_of_new = 0;
#define is_as_new(waiter) ((waiter)->ob_gc_bits == marks_of_new)
#define learn_marks(waiter) (marks_of_new = ((PyObject *)(waiter))->ob_gc_bits)
#define may_serve_again(waiter) (_Py_IsOwnedByCurrentThread(waiter) && may_keep())
#endif

static inline PyObject *take_spare_waiter(void)
{
    PyObject *waiter = spare_waiter;
    if (waiter != NULL && is_only_reference(waiter)) {
        spare_waiter = NULL;
        if (is_as_new(waiter)) {
            return waiter;
        }
        Py_DECREF(waiter);
    }
    return NULL;
}

static inline void keep_spare_waiter(PyObject *waiter)
{
    if (spare_waiter == NULL && may_serve_again(waiter)) {
        spare_waiter = Py_NewRef(waiter);
    }
}

/* A waiter that is new or spare refers to None, so set_primitive() knows what it replaces. Where None
   is immortal, its references need not be counted. */
#if PY_VERSION_HEX >= 0x030C0000
#define INCREF_NONE() ((void)0)
#define DECREF_NONE() ((void)0)
#else
#define INCREF_NONE() Py_INCREF(Py_None)
#define DECREF_NONE() Py_DECREF(Py_None)
#endif

#define set_primitive(waiter, owner) \
    do { \
        Py_INCREF(owner); \
        (waiter)->primitive = (owner); \
        DECREF_NONE(); \
    } while (0)

#define drop_primitive_now(waiter) \
    do { \
        PyObject *owner_ = (PyObject *)(waiter)->primitive; \
        store_pointer((PyObject **)&(waiter)->primitive, Py_None); \
        INCREF_NONE(); \
        Py_DECREF(owner_); \
    } while (0)

/* For a waiter that leaves the queue. */
#define drop_primitive(waiter) \
    do { \
        PyObject *owner_ = (PyObject *)(waiter)->primitive; \
        BEGIN_SECTION(waiter); \
        store_pointer((PyObject **)&(waiter)->primitive, Py_None); \
        END_SECTION(); \
        INCREF_NONE(); \
        Py_DECREF(owner_); \
    } while (0)

/* ---- StopIteration(value), the way an await gives a result through tp_iternext ----

   The interpreter takes out the value and drops the exception, so one instance can be used again
   and again. Code that calls __next__() itself may keep or change it; then a new one replaces it.
   If no new one can be allocated, one is used nevertheless: the lock is acquired already, and must
   not be lost to a MemoryError. */

static PyObject *reserve_stop = NULL; /* made at import, with True */

#if PY_VERSION_HEX >= 0x030C0000

static inline int is_unmarked(PyStopIterationObject *stop)
{
    return is_only_reference((PyObject *)stop) && !stop->traceback && !stop->context && !stop->cause
           && !stop->suppress_context && !stop->dict && !stop->notes;
}

static inline int has_value(PyStopIterationObject *stop, PyObject *value)
{
    return stop->value == value && PyTuple_GET_SIZE(stop->args) == 1
           && PyTuple_GET_ITEM(stop->args, 0) == value;
}

static int set_value(PyObject *stop, PyObject *value)
{
    PyObject *args = PyTuple_Pack(1, value);
    if (args == NULL) {
        PyErr_Clear();
        return -1;
    }
    Py_XSETREF(((PyStopIterationObject *)stop)->args, args);
    Py_XSETREF(((PyStopIterationObject *)stop)->value, Py_NewRef(value));
    return 0;
}

static PyObject *new_stop(PyObject *value)
{
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    if (stop == NULL) {
        PyErr_Clear();
        stop = Py_NewRef(reserve_stop);
        Py_XSETREF(((PyStopIterationObject *)stop)->value, Py_NewRef(value));
    } else if (may_keep()) {
        /* Freeing the old one may free frames in its traceback, and run code that calls this again. */
        Py_XSETREF(spare_stop, Py_NewRef(stop));
    }
    return stop;
}

static inline void set_stop_iteration(PyObject *value)
{
    PyObject *stop = spare_stop;
    if ((!FREE_THREADED || stop != NULL) && is_unmarked((PyStopIterationObject *)stop)) {
        Py_INCREF(stop); /* dropping what it had may run code that looks for the spare one */
        if (has_value((PyStopIterationObject *)stop, value) || set_value(stop, value) == 0) {
            PyErr_SetRaisedException(stop);
            return;
        }
        Py_DECREF(stop);
    }
    PyErr_SetRaisedException(new_stop(value));
}

#else /* Python 3.11 creates the exception only when code looks at it */

#define set_stop_iteration(value) PyErr_SetObject(PyExc_StopIteration, value)

#endif

#define set_stop_iteration_true() set_stop_iteration(Py_True)

static inline void set_stop_iteration_index(Py_ssize_t index)
{
    PyObject *value = PyLong_FromSsize_t(index);
    if (value != NULL) {
        set_stop_iteration(value);
        Py_DECREF(value);
    }
}

/* Created at import, so that no acquire() fails for lack of it. */
static inline int make_stops(void)
{
    reserve_stop = PyObject_CallOneArg(PyExc_StopIteration, Py_True);
#ifndef Py_GIL_DISABLED
    spare_stop = PyObject_CallOneArg(PyExc_StopIteration, Py_True);
#endif
    return PyErr_Occurred() ? -1 : 0;
}

/* Cython's tp_traverse visits the fields that are Python objects; `more` visits more than those. */
static traverseproc traverse_fields = NULL;

static inline void set_traverse(PyTypeObject *type, traverseproc more)
{
    if (traverse_fields == NULL) {
        traverse_fields = type->tp_traverse;
    }
    type->tp_traverse = more;
}

/* What Cython cannot declare of an awaitable. `yield from` iterates over it, but it has no __iter__, as
   a coroutine has none. Code that calls __await__() gets an iterator; `await` uses the slot. */
static inline int finish_awaitable(PyTypeObject *type, sendfunc send, PyObject *attributes)
{
    type->tp_as_async->am_send = send;
    type->tp_iter = PyObject_SelfIter;
    type->tp_name = "coroutine"; /* in messages */
    int failed = PyDict_Merge(type->tp_dict, attributes, 1);
    PyType_Modified(type);
    return failed;
}

#endif
