"""A plain model of asyncio's locks: the oracle that aiofastlock must equal, on every Python.

The model is asyncio of Python 3.13 and later, without the faults of 3.11 and 3.12. It inherits what
is the same in all versions. It fixes one fault that all of them have: if a woken task ends before
it runs, its lock or permit goes to the next waiter after any exception, not only CancelledError.
"""

import asyncio
import sys
from collections import deque

from aiofastlock import QueueShutDown


def anybody_in(waiters):
    return any(not waiter.cancelled() for waiter in waiters or ())


def asleep_in(waiters):
    return [waiter for waiter in waiters or () if not waiter.done()]


def new_waiter(primitive):
    return primitive._get_loop().create_future()


async def queue_up(primitive, waiter):
    """Wait in the primitive's queue, and leave it whatever happens."""
    if primitive._waiters is None:
        primitive._waiters = deque()
    primitive._waiters.append(waiter)
    try:
        await waiter
    finally:
        primitive._waiters.remove(waiter)


class Lock(asyncio.Lock):
    """A task that comes waits if another one waits, even if the lock is free at the moment."""

    async def acquire(self):
        if self._locked or anybody_in(self._waiters):
            try:
                await queue_up(self, new_waiter(self))
            except BaseException:
                if not self._locked:  # it may have been this task's turn
                    self._wake_up_first()
                raise
        self._locked = True
        return True

    def try_acquire(self):
        if self._locked or anybody_in(self._waiters):
            return False
        self._locked = True
        return True


Event = asyncio.Event  # it has had no faults


class Semaphore(asyncio.Semaphore):
    """A waiter owns its permit once it is woken. `_value` is what is left for others."""

    def locked(self):
        return self._value == 0 or anybody_in(self._waiters)

    async def acquire(self):
        if not self.locked():
            self._value -= 1
            return True
        waiter = new_waiter(self)
        try:
            await queue_up(self, waiter)
        except BaseException:
            woken = waiter.done() and not waiter.cancelled()
            self._value += woken
            raise
        finally:
            # Tasks that came while this one was woken had to wait, even if there were permits.
            while self._value > 0 and self._wake_up_next():
                pass
        return True

    def try_acquire(self):
        if self.locked():
            return False
        self._value -= 1
        return True

    def _wake_up_next(self):
        asleep = asleep_in(self._waiters)
        if asleep:
            self._value -= 1
            asleep[0].set_result(True)
        return bool(asleep)


class BoundedSemaphore(Semaphore, asyncio.BoundedSemaphore):
    pass


class Condition(asyncio.Condition):
    """wait() ends with the lock held, however often it is cancelled.

    If wait() fails, its notification may be lost with it: so it notifies another task.
    """

    def __init__(self, lock=None):
        super().__init__(Lock() if lock is None else lock)

    async def wait(self):
        if not self.locked():
            raise RuntimeError("cannot wait on un-acquired lock")
        waiter, failure = new_waiter(self), None
        self.release()
        try:
            try:
                await queue_up(self, waiter)
            except BaseException as error:  # raised once the lock is held
                failure = error
            while True:
                try:
                    await self.acquire()
                    break
                except asyncio.CancelledError as error:
                    failure = error
            if failure is not None:
                raise failure
        except BaseException:
            self._notify(1)
            raise
        finally:
            failure = None  # it refers to this frame
        return True

    def try_acquire(self):
        return self._lock.try_acquire()

    def notify(self, n=1):
        if not self.locked():
            raise RuntimeError("cannot notify on un-acquired lock")
        self._notify(n)

    def _notify(self, n):
        for waiter in asleep_in(self._waiters)[: max(n, 0)]:
            waiter.set_result(False)


class KeyedLock(dict):
    """Here the primitives of keys live for ever."""

    def __missing__(self, key):
        self[key] = Lock()
        return self[key]


class KeyedSemaphore(dict):
    def __init__(self, value):
        self._value = value

    def __missing__(self, key):
        self[key] = BoundedSemaphore(self._value)
        return self[key]


