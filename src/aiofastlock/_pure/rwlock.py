"""RWLock: a lock for readers and writers."""

from __future__ import annotations

from aiofastlock import _shared
from aiofastlock._pure.lock import (
    ContextManager,
    ParkingLot,
    Queue,
    leave,
    leave_woken,
    prepare,
)

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from asyncio import Future
    from typing import Any, Literal, NoReturn, SupportsIndex


@_shared.unannotated
class Turns(ParkingLot):
    """What the two locks of an RWLock share: who is inside, and one queue of those who wait."""

    # Invariants: readers are inside, or one writer. The waiters that were woken and have yet to run
    # are readers, or one writer, and could be inside with those who are. The first parked waiter
    # could not, unless a cancelled one before it has yet to run, which then calls hand_off(), or an
    # earlier wake-up failed.

    _readers = 0
    _writing = False
    _woken_to_write = False  # whether a woken waiter is a writer

    def __init__(self) -> None:
        self._waiters = Queue()
        self._writers: set[Future[Any]] = set()  # the writers of those who wait
        if _shared.recorder is not None:
            _shared.recorder.made(self)

    def locked(self) -> bool:
        return self._writing or self._readers > 0

    def is_free(self, writes: bool) -> bool:
        """Whether one more can be inside with those who are, and with those who were woken."""
        woken = self._waiters.woken
        if writes:
            return not (self._writing or self._readers or woken)
        return not (self._writing or (woken and self._woken_to_write))

    def take(self, writes: bool) -> bool:
        """Let a newcomer in, unless it must wait; return whether it is inside."""
        if self._waiters.parked:
            self.hand_off()
        if self._waiters.parked or not self.is_free(writes):
            return False
        self.enter(writes)
        return True

    def try_take(self, writes: bool) -> bool:
        # The reason to wait may have gone with a closed loop.
        return self.take(writes) or (self._unbind_if_closed() and self.take(writes))

    def enter(self, writes: bool) -> None:
        if writes:
            self._writing = True
        else:
            self._readers += 1

    async def wait(self, writes: bool) -> None:
        """Wait, and be inside."""
        waiters, future = prepare(self)
        if self.take(writes):  # check again, as in Lock.acquire()
            return
        if writes:
            self._writers.add(future)
        waiters.append(future)
        try:
            await future
        except BaseException as exception:
            leave(self, waiters, future, exception)
            self._writers.discard(future)
            self.hand_off()
            raise
        # First, so that other code that runs in between, such as the garbage collector's, finds
        # it inside.
        self.enter(writes)
        leave_woken(self, waiters, future)
        self._writers.discard(future)

    def leave(self, writes: bool) -> None:
        """Let a writer or a reader out, and wake those whose turn it is then."""
        if writes:
            self._writing = False
        else:
            self._readers -= 1
        if _shared.recorder is not None:
            _shared.recorder.released(self)
        self.wake_up()

    def hand_off(self) -> None:
        """A waiter ended without its turn, or a newcomer came: wake those whose turn it is."""
        if self._loop is None or not self._loop.is_closed():
            self.wake_up()

    def wake_up(self) -> None:
        """Wake the first waiter, and if it reads the readers behind it, if they can be inside."""
        waiters = self._waiters
        while waiters.parked:
            first = waiters.parked[0]
            done = first.done()
            if not waiters.parked or waiters.parked[0] is not first:
                continue  # done() has run other code
            if done:
                waiters.settle_done(first)
                continue
            writes = first in self._writers
            if not self.is_free(writes):
                break
            self._woken_to_write = writes
            waiters.wake_first()

    def __repr__(self) -> str:
        return show(self, self)


# In messages:
Turns.__module__ = "aiofastlock"
Turns.__name__ = Turns.__qualname__ = "RWLock"


def show(thing: object, turns: Turns) -> str:
    """The repr of what shares these turns."""
    state = "unlocked"
    if turns._writing:
        state = "locked, writing"
    elif turns._readers:
        state = f"locked, readers:{turns._readers}"
    if turns._waiters:
        state += f", waiters:{len(turns._waiters)}"
    return f"<{object.__repr__(thing)[1:-1]} [{state}]>"


