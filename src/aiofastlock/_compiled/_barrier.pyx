"""Barrier, on the queue of _lock.pyx."""

cimport cython
from cpython.object cimport PyObject, PyTypeObject

from asyncio import BrokenBarrierError

from aiofastlock import _shared
from aiofastlock._pure import barrier as pure

from aiofastlock._compiled._lock cimport (
    BARRIER_ABORT,
    BARRIER_ENTER,
    BARRIER_EXIT,
    BARRIER_RESET,
    BARRIER_WAIT,
    FINISHED,
    PARKED,
    PASSED,
    ParkingLot,
    Waiter,
    alive,
    call_with_lot,
    exit_by_method,
    finish_public_class,
    is_closed,
    is_own,
    is_plain,
    let_go,
    new_waiter,
    set_exit,
    vectorcallfunc,
)
from aiofastlock._compiled._lock cimport State as WaiterState

cdef enum State:
    FILLING
    DRAINING
    RESETTING
    BROKEN

cdef tuple NAMES = (pure.FILLING, pure.DRAINING, pure.RESETTING, pure.BROKEN)  # by State

# In the place of an index.
cdef enum:
    BLOCKED = -1  # of a waiter that abort() wakes, and that was not yet a party
    COUNTED = -2  # of one that is PASSED, as which it is counted
    IN_TURN = -3  # to each that is woken its own


