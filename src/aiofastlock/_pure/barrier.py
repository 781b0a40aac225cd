"""Barrier."""

from __future__ import annotations

from asyncio import BrokenBarrierError
from operator import index as to_int

from aiofastlock import _shared
from aiofastlock._pure.lock import ParkingLot, Queue

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from typing import Any

FILLING, DRAINING, RESETTING, BROKEN = "filling", "draining", "resetting", "broken"

# What the future of a waiter gives when abort() wakes it that was not yet a party.
BLOCKED = -1


class Barrier(ParkingLot):
    """A place where asyncio tasks wait until `parties` of them are there, for asyncio.Barrier.

    When the last of them comes, they all go on, each with an index of its own from 0 to
    parties - 1, by order of arrival. Those that come before all have left wait for the next
    time. Use it as `async with barrier as index:`, or call wait().

    `parties` is an int of at least 1. ValueError: it is less. TypeError: it is no int.

    Behaviour: asyncio.Barrier's of Python 3.13, in fewer steps of the event loop. Ours: an index is
    not given twice after a party was cancelled; who is cancelled is not waited for when the others
    leave; a barrier whose loop is closed binds itself to the next.
    """

    __module__ = "aiofastlock"
    __slots__ = ("_parties", "_refilling", "_state")

    def __init__(self, parties: int) -> None:
        if parties < 1:
            raise ValueError("parties must be >= 1")
        self._loop = None
        self._queue = None
        self._parties = to_int(parties)
        self._state = FILLING
        self._refilling = False

    # Filling, all that are parked are parties, and nobody is woken. Draining or resetting, somebody
    # is woken and still to leave, and those that are parked are blocked until then. Broken, nobody
    # is parked. So whoever leaves last finds no more woken, and lets those in that were blocked:
    # not at once, lest a reset() of the last to leave be theirs, but in the loop's next iteration.
    # Until then the barrier is refilling: filling, but those that are parked are still blocked.

    async def wait(self) -> int:
        """Wait until all parties are there, and return the index of this one. (asyncio's.)

        Nothing happens until it is awaited. Cancelled, it is no party any more. BrokenBarrierError:
        reset() or abort() was called while it waited, or the barrier is broken. RuntimeError, where
        it has to wait: the barrier is bound to another loop, which is not closed.
        """
        if not self._is_last():
            queue, future = self._prepare()
            if not self._is_last():  # once more, as in Lock.acquire()
                queue.parked.append(future)
                try:
                    index: int = await future
                except BaseException:
                    queue.remove(future)
                    self._leave(queue)
                    raise
                queue.remove(future)
                state = self._state
                self._leave(queue)
                if index == BLOCKED:
                    raise BrokenBarrierError("Barrier aborted")
                if state in (RESETTING, BROKEN):
                    raise BrokenBarrierError("Abort or reset of barrier")
                return index
        self._state = DRAINING
        if self._queue is not None:
            self._wake(self._queue, self._parties - 1)
        self._leave(self._queue)
        return self._parties - 1

    def _is_last(self) -> bool:
        """Whether a newcomer makes the barrier trip."""
        if self._state == BROKEN:
            raise BrokenBarrierError("Barrier aborted")
        filling = self._state == FILLING and not self._refilling
        last = filling and self._count + 1 >= self._parties
        if last and self._let_go_if_closed():
            last = self._parties == 1
        return last

    def _wake(self, queue: Queue, count: int, result: int | None = None) -> None:
        for index in range(count):
            if queue.parked:
                queue.wake_first(index if result is None else result)

    def _leave(self, queue: Queue | None) -> None:
        """One is gone: when it was the last of those inside, let those in that are blocked."""
        if queue is not None and not queue.parked:
            self._refilling = False
        left = queue is self._queue and (queue is None or not queue.woken)
        if left and self._state in (DRAINING, RESETTING):
            self._state = FILLING
            loop = self._loop
            if queue is not None and queue.parked and loop is not None and not loop.is_closed():
                loop.call_soon(self._refill, queue)
                self._refilling = True

    def _refill(self, queue: Queue) -> None:
        """Those that were blocked are parties, unless they are cancelled."""
        if queue is not self._queue or not self._refilling:
            return
        self._refilling = False
        parties = 0
        cancelled = []
        for future in queue.waiting():
            if parties == self._parties:
                break
            if future.done():
                cancelled.append(future)
            else:
                parties += 1
        for future in cancelled:
            if future not in queue.gone and future not in queue.settled:
                queue.settle_done(future)
        if parties == self._parties and self._state == FILLING:
            self._state = DRAINING
            self._wake(queue, self._parties)

    async def reset(self) -> None:
        """Empty the barrier: who waits in it gets a BrokenBarrierError. (asyncio's.)

        Returns None, and never waits. Those that wait for others to leave go on waiting. A broken
        barrier is whole again. Nothing happens until it is awaited.
        """
        self._let_go_if_closed()
        queue = self._queue
        if self._state != FILLING:
            self._state = RESETTING if queue is not None and queue.woken else FILLING
        elif not self._refilling:
            self._state = RESETTING
            if queue is not None:
                self._wake(queue, len(queue.parked), 0)
            self._leave(queue)

    async def abort(self) -> None:
        """Break the barrier: who waits, and who comes, gets a BrokenBarrierError. (asyncio's.)

        Returns None, and never waits. reset() mends it. Nothing happens until it is awaited.
        """
        self._let_go_if_closed()
        result = 0 if self._state == FILLING and not self._refilling else BLOCKED
        self._state = BROKEN
        self._refilling = False
        if self._queue is not None:
            self._wake(self._queue, len(self._queue.parked), result)

    def _let_go(self, queue: Queue) -> None:
        if self._state != BROKEN:
            self._state = FILLING
        self._refilling = False

    async def __aenter__(self) -> int:
        return await self.wait()

    async def __aexit__(self, *args: object) -> None:
        pass

    @property
    def parties(self) -> int:
        """How many tasks make the barrier trip. (asyncio's.)"""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """How many parties wait for the barrier to trip. (asyncio's.)"""
        return self._count if self._state == FILLING else 0

    @property
    def broken(self) -> bool:
        """True if the barrier is broken, after abort() and before reset(). (asyncio's.)"""
        return self._state == BROKEN

    @property
    def _count(self) -> int:
        """How many are inside: parties, or those that were woken and have not left."""
        if self._queue is None or self._refilling:
            return 0
        parties = len(self._queue.parked) - len(self._queue.gone)
        return parties if self._state == FILLING else self._queue.woken

    def __getstate__(self) -> dict[str, Any]:
        return _shared.getstate(self, "_parties", "_state")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._refilling = False
        super().__setstate__(state)

    def __repr__(self) -> str:
        return _shared.represent_barrier(self)
