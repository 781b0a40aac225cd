"""Condition."""

from __future__ import annotations

from asyncio.exceptions import CancelledError
from collections.abc import Callable

from aiofastlock import _shared
from aiofastlock._pure.lock import ContextManager, Lock, ParkingLot

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from typing import Any, Literal, TypeVar

    T = TypeVar("T")


class Condition(ContextManager, ParkingLot):
    """A lock, and a queue of tasks that wait to be notified. It replaces asyncio.Condition.

    `lock` is an object with acquire(), release() and locked(), such as a Lock; several conditions
    can share it. Without it, the condition creates a Lock. Use the condition as `async with
    condition:`, and call wait() or notify() inside.

    AttributeError is raised if `lock` lacks one of the three methods.

    It behaves like asyncio.Condition of Python 3.13, except that a condition whose event loop is
    closed can be used with another event loop; in asyncio, that raises RuntimeError.
    """

    __module__ = "aiofastlock"
    __slots__ = {
        "_lock": None,
        "acquire": "Call the lock's acquire(): wait until the lock is unlocked, and lock it.",
        "locked": "Return what the lock's locked() returns: True if the lock is locked.",
        "release": "Call the lock's release(): unlock the lock, and wake the first waiter.",
    }

    def __init__(self, lock: Any = None) -> None:
        self._loop = None
        self._queue = None
        self._use(Lock() if lock is None else lock)

    def _use(self, lock: Any) -> None:
        self._lock = lock
        self.locked = lock.locked
        self.acquire = lock.acquire
        self.release = lock.release

    _waiters = property(_shared.Waiters, _shared.set_waiters)

    async def wait(self) -> Literal[True]:
        """Release the lock, wait to be notified, acquire the lock again, and return True.

        Nothing happens until the result is awaited. The lock is acquired again before wait() ends,
        also if the task is cancelled. wait() may return without a notification, so check what you
        wait for and call it again if need be, or use wait_for(). RuntimeError is raised if the lock
        is not locked, or if the condition is bound to another event loop that is not closed.
        """
        if not self.locked():
            raise RuntimeError("cannot wait on un-acquired lock")
        queue, future = self._prepare()
        self.release()
        queue.parked.append(future)
        try:
            await future
        except BaseException as exception:
            queue.remove(future)
            await _shared.acquire_and_raise(self, exception)
        if queue.settled.pop(future, None) is None:  # others have set the future
            queue.unpark(future)
        try:
            await self.acquire()
        except CancelledError as exception:
            await _shared.acquire_and_raise(self, exception)
        except BaseException:
            self._notify(1)
            raise
        return True

    async def wait_for(self, predicate: Callable[[], T]) -> T:
        """Wait until predicate() returns a true value, and return that value.

        The predicate is called with the lock locked: at first, and after each wait().
        """
        result = predicate()
        while not result:
            await self.wait()
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        """Wake the first `n` tasks that wait to be notified.

        They continue when they have acquired the lock, which notify() does not release.
        RuntimeError is raised if the lock is not locked. There is no return value.
        """
        if not self.locked():
            raise RuntimeError("cannot notify on un-acquired lock")
        self._notify(n)

    def notify_all(self) -> None:
        """Wake all tasks that wait to be notified.

        They continue when they have acquired the lock, which notify_all() does not release.
        RuntimeError is raised if the lock is not locked. There is no return value.
        """
        self.notify(self._waiting)

    def _notify(self, n: int) -> None:
        queue = self._queue
        while queue is not None and n > 0 and queue.parked:
            n -= queue.wake_first(False)

    def __getstate__(self) -> dict[str, Any]:
        return _shared.getstate(self, "_lock")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._use(state["_lock"])
        super().__setstate__(state)

    def __repr__(self) -> str:
        return _shared.represent(self, "locked" if self.locked() else "unlocked")
