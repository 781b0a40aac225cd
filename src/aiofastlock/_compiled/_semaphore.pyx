"""Semaphore and BoundedSemaphore, on the queue of _lock.pyx."""

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.pyport cimport PY_SSIZE_T_MAX, PY_SSIZE_T_MIN

from aiofastlock import _internals, _shared
from aiofastlock._pure import semaphore as pure

from aiofastlock._compiled._lock cimport (
    ACQUIRE,
    FREE_THREADED,
    INTERNALS,
    LOCKED,
    RELEASE,
    SEMAPHORE_ACQUIRE,
    WOKEN,
    ContextManager,
    ParkingLot,
    State,
    Waiter,
    construct_without_init,
    delete_own,
    enter,
    exit,
    exit_method,
    finish_class,
    fits,
    get_loop,
    in_section,
    is_closed,
    is_idle,
    load_ssize,
    method,
    method_with_argument,
    new_class,
    new_waiter,
    own_or,
    recorder,
    release_primitive,
    serves,
    set_own,
    store_ssize,
    try_acquire,
    unset_own,
)


cdef type semaphore_class
cdef type bounded_class


@cython.no_gc_clear
cdef class SemaphoreCore(ContextManager):
    def __cinit__(self):
        self.value = 1

    def __init__(self, *args, **kwargs):
        if len(args) == 1 and not kwargs:
            init_with_value(self, args[0])
        else:
            pure.Semaphore.__init__(self, *args, **kwargs)

    # Invariant: a woken waiter's permit is not in the value any more. While the value is above 0,
    # waiters are parked only behind a woken or a cancelled one; each waiter that leaves the queue
    # wakes as many others as the value allows.
    #
    # A value that is no Py_ssize_t is an attribute, and the pure-Python methods count with it; then
    # the field is 0.

    cdef bint acquire_now(self, Waiter waiter) except -1:
        if self.value == 0 or self.head is not NULL and (self.any_live() or self.value == 0):
            return not self.is_served() and acquire_by_python(self)
        if self.value == PY_SSIZE_T_MIN:
            self._value = <object> <Py_ssize_t> self.value - 1
        else:
            self.value -= 1
        return True

    cdef bint acquire_idle(self) noexcept:
        cdef Py_ssize_t value = load_ssize(&self.value)
        if value <= 0 or not is_idle(self):
            return False
        store_ssize(&self.value, value - 1)
        return True

    cdef bint release_idle(self) noexcept:
        cdef Py_ssize_t value = load_ssize(&self.value)
        if value == PY_SSIZE_T_MAX or not is_idle(self):
            return False
        store_ssize(&self.value, value + 1)
        return True

    cdef int release_now(self, Waiter waiter) except -1:
        if self.value == PY_SSIZE_T_MAX:
            pure.Semaphore.release(self)  # counts further
        else:
            self.value += 1
            self.wake_up_next()
        return 0

    cdef int acquire_woken(self, Waiter waiter) except -1:
        if self.is_served():
            return self.grant_all()
        pure.wake_up_more(self)
        return 0

    cdef int hand_off(self, State state) except -1:
        if not self.is_served():
            pure.hand_off(self, state == WOKEN)
            return 0
        if state == WOKEN:
            self.value += 1
        if self.parked is not NULL and self.value != 0 and not is_closed(self.loop):
            self.grant_all()
        return 0

    cdef bint is_served(self) noexcept:
        """Whether C still serves a semaphore whose waiter C has made."""
        return serves(self, semaphore_class, INTERNALS | LOCKED)

    cdef bint grant_first(self) except -1:
        """Give a permit to the first parked waiter, unless it is cancelled."""
        self.value -= 1
        return self.wake(self.parked, True)

    cdef void take_back(self) noexcept:
        self.value += 1

    cdef bint wake_up_next(self) except -1:
        while self.parked is not NULL:
            if self.grant_first():
                return True
        return False

    cdef int grant_all(self) except -1:
        while self.parked is not NULL and self.value > 0:
            self.grant_first()
        return 0

    @property
    @cython.critical_section
    def _value(self):
        return own_or(self, "_value", <Py_ssize_t> self.value)

    @_value.setter
    @cython.critical_section
    def _value(self, value):
        if fits(value):
            unset_own(self, "_value")
            self.value = value
        else:
            set_own(self, "_value", value)
            self.value = 0

    @_value.deleter
    def _value(self):
        delete_own(self, "_value")


cdef bint acquire_by_python(SemaphoreCore self) except -1:
    """As acquire_now()."""
    if pure.Semaphore.locked(self):
        return False
    self._value -= 1
    return True


cdef object locked(object semaphore):
    cdef SemaphoreCore self = semaphore
    with cython.critical_section(self):
        return self.value == 0 or self.head is not NULL and (self.any_live() or self.value == 0)


