"""Event."""

from __future__ import annotations

from aiofastlock import _shared
from aiofastlock._pure.lock import ParkingLot

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from typing import Any, Literal


class Event(ParkingLot):
    """A flag that asyncio tasks can wait for, in place of asyncio.Event.

    It is unset when it is made. Every task that waits when it is set goes on, in the order in which
    they came, even if it is cleared again before they run.

    Behaviour: asyncio.Event's of Python 3.13. Ours: an event whose loop is closed binds itself to
    the next.
    """

    __module__ = "aiofastlock"
    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._loop = None
        self._queue = None
        self._value = False

    _waiters = property(_shared.Waiters, _shared.set_waiters)

    def is_set(self) -> bool:
        """Return True if the event is set, False if not. (asyncio's.)"""
        return self._value

    def set(self) -> None:
        """Set the event, and let all that wait for it go on. (asyncio's.)

        Returns None. Whoever waits for a set event does not stop for it.
        """
        if not self._value:
            self._value = True
            queue = self._queue
            try:
                if queue is not None:
                    queue.wake_all()
            except MemoryError:  # so that to set it again wakes the rest
                self._value = False
                raise

    def clear(self) -> None:
        """Unset the event, so that those that come from now on wait. (asyncio's.)

        Returns None. Who was waiting when it was set goes on nevertheless.
        """
        self._value = False

    async def wait(self) -> Literal[True]:
        """Wait until the event is set, and return True. (asyncio's.)

        Nothing happens until it is awaited. RuntimeError, where it has to wait: the event is bound
        to another loop, which is not closed.
        """
        if self._value:
            return True
        queue, future = self._prepare()
        if not self._value:  # once more, as in Lock.acquire()
            queue.parked.append(future)
            try:
                await future
            except BaseException:
                queue.remove(future)
                raise
            if queue.settled.pop(future, None) is None:  # set by other hands
                queue.unpark(future)
        return True

    def __getstate__(self) -> dict[str, Any]:
        return _shared.getstate(self, "_value")

    def __repr__(self) -> str:
        return _shared.represent(self, "set" if self._value else "unset")
