"""The queue of waiters, and Lock."""

from __future__ import annotations

import sys
from asyncio.exceptions import InvalidStateError
from collections import deque

from aiofastlock import _shared

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any, Literal, SupportsIndex

# Its functions are looked up when they are called, as in asyncio: they may be replaced at any time.
events = sys.modules["asyncio.events"]


class Queue:
    """The waiters, in order of arrival: the futures that their tasks wait on.

    The waiters at the front are settled: each was woken, or its future was found to be done, and
    it leaves when its task runs. The waiters behind them are parked. The queue is `settled`
    followed by `parked`.

    Every step takes constant time, wherever the waiter is. A waiter that leaves from the middle of
    `parked` is only added to `gone`. The first parked waiter is never in `gone`, and `parked` is
    rebuilt before more than half of it would be.

    The queue is not notified when a future is cancelled. It finds out when that waiter is first.
    """

    __slots__ = ("cancelled", "gone", "parked", "settled")

    def __init__(self) -> None:
        self.parked: deque[Future[Any]] = deque()
        self.gone: set[Future[Any]] = set()  # of the parked
        self.settled: dict[Future[Any], bool] = {}  # True: woken; False: cancelled
        self.cancelled = 0  # how many of the settled are cancelled

    # Invariant: before each call that can run other code or fail, every waiter is where it belongs
    # and `cancelled` is right.

    def waiting(self) -> Iterator[Future[Any]]:
        """The parked waiters, in order."""
        return (future for future in self.parked if future not in self.gone)

    @property
    def woken(self) -> int:
        return len(self.settled) - self.cancelled

    def unpark(self, future: Future[Any]) -> None:
        """Remove a parked waiter."""
        parked, gone = self.parked, self.gone
        dropped: Any = []  # freed last, since destructors of futures can run any code
        if parked[0] is future:
            parked.popleft()
        elif parked[-1] is future:
            parked.pop()
        else:
            gone.add(future)
            if len(gone) * 2 > len(parked):
                dropped = parked, gone
                self.parked = deque(self.waiting())
                self.gone = set()
                return
        while gone and parked[0] in gone:
            dropped.append(parked.popleft())
            gone.remove(dropped[-1])

    def settle_done(self, future: Future[Any]) -> None:
        """Settle a parked waiter whose future others have set or cancelled."""
        self.settled[future] = True
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
                self.parked.appendleft(first)  # where it was
            raise
        return True

    def wake_all(self) -> None:
        """Wake every waiter that is parked now."""
        woken = list(self.waiting() if self.gone else self.parked)
        settled = dict.fromkeys(woken, True)
        _gone, self.gone = self.gone, set()  # freed last, as above
        self.parked.clear()
        if self.settled:
            self.settled.update(settled)
        else:
            self.settled = settled
        try:
            for future in woken:
                if not future.done():
                    future.set_result(True)
        except BaseException:
            rest = [f for f in woken if not f.done() and self.settled.pop(f, False)]
            self.parked.extendleft(reversed(rest))  # where they were
            raise

    def remove(self, future: Future[Any]) -> bool:
        """Remove a waiter, wherever it is; return whether it was woken."""
        woken = self.settled.pop(future, None)
        if woken is None:
            self.unpark(future)
        elif not woken:
            self.cancelled -= 1
        return woken is True


