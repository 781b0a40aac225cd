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
    give_back,
    is_closed,
    new_waiter,
    operate,
    set_exit,
    vectorcallfunc,
)

# A value that stands for float("inf"): it neither falls nor rises.
cdef Py_ssize_t UNLIMITED = PY_SSIZE_T_MIN


@cython.no_gc_clear
cdef class Semaphore(ContextManager):
    """Semaphore(value=1)
--

A number of permits for asyncio tasks, in place of asyncio.Semaphore.

It is made with `value` permits, an int of at least 0 or float("inf"). acquire() takes one, and
waits where there is none; release() gives one back. Tasks that wait get theirs in the order in
which they came. Use it as `async with semaphore:`, or call acquire() and, in a finally,
release().

ValueError: a value below 0. TypeError: one that is neither an int nor infinite. OverflowError:
one above sys.maxsize, or a release() that would make it so.

Behaviour: asyncio.Semaphore's of Python 3.13. Ours: a woken task that dies before it has
acquired, of whatever, gives its permit to the next; a semaphore whose loop is closed binds
itself to the next; asyncio takes any value that can be compared with 0.
"""
    cdef Py_ssize_t value

    def __cinit__(self):
        self.value = 1

    def __init__(self, *args, **kwargs):
        self.value = initial_value(pure.Semaphore, args, kwargs)

    # A permit that is on its way to a woken waiter is no longer in the value. While there are
    # permits in the value, nobody is parked, but for those behind a woken waiter or one that is
    # cancelled: whoever leaves the queue wakes as many as the value allows.

    cdef bint take(self, Waiter waiter) except -1:
        if self.value == 0 or self.head is not NULL and (self.any_live() or self.value == 0):
            return False
        self.value -= self.value != UNLIMITED
        return True

    cdef int give(self, Waiter waiter) except -1:
        if self.value == PY_SSIZE_T_MAX:
            raise OverflowError("Semaphore value too large")
        self.value += self.value != UNLIMITED
        while self.parked is not NULL:
            if self.hand_on():
                break
        return 0

    cdef int admit(self, Waiter waiter) except -1:
        return self.hand_on_all()

    cdef int forgo(self, State state) except -1:
        if state == WOKEN:
            self.value += self.value != UNLIMITED
        if self.parked is not NULL and self.value != 0 and not is_closed(self.loop):
            self.hand_on_all()
        return 0

    cdef bint hand_on(self) except -1:
        """Give a permit to the first that is parked, unless it is cancelled."""
        cdef Waiter first = alive(self.parked)
        cdef bint given
        self.value -= self.value != UNLIMITED
        try:
            given = self.wake(self.parked, True)
        except BaseException:
            if first.state != WOKEN:  # not even that
                self.value += self.value != UNLIMITED
            raise
        if not given:
            self.value += self.value != UNLIMITED
        return given

    cdef int hand_on_all(self) except -1:
        while self.parked is not NULL and (self.value > 0 or self.value == UNLIMITED):
            self.hand_on()
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
        """Return True if acquire() would have to wait, False if not. (asyncio's.)

        True also while there are permits, but a task that came earlier has still to take its own.
        """
        return self.value == 0 or self.head is not NULL and self.any_live()

    def acquire(self):
        """Wait until there is a permit, take it, and return True. (asyncio's.)

        Nothing happens until it is awaited. It gives way to those that wait already. Cancelled, it
        raises CancelledError and takes none. RuntimeError, where it has to wait: the semaphore is
        bound to another loop, which is not closed.
        """
        return new_waiter(self, SEMAPHORE_ACQUIRE)

    def release(self):
        """Give a permit back, and let the first that waits for one have it. (asyncio's.)

        Returns None. It takes back more than it gave, too.
        """
        operate(give_back_unbounded, self)

    def __getstate__(self):
        return _shared.getstate(self, "_value")

    def __repr__(self):
        state = "locked" if self.locked() else f"unlocked, value:{self._value}"
        return _shared.represent(self, state)


@cython.no_gc_clear
cdef class BoundedSemaphore(Semaphore):
    """BoundedSemaphore(value=1)
--

A Semaphore that refuses to take back more permits than it was made with.

Behaviour: asyncio.BoundedSemaphore's of Python 3.13. Ours: as for Semaphore.
"""
    cdef Py_ssize_t bound

    def __cinit__(self):
        self.bound = 1

    def __init__(self, *args, **kwargs):
        self.value = self.bound = initial_value(pure.BoundedSemaphore, args, kwargs)

    cdef int give(self, Waiter waiter) except -1:
        if self.value >= self.bound and (self.value == UNLIMITED or self.bound != UNLIMITED):
            raise ValueError("BoundedSemaphore released too many times")
        return Semaphore.give(self, waiter)

    def release(self):
        """Give a permit back, and let the first that waits for one have it. (asyncio's.)

        Returns None. ValueError: the semaphore has all its permits.
        """
        operate(give_back, self)

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


cdef inline int give_back_unbounded(ParkingLot self) except -1:
    return Semaphore.give(<Semaphore> self, None)


cdef Py_ssize_t initial_value(object pure_class, tuple args, dict kwargs) except? -1:
    if len(args) == 1 and not kwargs and type(args[0]) is int and 0 <= args[0] <= PY_SSIZE_T_MAX:
        return args[0]
    return permits(pure_class(*args, **kwargs)._value)  # refuses in asyncio's words


cdef Py_ssize_t permits(object value) except? -1:
    value = _shared.permits(value)
    return UNLIMITED if value == inf else value


finish_public_class(<PyTypeObject*> Semaphore, "aiofastlock.Semaphore")
set_exit(<PyTypeObject*> Semaphore, pure.Semaphore, <vectorcallfunc> exit_if_plain)
finish_public_class(<PyTypeObject*> BoundedSemaphore, "aiofastlock.BoundedSemaphore")
set_exit(<PyTypeObject*> BoundedSemaphore, pure.BoundedSemaphore, <vectorcallfunc> exit_if_plain)
construct_without_init(<PyTypeObject*> Semaphore)
construct_without_init(<PyTypeObject*> BoundedSemaphore)
