"""What asyncio's locks do, as a plain model: the oracle that ours must equal, on every Python.

The model is asyncio of Python 3.13 and later, so that it lacks the faults of 3.11 and 3.12. What it
does not say again is the same in all versions and inherited. On purpose it mends one fault that all
of them have: a woken waiter of a lock or a semaphore that dies before it runs hands on what it was
given, whatever it dies of, and not only of a CancelledError.
"""

import asyncio
from collections import deque


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
    """Nobody takes a lock that somebody waits for, even if it is free at the moment."""

    async def acquire(self):
        if self._locked or anybody_in(self._waiters):
            try:
                await queue_up(self, new_waiter(self))
            except BaseException:
                if not self._locked:  # the turn was this one's, or may have been
                    self._wake_up_first()
                raise
        self._locked = True
        return True


Event = asyncio.Event  # which has had no faults


class Semaphore(asyncio.Semaphore):
    """A waiter is given its permit when it is woken: `_value` is what is left for others."""

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
            given = waiter.done() and not waiter.cancelled()
            self._value += given
            raise
        finally:
            # Whoever came while this one was on its way had to queue up, permits or not.
            while self._value > 0 and self._wake_up_next():
                pass
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
    """A wait ends with the lock taken again, if it takes many attempts.

    If it fails after all, the notification may have been for it: somebody else gets one.
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
            except BaseException as error:  # to be raised when the lock is held
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

    def notify(self, n=1):
        if not self.locked():
            raise RuntimeError("cannot notify on un-acquired lock")
        self._notify(n)

    def _notify(self, n):
        for waiter in asleep_in(self._waiters)[: max(n, 0)]:
            waiter.set_result(False)
