"""What aiofastlock.redis and aiofastlock.postgresql share: everything but the server.

A process asks the server for a key with one task at a time. The others wait behind it for an
aiofastlock.Lock, where waiting costs nothing. What the server gives is a grant. When a task
releases the key while others of its process wait, the grant passes on to the next of them without a
word to the server, but only so often: then the process gives it back, and other processes get their
turn.

Whatever ends a task, nothing that it asked the server for may be forgotten. Therefore what talks to
the server about a key runs in a task of its own, which nobody cancels but the end of the loop. The
task that waits for it can be cancelled at any time; it then says what is to be given back.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Hashable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

from aiofastlock import Event, Lock

logger = logging.getLogger(__name__)

TURNS = 32  # that a process has before others have theirs

K = TypeVar("K", bound=Hashable)  # a key
H = TypeVar("H", bound="Hold")
T = TypeVar("T")


class LockLost(Exception):  # noqa: N818 - a name as CancelledError's would say less
    """The lock was lost while a task held it: others may have it, or may have had it.

    It is an Exception and nothing more special, so that no `except` clause for time-outs or for
    connection errors catches it and repeats what the block has done in part.
    """


class Hold:
    """A key that a task holds."""

    __slots__ = ("__weakref__", "_cancelling", "_task", "key", "lost")

    key: Any
    lost: Event

    def __init__(self, key: Any) -> None:
        self.key = key
        self.lost = Event()
        self._task: asyncio.Task[Any] | None = None  # to be cancelled when it is lost
        self._cancelling = 0  # how often it had been asked to cancel before the block

    def __repr__(self) -> str:
        state = " lost" if self.lost.is_set() else ""
        return f"<{type(self).__module__}.{type(self).__name__} of {self.key!r}{state}>"

    def _tell(self) -> None:
        self.lost.set()
        if self._task is not None:
            self._task.cancel()

    def _leave_block(self) -> bool:
        """Cancel the task no more; return whether only the loss has cancelled it."""
        task, self._task = self._task, None
        if task is None or not self.lost.is_set():
            return False
        return task.uncancel() <= self._cancelling  # as asyncio.timeout() does


class Grant(ABC, Generic[H]):
    """A key that the server has given to this process, and that its tasks hold in turn."""

    def __init__(self) -> None:
        self.turns = TURNS - 1  # after the first one
        self.hold: H | None = None  # None while the grant passes from one task to the next
        self.lost: LockLost | None = None

    @abstractmethod
    def new_hold(self) -> H: ...

    @abstractmethod
    def lives(self) -> bool:
        """Whether this process has the key, as far as it knows."""

    @abstractmethod
    async def give_back(self, error: BaseException | None) -> None:
        """Tell the server; raise LockLost if the key was lost. `error` is what ended the block."""

    def lose(self, reason: str, cause: BaseException | None = None) -> None:
        if self.lost is None:
            self.lost = LockLost(reason)
            self.lost.__cause__ = cause
            if self.hold is not None:
                self.hold._tell()

    async def drop(self, error: BaseException | None = None) -> None:
        """Give back what no task holds any more. If that fails, it concerns nobody."""
        try:
            await self.give_back(error)
        except Exception as failure:
            logger.debug("while a key was given back: %r", failure)


class Entry(Generic[K, H]):
    """A key that tasks of this process hold or wait for."""

    # Invariant: `users` counts the tasks that hold the lock, wait for it, or are about to. A grant
    # is here only while it is more than 0. So whoever leaves last gives back a grant that was
    # passed on to a task which has ended without taking it.
    __slots__ = ("grant", "key", "lock", "users")

    def __init__(self, key: K) -> None:
        self.key = key
        self.lock = Lock()
        self.users = 0
        self.grant: Grant[H] | None = None


class KeyLock(Generic[K, H]):
    """The lock of one key: `locks[key]` returns it. It may be kept, and used by many tasks."""

    __slots__ = ("_locks", "key")

    key: K

    def __init__(self, locks: KeyedLock[K, H], key: K) -> None:
        self._locks = locks
        self.key = key

    def __repr__(self) -> str:
        state = "locked" if self.locked() else "unlocked"
        return f"<{self._locks!r}[{self.key!r}] {state}>"

    async def acquire(self) -> H:
        """Wait until this task has the key, and return its hold.

        The tasks of a process get the key in the order in which they ask. Nothing is cancelled
        when the key is lost: look at `lost` of the hold. To release the key, in a finally block,
        await release().
        """
        hold = await self._locks._acquire(self.key, True)
        assert hold is not None
        return hold

    async def try_acquire(self) -> H | None:
        """Take the key if nobody has it or waits for it, and return the hold; None otherwise.

        It waits for the answer of the server, but not for the key.
        """
        return await self._locks._acquire(self.key, False)

    async def release(self) -> None:
        """Release the key. Any task of the process may do so.

        LockLost is raised if the key was lost while it was held, and RuntimeError if no task of
        this process holds it.
        """
        await self._locks._release(self.key, None)

    def locked(self) -> bool:
        """Return True if a task of this process holds the key. The server is not asked."""
        return self._locks._held(self.key) is not None

    async def __aenter__(self) -> H:
        task = asyncio.current_task()
        hold = await self.acquire()
        if task is not None and self._locks._cancel:
            hold._task = task
            hold._cancelling = task.cancelling()
        return hold

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        hold = self._locks._held(self.key)
        cancelled = hold is not None and hold._leave_block()
        try:
            await self._locks._release(self.key, exc)
        except LockLost:
            # What else the block has raised is not replaced.
            if exc is None or (cancelled and isinstance(exc, asyncio.CancelledError)):
                raise


class KeyedLock(ABC, Generic[K, H]):
    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, cancel: bool) -> None:
        self._cancel = cancel
        self._entries: dict[K, Entry[K, H]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()  # the loop has weak references only

    @abstractmethod
    def _checked(self, key: K) -> K:
        """The key as it is looked up, or a TypeError or ValueError that says what is wrong."""

    @abstractmethod
    async def _take(self, key: K, wait: bool) -> Grant[H] | None:
        """Ask the server for the key. If this raises, nothing is left of it on the server."""

    def __getitem__(self, key: K) -> KeyLock[K, H]:
        return KeyLock(self, self._checked(key))

    def __contains__(self, key: K) -> bool:
        return self._checked(key) in self._entries

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __bool__(self) -> bool:
        return True  # also if no key is held or waited for

    def _bind(self) -> bool:
        """Bind to the running loop; return whether it is a new one."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return False
        if self._loop is not None and not self._loop.is_closed():
            raise RuntimeError(f"{self!r} is bound to a different event loop")
        self._loop = loop
        self._entries = {}
        self._tasks = set()
        return True

    def _start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T] | None:
        """Run it in a task that ends when it will; None if the loop is closed."""
        assert self._loop is not None
        if self._loop.is_closed():
            coroutine.close()
            return None
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _see_through(
        self, coroutine: Coroutine[Any, Any, object], error: BaseException
    ) -> None:
        """Clean up after an error, even if cancelled again. A task that is closed cannot wait."""
        task = self._start(coroutine)
        if task is not None and isinstance(error, asyncio.CancelledError):
            await asyncio.wait([task])

    def _held(self, key: K) -> H | None:
        entry = self._entries.get(key)
        return None if entry is None or entry.grant is None else entry.grant.hold

    async def _acquire(self, key: K, wait: bool) -> H | None:
        self._bind()
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(key)
        elif not wait:
            return None
        entry.users += 1
        hold = None
        try:
            await entry.lock.acquire()
            try:
                if entry.grant is not None and not entry.grant.lives():  # on its way here
                    lost, entry.grant = entry.grant, None
                    self._start(lost.drop())
                if entry.grant is None:
                    entry.grant = await self._take(key, wait)
                if entry.grant is not None:
                    hold = entry.grant.hold = entry.grant.new_hold()
            finally:
                if hold is None:
                    entry.lock.release()
        except BaseException as error:
            left = self._leave(entry)
            if left is not None:
                await self._see_through(left.drop(), error)
            raise
        if hold is None:
            self._leave(entry)
        return hold

    async def _release(self, key: K, error: BaseException | None) -> None:
        entry = self._entries.get(key)
        grant = None if entry is None else entry.grant
        if entry is None or grant is None or grant.hold is None:
            raise RuntimeError(f"{key!r} is not acquired.")
        grant.hold = None
        try:
            if entry.users > 1 and grant.turns > 0 and grant.lives():
                grant.turns -= 1
            else:
                entry.grant = None
                if isinstance(error, GeneratorExit):  # such a coroutine cannot wait
                    self._start(grant.drop(error))
                else:
                    await self._result(grant.give_back(error))
        finally:
            entry.lock.release()
            self._leave(entry)  # what it has had is given back, or is for those who wait

    async def _result(self, work: Coroutine[Any, Any, T] | asyncio.Task[T]) -> T:
        """Wait for work that goes on if this is cancelled. Its error then concerns nobody."""
        task = work if isinstance(work, asyncio.Task) else self._start(work)
        assert task is not None  # the loop runs
        try:
            await asyncio.wait([task])
        except BaseException:
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
            raise
        return task.result()

    def _leave(self, entry: Entry[K, H]) -> Grant[H] | None:
        """Leave a key; return a grant that is left."""
        entry.users -= 1
        if entry.users:
            return None
        if self._entries.get(entry.key) is entry:  # else its loop was closed
            del self._entries[entry.key]
        left, entry.grant = entry.grant, None
        return left
