"""The queue of waiters, and Lock."""

from __future__ import annotations

import contextlib
import sys
from asyncio.exceptions import CancelledError, InvalidStateError
from collections import deque

from aiofastlock import _internals, _shared

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    import asyncio
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any, Literal, SupportsIndex
else:
    asyncio = _internals.locks

# Its functions are looked up when they are called, as in asyncio: they may be replaced at any time.
events = sys.modules["asyncio.events"]


NONE_SETTLED: dict[Future[Any], bool] = {}


class Queue(_shared.Waiters):
    """The waiters, in order of arrival: the futures that their tasks wait on.

    The waiters at the front are settled: each was woken, or its future was found to be done, and
    it leaves when its task runs. The waiters behind them are parked. The queue is `settled`
    followed by `parked`.

    Every step takes constant time, wherever the waiter is. A waiter that leaves from the middle of
    `parked` is only added to `gone`. The first parked waiter is never in `gone`, and `parked` is
    rebuilt before more than half of it would be.

    The queue is not notified when a future is cancelled. It finds out when that waiter is first.
    """

    # Many queues stay empty: these are replaced before something is added.
    parked: Any = ()  # a deque
    gone: set[Future[Any]] | frozenset[Any] = frozenset()  # of the parked
    settled: dict[Future[Any], bool] = NONE_SETTLED  # True: woken; False: cancelled
    cancelled = 0  # how many of the settled are cancelled
    emptied_by_others = False  # a waiter that leaves may not be there any more

    # Invariant: before each call that can run other code or fail, every waiter is where it belongs
    # and `cancelled` is right. Between any two steps, which is when other threads can look, all of
    # `gone` are in `parked`.

    def __len__(self) -> int:
        return len(self.settled) + len(self.parked) - len(self.gone)

    def _futures(self) -> list[Future[Any]]:
        # For other threads, such as that of aiofastlock.watch, each copy is one step.
        return [*self.settled, *(future for future in [*self.parked] if future not in self.gone)]

    def waiting(self) -> Iterator[Future[Any]]:
        """The parked waiters, in order."""
        return (future for future in self.parked if future not in self.gone)

    @property
    def woken(self) -> int:
        return len(self.settled) - self.cancelled

    def append(self, future: Future[Any]) -> None:
        if type(self.parked) is tuple:
            self.parked = deque()
        self.parked.append(future)

    def appendleft(self, future: Future[Any]) -> None:
        if type(self.parked) is tuple:
            self.parked = deque()
        self.parked.appendleft(future)

    def _discard(self, future: Future[Any]) -> bool:
        self.emptied_by_others = True
        return self.leave(future)

    def leave(self, future: Future[Any], surely_there: bool = True) -> bool:
        """Remove a waiter, wherever it is; return whether it was there."""
        woken = self.settled.pop(future, None)
        if woken is not None:
            self.cancelled -= not woken
        elif (self.emptied_by_others or not surely_there) and future not in self.waiting():
            return False
        else:
            self.unpark(future)
        return True

    def settle(self, future: Future[Any]) -> None:
        if self.settled is NONE_SETTLED:
            self.settled = {}
        self.settled[future] = True

    def unpark(self, future: Future[Any]) -> None:
        """Remove a parked waiter."""
        parked = self.parked
        gone: Any = self.gone
        dropped: Any = []  # freed last, since destructors of futures can run any code
        if parked[0] is future:
            parked.popleft()
        elif parked[-1] is future:
            parked.pop()
        else:
            if not gone:
                gone = self.gone = set()
            gone.add(future)
            if len(gone) * 2 > len(parked):
                dropped = parked, gone
                waiting = deque(self.waiting())
                self.gone = frozenset()
                self.parked = waiting
                return
        while gone and parked[0] in gone:
            gone.remove(parked[0])
            dropped.append(parked.popleft())

    def settle_done(self, future: Future[Any]) -> None:
        """Settle a parked waiter whose future others have set or cancelled."""
        self.settle(future)
        self.unpark(future)
        self.check(future)

    def check(self, future: Future[Any]) -> None:
        """Mark a settled waiter as cancelled if its future holds no result."""
        live = not future.cancelled() and future.exception() is None
        if not live and self.settled.get(future):
            self.settled[future] = False
            self.cancelled += 1

    def any_live(self) -> bool:
        """Whether a waiter in the queue can still have a turn. Amortised O(1)."""
        while len(self.settled) == self.cancelled and self.parked:
            first = self.parked[0]
            done = first.done()
            if self.parked and self.parked[0] is first:  # done() may have run other code
                if not done:
                    return True
                self.settle_done(first)
        return len(self.settled) > self.cancelled

    def wake_first(self, result: object = True) -> bool:
        """Wake the first parked waiter unless it is cancelled; return whether it was woken."""
        first = self.parked[0]
        if self.settled is NONE_SETTLED:  # as settle(), without a call: a signal can come at one
            self.settled = {}
        self.settled[first] = True
        if self.gone:
            self.unpark(first)
        else:
            self.parked.popleft()
        try:
            first.set_result(result)
        except InvalidStateError:
            self.check(first)
            return False
        except BaseException:
            if not first.done() and self.settled.pop(first, False):
                self.appendleft(first)  # where it was
            raise
        return True

    def wake_all(self) -> None:
        """Wake every waiter that is parked now."""
        woken = list(self.waiting() if self.gone else self.parked)
        settled = dict.fromkeys(woken, True)
        _gone, self.gone = self.gone, frozenset()  # freed last, as above
        _parked, self.parked = self.parked, ()
        if self.settled:
            self.settled.update(settled)
        else:
            self.settled = settled
        try:
            for future in woken:
                if not future.done():
                    future.set_result(True)
        except BaseException:
            for future in reversed(woken):
                if not future.done() and self.settled.pop(future, False):
                    self.appendleft(future)  # where it was
            raise


