"""Queue, LifoQueue and PriorityQueue."""

from __future__ import annotations

import contextlib
from asyncio.exceptions import InvalidStateError
from collections import deque
from heapq import heappop, heappush

from aiofastlock import _internals, _shared
from aiofastlock._pure import lock
from aiofastlock._pure.event import Event
from aiofastlock._pure.lock import ParkingLot, new_future

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    import asyncio
    from asyncio import Future, QueueEmpty, QueueFull
    from collections.abc import Callable
    from typing import Any

    AsyncioQueue = asyncio.Queue[Any]
    AsyncioLifoQueue = asyncio.LifoQueue[Any]
    AsyncioPriorityQueue = asyncio.PriorityQueue[Any]

    class QueueShutDown(Exception): ...  # noqa: N818 - asyncio's name
else:
    AsyncioQueue = _internals.queues.Queue
    AsyncioLifoQueue = _internals.queues.LifoQueue
    AsyncioPriorityQueue = _internals.queues.PriorityQueue
    QueueEmpty = _internals.queues.QueueEmpty
    QueueFull = _internals.queues.QueueFull
    try:
        QueueShutDown = _internals.queues.QueueShutDown
    except AttributeError:  # before Python 3.13

        class QueueShutDown(Exception):  # noqa: N818
            """put() or get() was called on a queue that is shut down."""

            __module__ = "aiofastlock"


__all__ = ["LifoQueue", "PriorityQueue", "Queue", "QueueEmpty", "QueueFull", "QueueShutDown"]


class Parked(lock.Queue):
    """The getters or the putters that wait, in order of arrival.

    Unlike a lock's waiter, one that is woken leaves the queue at once. It may find that another
    task has taken the item or the free slot; then it parks again, behind all others. The settled
    are those that were found cancelled, until their tasks run.
    """

    def __len__(self) -> int:
        return len(self.parked) - len(self.gone)

    def _futures(self) -> list[Future[Any]]:
        return list(self.waiting())

    def wake_next(self) -> None:
        """Wake the first waiter that is not cancelled, if there is one."""
        while self.parked:
            first = self.parked[0]
            if first.done():
                self.pass_over(first)
                continue
            try:
                if self.gone:
                    self.unpark(first)
                else:
                    self.parked.popleft()
                first.set_result(None)
                break
            except InvalidStateError:
                pass  # other code has run
            except BaseException:
                if not first.done() and first not in self.waiting():
                    self.appendleft(first)  # where it was
                raise

    def pass_over(self, first: Future[Any]) -> None:
        """Remove the first waiter, whose future others have set or cancelled."""
        if _shared.was_woken(first):
            self.unpark(first)
        else:
            self.settle_done(first)


# A subclass can have queues of its own in `_getters` and `_putters`.


def wake_next(waiters: Any) -> None:
    if type(waiters) is Parked:
        waiters.wake_next()
        return
    while waiters:
        future = waiters.popleft()
        if not future.done():
            future.set_result(None)
            break


def end_wait(waiters: Any, current: Any, future: Future[Any]) -> bool:
    """Leave the queue without a turn; return whether the waiter was woken and can wake another.

    `current` is the queue that has taken the place of `waiters`, or the same.
    """
    closed = future.get_loop().is_closed()
    if not closed:
        future.cancel()  # if close() or throw() has ended the wait
    if _shared.was_woken(future):
        return not closed
    if type(waiters) is Parked:
        waiters.leave(future)
    if waiters is not current or type(waiters) is not Parked:
        with contextlib.suppress(ValueError):
            current.remove(future)
    return not (closed or future.cancelled())