class ParkingLot:
    """The base of every primitive: a queue of waiters, bound to their event loop."""

    __slots__ = ("__dict__", "__weakref__", "_loop", "_queue")

    _loop: AbstractEventLoop | None
    _queue: Queue | None  # None before the first wait

    def _bind(self, loop: AbstractEventLoop | None) -> Queue:
        """Bind to the running loop, or raise if another one is bound; return the queue."""
        if loop is None:
            raise RuntimeError("no running event loop")
        if self._loop is not None and self._loop is not loop:
            if not self._loop.is_closed():
                raise RuntimeError(f"{self!r} is bound to a different event loop")
            self._unbind_if_closed()
        self._loop = loop
        if self._queue is None:
            self._queue = Queue()
        return self._queue

    def _unbind_if_closed(self) -> bool:
        """Start a new queue if the loop is closed; return whether waiters were left on it."""
        queue = self._queue
        if queue is None or self._loop is None or not self._loop.is_closed():
            return False
        # A closed loop cannot wake its waiters. They keep the old queue.
        self._queue = None
        self._reclaim(queue)
        return bool(queue.parked or queue.settled)

    def _reclaim(self, queue: Queue) -> None:
        """Take back the turns of waiters that were woken on a loop that is closed."""

    def _get_loop(self) -> AbstractEventLoop:
        loop: Any = events._get_running_loop()
        self._bind(loop)
        return loop  # type: ignore[no-any-return]

    def _prepare(self) -> tuple[Queue, Future[Any]]:
        """Return the queue to wait in, and a future of the running loop to wait on."""
        loop: Any = events._get_running_loop()
        queue = self._queue
        if queue is None or loop is not self._loop:
            queue = self._bind(loop)
        return queue, loop.create_future()

    _waiters = property(_shared.waiters_or_none, _shared.set_waiters)

    @property
    def _waiting(self) -> int:
        queue = self._queue
        return 0 if queue is None else len(queue.settled) + len(queue.parked) - len(queue.gone)

    def _futures(self) -> list[Future[Any]]:
        return [] if self._queue is None else [*self._queue.settled, *self._queue.waiting()]

    def _enqueue(self, future: Future[Any]) -> Queue:
        if self._queue is None:
            self._queue = Queue()
        self._queue.parked.append(future)
        return self._queue

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return object.__reduce_ex__(self, max(protocol.__index__(), 2))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._loop = None
        self._queue = None
        _shared.setstate(self, state)


class ContextManager:
    """`async with`, by the acquire() and release() that the object has."""

    __slots__ = ()

    async def __aenter__(self) -> None:
        await self.acquire()  # type: ignore[attr-defined]

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release()  # type: ignore[attr-defined]


class Lock(ContextManager, ParkingLot):
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
    __slots__ = ("_locked",)

    def __init__(self) -> None:
        self._loop = None
        self._queue = None
        self._locked = False

    # Invariant: while the lock is unlocked and a waiter in the queue can still have a turn, the
    # first waiter is settled: it was woken, or it is cancelled and will call _hand_off(). So
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
        queue = self._queue
        # any_live() can run other code, which may lock the lock.
        if self._locked or (queue and (queue.any_live() or self._locked)):
            queue, future = self._prepare()
            # Check again: the reason to wait may have gone with a closed loop, or while other code
            # ran to create the future. Then nothing would wake this waiter.
            if self._locked or queue.any_live() or self._locked:
                queue.parked.append(future)
                try:
                    await future
                except BaseException:
                    queue.remove(future)
                    self._hand_off()
                    raise
                if queue.settled.pop(future, None) is None:  # others have set the future
                    queue.unpark(future)
        self._locked = True
        return True

    def _hand_off(self) -> None:
        """A waiter ended without its turn: give the turn to the next one."""
        # First, since is_closed() can run other code, which may lock the lock.
        closed = self._loop is not None and self._loop.is_closed()
        if not closed and not self._locked:
            self._wake_head()

    def _wake_head(self) -> None:
        queue = self._queue
        if queue is not None and queue.parked and not queue.settled:
            queue.wake_first()

    def release(self) -> None:
        """Unlock the lock, and wake the first task that waits for it.

        RuntimeError is raised if the lock is not locked. There is no return value.
        """
        if not self._locked:
            raise RuntimeError("Lock is not acquired.")
        self._locked = False
        self._wake_head()

    def __getstate__(self) -> dict[str, Any]:
        return _shared.getstate(self, "_locked")

    def __repr__(self) -> str:
        return _shared.represent(self, "locked" if self._locked else "unlocked")
