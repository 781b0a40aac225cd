"""Semaphore and BoundedSemaphore."""

from __future__ import annotations

import sys

from aiofastlock import _shared
from aiofastlock._pure.lock import ContextManager, ParkingLot, Queue

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from typing import Any, Literal


class Semaphore(ContextManager, ParkingLot):
    """A limited number of permits for asyncio tasks. It replaces asyncio.Semaphore.

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

    __module__ = "aiofastlock"
    __slots__ = ("_value",)

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError("Semaphore initial value must be >= 0")
        self._loop = None
        self._queue = None
        self._value = _shared.permits(value)

    # Invariant: a woken waiter's permit is not in the value any more. While the value is above 0,
    # waiters are parked only behind a woken or a cancelled one; each waiter that leaves the queue
    # wakes as many others as the value allows.

    def locked(self) -> bool:
        """Return True if acquire() would have to wait, False otherwise.

        It is True as well while there are permits but a task that was woken earlier has yet to
        acquire its own.
        """
        return self._value == 0 or (self._queue is not None and self._queue.any_live())

    async def acquire(self) -> Literal[True]:
        """Wait until there is a permit, take it, and return True.

        Nothing happens until the result is awaited. Tasks that are waiting already go first. If the
        task is cancelled while it waits, CancelledError is raised and no permit is taken.
        RuntimeError is raised if the task must wait and the semaphore is bound to another event
        loop that is not closed.
        """
        queue = self._queue
        # any_live() can run other code, which may take the last permit.
        if self._value == 0 or (queue and (queue.any_live() or self._value == 0)):
            queue, future = self._prepare()
            # Check again, as in Lock.acquire().
            if self._value == 0 or queue.any_live() or self._value == 0:
                queue.parked.append(future)
                try:
                    await future
                except BaseException:
                    if queue.remove(future) and queue is self._queue:
                        self._value += 1
                    self._hand_off()
                    raise
                if queue.settled.pop(future, None) is None:  # others have set the future
                    queue.unpark(future)
                if self._value > 0 and queue.parked:
                    self._grant_all(queue)
                return True
        self._value -= 1
        return True

    def release(self) -> None:
        """Add a permit, and wake the first task that waits for one.

        There may be more permits afterwards than the semaphore was created with. OverflowError is
        raised if there would be more than sys.maxsize. There is no return value.
        """
        if self._value == sys.maxsize:
            raise OverflowError("Semaphore value too large")
        self._value += 1
        queue = self._queue
        if queue is not None:
            while queue.parked:
                if self._grant_first(queue):
                    break

    def _grant_first(self, queue: Queue) -> bool:
        """Give a permit to the first parked waiter, unless it is cancelled."""
        first = queue.parked[0]
        self._value -= 1
        try:
            given = queue.wake_first()
        except BaseException:
            if first not in queue.settled:  # it was not woken
                self._value += 1
            raise
        if not given:
            self._value += 1
        return given

    def _grant_all(self, queue: Queue) -> None:
        while self._value > 0 and queue.parked:
            self._grant_first(queue)

    def _hand_off(self) -> None:
        """A waiter ended without its permit: give what there is to the next ones."""
        closed = self._loop is not None and self._loop.is_closed()
        if self._queue is not None and not closed:
            self._grant_all(self._queue)

    def _reclaim(self, queue: Queue) -> None:
        self._value += queue.woken

    def __getstate__(self) -> dict[str, Any]:
        return _shared.getstate(self, "_value")

    def __repr__(self) -> str:
        state = "locked" if self.locked() else f"unlocked, value:{self._value}"
        return _shared.represent(self, state)


class BoundedSemaphore(Semaphore):
    """A semaphore that cannot be released above its initial value.

    It behaves like asyncio.BoundedSemaphore of Python 3.13, with the exceptions that Semaphore
    lists.
    """

    __module__ = "aiofastlock"
    __slots__ = ("_bound_value",)

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self._bound_value = self._value

    def release(self) -> None:
        """Add a permit, and wake the first task that waits for one.

        ValueError is raised if the semaphore has as many permits as it was created with. There is
        no return value.
        """
        if self._value >= self._bound_value:
            raise ValueError("BoundedSemaphore released too many times")
        super().release()

    def __getstate__(self) -> dict[str, Any]:
        return _shared.getstate(self, "_value", "_bound_value")