cdef object acquire(object self):
    return new_waiter(<SemaphoreCore> self, SEMAPHORE_ACQUIRE)


cdef object release(object self):
    if recorder is not NULL:
        return release_recorded(self)
    if not FREE_THREADED or not SemaphoreCore.release_idle(<SemaphoreCore> self):
        in_section(release_unbounded, <SemaphoreCore> self)
    return None


cdef inline int release_unbounded(ParkingLot semaphore) except -1:
    return SemaphoreCore.release_now(<SemaphoreCore> semaphore, None)


cdef object release_recorded(object self):
    recorder.released(<PyObject*> self)
    in_section(release_unbounded, <SemaphoreCore> self)
    return None


cdef object wake_up_next(object self):
    with cython.critical_section(self):
        return (<SemaphoreCore> self).wake_up_next()


cdef object init(object self):
    with cython.critical_section(self):
        (<SemaphoreCore> self).value = 1


cdef object init_with_value(object self, object value):
    if not is_number_of_permits(value):
        return pure.Semaphore.__init__(self, value)
    with cython.critical_section(self):
        (<SemaphoreCore> self).value = value


cdef bint is_number_of_permits(object value) except -1:
    return type(value) is int and 0 <= value <= PY_SSIZE_T_MAX


@cython.no_gc_clear
cdef class BoundedSemaphoreCore(SemaphoreCore):
    def __cinit__(self):
        self.bound = 1

    def __init__(self, *args, **kwargs):
        if len(args) == 1 and not kwargs and serves(self, bounded_class, INTERNALS):
            init_bounded_with_value(self, args[0])
        else:
            python_init(self, *args, **kwargs)

    cdef bint release_idle(self) noexcept:
        if load_ssize(&self.value) >= load_ssize(&self.bound):
            return False
        return SemaphoreCore.release_idle(self)

    cdef int release_now(self, Waiter waiter) except -1:
        if self.value >= self.bound:
            raise ValueError("BoundedSemaphore released too many times")
        return SemaphoreCore.release_now(self, waiter)

    @property
    @cython.critical_section
    def _bound_value(self):
        return own_or(self, "_bound_value", <Py_ssize_t> self.bound)

    @_bound_value.setter
    @cython.critical_section
    def _bound_value(self, value):
        if fits(value):
            unset_own(self, "_bound_value")
            self.bound = value
        else:
            set_own(self, "_bound_value", value)

    @_bound_value.deleter
    def _bound_value(self):
        delete_own(self, "_bound_value")


cdef object release_bounded(object self):
    if not FREE_THREADED or not (<SemaphoreCore> self).release_idle():
        in_section(release_primitive, <SemaphoreCore> self)
    return None


cdef object init_bounded(object semaphore):
    cdef BoundedSemaphoreCore self = semaphore
    with cython.critical_section(self):
        self.value = self.bound = 1


cdef object init_bounded_with_value(object semaphore, object value):
    cdef BoundedSemaphoreCore self = semaphore
    if not is_number_of_permits(value):
        return python_init(self, value)
    with cython.critical_section(self):
        self.value = self.bound = value


semaphore_class = new_class(SemaphoreCore, pure.Semaphore, (_internals.locks.Semaphore,))
Semaphore = semaphore_class
method(semaphore_class, pure.Semaphore, "acquire", acquire, INTERNALS | LOCKED)
method(semaphore_class, pure.Semaphore, "try_acquire", try_acquire, INTERNALS | LOCKED)
method(semaphore_class, pure.Semaphore, "release", release, INTERNALS)
method(semaphore_class, pure.Semaphore, "locked", locked, INTERNALS)
method(semaphore_class, pure.Semaphore, "__aenter__", enter, INTERNALS | LOCKED | ACQUIRE)
exit_method(semaphore_class, pure.Semaphore, exit, INTERNALS | RELEASE)
method(semaphore_class, pure.Semaphore, "_get_loop", get_loop, 0)
method(semaphore_class, pure.Semaphore, "_wake_up_next", wake_up_next, INTERNALS)
method_with_argument(
    semaphore_class, pure.Semaphore, "__init__", init, init_with_value, INTERNALS
)
finish_class(semaphore_class)
construct_without_init(<PyTypeObject*> semaphore_class)

bounded_class = new_class(
    BoundedSemaphoreCore, pure.BoundedSemaphore, (Semaphore, _internals.locks.BoundedSemaphore)
)
BoundedSemaphore = bounded_class
cdef object python_init = _shared.copy_for(bounded_class, pure.BoundedSemaphore.__init__)
method(bounded_class, pure.BoundedSemaphore, "release", release_bounded, INTERNALS)
method_with_argument(
    bounded_class, pure.BoundedSemaphore, "__init__", init_bounded, init_bounded_with_value,
    INTERNALS
)
finish_class(bounded_class)
construct_without_init(<PyTypeObject*> bounded_class)