@_shared.unannotated
class Side(ContextManager):
    """One of the two locks."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def __repr__(self) -> str:
        return show(self, self._turns)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"cannot copy or pickle a {type(self).__name__!r} object; copy or pickle its RWLock"
        )


@_shared.unannotated
class ReaderLock(Side):
    """The lock of the readers of an RWLock, which any number of tasks can hold at a time."""

    __module__ = "aiofastlock"

    def locked(self) -> bool:
        """Return True if a task holds the lock to read, False otherwise."""
        return self._turns._readers > 0

    async def acquire(self) -> Literal[True]:
        """Wait until no writer holds the lock or waits before this task, and return True.

        Nothing happens until the result is awaited. If the task is cancelled while it waits,
        CancelledError is raised and the lock is left as it was. RuntimeError is raised if the task
        must wait and the lock is bound to another event loop that is not closed.

        A task that holds the lock to read and acquires it again waits for itself if a writer waits.
        """
        if not self._turns.take(False):
            await self._turns.wait(False)
        if _shared.recorder is not None:
            _shared.recorder.acquired(self._turns)
        return True

    def try_acquire(self) -> bool:
        """Acquire the lock and return True if that needs no wait; return False otherwise.

        It needs one if a writer holds the lock or waits for it.
        """
        if not self._turns.try_take(False):
            return False
        if _shared.recorder is not None:
            _shared.recorder.acquired(self._turns)
        return True

    def release(self) -> None:
        """Release the lock, and wake the first writer that waits if this was the last reader.

        RuntimeError is raised if no task holds the lock to read. There is no return value.
        """
        if not self._turns._readers:
            raise RuntimeError("RWLock is not acquired to read.")
        self._turns.leave(False)


@_shared.unannotated
class WriterLock(Side):
    """The lock of the writers of an RWLock, which excludes all others."""

    __module__ = "aiofastlock"

    def locked(self) -> bool:
        """Return True if a task holds the lock to write, False otherwise."""
        return self._turns._writing

    async def acquire(self) -> Literal[True]:
        """Wait until no task holds the lock or waits before this one, and return True.

        Nothing happens until the result is awaited. If the task is cancelled while it waits,
        CancelledError is raised, and the readers that waited behind it acquire the lock if readers
        hold it. RuntimeError is raised if the task must wait and the lock is bound to another event
        loop that is not closed.

        A task that holds the lock, to read or to write, waits for itself.
        """
        if not self._turns.take(True):
            await self._turns.wait(True)
        if _shared.recorder is not None:
            _shared.recorder.acquired(self._turns)
        return True

    def try_acquire(self) -> bool:
        """Acquire the lock and return True if that needs no wait; return False otherwise.

        It needs one if a task holds the lock, to read or to write, or waits for it.
        """
        if not self._turns.try_take(True):
            return False
        if _shared.recorder is not None:
            _shared.recorder.acquired(self._turns)
        return True

    def release(self) -> None:
        """Release the lock, and wake those who wait: the first writer, or the first readers.

        RuntimeError is raised if no task holds the lock to write. There is no return value.
        """
        if not self._turns._writing:
            raise RuntimeError("RWLock is not acquired to write.")
        self._turns.leave(True)


@_shared.unannotated
class RWLock:
    """A lock that many readers or one writer can hold. asyncio has no such class.

    `reader_lock` and `writer_lock` are its two locks: use them as `async with lock.reader_lock:`
    and `async with lock.writer_lock:`, or call acquire() and, in a finally block, release(). Each
    also has try_acquire() and locked().

    Tasks have their turn in the order in which they called acquire(), and readers who wait next to
    each other together. So a reader waits behind a writer who waits, and neither readers nor
    writers wait forever. No task owns the lock: any task may release it.
    """

    __module__ = "aiofastlock"

    reader_lock: ReaderLock
    writer_lock: WriterLock

    _classes: tuple[Any, Any, Any] = (Turns, ReaderLock, WriterLock)

    # The locks refer to the turns and not to this object: there is no cycle.
    def __init__(self) -> None:
        turns, reader_lock, writer_lock = self._classes
        self._turns = turns()
        self.reader_lock = reader_lock(self._turns)
        self.writer_lock = writer_lock(self._turns)

    def __repr__(self) -> str:
        return show(self, self._turns)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return object.__reduce_ex__(self, max(protocol.__index__(), 2))

    def __getstate__(self) -> dict[str, Any]:
        turns = self._turns
        if turns.locked() or turns._waiters:
            raise TypeError(f"cannot copy or pickle a {type(self).__name__!r} object in use")
        own = ("_turns", "reader_lock", "writer_lock")
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        RWLock.__init__(self)
        vars(self).update(state)
