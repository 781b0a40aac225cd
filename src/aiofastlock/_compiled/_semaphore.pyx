"""Semaphore and BoundedSemaphore, on the queue of _lock.pyx."""

cimport cython
from cpython.object cimport PyTypeObject
from cpython.pyport cimport PY_SSIZE_T_MAX, PY_SSIZE_T_MIN

from math import inf

from aiofastlock import _shared
from aiofastlock._pure import semaphore as pure

from aiofastlock._compiled._lock cimport (
    SEMAPHORE_ACQUIRE,
    WOKEN,
    ContextManager,
    ParkingLot,
    State,
    Waiter,
    alive,
    construct_without_init,
    exit_if_plain,
    finish_public_class,
    release_primitive,
    is_closed,
    new_waiter,
    in_section,
    set_exit,
    vectorcallfunc,
)

# The value that stands for float("inf"): it never changes.
cdef Py_ssize_t UNLIMITED = PY_SSIZE_T_MIN


@cython.no_gc_clear
cdef class Semaphore(ContextManager):
    """Semaphore(value=1)
--

A limited number of permits for asyncio tasks. It replaces asyncio.Semaphore.

`value` is the initial number of permits: an int of at least 0, or float("inf"). acquire() takes
a permit, and waits while there is none; release() adds one. Tasks that wait get their permits
in the order in which they called acquire(). Use it as `async with semaphore:`, or call
acquire() and, in a finally block, release().

ValueError is raised for a value below 0, TypeError for one that is neither an int nor infinite,
and OverflowError for one above sys.maxsize.

It behaves like asyncio.Semaphore of Python 3.13, except in three cases. If a task is woken for
a permit and ends before it acquires it, the permit goes to the next waiter whatever the
exception is; in asyncio, only after a CancelledError. A semaphore whose event loop is closed
can be used with another event loop; in asyncio, that raises RuntimeError. And asyncio accepts
any value that can be compared with 0.
"""
    cdef Py_ssize_t value

    def __cinit__(self):
        self.value = 1

    def __init__(self, *args, **kwargs):
        self.value = initial_value(pure.Semaphore, args, kwargs)

    # Invariant: a woken waiter's permit is not in the value any more. While the value is above 0,
    # waiters are parked only behind a woken or a cancelled one; each waiter that leaves the queue
    # wakes as many others as the value allows.

    cdef bint acquire_now(self, Waiter waiter) except -1:
        if self.value == 0 or self.head is not NULL and (self.any_live() or self.value == 0):
            return False
        self.value -= self.value != UNLIMITED
        return True

    cdef int release_now(self, Waiter waiter) except -1:
        if self.value == PY_SSIZE_T_MAX:
            raise OverflowError("Semaphore value too large")
        self.value += self.value != UNLIMITED
        while self.parked is not NULL:
            if self.grant_first():
                break
        return 0

    cdef int acquire_woken(self, Waiter waiter) except -1:
        return self.grant_all()

    cdef int hand_off(self, State state) except -1:
        if state == WOKEN:
            self.value += self.value != UNLIMITED
        if self.parked is not NULL and self.value != 0 and not is_closed(self.loop):
            self.grant_all()
        return 0

    cdef bint grant_first(self) except -1:
        """Give a permit to the first parked waiter, unless it is cancelled."""
        cdef Waiter first = alive(self.parked)
        cdef bint given
        self.value -= self.value != UNLIMITED
        try:
            given = self.wake(self.parked, True)
        except BaseException:
            if first.state != WOKEN:  # it was not woken
                self.value += self.value != UNLIMITED
            raise
        if not given:
            self.value += self.value != UNLIMITED
        return given

    cdef int grant_all(self) except -1:
        while self.parked is not NULL and (self.value > 0 or self.value == UNLIMITED):
            self.grant_first()
        return 0

    @property
    @cython.critical_section
    def _value(self):
        return inf if self.value == UNLIMITED else self.value

    @_value.setter
    def _value(self, value):
        cdef Py_ssize_t number = permits(value)
        with cython.critical_section(self):
            self.value = number

    @cython.critical_section
    def locked(self):
        """Return True if acquire() would have to wait, False otherwise.

        It is True as well while there are permits but a task that was woken earlier has yet to
        acquire its own.
        """
        return self.value == 0 or self.head is not NULL and self.any_live()

    def acquire(self):
        """Wait until there is a permit, take it, and return True.

        Nothing happens until the result is awaited. Tasks that are waiting already go first. If the
        task is cancelled while it waits, CancelledError is raised and no permit is taken.
        RuntimeError is raised if the task must wait and the semaphore is bound to another event
        loop that is not closed.
        """
        return new_waiter(self, SEMAPHORE_ACQUIRE)

    def release(self):
        """Add a permit, and wake the first task that waits for one.

        There may be more permits afterwards than the semaphore was created with. OverflowError is
        raised if there would be more than sys.maxsize. There is no return value.
        """
        in_section(release_unbounded, self)

    def __getstate__(self):
        return _shared.getstate(self, "_value")

    def __repr__(self):
        state = "locked" if self.locked() else f"unlocked, value:{self._value}"
        return _shared.represent(self, state)