# A subclass can have a queue of its own in `_waiters`, with what asyncio's methods use of a deque.


def any_live(waiters: Any) -> bool:
    """Whether one of the waiters can still have a turn."""
    if type(waiters) is Queue:
        return waiters.any_live()
    return waiters is not None and any(not future.cancelled() for future in waiters)


def new_future(primitive: ParkingLot) -> Future[Any]:
    """Return a future of the running loop to wait on."""
    future: Future[Any] = primitive._get_loop().create_future()
    if _shared.recorder is not None:
        _shared.recorder.parking(primitive, future)
    return future


def prepare(primitive: ParkingLot) -> tuple[Any, Future[Any]]:
    """Return the queue to wait in, and a future to wait on."""
    future = new_future(primitive)
    waiters = primitive._waiters
    if waiters is None:
        waiters = primitive._waiters = Queue()
    return waiters, future


def leave_woken(primitive: ParkingLot, waiters: Any, future: Future[Any]) -> None:
    """As leave(), and faster if the future was woken."""
    if _shared.recorder is not None:
        _shared.recorder.left(primitive, future)
    if type(waiters) is not Queue or not waiters.settled.pop(future, False):
        leave(primitive, waiters, future)
    elif primitive._waiters is not waiters:
        leave(primitive, (), future)


def leave(
    primitive: ParkingLot, waiters: Any, future: Future[Any], after: BaseException | None = None
) -> bool:
    """Remove a future from the queue that it is in; return whether it was woken."""
    if _shared.recorder is not None:
        _shared.recorder.left(primitive, future)
    current = primitive._waiters
    if type(waiters) is Queue:
        # A subclass may have woken it.
        woken = waiters.settled.get(future, False) or _shared.was_woken(future)
        # A signal may have interrupted leave_woken().
        surely_there = after is None or isinstance(after, (CancelledError, GeneratorExit))
        waiters.leave(future, surely_there)
        if waiters is current:
            return woken
        # The loop was closed, or the queue was replaced.
    with contextlib.suppress(ValueError):
        current.remove(future)
        return _shared.was_woken(future)
    return False


