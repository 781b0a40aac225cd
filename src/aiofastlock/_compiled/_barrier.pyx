"""Barrier, on the queue of _lock.pyx."""

cimport cython
from cpython.object cimport PyObject
from cpython.pyport cimport PY_SSIZE_T_MAX, PY_SSIZE_T_MIN

from asyncio.exceptions import BrokenBarrierError

from aiofastlock import _internals, _shared
from aiofastlock._pure import barrier as pure

from aiofastlock._compiled._lock cimport (
    BARRIER_ABORT,
    BARRIER_ENTER,
    BARRIER_EXIT,
    BARRIER_RESET,
    BARRIER_WAIT,
    CANCELLED,
    FINISHED,
    PARKED,
    WAIT,
    ParkingLot,
    Waiter,
    alive,
    call_soon_with,
    delete_own,
    exit_method,
    finish_class,
    get_loop,
    is_closed,
    method,
    method_with_argument,
    new_class,
    new_waiter,
    own_or,
    set_own,
    unbind_if_closed,
    unset_own,
)
from aiofastlock._compiled._lock cimport State as WaiterState

# A number of parties that is never reached.
cdef Py_ssize_t MOST_PARTIES = PY_SSIZE_T_MAX

cdef enum State:
    FILLING
    DRAINING
    RESETTING
    BROKEN

cdef tuple NAMES = (pure.FILLING, pure.DRAINING, pure.RESETTING, pure.BROKEN)  # by State

# Values of Waiter.index that are not an index.
cdef enum:
    BLOCKED = -1  # abort() woke the waiter while it was blocked
    COUNTED = -2  # the waiter is CANCELLED and counted in Barrier.cancelled
    IN_TURN = -3  # to wake_up_to(): each waiter gets its own index


@cython.no_gc_clear
cdef class BarrierCore(ParkingLot):
    cdef Py_ssize_t size         # the parties
    cdef unsigned int cancelled  # of waiters in the queue that are CANCELLED
    cdef State state
    cdef bint refilling

    def __init__(self, *args, **kwargs):
        if len(args) == 1 and not kwargs:
            init_with_parties(self, args[0])
        else:
            pure.Barrier.__init__(self, *args, **kwargs)

    # Invariant, by state:
    #
    # - FILLING: the parked waiters are parties, and no waiter is woken;
    # - DRAINING, RESETTING: woken waiters have yet to leave, and the parked ones are blocked until
    #   they have;
    # - BROKEN: no waiter is parked.
    #
    # The last woken waiter to leave lets the blocked ones in. It does so in the loop's next
    # iteration, so that a reset() by the task that leaves does not reach them. Until then the
    # barrier is refilling: its state is FILLING, but the parked waiters are still blocked.

    cdef bint acquire_now(self, Waiter waiter) except -1:
        if self.state == BROKEN:
            raise BrokenBarrierError("Barrier aborted")
        if self.state != FILLING or self.refilling or self.parked_now() + 1 < self.size:
            waiter.index = 0
            return False
        if unbind_if_closed(self):
            return self.acquire_now(waiter)
        waiter.index = self.size - 1
        self.state = DRAINING
        try:
            self.wake_up_to(self.size - 1, IN_TURN)
        except BaseException:
            if self.state == DRAINING and not self.woken:
                self.state = FILLING
            raise
        self.let_in_if_left()
        return True

    cdef int release_now(self, Waiter waiter) except -1:
        unbind_if_closed(self)
        if waiter.call == BARRIER_RESET:
            self.reset_now()
        elif waiter.call == BARRIER_ABORT:
            self.abort_now()
        return 0

    cdef int acquire_woken(self, Waiter waiter) except -1:
        cdef State state = self.state
        self.let_in_if_left()
        if waiter.index == BLOCKED:
            raise BrokenBarrierError("Barrier aborted")
        if state == RESETTING or state == BROKEN:
            raise BrokenBarrierError("Abort or reset of barrier")
        return 0

    cdef int hand_off(self, WaiterState state) except -1:
        self.cancelled -= state == CANCELLED
        if self.parked is NULL:
            self.refilling = False
        return self.let_in_if_left()

    cdef Py_ssize_t parked_now(self) noexcept:
        return <Py_ssize_t> self.count - self.woken - self.cancelled

    cdef Py_ssize_t inside(self) noexcept:
        """The number of tasks inside: parties, or woken waiters that have yet to leave."""
        if self.refilling:
            return 0
        return self.parked_now() if self.state == FILLING else self.woken

    cdef int wake_parked(self, Py_ssize_t index) except -1:
        """Wake the first parked waiter, unless it is cancelled."""
        cdef PyObject* parked = self.parked
        _waiter = alive(parked)  # freed after the wake-up
        (<Waiter> parked).index = index
        if not self.wake(parked, True):
            self.count_if_cancelled(parked)
        return 0

    cdef void count_if_cancelled(self, PyObject* waiter) noexcept:
        if (<Waiter> waiter).state == CANCELLED and (<Waiter> waiter).index != COUNTED:
            (<Waiter> waiter).index = COUNTED
            self.cancelled += 1

    cdef int wake_up_to(self, Py_ssize_t count, Py_ssize_t index) except -1:
        """Wake the first `count` parked waiters, with that index or IN_TURN."""
        cdef Py_ssize_t turn
        for turn in range(count):
            if self.parked is not NULL:
                self.wake_parked(turn if index == IN_TURN else index)
        return 0

    cdef int let_in_if_left(self) except -1:
        """If all woken waiters have left, let the blocked ones in."""
        if not self.woken and (self.state == DRAINING or self.state == RESETTING):
            self.state = FILLING
            if self.parked is not NULL and not is_closed(self.loop):
                call_soon_with(self, refill)
                self.refilling = True
        return 0

    @cython.critical_section
    def _refill(self):
        """Make the blocked waiters parties, unless they are cancelled."""
        cdef PyObject* following = self.parked
        cdef Py_ssize_t live = 0
        if not self.refilling:
            return
        self.refilling = False
        while following is not NULL and live < self.size:
            _waiter = alive(following)  # freed after the calls
            if (<Waiter> following).state == PARKED:
                if not self.settle_if_done(following):
                    live += 1
                self.count_if_cancelled(following)
            if (<Waiter> following).state == FINISHED:  # it left during the calls: start again
                following = self.parked
                live = 0
            else:
                following = (<Waiter> following).next
                if following is self.head:
                    following = NULL
        if self.state == FILLING and self.parked_now() >= self.size:
            self.state = DRAINING
            self.wake_up_to(self.size, IN_TURN)

    cdef int reset_now(self) except -1:
        if self.state != FILLING:
            self.state = RESETTING if self.woken else FILLING
        elif not self.refilling:
            self.state = RESETTING
            self.wake_up_to(self.parked_now(), 0)
            self.let_in_if_left()
        return 0

    cdef int abort_now(self) except -1:
        cdef Py_ssize_t index = 0 if self.state == FILLING and not self.refilling else BLOCKED
        self.state = BROKEN
        self.refilling = False
        self.wake_up_to(self.parked_now(), index)
        return 0

    @property
    @cython.critical_section
    def _count(self):
        return self.inside()

    @property
    @cython.critical_section
    def _parties(self):
        return own_or(self, "_parties", self.size)

    @_parties.setter
    @cython.critical_section
    def _parties(self, parties):
        if type(parties) is int and PY_SSIZE_T_MIN <= parties <= PY_SSIZE_T_MAX:
            unset_own(self, "_parties")
            self.size = parties
        else:
            set_own(self, "_parties", parties)
            self.size = reachable(parties)

    @_parties.deleter
    def _parties(self):
        delete_own(self, "_parties")

    @property
    @cython.critical_section
    def _state(self):
        return NAMES[self.state]

    @_state.setter
    def _state(self, name):
        cdef int state = NAMES.index(name)
        with cython.critical_section(self):
            self.state = <State> state

    @_state.deleter
    def _state(self):
        with cython.critical_section(self):
            self.state = FILLING

    def __setstate__(self, state):
        _shared.setstate(self, state)