class Shutdown:
    """What asyncio's queues have from Python 3.13 on."""

    def __init__(self, maxsize=0):
        super().__init__(maxsize)
        self._is_shutdown = False

    def _format(self):
        return super()._format() + " shutdown" * self._is_shutdown

    async def put(self, item):
        await self._turn("full", self._putters)
        return self.put_nowait(item)

    async def get(self):
        await self._turn("empty", self._getters)
        return self.get_nowait()

    async def _turn(self, reason, waiters):
        while getattr(self, reason)():
            if self._is_shutdown:
                raise QueueShutDown
            waiter = new_waiter(self)
            waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                waiter.cancel()
                if waiter in waiters:
                    waiters.remove(waiter)
                if not getattr(self, reason)() and not waiter.cancelled():
                    self._wakeup_next(waiters)
                raise

    def put_nowait(self, item):
        if self._is_shutdown:
            raise QueueShutDown
        super().put_nowait(item)

    def get_nowait(self):
        if self.empty() and self._is_shutdown:
            raise QueueShutDown
        return super().get_nowait()

    def shutdown(self, immediate=False):
        self._is_shutdown = True
        while immediate and not self.empty():
            self._get()
            self._unfinished_tasks -= self._unfinished_tasks > 0
        if immediate and self._unfinished_tasks == 0:
            self._finished.set()
        for waiters in (self._getters, self._putters):
            for waiter in asleep_in(waiters):
                waiter.set_result(None)
            waiters.clear()


if sys.version_info >= (3, 13):
    Queue, LifoQueue, PriorityQueue = asyncio.Queue, asyncio.LifoQueue, asyncio.PriorityQueue
else:

    class Queue(Shutdown, asyncio.Queue):
        pass

    class LifoQueue(Shutdown, asyncio.LifoQueue):
        pass

    class PriorityQueue(Shutdown, asyncio.PriorityQueue):
        pass


class Turns:
    """Who is inside an RWLock, and who waits. Each of them writes (True) or reads (False)."""

    _loop = None
    _get_loop = asyncio.mixins._LoopBoundMixin._get_loop

    def __init__(self):
        self.inside = []
        self.queue = {}  # who waits, by future, in order of arrival

    @property
    def _waiters(self):
        return [*self.queue]

    def locked(self):
        return bool(self.inside)

    def may_enter(self, writes):
        """Whether one more fits those who are inside, and those who were woken to be."""
        woken = [
            it for future, it in self.queue.items() if future.done() and not future.cancelled()
        ]
        others = [*self.inside, *woken]
        return not others or not (writes or any(others))

    def wake_up(self):
        for future in asleep_in(self.queue):
            if not self.may_enter(self.queue[future]):
                break
            future.set_result(True)

    def come(self, writes):
        """A newcomer may enter if nobody waits for a turn, and it fits those who have theirs."""
        self.wake_up()
        may_enter = not asleep_in(self.queue) and self.may_enter(writes)
        if may_enter:
            self.inside.append(writes)
        return may_enter

    def __repr__(self):
        state = "locked, writing" if True in self.inside else "unlocked"
        state = f"locked, readers:{len(self.inside)}" if False in self.inside else state
        return f"<Turns [{state}{f', waiters:{len(self.queue)}' if self.queue else ''}]>"


class Side:
    """One of the two locks of an RWLock."""

    def __init__(self, turns, writes):
        self._turns = turns
        self.writes = writes

    def locked(self):
        return self.writes in self._turns.inside

    def try_acquire(self):
        return self._turns.come(self.writes)

    async def acquire(self):
        turns = self._turns
        if not turns.come(self.writes):
            waiter = new_waiter(turns)
            turns.queue[waiter] = self.writes
            try:
                await waiter
            except BaseException:
                del turns.queue[waiter]
                turns.wake_up()
                raise
            del turns.queue[waiter]
            turns.inside.append(self.writes)
        return True

    def release(self):
        if not self.locked():
            raise RuntimeError(f"RWLock is not acquired to {'write' if self.writes else 'read'}.")
        self._turns.inside.remove(self.writes)
        self._turns.wake_up()

    async def __aenter__(self):
        await self.acquire()

    async def __aexit__(self, *_):
        self.release()


class RWLock:
    """aiofastlock's own, as plainly as its rule can be written down."""

    turns = Turns

    def __init__(self):
        self._turns = self.turns()
        self.reader_lock = Side(self._turns, writes=False)
        self.writer_lock = Side(self._turns, writes=True)