@_shared.unannotated
class ParkingLot:
    """The base of every primitive: a queue of waiters, bound to their event loop."""

    if TYPE_CHECKING:
        _loop: AbstractEventLoop | None
        _waiters: Any  # None, in a lock and a semaphore, before the first wait
    else:
        _loop = None

    def _get_loop(self) -> AbstractEventLoop:
        """Bind to the running loop, or raise if another one is bound."""
        loop: Any = events._get_running_loop()
        if loop is None:
            raise RuntimeError("no running event loop")
        if self._loop is not loop:
            if self._loop is not None:
                if not self._loop.is_closed():
                    raise RuntimeError(f"{self!r} is bound to a different event loop")
                self._unbind_if_closed()
            self._loop = loop
        return loop  # type: ignore[no-any-return]

    def _unbind_if_closed(self) -> bool:
        """Empty the queue if the loop is closed; return whether waiters were left on it."""
        waiters = self._waiters
        if not waiters or self._loop is None or not self._loop.is_closed():
            return False
        # A closed loop cannot wake its waiters.
        if type(waiters) is Queue:  # they keep the old queue
            self._waiters = Queue()
            woken = waiters.woken
        else:
            woken = _shared.empty(waiters)
        self._reclaim(woken)
        return True

    def _reclaim(self, woken: int) -> None:
        """Take back the turns of waiters that were woken on a loop that is closed."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return object.__reduce_ex__(self, max(protocol.__index__(), 2))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._waiters = Queue()
        _shared.setstate(self, state)


@_shared.unannotated
class ContextManager:
    """`async with`, by the acquire() and release() that the object has."""

    async def __aenter__(self) -> None:
        await self.acquire()  # type: ignore[attr-defined]

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release()  # type: ignore[attr-defined]


@_shared.unannotated
class Lock(ContextManager, ParkingLot, asyncio.Lock):
    """A mutual exclusion lock for asyncio tasks. It replaces asyncio.Lock.

    A lock is either locked or unlocked, and no task owns it: any task may release it. Tasks that
    wait for the lock acquire it in the order in which they called acquire(). Use it as `async with
    lock:`, or call acquire() and, in a finally block, release().

    It behaves like asyncio.Lock of Python 3.13, except in two cases. If a task is woken for the
    lock and ends before it acquires it, its turn goes to the next waiter whatever the exception is;
    in asyncio, only after a CancelledError. And a lock whose event loop is closed can be used with
    another event loop; in asyncio, that raises RuntimeError.
    """

    __module__ = "aiofastlock"

    def __init__(self) -> None:
        self._waiters = None
        self._locked = False
        if _shared.recorder is not None:
            _shared.recorder.made(self)

    # Invariant: while the lock is unlocked and a waiter in the queue can still have a turn, the
    # first waiter is settled: it was woken, or it is cancelled and will hand its turn on. So
    # release(), a cancelled waiter and a newcomer need to look at the head alone.

    def locked(self) -> bool:
        """Return True if the lock is locked, False otherwise.

        It is False as well while a released lock is handed to the task that was woken for it.
        """
        return self._locked

    async def acquire(self) -> Literal[True]:
        """Wait until the lock is unlocked, lock it, and return True.

        Nothing happens until the result is awaited. Tasks that are waiting already go first. If the
        task is cancelled while it waits, CancelledError is raised and the lock is left as it was.
        RuntimeError is raised if the task must wait and the lock is bound to another event loop
        that is not closed.
        """
        # any_live() can run other code, which may lock the lock.
        waiters = self._waiters
        if self._locked or (waiters is not None and (any_live(waiters) or self._locked)):
            waiters, future = prepare(self)
            # Check again: the reason to wait may have gone with a closed loop, or while other code
            # ran to create the future. Then nothing would wake this waiter.
            if self._locked or any_live(waiters) or self._locked:
                waiters.append(future)
                try:
                    await future
                    leave_woken(self, waiters, future)
                except BaseException as exception:
                    leave(self, waiters, future, exception)
                    hand_off(self)
                    raise
        self._locked = True
        if _shared.recorder is not None:
            _shared.recorder.acquired(self)
        return True

    def try_acquire(self) -> bool:
        """Lock the lock and return True if that needs no wait; return False otherwise.

        It needs one if the lock is locked, or if a task waits for it that has its turn first.
        asyncio.Lock has no such method.
        """
        if is_taken(self) and not (self._unbind_if_closed() and not is_taken(self)):
            return False
        self._locked = True
        if _shared.recorder is not None:
            _shared.recorder.acquired(self)
        return True

    def release(self) -> None:
        """Unlock the lock, and wake the first task that waits for it.

        RuntimeError is raised if the lock is not locked. There is no return value.
        """
        if not self._locked:
            raise RuntimeError("Lock is not acquired.")
        self._locked = False
        if _shared.recorder is not None:
            _shared.recorder.released(self)
        self._wake_up_first()

    def _wake_up_first(self) -> None:
        """Wake the first waiter, unless it is settled."""
        waiters = self._waiters
        if type(waiters) is Queue:
            if waiters.parked and not waiters.settled:
                waiters.wake_first()
        elif waiters:
            for future in waiters:
                if not future.done():
                    future.set_result(True)
                break

    def __getstate__(self) -> dict[str, Any]:
        return _shared.getstate(self, "_locked")


def is_taken(lock: Lock) -> bool:
    # any_live() can run other code, which may lock the lock.
    return lock._locked or any_live(lock._waiters) or lock._locked


def hand_off(lock: Lock) -> None:
    """A waiter ended without its turn: give the turn to the next one."""
    # First, since is_closed() can run other code, which may lock the lock.
    closed = lock._loop is not None and lock._loop.is_closed()
    if not closed and not lock._locked:
        lock._wake_up_first()
