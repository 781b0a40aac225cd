"""Semaphore and BoundedSemaphore."""

from __future__ import annotations

import sys

from aiofastlock import _shared
from aiofastlock._pure.lock import ContextManager, ParkingLot, Queue

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from typing import Any, Literal


class Semaphore(ContextManager, ParkingLot):
    """A number of permits for asyncio tasks, in place of asyncio.Semaphore.

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

    __module__ = "aiofastlock"
    __slots__ = ("_value",)

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError("Semaphore initial value must be >= 0")
        self._loop = None
        self._queue = None
        self._value = _shared.permits(value)

    # A permit that is on its way to a woken waiter is no longer in the value. While there are
    # permits in the value, nobody is parked, but for those behind a woken waiter or one that is
    # cancelled: whoever leaves the queue wakes as many as the value allows.

    def locked(self) -> bool:
        """Return True if acquire() would have to wait, False if not. (asyncio's.)

        True also while there are permits, but a task that came earlier has still to take its own.
        """
        return self._value == 0 or (self._queue is not None and self._queue.any_live())

    async def acquire(self) -> Literal[True]:
        """Wait until there is a permit, take it, and return True. (asyncio's.)

        Nothing happens until it is awaited. It gives way to those that wait already. Cancelled, it
        raises CancelledError and takes none. RuntimeError, where it has to wait: the semaphore is
        bound to another loop, which is not closed.
        """
        queue = self._queue
        # any_live() can run other code, which may take the last permit.
        if self._value == 0 or (queue and (queue.any_live() or self._value == 0)):
            queue, future = self._prepare()
            # Once more, as in Lock.acquire().
            if self._value == 0 or queue.any_live() or self._value == 0:
                queue.parked.append(future)
                try:
                    await future
                except BaseException:
                    if queue.remove(future) and queue is self._queue:
                        self._value += 1
                    self._forgo()
                    raise
                if queue.settled.pop(future, None) is None:  # set by other hands
                    queue.unpark(future)
                if self._value > 0 and queue.parked:
                    self._hand_on_all(queue)
                return True
        self._value -= 1
        return True

    def release(self) -> None:
        """Give a permit back, and let the first that waits for one have it. (asyncio's.)

        Returns None. It takes back more than it gave, too.
        """
        if self._value == sys.maxsize:
            raise OverflowError("Semaphore value too large")
        self._value += 1
        queue = self._queue
        if queue is not None:
            while queue.parked:
                if self._hand_on(queue):
                    break

    def _hand_on(self, queue: Queue) -> bool:
        """Give a permit to the first that is parked, unless it is cancelled."""
        first = queue.parked[0]
        self._value -= 1
        try:
            given = queue.wake_first()
        except BaseException:
            if first not in queue.settled:  # not even that
                self._value += 1
            raise
        if not given:
            self._value += 1
        return given

    def _hand_on_all(self, queue: Queue) -> None:
        while self._value > 0 and queue.parked:
            self._hand_on(queue)

    def _forgo(self) -> None:
        """A waiter died instead of taking its permit: see that the next ones get what there is."""
        closed = self._loop is not None and self._loop.is_closed()
        if self._queue is not None and not closed:
            self._hand_on_all(self._queue)

    def _let_go(self, queue: Queue) -> None:
        self._value += queue.woken

    def __getstate__(self) -> dict[str, Any]:
        return _shared.getstate(self, "_value")

    def __repr__(self) -> str:
        state = "locked" if self.locked() else f"unlocked, value:{self._value}"
        return _shared.represent(self, state)


class BoundedSemaphore(Semaphore):
    """A Semaphore that refuses to take back more permits than it was made with.

    Behaviour: asyncio.BoundedSemaphore's of Python 3.13. Ours: as for Semaphore.
    """

    __module__ = "aiofastlock"
    __slots__ = ("_bound_value",)

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self._bound_value = self._value

    def release(self) -> None:
        """Give a permit back, and let the first that waits for one have it. (asyncio's.)

        Returns None. ValueError: the semaphore has all its permits.
        """
        if self._value >= self._bound_value:
            raise ValueError("BoundedSemaphore released too many times")
        super().release()

    def __getstate__(self) -> dict[str, Any]:
        return _shared.getstate(self, "_value", "_bound_value")
