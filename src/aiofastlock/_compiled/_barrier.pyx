"""Barrier, on the queue of _lock.pyx."""

cimport cython
from cpython.object cimport PyObject, PyTypeObject

from asyncio.exceptions import BrokenBarrierError

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
    CANCELLED,
    ParkingLot,
    Waiter,
    alive,
    call_soon_with,
    exit_by_method,
    finish_public_class,
    is_closed,
    is_own,
    is_plain,
    discard_waiters,
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

# Values of Waiter.index that are not an index.
cdef enum:
    BLOCKED = -1  # abort() woke the waiter while it was blocked
    COUNTED = -2  # the waiter is CANCELLED and counted in Barrier.cancelled
    IN_TURN = -3  # to wake_up_to(): each waiter gets its own index


@cython.no_gc_clear
cdef class Barrier(ParkingLot):
    """Barrier(parties)
--

A point where asyncio tasks wait for each other. It replaces asyncio.Barrier.

When `parties` tasks wait, the barrier wakes them all, and each gets an index of its own from 0
to parties - 1, in the order in which they called wait(). Tasks that arrive before all of them
have left wait until then. Use it as `async with barrier as index:`, or call wait().

`parties` is an int. ValueError is raised if it is below 1, and TypeError if it is not an int.

It behaves like asyncio.Barrier of Python 3.13, except in four cases. The tasks continue after
fewer iterations of the event loop. No index is given twice after a task was cancelled
(gh-155233). The others do not wait for a cancelled task to leave. And a barrier whose event
loop is closed can be used with another event loop; in asyncio, that raises RuntimeError.
"""
    cdef Py_ssize_t size         # the parties
    cdef unsigned int cancelled  # of waiters in the queue that are CANCELLED
    cdef State state
    cdef bint refilling

    def __init__(self, *args, **kwargs):
        cdef Py_ssize_t size = pure.Barrier(*args, **kwargs)._parties  # raises in asyncio's words
        with cython.critical_section(self):
            self.size = size
            self.state = FILLING  # if this is called again
            self.refilling = False

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
        if self.unbind_if_closed():
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
        self.unbind_if_closed()
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

    cdef bint unbind_if_closed(self) except -1:
        """Empty the queue if the loop is closed; return whether waiters were left on it."""
        if self.head is NULL or not is_closed(self.loop):
            return False
        discard_waiters(self)
        return True

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

    def wait(self):
        """Wait until all parties wait, and return the index of this one.

        Nothing happens until the result is awaited. A task that is cancelled while it waits is not
        counted any more. BrokenBarrierError is raised if the barrier is broken, or if reset() or
        abort() is called while the task waits. RuntimeError is raised if the task must wait and the
        barrier is bound to another event loop that is not closed.
        """
        return new_waiter(self, BARRIER_WAIT)

    def reset(self):
        """Return the barrier to its initial, empty state.

        Tasks that wait for the other parties get BrokenBarrierError. Tasks that wait for an earlier
        group to leave go on waiting. A broken barrier works again. Nothing happens until the result
        is awaited, which returns None without waiting.
        """
        return new_waiter(self, BARRIER_RESET)

    def abort(self):
        """Put the barrier into the broken state.

        Tasks that wait, and those that call wait() later, get BrokenBarrierError, until reset() is
        called. Nothing happens until the result is awaited, which returns None without waiting.
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
        """The number of tasks that the barrier waits for."""
        return self.size

    @property
    @cython.critical_section
    def n_waiting(self):
        """The number of tasks that wait for the other parties."""
        return self.inside() if self.state == FILLING else 0

    @property
    @cython.critical_section
    def broken(self):
        """True if the barrier is broken: after abort(), until reset()."""
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
