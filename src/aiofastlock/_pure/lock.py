"""The queue of waiters, and Lock."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, InvalidStateError, _get_running_loop
from collections import deque
from collections.abc import Iterator
from types import TracebackType

from aiofastlock import _shared

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from typing import Any, Literal, SupportsIndex


class Queue:
    """Waiters in order of arrival: the futures that their tasks wait on.

    Those at the front are settled: woken, or found to be done by other hands, and gone when their
    task has run. The others are parked. So the queue is the one followed by the other, and every
    step takes constant time wherever in it the waiter is: one that leaves from the middle of those
    that are parked is only noted as gone. The first of them never is; when one more would make the
    gone more than half, the queue is made anew without them.

    Nobody tells the queue when a waiter is cancelled: that is found out when it comes first.
    """

    __slots__ = ("gone", "parked", "passed", "settled")

    def __init__(self) -> None:
        self.parked: deque[Future[Any]] = deque()
        self.gone: set[Future[Any]] = set()  # of the parked
        self.settled: dict[Future[Any], bool] = {}  # to whether it is woken, and not cancelled
        self.passed = 0  # how many of the settled are not

    # The steps below keep a waiter in its place, and `passed` right, before each call that can run
    # other code or fail.

    def waiting(self) -> Iterator[Future[Any]]:
        """Those that are parked, in order."""
        return (future for future in self.parked if future not in self.gone)

    @property
    def woken(self) -> int:
        return len(self.settled) - self.passed

    def unpark(self, future: Future[Any]) -> None:
        """Take out one of those that are parked."""
        parked, gone = self.parked, self.gone
        dead: Any = []  # futures, which die last: their destructors can run any code
        if parked[0] is future:
            parked.popleft()
        elif parked[-1] is future:
            parked.pop()
        else:
            gone.add(future)
            if len(gone) * 2 > len(parked):
                dead = parked, gone
                self.parked = deque(self.waiting())
                self.gone = set()
                return
        while gone and parked[0] in gone:
            dead.append(parked.popleft())
            gone.remove(dead[-1])

    def settle_done(self, future: Future[Any]) -> None:
        """Pass over a parked waiter that is done by other hands."""
        self.settled[future] = True
        self.unpark(future)
        self.check(future)

    def check(self, future: Future[Any]) -> None:
        """Look whether one that is settled, and was done by other hands, is let through."""
        live = not future.cancelled() and future.exception() is None
        if not live and self.settled.get(future):
            self.settled[future] = False
            self.passed += 1

    def any_live(self) -> bool:
        """Whether anybody in the queue has not been cancelled. Amortised O(1)."""
        while len(self.settled) == self.passed and self.parked:
            first = self.parked[0]
            done = first.done()
            if self.parked and self.parked[0] is first:  # not gone while that ran
                if not done:
                    return True
                self.settle_done(first)
        return len(self.settled) > self.passed

    def wake_first(self, result: object = True) -> bool:
        """Give the first that is parked its turn, unless it is cancelled; say whether it got it."""
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
                self.parked.appendleft(first)  # as if it had never been tried
            raise
        return True

    def wake_all(self) -> None:
        """Give everyone that is parked at this moment their turn."""
        woken = list(self.waiting() if self.gone else self.parked)
        settled = dict.fromkeys(woken, True)
        _gone, self.gone = self.gone, set()  # they die last
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
            self.parked.extendleft(reversed(rest))  # as if it had never been tried
            raise

    def remove(self, future: Future[Any]) -> bool:
        """Take a waiter out, wherever it stands; say whether it was woken."""
        woken = self.settled.pop(future, None)
        if woken is None:
            self.unpark(future)
        elif not woken:
            self.passed -= 1
        return woken is True


class ParkingLot:
    """What every primitive is: a queue of waiters, bound to the loop that they wait on."""

    __slots__ = ("__dict__", "__weakref__", "_loop", "_queue")

    _loop: AbstractEventLoop | None
    _queue: Queue | None  # None before the first wait

    def _bind(self, loop: AbstractEventLoop | None) -> Queue:
        """Bind to the running loop, or refuse it, and begin a queue."""
        if loop is None:
            raise RuntimeError("no running event loop")
        if self._loop is not None and self._loop is not loop:
            if not self._loop.is_closed():
                raise RuntimeError(f"{self!r} is bound to a different event loop")
            self._let_go_if_closed()
        self._loop = loop
        if self._queue is None:
            self._queue = Queue()
        return self._queue

    def _let_go_if_closed(self) -> bool:
        """Begin anew where the loop is closed; say whether anybody was left on it."""
        queue = self._queue
        if queue is None or self._loop is None or not self._loop.is_closed():
            return False
        # Nobody can be woken on a closed loop: those who are still parked keep that queue.
        self._queue = None
        self._let_go(queue)
        return bool(queue.parked or queue.settled)

    def _let_go(self, queue: Queue) -> None:
        """Take back the turns that are on their way to waiters on a closed loop."""

    def _get_loop(self) -> AbstractEventLoop:
        loop: Any = _get_running_loop()
        self._bind(loop)
        return loop  # type: ignore[no-any-return]

    def _prepare(self) -> tuple[Queue, Future[Any]]:
        """Return the queue to wait in, and a future of the running loop to wait on."""
        loop: Any = _get_running_loop()
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
    """`async with`, by whatever acquire() and release() the object has."""

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
    """A mutual exclusion lock for asyncio tasks, in place of asyncio.Lock.

    It is locked or unlocked, and belongs to no task. Tasks that wait for it get it in the order in
    which they came. Use it as `async with lock:`, or call acquire() and, in a finally, release().

    Behaviour: asyncio.Lock's of Python 3.13. Ours: a woken task that dies before it has taken the
    lock, of whatever, hands its turn on; a lock whose loop is closed binds itself to the next.
    """

    __module__ = "aiofastlock"
    __slots__ = ("_locked",)

    def __init__(self) -> None:
        self._loop = None
        self._queue = None
        self._locked = False

    # When nobody holds the lock, the head of a queue with anybody live in it is settled: woken, or
    # cancelled and about to hand on. So whoever releases, dies or comes anew only ever has to look
    # at the head.

    def locked(self) -> bool:
        """Return True if the lock is held, False if not. (asyncio's.)

        False also while a released lock is on its way to a task that waited for it.
        """
        return self._locked

    async def acquire(self) -> Literal[True]:
        """Wait until the lock is unlocked, lock it, and return True. (asyncio's.)

        Nothing happens until it is awaited. It gives way to those that wait already. Cancelled, it
        raises CancelledError and leaves the lock as it was. RuntimeError, where it has to wait: the
        lock is bound to another loop, which is not closed.
        """
        queue = self._queue
        # any_live() can run other code, which may take the lock.
        if self._locked or (queue and (queue.any_live() or self._locked)):
            queue, future = self._prepare()
            # Once more: what stood in the way may have gone with a closed loop, or while code ran
            # to make the future, and then nobody would come to wake this waiter.
            if self._locked or queue.any_live() or self._locked:
                queue.parked.append(future)
                try:
                    await future
                except BaseException:
                    queue.remove(future)
                    self._forgo()
                    raise
                if queue.settled.pop(future, None) is None:  # set by other hands
                    queue.unpark(future)
        self._locked = True
        return True

    def _forgo(self) -> None:
        """A waiter died instead of taking its turn: see that the next one gets it."""
        # First, since it can run other code, which may take the lock.
        closed = self._loop is not None and self._loop.is_closed()
        if not closed and not self._locked:
            self._wake_head()

    def _wake_head(self) -> None:
        queue = self._queue
        if queue is not None and queue.parked and not queue.settled:
            queue.wake_first()

    def release(self) -> None:
        """Unlock the lock, and let the first that waits for it have it. (asyncio's.)

        Returns None. RuntimeError: the lock is not locked.
        """
        if not self._locked:
            raise RuntimeError("Lock is not acquired.")
        self._locked = False
        self._wake_head()

    def __getstate__(self) -> dict[str, Any]:
        return _shared.getstate(self, "_locked")

    def __repr__(self) -> str:
        return _shared.represent(self, "locked" if self._locked else "unlocked")
