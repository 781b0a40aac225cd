"""Event."""

from __future__ import annotations

from aiofastlock import _internals, _shared
from aiofastlock._pure.lock import ParkingLot, Queue, leave, leave_woken, new_future

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    import asyncio
    from typing import Any, Literal
else:
    asyncio = _internals.locks


@_shared.unannotated
class Event(ParkingLot, asyncio.Event):
    """A flag that asyncio tasks can wait for. It replaces asyncio.Event.

    A new event is not set. set() wakes every task that is waiting, in the order in which they
    called wait(), even if the event is cleared before those tasks run.

    It behaves like asyncio.Event of Python 3.13, except that an event whose event loop is closed
    can be used with another event loop; in asyncio, that raises RuntimeError.
    """

    __module__ = "aiofastlock"

    def __init__(self) -> None:
        self._waiters = Queue()
        self._value = False
        if _shared.recorder is not None:
            _shared.recorder.made(self)

    def is_set(self) -> bool:
        """Return True if the event is set, False otherwise."""
        return self._value

    def set(self) -> None:
        """Set the event, and wake all tasks that wait for it.

        Tasks that call wait() while the event is set do not wait. There is no return value.
        """
        if not self._value:
            self._value = True
            waiters = self._waiters
            try:
                if type(waiters) is Queue:
                    if waiters.parked:
                        waiters.wake_all()
                else:
                    for future in waiters:
                        if not future.done():
                            future.set_result(True)
            except MemoryError:  # calling set() again wakes the rest
                self._value = False
                raise

    def clear(self) -> None:
        """Reset the event, so that tasks that call wait() from now on wait.

        Tasks that were waiting when the event was set are woken nevertheless. There is no return
        value.
        """
        self._value = False

    async def wait(self) -> Literal[True]:
        """Wait until the event is set, and return True.

        Nothing happens until the result is awaited. RuntimeError is raised if the task must wait
        and the event is bound to another event loop that is not closed.
        """
        if self._value:
            return True
        future = new_future(self)
        if not self._value:  # check again, as in Lock.acquire()
            waiters = self._waiters
            waiters.append(future)
            try:
                await future
                leave_woken(self, waiters, future)
            except BaseException as exception:
                leave(self, waiters, future, exception)
                raise
        return True

    def __getstate__(self) -> dict[str, Any]:
        return _shared.getstate(self, "_value")
