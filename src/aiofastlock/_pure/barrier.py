"""Barrier."""

from __future__ import annotations

from asyncio.exceptions import BrokenBarrierError

from aiofastlock import _internals, _shared
from aiofastlock._pure.lock import ParkingLot, Queue, prepare

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    import asyncio
    from asyncio import Future
    from typing import Any
else:
    asyncio = _internals.locks

FILLING, DRAINING, RESETTING, BROKEN = _internals.locks._BarrierState

# The result of a waiter's future if abort() wakes it while it is blocked.
BLOCKED = -1


@_shared.unannotated
class Barrier(ParkingLot, asyncio.Barrier):
    """A point where asyncio tasks wait for each other. It replaces asyncio.Barrier.

    When `parties` tasks wait, the barrier wakes them all, and each gets an index of its own from 0
    to parties - 1, in the order in which they called wait(). Tasks that arrive before all of them
    have left wait until then. Use it as `async with barrier as index:`, or call wait().

    `parties` is an int. ValueError is raised if it is below 1, and TypeError if it cannot be
    compared with 1.

    It behaves like asyncio.Barrier of Python 3.13, except in four cases. The tasks continue after
    fewer iterations of the event loop. No index is given twice after a task was cancelled
    (gh-155233). The others do not wait for a cancelled task to leave. And a barrier whose event
    loop is closed can be used with another event loop; in asyncio, that raises RuntimeError.
    """

    __module__ = "aiofastlock"

    def __init__(self, parties: int) -> None:
        if parties < 1:
            raise ValueError("parties must be >= 1")
        self._waiters = Queue()
        self._parties = parties
        self._state = FILLING
        self._refilling = False
        if _shared.recorder is not None:
            _shared.recorder.made(self)

    # Invariant, by state:
    #
    # - filling: the parked waiters are parties, and no waiter is woken;
    # - draining, resetting: woken waiters have yet to leave, and the parked ones are blocked until
    #   they have;
    # - broken: no waiter is parked.
    #
    # The last woken waiter to leave lets the blocked ones in. It does so in the loop's next
    # iteration, so that a reset() by the task that leaves does not reach them. Until then the
    # barrier is refilling: its state is filling, but the parked waiters are still blocked.

    async def wait(self) -> int:
        """Wait until all parties wait, and return the index of this one.

        Nothing happens until the result is awaited. A task that is cancelled while it waits is not
        counted any more. BrokenBarrierError is raised if the barrier is broken, or if reset() or
        abort() is called while the task waits. RuntimeError is raised if the task must wait and the
        barrier is bound to another event loop that is not closed.
        """
        if not self._is_last():
            waiters, future = prepare(self)
            if not self._is_last():  # check again, as in Lock.acquire()
                waiters.append(future)
                try:
                    index: int = await future
                except BaseException:
                    self._leave(waiters, future)
                    raise
                state = self._state
                self._leave(waiters, future)
                if index == BLOCKED:
                    raise BrokenBarrierError("Barrier aborted")
                if state in (RESETTING, BROKEN):
                    raise BrokenBarrierError("Abort or reset of barrier")
                return index
        self._state = DRAINING
        last = int(self._parties) - 1
        self._wake(last)
        self._let_in_if_left(self._waiters)
        return last

    def _is_last(self) -> bool:
        """Whether a newcomer is the last party."""
        if self._state == BROKEN:
            raise BrokenBarrierError("Barrier aborted")
        filling = self._state == FILLING and not self._refilling
        last = filling and self._count + 1 >= self._parties == int(self._parties)
        if last and self._unbind_if_closed():
            last = self._parties == 1
        return last

    def _wake(self, count: int, result: int | None = None) -> None:
        waiters = self._waiters
        for index in range(count):
            if waiters.parked:
                waiters.wake_first(index if result is None else result)

    def _leave(self, waiters: Queue, future: Future[Any]) -> None:
        if _shared.recorder is not None:
            _shared.recorder.left(self, future)
        waiters.leave(future)
        self._let_in_if_left(waiters)

    def _let_in_if_left(self, waiters: Queue) -> None:
        """If all woken waiters have left, let the blocked ones in."""
        if not waiters.parked:
            self._refilling = False
        left = waiters is self._waiters and not waiters.woken
        if left and self._state in (DRAINING, RESETTING):
            self._state = FILLING
            loop = self._loop
            if waiters.parked and loop is not None and not loop.is_closed():
                loop.call_soon(self._refill, waiters)
                self._refilling = True

    def _refill(self, waiters: Queue) -> None:
        """Make the blocked waiters parties, unless they are cancelled."""
        if waiters is not self._waiters or not self._refilling:
            return
        self._refilling = False
        parties = 0
        cancelled = []
        for future in waiters.waiting():
            if parties == self._parties:
                break
            if future.done():
                cancelled.append(future)
            else:
                parties += 1
        for future in cancelled:
            if future not in waiters.gone and future not in waiters.settled:
                waiters.settle_done(future)
        if parties == self._parties and self._state == FILLING:
            self._state = DRAINING
            self._wake(parties)

    async def reset(self) -> None:
        """Return the barrier to its initial, empty state.

        Tasks that wait for the other parties get BrokenBarrierError. Tasks that wait for an earlier
        group to leave go on waiting. A broken barrier works again. Nothing happens until the result
        is awaited, which returns None without waiting.
        """
        self._unbind_if_closed()
        waiters = self._waiters
        if self._state != FILLING:
            self._state = RESETTING if waiters.woken else FILLING
        elif not self._refilling:
            self._state = RESETTING
            self._wake(len(waiters.parked), 0)
            self._let_in_if_left(waiters)

    async def abort(self) -> None:
        """Put the barrier into the broken state.

        Tasks that wait, and those that call wait() later, get BrokenBarrierError, until reset() is
        called. Nothing happens until the result is awaited, which returns None without waiting.
        """
        self._unbind_if_closed()
        result = 0 if self._state == FILLING and not self._refilling else BLOCKED
        self._state = BROKEN
        self._refilling = False
        self._wake(len(self._waiters.parked), result)

    def _reclaim(self, woken: int) -> None:
        if self._state != BROKEN:
            self._state = FILLING
        self._refilling = False

    async def __aenter__(self) -> int:  # type: ignore[override]
        return await self.wait()

    async def __aexit__(self, *args: object) -> None:
        pass

    @property
    def parties(self) -> int:
        """The number of tasks that the barrier waits for."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """The number of tasks that wait for the other parties."""
        return self._count if self._state == FILLING else 0

    @property
    def broken(self) -> bool:
        """True if the barrier is broken: after abort(), until reset()."""
        return self._state is BROKEN

    @property
    def _count(self) -> int:
        """The number of tasks inside: parties, or woken waiters that have yet to leave."""
        if self._refilling:
            return 0
        waiters = self._waiters
        parked = len(waiters.parked) - len(waiters.gone)
        return parked if self._state == FILLING else waiters.woken

    def __getstate__(self) -> dict[str, Any]:
        return _shared.getstate(self, "_parties", "_state")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._refilling = False
        super().__setstate__(state)