cdef Py_ssize_t reachable(object parties) except? -1:
    """The number of tasks that is equal to this value, if there is one."""
    try:
        return int(parties) if int(parties) == parties else MOST_PARTIES
    except (OverflowError, TypeError, ValueError):
        return MOST_PARTIES


cdef object wait(object self):
    return new_waiter(<BarrierCore> self, BARRIER_WAIT)


cdef object reset(object self):
    return new_waiter(<BarrierCore> self, BARRIER_RESET)


cdef object abort(object self):
    return new_waiter(<BarrierCore> self, BARRIER_ABORT)


cdef object enter(object self):
    return new_waiter(<BarrierCore> self, BARRIER_ENTER)


cdef object exit(object self):
    return new_waiter(<BarrierCore> self, BARRIER_EXIT)


cdef object init_with_parties(object barrier, object parties):
    cdef BarrierCore self = barrier
    if parties < 1:
        raise ValueError("parties must be >= 1")
    self._parties = parties
    with cython.critical_section(self):
        self.state = FILLING  # if this is called again
        self.refilling = False


cdef type barrier_class = new_class(BarrierCore, pure.Barrier, (_internals.locks.Barrier,))
Barrier = barrier_class
method_with_argument(barrier_class, pure.Barrier, "__init__", NULL, init_with_parties, 0)
method(barrier_class, pure.Barrier, "wait", wait, 0)
method(barrier_class, pure.Barrier, "reset", reset, 0)
method(barrier_class, pure.Barrier, "abort", abort, 0)
method(barrier_class, pure.Barrier, "__aenter__", enter, WAIT)
exit_method(barrier_class, pure.Barrier, exit, 0)
method(barrier_class, pure.Barrier, "_get_loop", get_loop, 0)
for _name in ("broken", "n_waiting", "parties"):
    setattr(Barrier, _name, vars(pure.Barrier)[_name])
finish_class(barrier_class)
cdef object refill = BarrierCore._refill
