"""Condition."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable

from aiofastlock import _shared
from aiofastlock._pure.lock import ContextManager, Lock, ParkingLot

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from typing import Any, Literal, TypeVar

    T = TypeVar("T")


class Condition(ContextManager, ParkingLot):
    """A lock with a queue of tasks that wait for a notification, in place of asyncio.Condition.

    `lock` is any object with acquire(), release() and locked(), which several conditions can share;
    without it, the condition has a Lock of its own. Use it as `async with condition:`, and inside,
    wait() or notify().

    AttributeError: a lock that lacks one of the three.

    Behaviour: asyncio.Condition's of Python 3.13. Ours: a condition whose loop is closed binds
    itself to the next.
    """

    __module__ = "aiofastlock"
    __slots__ = {
        "_lock": None,
        "acquire": "Wait until the lock is unlocked, and lock it. (The lock's own.)",
        "locked": "Return True if the lock is held, False if not. (The lock's own.)",
        "release": "Unlock the lock. (The lock's own.)",
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
        """Unlock the lock, wait for a notification, lock it again, and return True. (asyncio's.)

        Nothing happens until it is awaited. Whatever comes, a CancelledError too, it takes the lock
        back before it ends. It may return without a notification: look at what was waited for, and
        wait again. RuntimeError: the lock is not locked; the condition is bound to another loop,
        which is not closed.
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
            await _shared.take_lock_and_raise(self, exception)
        if queue.settled.pop(future, None) is None:  # set by other hands
            queue.unpark(future)
        try:
            await self.acquire()
        except CancelledError as exception:
            await _shared.take_lock_and_raise(self, exception)
        except BaseException:
            self._notify(1)
            raise
        return True

    async def wait_for(self, predicate: Callable[[], T]) -> T:
        """Wait until predicate() is true, and return what it gave. (asyncio's.)

        It is called with the lock held: at once, and after every wait().
        """
        result = predicate()
        while not result:
            await self.wait()
            result = predicate()
        return result

    def notify(self, n: int = 1) -> None:
        """Let the first `n` tasks that wait go on, once they get the lock. (asyncio's.)

        Returns None. It does not unlock the lock. RuntimeError: the lock is not locked.
        """
        if not self.locked():
            raise RuntimeError("cannot notify on un-acquired lock")
        self._notify(n)

    def notify_all(self) -> None:
        """Let all tasks that wait go on, once they get the lock. (asyncio's.)

        Returns None. RuntimeError: the lock is not locked.
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