@_shared.unannotated
class Queue(ParkingLot, AsyncioQueue):
    """A first-in, first-out queue of items for asyncio tasks. It replaces asyncio.Queue.

    At most `maxsize` items are in it, or any number if `maxsize` is 0 or less. put() waits while
    the queue is full, get() while it is empty. Of the tasks that wait to put, and of those that
    wait to get, the first to arrive is the first to be woken.

    A subclass can override _init(), _get() and _put() to keep its items otherwise.

    It behaves like asyncio.Queue of Python 3.13, except that a queue whose event loop is closed can
    be used with another event loop; in asyncio, that raises RuntimeError.
    """

    __module__ = "aiofastlock"

    if TYPE_CHECKING:
        _getters: Any
        _putters: Any
        _queue: Any

    def __init__(self, maxsize: int = 0) -> None:
        self._maxsize = maxsize
        self._getters = Parked()
        self._putters = Parked()
        self._unfinished_tasks = 0
        self._finished = self._make_event()
        self._finished.set()
        self._init(maxsize)
        self._is_shutdown = False
        if _shared.recorder is not None:
            _shared.recorder.made(self)

    _make_event = Event

    # Invariant: while there is an item and a getter is parked, another getter was woken and has yet
    # to run: it takes the item, or wakes the next one. The same is true of free slots and putters.

    def _init(self, maxsize: int) -> None:
        """Create what the items are kept in."""
        self._queue = deque()

    def _get(self) -> Any:
        """Take the next item out, of one or more."""
        return self._queue.popleft()

    def _put(self, item: Any) -> None:
        """Add an item."""
        self._queue.append(item)

    def _wakeup_next(self, waiters: Any) -> None:
        """Wake the first of the waiters that is not cancelled, if there is one."""
        if type(waiters) is not Parked:
            wake_next(waiters)
        elif waiters.parked:
            waiters.wake_next()

    def _format(self) -> str:
        details = [f"maxsize={self._maxsize!r}"]
        if getattr(self, "_queue", None):
            details.append(f"_queue={list(self._queue)!r}")
        if self._getters:
            details.append(f"_getters[{len(self._getters)}]")
        if self._putters:
            details.append(f"_putters[{len(self._putters)}]")
        if self._unfinished_tasks:
            details.append(f"tasks={self._unfinished_tasks}")
        if self._is_shutdown:
            details.append("shutdown")
        return " ".join(details)

    def qsize(self) -> int:
        """Return the number of items in the queue."""
        return len(self._queue)

    @property
    def maxsize(self) -> int:
        """The number of items that the queue has room for. 0 or less: any number."""
        return self._maxsize

    def empty(self) -> bool:
        """Return True if there is no item in the queue, False otherwise."""
        return not self._queue

    def full(self) -> bool:
        """Return True if there are `maxsize` items in the queue, False otherwise.

        It is always False if `maxsize` is 0 or less.
        """
        return not self._maxsize <= 0 and self.qsize() >= self._maxsize

    async def put(self, item: Any) -> None:
        """Wait until the queue is not full, and put an item into it.

        Nothing happens until the result is awaited. If the task is cancelled while it waits,
        CancelledError is raised and the item is not put. QueueShutDown is raised if the queue is
        shut down, also while the task waits. RuntimeError is raised if the task must wait and the
        queue is bound to another event loop that is not closed.
        """
        while self.full():
            if self._is_shutdown:
                raise QueueShutDown
            future = new_future(self)
            # Check again, as in Lock.acquire().
            if self._is_shutdown or not self.full():
                continue
            putters = self._putters
            putters.append(future)
            try:
                await future
            except BaseException:
                woken = end_wait(putters, self._putters, future)
                if not self.full() and woken:
                    self._wakeup_next(self._putters)
                raise
            finally:
                if _shared.recorder is not None:
                    _shared.recorder.left(self, future)
        return self.put_nowait(item)

    def put_nowait(self, item: Any) -> None:
        """Put an item into the queue, and wake the first task that waits to get one.

        QueueFull is raised if the queue is full, QueueShutDown if it is shut down. There is no
        return value.
        """
        if self._is_shutdown:
            raise QueueShutDown
        if self.full():
            raise QueueFull
        self._put(item)
        self._unfinished_tasks += 1
        self._finished.clear()
        self._wakeup_next(self._getters)

    async def get(self) -> Any:
        """Wait until there is an item in the queue, take it out, and return it.

        Nothing happens until the result is awaited. If the task is cancelled while it waits,
        CancelledError is raised and no item is taken. QueueShutDown is raised if the queue is empty
        and shut down, also while the task waits. RuntimeError is raised if the task must wait and
        the queue is bound to another event loop that is not closed.
        """
        while self.empty():
            if self._is_shutdown:
                raise QueueShutDown
            future = new_future(self)
            # Check again, as in Lock.acquire().
            if self._is_shutdown or not self.empty():
                continue
            getters = self._getters
            getters.append(future)
            try:
                await future
            except BaseException:
                woken = end_wait(getters, self._getters, future)
                if not self.empty() and woken:
                    self._wakeup_next(self._getters)
                raise
            finally:
                if _shared.recorder is not None:
                    _shared.recorder.left(self, future)
        return self.get_nowait()

    def get_nowait(self) -> Any:
        """Take an item out of the queue, wake the first task that waits to put one, and return it.

        QueueEmpty is raised if there is no item, or QueueShutDown if the queue is also shut down.
        """
        if self.empty():
            if self._is_shutdown:
                raise QueueShutDown
            raise QueueEmpty
        item = self._get()
        self._wakeup_next(self._putters)
        return item

    def task_done(self) -> None:
        """Say that the work on an item is done which get() or get_nowait() has returned.

        Call it once for each item. ValueError is raised if it is called more often than items were
        put. There is no return value.
        """
        if self._unfinished_tasks <= 0:
            raise ValueError("task_done() called too many times")
        self._unfinished_tasks -= 1
        if self._unfinished_tasks == 0:
            self._finished.set()

    async def join(self) -> None:
        """Wait until task_done() has been called for every item that was put into the queue.

        Nothing happens until the result is awaited.
        """
        if self._unfinished_tasks > 0:
            await self._finished.wait()

    def shutdown(self, immediate: bool = False) -> None:
        """Let no item be put any more, and wake all tasks that wait to put or get one.

        put() and put_nowait() raise QueueShutDown from now on; get() and get_nowait() do so when
        the queue is empty. If `immediate` is true, all items are taken out at once and count as
        done, which may end join(). There is no return value.
        """
        self._is_shutdown = True
        if immediate:
            while not self.empty():
                self._get()
                if self._unfinished_tasks > 0:
                    self._unfinished_tasks -= 1
            if self._unfinished_tasks == 0:
                self._finished.set()
        for waiters in (self._getters, self._putters):
            while waiters:
                wake_next(waiters)

    def _unbind_if_closed(self) -> bool:
        """Drop the waiters if the loop is closed: it cannot wake them."""
        if self._loop is None or not self._loop.is_closed():
            return False
        for name in ("_getters", "_putters"):
            waiters = getattr(self, name)
            if type(waiters) is Parked:  # they keep the old queue
                setattr(self, name, Parked())
            else:
                _shared.empty(waiters)
        return True

    def __getstate__(self) -> dict[str, Any]:
        return _shared.getstate(
            self,
            *("_finished", "_is_shutdown", "_maxsize", "_queue", "_unfinished_tasks"),
            queues=("_getters", "_putters"),
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._getters = Parked()
        self._putters = Parked()
        _shared.setstate(self, state)


@_shared.unannotated
class LifoQueue(Queue, AsyncioLifoQueue):
    """A queue whose last item is the first to be taken out.

    It behaves like asyncio.LifoQueue of Python 3.13, with the exception that Queue names.
    """

    __module__ = "aiofastlock"

    def _init(self, maxsize: int) -> None:
        """Create what the items are kept in."""
        self._queue = []

    def _get(self) -> Any:
        """Take the last item out, of one or more."""
        return self._queue.pop()

    def _put(self, item: Any) -> None:
        """Add an item."""
        self._queue.append(item)


@_shared.unannotated
class PriorityQueue(Queue, AsyncioPriorityQueue):
    """A queue whose lowest item is the first to be taken out.

    Items are compared with `<`. They are often tuples of a priority and something else.

    It behaves like asyncio.PriorityQueue of Python 3.13, with the exception that Queue names.
    """

    __module__ = "aiofastlock"

    def _init(self, maxsize: int) -> None:
        """Create what the items are kept in: a heap."""
        self._queue = []

    def _get(self, heappop: Callable[[list[Any]], Any] = heappop) -> Any:
        """Take the lowest item out, of one or more."""
        return heappop(self._queue)

    def _put(self, item: Any, heappush: Callable[[list[Any], Any], None] = heappush) -> None:
        """Add an item."""
        heappush(self._queue, item)
