"""The queue of waiters, and Lock."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, _get_running_loop
from collections import OrderedDict
from types import TracebackType
from typing import Any, Literal, SupportsIndex

from aiofastlock import _protocols


class Queue:
    """Waiters in order of arrival: the futures that their tasks wait on.

    Those at the front are settled: woken, or found to be done by other hands, and gone when their
    task has run. The others are parked. So the queue is the one dict followed by the other, and
    every step takes constant time wherever in it the waiter is. (`parked` is an OrderedDict, since
    a dict whose first item is taken out again and again takes longer and longer to find the next.)

    Nobody tells the queue when a waiter is cancelled: that is found out when it comes first.
    """

    __slots__ = ("parked", "settled", "woken")

    def __init__(self) -> None:
        self.parked: OrderedDict[Future[Any], None] = OrderedDict()
        self.settled: dict[Future[Any], bool] = {}  # to whether it is woken, and not cancelled
        self.woken = 0  # how many of the settled are

    # The steps below keep a waiter in one of the dicts, and `woken` right, before each call that
    # can run other code or fail.

    def settle(self, first: Future[Any], woken: bool) -> None:
        self.settled[first] = woken
        del self.parked[first]
        self.woken += woken

    def any_live(self) -> bool:
        """Whether anybody in the queue has not been cancelled. Amortised O(1)."""
        while not self.woken and self.parked:
            first = next(iter(self.parked))
            done = first.done()
            live = not done or not first.cancelled()
            if first not in self.parked:  # gone while done() or cancelled() ran
                continue
            if not done:
                return True
            self.settle(first, live)
        return self.woken > 0

    def wake_first(self, result: object = True) -> bool:
        """Give the first that is parked its turn, unless it is cancelled; say whether it got it."""
        first = next(iter(self.parked))
        self.settled[first] = True
        del self.parked[first]
        self.woken += 1
        if not first.done():
            try:
                first.set_result(result)
            except BaseException:
                if not first.done() and self.settled.pop(first, False):
                    self.woken -= 1  # as if it had never been tried
                    self.parked[first] = None
                    self.parked.move_to_end(first, last=False)
                raise
            return True
        if first.cancelled() and self.settled.get(first):
            self.settled[first] = False
            self.woken -= 1
        return False

    def remove(self, future: Future[Any]) -> bool:
        """Take a waiter out, wherever it stands; say whether it was woken."""
        woken = self.settled.pop(future, None)
        if woken is None:
            del self.parked[future]
            return False
        self.woken -= woken
        return woken


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
            # Nobody can be woken on a closed loop: those who are still parked keep that queue.
            if self._queue is not None:
                self._let_go(self._queue)
            self._queue = None
        self._loop = loop
        if self._queue is None:
            self._queue = Queue()
        return self._queue

    def _let_go(self, queue: Queue) -> None:
        """Take back the turns that are on their way to waiters on a closed loop."""

    def _future(self) -> Future[Any]:
        """Return a future to wait on, of the loop that the lot is bound to."""
        loop: Any = _get_running_loop()
        if self._queue is None or loop is not self._loop:
            self._bind(loop)
        future: Future[Any] = loop.create_future()
        return future

    _waiters = property(_protocols.waiters_or_none, _protocols.set_waiters)

    @property
    def _waiting(self) -> int:
        return 0 if self._queue is None else len(self._queue.settled) + len(self._queue.parked)

    def _futures(self) -> list[Future[Any]]:
        return [] if self._queue is None else [*self._queue.settled, *self._queue.parked]

    def _enqueue(self, future: Future[Any]) -> tuple[Queue, Future[Any]]:
        if self._queue is None:
            self._queue = Queue()
        self._queue.parked[future] = None
        return self._queue, future

    def _dequeue(self, place: tuple[Queue, Future[Any]]) -> None:
        queue, future = place
        queue.remove(future)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return object.__reduce_ex__(self, max(protocol.__index__(), 2))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._loop = None
        self._queue = None
        _protocols.setstate(self, state)


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
        if self._locked or (queue and (queue.woken or queue.any_live() or self._locked)):
            loop: Any = _get_running_loop()
            if queue is None or loop is not self._loop:
                queue = self._bind(loop)
            future = loop.create_future()
            # Once more: what stood in the way may have gone with a closed loop, or while code ran
            # to make the future, and then nobody would come to wake this waiter.
            if self._locked or queue.woken or queue.any_live() or self._locked:
                queue.parked[future] = None
                try:
                    await future
                except BaseException:
                    queue.remove(future)
                    self._forgo()
                    raise
                if future in queue.settled:  # what remove() does, without the call
                    queue.woken -= queue.settled.pop(future)
                else:
                    del queue.parked[future]
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
        return _protocols.getstate(self, "_locked")

    def __repr__(self) -> str:
        return _protocols.represent(self, "locked" if self._locked else "unlocked")
