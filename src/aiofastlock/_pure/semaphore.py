"""Semaphore and BoundedSemaphore."""

from __future__ import annotations

from aiofastlock import _internals, _shared
from aiofastlock._pure.lock import (
    ContextManager,
    ParkingLot,
    Queue,
    any_live,
    leave,
    leave_woken,
    prepare,
)

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    import asyncio
    from typing import Any, Literal
else:
    asyncio = _internals.locks


@_shared.unannotated
class Semaphore(ContextManager, ParkingLot, asyncio.Semaphore):
    """A limited number of permits for asyncio tasks. It replaces asyncio.Semaphore.

    `value` is the initial number of permits, usually an int, and at least 0. acquire() takes a
    permit, and waits while there is none; release() adds one. Tasks that wait get their permits in
    the order in which they called acquire(). Use it as `async with semaphore:`, or call acquire()
    and, in a finally block, release().

    ValueError is raised for a value below 0, TypeError for one that cannot be compared with 0.

    It behaves like asyncio.Semaphore of Python 3.13, except in two cases. If a task is woken for
    a permit and ends before it acquires it, the permit goes to the next waiter whatever the
    exception is; in asyncio, only after a CancelledError. And a semaphore whose event loop is
    closed can be used with another event loop; in asyncio, that raises RuntimeError.
    """

    __module__ = "aiofastlock"

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError("Semaphore initial value must be >= 0")
        self._waiters = None
        self._value = value
        if _shared.recorder is not None:
            _shared.recorder.made(self)

    # Invariant: a woken waiter's permit is not in the value any more. While the value is above 0,
    # waiters are parked only behind a woken or a cancelled one; each waiter that leaves the queue
    # wakes as many others as the value allows.

    def locked(self) -> bool:
        """Return True if acquire() would have to wait, False otherwise.

        It is True as well while there are permits but a task that was woken earlier has yet to
        acquire its own.
        """
        return is_locked(self)

    async def acquire(self) -> Literal[True]:
        """Wait until there is a permit, take it, and return True.

        Nothing happens until the result is awaited. Tasks that are waiting already go first. If the
        task is cancelled while it waits, CancelledError is raised and no permit is taken.
        RuntimeError is raised if the task must wait and the semaphore is bound to another event
        loop that is not closed.
        """
        if self.locked():
            by_a_subclass = not is_locked(self)
            waiters, future = prepare(self)
            if by_a_subclass or is_locked(self):  # check again, as in Lock.acquire()
                waiters.append(future)
                try:
                    await future
                    leave_woken(self, waiters, future)
                except BaseException as exception:
                    hand_off(self, leave(self, waiters, future, exception))
                    raise
                if _shared.recorder is not None:
                    _shared.recorder.acquired(self)
                if self._value > 0:
                    wake_up_more(self)
                return True
        self._value -= 1
        if _shared.recorder is not None:
            _shared.recorder.acquired(self)
        return True

    def try_acquire(self) -> bool:
        """Take a permit and return True if that needs no wait; return False otherwise.

        It needs one if locked() is true: there is no permit, or a task that waits for one has its
        turn first. asyncio.Semaphore has no such method.
        """
        if self.locked() and not (self._unbind_if_closed() and not self.locked()):
            return False
        self._value -= 1
        if _shared.recorder is not None:
            _shared.recorder.acquired(self)
        return True

    def release(self) -> None:
        """Add a permit, and wake the first task that waits for one.

        There may be more permits afterwards than the semaphore was created with. There is no return
        value.
        """
        self._value += 1
        if _shared.recorder is not None:
            _shared.recorder.released(self)
        self._wake_up_next()

    def _wake_up_next(self) -> bool:  # type: ignore[override]
        """Give a permit to the first parked waiter that is not cancelled, if there is one."""
        waiters = self._waiters
        if type(waiters) is Queue:
            while waiters.parked:
                if grant_first(self, waiters):
                    return True
        else:
            for future in waiters or ():
                if not future.done():
                    self._value -= 1
                    future.set_result(True)
                    return True
        return False

    def _reclaim(self, woken: int) -> None:
        self._value += woken

    def __getstate__(self) -> dict[str, Any]:
        return _shared.getstate(self, "_value")


def is_locked(semaphore: Semaphore) -> bool:
    # any_live() can run other code, which may take the last permit.
    return semaphore._value == 0 or any_live(semaphore._waiters) or semaphore._value == 0


def grant_first(semaphore: Semaphore, waiters: Queue) -> bool:
    """Give a permit to the first parked waiter, unless it is cancelled."""
    first = waiters.parked[0]
    done = first.done()
    if not waiters.parked or waiters.parked[0] is not first:  # done() has run other code
        return False
    if done:
        waiters.settle_done(first)
        return False
    semaphore._value -= 1
    # If it has left meanwhile, it has given the permit back.
    try:
        given = waiters.wake_first()
    except BaseException:
        if waiters.parked and waiters.parked[0] is first:
            semaphore._value += 1
        raise
    if not given and first in waiters.settled:
        semaphore._value += 1
    return given


def hand_off(semaphore: Semaphore, woken: bool) -> None:
    """A waiter ended without its permit: give what there is to the next ones."""
    semaphore._value += woken
    if semaphore._loop is None or not semaphore._loop.is_closed():
        wake_up_more(semaphore)


def wake_up_more(semaphore: Semaphore) -> None:
    """Wake as many waiters as there are permits."""
    while semaphore._value > 0:
        if not semaphore._wake_up_next():
            break


@_shared.unannotated
class BoundedSemaphore(Semaphore, asyncio.BoundedSemaphore):
    """A semaphore that cannot be released above its initial value.

    It behaves like asyncio.BoundedSemaphore of Python 3.13, with the exceptions that Semaphore
    lists.
    """

    __module__ = "aiofastlock"

    def __init__(self, value: int = 1) -> None:
        self._bound_value = value
        super().__init__(value)

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