@cython.no_gc_clear
cdef class BoundedSemaphore(Semaphore):
    """BoundedSemaphore(value=1)
--

A semaphore that cannot be released above its initial value.

It behaves like asyncio.BoundedSemaphore of Python 3.13, with the exceptions that Semaphore
lists.
"""
    cdef Py_ssize_t bound

    def __cinit__(self):
        self.bound = 1

    def __init__(self, *args, **kwargs):
        self.value = self.bound = initial_value(pure.BoundedSemaphore, args, kwargs)

    cdef int release_now(self, Waiter waiter) except -1:
        if self.value >= self.bound and (self.value == UNLIMITED or self.bound != UNLIMITED):
            raise ValueError("BoundedSemaphore released too many times")
        return Semaphore.release_now(self, waiter)

    def release(self):
        """Add a permit, and wake the first task that waits for one.

        ValueError is raised if the semaphore has as many permits as it was created with. There is
        no return value.
        """
        in_section(release_primitive, self)

    @property
    @cython.critical_section
    def _bound_value(self):
        return inf if self.bound == UNLIMITED else self.bound

    @_bound_value.setter
    def _bound_value(self, value):
        cdef Py_ssize_t number = permits(value)
        with cython.critical_section(self):
            self.bound = number

    def __getstate__(self):
        return _shared.getstate(self, "_value", "_bound_value")


cdef inline int release_unbounded(ParkingLot self) except -1:
    return Semaphore.release_now(<Semaphore> self, None)


cdef Py_ssize_t initial_value(object pure_class, tuple args, dict kwargs) except? -1:
    if len(args) == 1 and not kwargs and type(args[0]) is int and 0 <= args[0] <= PY_SSIZE_T_MAX:
        return args[0]
    return permits(pure_class(*args, **kwargs)._value)  # raises in asyncio's words


cdef Py_ssize_t permits(object value) except? -1:
    value = _shared.permits(value)
    return UNLIMITED if value == inf else value


finish_public_class(<PyTypeObject*> Semaphore, "aiofastlock.Semaphore")
set_exit(<PyTypeObject*> Semaphore, pure.Semaphore, <vectorcallfunc> exit_if_plain)
finish_public_class(<PyTypeObject*> BoundedSemaphore, "aiofastlock.BoundedSemaphore")
set_exit(<PyTypeObject*> BoundedSemaphore, pure.BoundedSemaphore, <vectorcallfunc> exit_if_plain)
construct_without_init(<PyTypeObject*> Semaphore)
construct_without_init(<PyTypeObject*> BoundedSemaphore)