@cython.no_gc_clear
cdef class Barrier(ParkingLot):
    """Barrier(parties)
--

A place where asyncio tasks wait until `parties` of them are there, for asyncio.Barrier.

When the last of them comes, they all go on, each with an index of its own from 0 to
parties - 1, by order of arrival. Those that come before all have left wait for the next
time. Use it as `async with barrier as index:`, or call wait().

`parties` is an int of at least 1. ValueError: it is less. TypeError: it is no int.

Behaviour: asyncio.Barrier's of Python 3.13, in fewer steps of the event loop. Ours: an index is
not given twice after a party was cancelled; who is cancelled is not waited for when the others
leave; a barrier whose loop is closed binds itself to the next.
"""
    cdef Py_ssize_t size      # the parties
    cdef unsigned int passed  # how many in the queue are PASSED
    cdef State state
    cdef bint refilling

    def __init__(self, *args, **kwargs):
        self.size = pure.Barrier(*args, **kwargs)._parties  # which refuses in asyncio's words

    # Filling, all that are parked are parties, and nobody is woken. Draining or resetting, somebody
    # is woken and still to leave, and those that are parked are blocked until then. Broken, nobody
    # is parked. So whoever leaves last finds no more woken, and lets those in that were blocked:
    # not at once, lest a reset() of the last to leave be theirs, but in the loop's next iteration.
    # Until then the barrier is refilling: filling, but those that are parked are still blocked.

    cdef bint take(self, Waiter waiter) except -1:
        if self.state == BROKEN:
            raise BrokenBarrierError("Barrier aborted")
        if self.state != FILLING or self.refilling or self.parked_now() + 1 < self.size:
            waiter.index = 0
            return False
        if self.let_go_if_closed():
            return self.take(waiter)
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

    cdef int give(self, Waiter waiter) except -1:
        self.let_go_if_closed()
        if waiter.call == BARRIER_RESET:
            self.empty()
        elif waiter.call == BARRIER_ABORT:
            self.shatter()
        return 0

    cdef int admit(self, Waiter waiter) except -1:
        cdef State state = self.state
        self.let_in_if_left()
        if waiter.index == BLOCKED:
            raise BrokenBarrierError("Barrier aborted")
        if state == RESETTING or state == BROKEN:
            raise BrokenBarrierError("Abort or reset of barrier")
        return 0

    cdef int forgo(self, WaiterState state) except -1:
        self.passed -= state == PASSED
        if self.parked is NULL:
            self.refilling = False
        return self.let_in_if_left()

    cdef bint let_go_if_closed(self) except -1:
        """Begin anew where the loop is closed; say whether anybody was left on it."""
        if self.head is NULL or not is_closed(self.loop):
            return False
        let_go(self)
        return True

    cdef Py_ssize_t parked_now(self) noexcept:
        return <Py_ssize_t> self.count - self.woken - self.passed

    cdef Py_ssize_t inside(self) noexcept:
        """How many are inside: parties, or those that were woken and have not left."""
        if self.refilling:
            return 0
        return self.parked_now() if self.state == FILLING else self.woken

    cdef int wake_parked(self, Py_ssize_t index) except -1:
        """Wake the first that is parked, unless it is cancelled."""
        cdef PyObject* parked = self.parked
        _waiter = alive(parked)  # outlives the wake-up
        (<Waiter> parked).index = index
        if not self.wake(parked, True):
            self.count_if_passed(parked)
        return 0

    cdef void count_if_passed(self, PyObject* waiter) noexcept:
        if (<Waiter> waiter).state == PASSED and (<Waiter> waiter).index != COUNTED:
            (<Waiter> waiter).index = COUNTED
            self.passed += 1

    cdef int wake_up_to(self, Py_ssize_t count, Py_ssize_t index) except -1:
        """Wake the first that are parked, with that index or IN_TURN."""
        cdef Py_ssize_t turn
        for turn in range(count):
            if self.parked is not NULL:
                self.wake_parked(turn if index == IN_TURN else index)
        return 0

    cdef int let_in_if_left(self) except -1:
        """When all who were inside have left, let those in that are blocked."""
        if not self.woken and (self.state == DRAINING or self.state == RESETTING):
            self.state = FILLING
            if self.parked is not NULL and not is_closed(self.loop):
                call_with_lot(self, refill)
                self.refilling = True
        return 0

    @cython.critical_section
    def _refill(self):
        """Those that were blocked are parties, unless they are cancelled."""
        cdef PyObject* following = self.parked
        cdef Py_ssize_t live = 0
        if not self.refilling:
            return
        self.refilling = False
        while following is not NULL and live < self.size:
            _waiter = alive(following)  # outlives what is called
            if (<Waiter> following).state == PARKED:
                if not self.settle_if_done(following):
                    live += 1
                self.count_if_passed(following)
            if (<Waiter> following).state == FINISHED:  # gone while that ran: begin anew
                following = self.parked
                live = 0
            else:
                following = (<Waiter> following).next
                if following is self.head:
                    following = NULL
        if self.state == FILLING and self.parked_now() >= self.size:
            self.state = DRAINING
            self.wake_up_to(self.size, IN_TURN)

    cdef int empty(self) except -1:
        if self.state != FILLING:
            self.state = RESETTING if self.woken else FILLING
        elif not self.refilling:
            self.state = RESETTING
            self.wake_up_to(self.parked_now(), 0)
            self.let_in_if_left()
        return 0

    cdef int shatter(self) except -1:
        cdef Py_ssize_t index = 0 if self.state == FILLING and not self.refilling else BLOCKED
        self.state = BROKEN
        self.refilling = False
        self.wake_up_to(self.parked_now(), index)
        return 0

    def wait(self):
        """Wait until all parties are there, and return the index of this one. (asyncio's.)

        Nothing happens until it is awaited. Cancelled, it is no party any more. BrokenBarrierError:
        reset() or abort() was called while it waited, or the barrier is broken. RuntimeError, where
        it has to wait: the barrier is bound to another loop, which is not closed.
        """
        return new_waiter(self, BARRIER_WAIT)

    def reset(self):
        """Empty the barrier: who waits in it gets a BrokenBarrierError. (asyncio's.)

        Returns None, and never waits. Those that wait for others to leave go on waiting. A broken
        barrier is whole again. Nothing happens until it is awaited.
        """
        return new_waiter(self, BARRIER_RESET)

    def abort(self):
        """Break the barrier: who waits, and who comes, gets a BrokenBarrierError. (asyncio's.)

        Returns None, and never waits. reset() mends it. Nothing happens until it is awaited.
        """
        return new_waiter(self, BARRIER_ABORT)

    def __aenter__(self):
        if is_plain(self) or is_own(self, "wait"):
            return new_waiter(self, BARRIER_ENTER)
        return pure.Barrier.__aenter__(self)

    def __aexit__(self, *args):
        return new_waiter(self, BARRIER_EXIT)

    @property
    @cython.critical_section
    def parties(self):
        """How many tasks make the barrier trip. (asyncio's.)"""
        return self.size

    @property
    @cython.critical_section
    def n_waiting(self):
        """How many parties wait for the barrier to trip. (asyncio's.)"""
        return self.inside() if self.state == FILLING else 0

    @property
    @cython.critical_section
    def broken(self):
        """True if the barrier is broken, after abort() and before reset(). (asyncio's.)"""
        return self.state == BROKEN

    @property
    @cython.critical_section
    def _count(self):
        return self.inside()

    @property
    @cython.critical_section
    def _parties(self):
        return self.size

    @_parties.setter
    def _parties(self, parties):
        cdef Py_ssize_t size = parties
        with cython.critical_section(self):
            self.size = size

    @property
    @cython.critical_section
    def _state(self):
        return NAMES[self.state]

    @_state.setter
    def _state(self, name):
        cdef int state = NAMES.index(name)
        with cython.critical_section(self):
            self.state = <State> state

    def __getstate__(self):
        return _shared.getstate(self, "_parties", "_state")

    def __repr__(self):
        return _shared.represent_barrier(self)


finish_public_class(<PyTypeObject*> Barrier, "aiofastlock.Barrier")
set_exit(<PyTypeObject*> Barrier, pure.Barrier, <vectorcallfunc> exit_by_method)
cdef object refill = Barrier._refill
