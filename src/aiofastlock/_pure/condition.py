"""Condition."""

from __future__ import annotations

from asyncio.exceptions import CancelledError
from collections.abc import Callable

from aiofastlock import _internals, _shared
from aiofastlock._pure.lock import (
    ContextManager,
    Lock,
    ParkingLot,
    Queue,
    leave,
    leave_woken,
    prepare,
)

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    import asyncio
    from typing import Any, Literal, NoReturn, TypeVar

    T = TypeVar("T")
else:
    asyncio = _internals.locks


@_shared.unannotated
class LockMethods:
    """The methods of a condition that are its lock's. An instance has those as attributes."""

    if TYPE_CHECKING:
        _lock: Any

    def locked(self) -> bool:
        """Return what the lock's locked() returns: True if the lock is locked."""
        return self._lock.locked()  # type: ignore[no-any-return]

    async def acquire(self) -> Literal[True]:
        """Call the lock's acquire(): wait until the lock is unlocked, and lock it."""
        return await self._lock.acquire()  # type: ignore[no-any-return]

    def release(self) -> None:
        """Call the lock's release(): unlock the lock, and wake the first waiter."""
        self._lock.release()


@_shared.unannotated
class Condition(ContextManager, ParkingLot, asyncio.Condition):
    """A lock, and a queue of tasks that wait to be notified. It replaces asyncio.Condition.

    `lock` is an object with acquire(), release() and locked(), such as a Lock; several conditions
    can share it. Without it, the condition creates a Lock. Use the condition as `async with
    condition:`, and call wait() or notify() inside.

    AttributeError is raised if `lock` lacks one of the three methods.

    It behaves like asyncio.Condition of Python 3.13, except that a condition whose event loop is
    closed can be used with another event loop; in asyncio, that raises RuntimeError.
    """

    __module__ = "aiofastlock"

    def __init__(self, lock: Any = None) -> None:
        self._waiters = Queue()
        if lock is None:
            lock = self._make_lock()
        self.locked = lock.locked  # type: ignore[method-assign]
        self.acquire = lock.acquire  # type: ignore[method-assign]
        self.release = lock.release  # type: ignore[method-assign]
        self._lock = lock  # last: a compiled condition makes a lock that has them, if it has not
        if _shared.recorder is not None:
            _shared.recorder.made(self)

    _make_lock = Lock

    def try_acquire(self) -> bool:
        """Call the lock's try_acquire(): lock it and return True if that needs no wait, else False.

        AttributeError is raised if the lock has no such method. asyncio.Condition has none.
        """
        return self._lock.try_acquire()  # type: ignore[no-any-return]

    async def wait(self) -> Literal[True]:
        """Release the lock, wait to be notified, acquire the lock again, and return True.

        Nothing happens until the result is awaited. The lock is acquired again before wait() ends,
        also if the task is cancelled. wait() may return without a notification, so check what you
        wait for and call it again if need be, or use wait_for(). RuntimeError is raised if the lock
        is not locked, or if the condition is bound to another event loop that is not closed.
        """
        if not self.locked():
            raise RuntimeError("cannot wait on un-acquired lock")
        waiters, future = prepare(self)
        self.release()
        waiters.append(future)
        try:
            await future
            leave_woken(self, waiters, future)
        except BaseException as exception:
            leave(self, waiters, future, exception)
            await acquire_and_raise(self, exception)
        try:
            await self.acquire()
        except CancelledError as exception:
            await acquire_and_raise(self, exception)
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
        self.notify(len(self._waiters))

    def _notify(self, n: int) -> None:
        waiters = self._waiters
        woken = 0
        if type(waiters) is Queue:
            # Checked twice, since the comparison can run any code.
            while waiters.parked and woken < n and waiters.parked:
                woken += waiters.wake_first(False)
        else:
            for future in waiters:
                if woken >= n:
                    break
                if not future.done():
                    woken += 1
                    future.set_result(False)

    def __getstate__(self) -> dict[str, Any]:
        return _shared.getstate(self, "_lock")

    def __setstate__(self, state: dict[str, Any]) -> None:
        Condition.__init__(self, state["_lock"])
        super().__setstate__(state)


async def acquire_and_raise(condition: Condition, raised: BaseException) -> NoReturn:
    """Acquire the lock and raise: `raised`, or the last CancelledError that comes meanwhile."""
    try:
        while True:
            try:
                await condition.acquire()
            except CancelledError as exception:
                raised = exception
            else:
                raise raised
    finally:
        # This waiter may have been notified, and does not act on it: notify another one.
        condition._notify(1)
        del raised  # its traceback refers to this frame
