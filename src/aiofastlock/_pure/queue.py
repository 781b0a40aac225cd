"""Queue, LifoQueue and PriorityQueue."""

from __future__ import annotations

import contextlib
from asyncio.exceptions import InvalidStateError
from collections import deque
from heapq import heappop, heappush
from itertools import repeat

from aiofastlock import _internals, _shared
from aiofastlock._pure.event import Event
from aiofastlock._pure.lock import ParkingLot

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    import asyncio
    from asyncio import Future, QueueEmpty, QueueFull
    from collections.abc import Callable
    from typing import Any

    Deque = deque[Future[Any]]
    AsyncioQueue = asyncio.Queue[Any]
    AsyncioLifoQueue = asyncio.LifoQueue[Any]
    AsyncioPriorityQueue = asyncio.PriorityQueue[Any]

    class QueueShutDown(Exception): ...  # noqa: N818 - asyncio's name
else:
    Deque = deque
    AsyncioQueue = _internals.queues.Queue
    AsyncioLifoQueue = _internals.queues.LifoQueue
    AsyncioPriorityQueue = _internals.queues.PriorityQueue
    QueueEmpty = _internals.queues.QueueEmpty
    QueueFull = _internals.queues.QueueFull
    try:
        QueueShutDown = _internals.queues.QueueShutDown
    except AttributeError:  # pragma: no cover - before Python 3.13

        class QueueShutDown(Exception):  # noqa: N818
            """put() or get() was called on a queue that is shut down."""

            __module__ = "aiofastlock"


__all__ = ["LifoQueue", "PriorityQueue", "Queue", "QueueEmpty", "QueueFull", "QueueShutDown"]


class Parked(Deque):
    """The getters or the putters that wait, in order of arrival: a deque that need not be searched.

    Unlike a lock's waiter, one that is woken leaves the queue at once. It may find that another
    task has taken the item or the free slot; then it parks again, behind all others.
    """

    gone: Any = frozenset()

    def leave(self, future: Future[Any]) -> None:
        """Remove a waiter, if it is there, in constant time."""
        if not self:
            return
        if next(deque.__iter__(self)) is future:
            self.popleft()
        elif next(deque.__reversed__(self)) is future:
            deque.pop(self)
        else:
            if not self.gone:
                self.gone = set()
            self.gone.add(future)
            self.__class__ = Thinned
            self.restore_if_thin()

    def restore_if_thin(self) -> None:
        if not self.gone:
            self.__class__ = Parked
        elif len(self.gone) * 2 > deque.__len__(self):
            self.restore()

    def restore(self) -> None:
        """Remove those who are gone."""
        gone = self.gone
        waiting = [future for future in deque.__iter__(self) if future not in gone]
        length = deque.__len__(self)
        each = repeat(None, length)  # from here on, only extend() needs memory
        try:
            deque.extend(self, waiting)
        except MemoryError:
            while deque.__len__(self) > length:
                deque.pop(self)
            raise
        for _ in each:
            deque.popleft(self)
        self.gone = frozenset()
        self.__class__ = Parked
        del gone  # last, since destructors of futures can run any code


class Thinned(Parked):
    """Waiters of which some are gone: they have left from the middle, or never were there.

    The first is not gone. Whatever looks further than at the first sees the others, and does not
    change anything: aiofastlock.watch looks from another thread. Before more than half of the
    waiters are gone, and before the program changes the deque, they are removed, and the class is
    Parked again.
    """

    def __bool__(self) -> bool:
        return deque.__len__(self) > 0

    def popleft(self) -> Future[Any]:
        first: Future[Any] = deque.popleft(self)
        dropped: list[Future[Any]] = []  # freed last, as above
        while self and next(deque.__iter__(self)) in self.gone:
            dropped.append(deque.popleft(self))
            self.gone.discard(dropped[-1])
        self.restore_if_thin()
        return first

    def append(self, future: Future[Any]) -> None:
        if future in self.gone:
            self.restore()
        deque.append(self, future)


# A program can bind a method while the class is Thinned, and call it when it is Parked again.


def looking(method: Callable[..., Any]) -> Callable[..., Any]:
    def look(waiters: Parked, *args: Any, **kwargs: Any) -> Any:
        while True:
            gone = waiters.gone
            try:
                # A dict, since other threads can see restore() at work.
                futures = dict.fromkeys(deque.__iter__(waiters))
                break
            except RuntimeError:  # they have changed it meanwhile
                pass
        waiting = Parked([future for future in futures if future not in gone])
        return method(waiting, *args, **kwargs)

    return look


def changing(method: Callable[..., Any]) -> Callable[..., Any]:
    def change(waiters: Parked, *args: Any, **kwargs: Any) -> Any:
        if waiters.gone:
            waiters.restore()
        return method(waiters, *args, **kwargs)

    return change


for name in (
    *("__add__", "__contains__", "__copy__", "__eq__", "__ge__", "__getitem__", "__gt__"),
    *("__iter__", "__le__", "__len__", "__lt__", "__mul__", "__ne__", "__reduce__", "__repr__"),
    *("__reversed__", "__rmul__", "copy", "count", "index"),
):
    setattr(Thinned, name, looking(getattr(deque, name)))
for name in (
    *("__delitem__", "__iadd__", "__imul__", "__setitem__", "appendleft", "clear", "extend"),
    *("extendleft", "insert", "pop", "remove", "reverse", "rotate"),
):
    setattr(Thinned, name, changing(getattr(deque, name)))


# A subclass of Queue can have queues of its own in `_getters` and `_putters`.


def end_wait(waiters: Any, current: Any, future: Future[Any]) -> bool:
    """Leave the queue without a turn; return whether the waiter was woken and can wake another.

    `current` is the queue that has taken the place of `waiters`, or the same.
    """
    closed = future.get_loop().is_closed()
    if not closed:
        future.cancel()  # if close() or throw() has ended the wait
    if _shared.was_woken(future):
        return not closed
    if isinstance(waiters, Parked):
        waiters.leave(future)
    if waiters is not current or not isinstance(waiters, Parked):
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
        self._finished._value = True  # set() without a call: nobody waits
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
        while waiters:
            future = waiters.popleft()
            try:
                if not future.done():
                    future.set_result(None)
                    break
            except InvalidStateError:
                pass  # other code has run
            except BaseException:
                if not future.done() and future not in waiters:
                    waiters.appendleft(future)  # where it was
                raise

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
            future = self._get_loop().create_future()  # as new_future(), without a call
            if _shared.recorder is not None:
                _shared.recorder.parking(self, future)
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
            future = self._get_loop().create_future()  # as new_future(), without a call
            if _shared.recorder is not None:
                _shared.recorder.parking(self, future)
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
                Queue._wakeup_next(self, waiters)

    def _unbind_if_closed(self) -> bool:
        """Drop the waiters. Called when the loop is closed, which cannot wake them."""
        for name in ("_getters", "_putters"):
            waiters = getattr(self, name)
            if isinstance(waiters, Parked):  # they keep the old queue
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
