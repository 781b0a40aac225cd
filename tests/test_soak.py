"""A short soak of each implementation, and soaks of broken locks, which must fail.

They last for a number of turns of the event loop, so that it does not matter how fast it is.
"""

import asyncio
import gc
import sys
from typing import ClassVar

import pytest
from conftest import IMPLEMENTATIONS, needs_refcounts
from helpers import QueueLosesItems, QueueLosesTurns, but_for
from soak import SoakError, soak

from aiofastlock import _pure


@pytest.fixture
def soak_it(pytestconfig):
    def run(implementation, turns):
        loop = pytestconfig.getoption("loop")
        return soak(implementation, loop, tasks=300, turns=turns, seed=None)

    return run


def test_nothing_is_lost(implementation, soak_it):
    if implementation == "asyncio" and sys.version_info < (3, 13):
        pytest.skip("asyncio loses some, as test_faults.py shows")
    done = soak_it(IMPLEMENTATIONS[implementation], 1_200).done
    assert done["tasks ended"] >= 300


# ---- Broken locks ----


class LockLosesTurns(_pure.Lock):
    """A woken waiter that is cancelled does not hand its turn on."""

    def _wake_up_first(self):
        if sys._getframe(1).f_code.co_name == "release":
            super()._wake_up_first()


class LockLetsTwoIn(_pure.Lock):
    """Sometimes wakes a second waiter."""

    def release(self):
        super().release()
        if self._waiters is not None and len(self._waiters.parked) == 5:
            self._waiters.wake_first()


class LockIsUnfair(_pure.Lock):
    """The last waiter is the next."""

    def _wake_up_first(self):
        if self._waiters is not None and self._waiters.parked:
            self._waiters.parked.rotate(1)
        super()._wake_up_first()


class LockKeepsErrors(_pure.Lock):
    """The error that cancelled a waiter is never freed."""

    kept: ClassVar = []

    async def acquire(self):
        try:
            return await super().acquire()
        except asyncio.CancelledError as error:
            self.kept.append(error)
            raise


class LockGrows(_pure.Lock):
    kept: ClassVar = []

    async def acquire(self):
        self.kept.extend(object() for _ in range(500))
        return await super().acquire()


class SemaphoreLosesTurns(_pure.Semaphore):
    def _wake_up_next(self):
        return sys._getframe(2).f_code.co_name != "hand_off" and super()._wake_up_next()


class SemaphoreLosesPermits(_pure.Semaphore):
    """A cancelled waiter keeps a permit, if there is one."""

    async def acquire(self):
        try:
            return await super().acquire()
        except asyncio.CancelledError:
            self._value -= self._value > 0
            raise


class SemaphoreIsOversold(_pure.Semaphore):
    """Sometimes grants a permit twice."""

    def release(self):
        super().release()
        if self._waiters is not None and len(self._waiters.parked) == 5:
            self._waiters.wake_first()


class EventOverlooksOne(_pure.Event):
    """The last of several waiters is not woken."""

    def set(self):
        parked = self._waiters.parked
        last = parked.pop() if len(parked) > 3 else None
        super().set()
        if last is not None:
            self._waiters.append(last)


class ConditionForgets(_pure.Condition):
    """A notification is lost if the notified waiter is cancelled."""

    def _notify(self, n):
        if sys._getframe(1).f_code.co_name == "notify":
            super()._notify(n)


class BarrierIsGenerous(_pure.Barrier):
    """Trips with one party less than it says."""

    parties = property(lambda self: self._parties + 1)


class QueueOverlooksPutters(_pure.Queue):
    """get_nowait() does not wake those who wait to put."""

    def get_nowait(self):
        putters, self._putters = self._putters, ()
        try:
            return super().get_nowait()
        finally:
            self._putters = putters


class QueueIsUnordered(_pure.PriorityQueue):
    def _get(self):
        return self._queue.pop()


def broken_in(cls):
    """Return the pure-Python implementation with one class replaced."""
    return but_for(_pure, **{cls.__base__.__name__: cls})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "broken",
    [
        LockLosesTurns, LockLetsTwoIn, LockIsUnfair, SemaphoreLosesTurns, SemaphoreIsOversold,
        EventOverlooksOne, ConditionForgets, BarrierIsGenerous, QueueLosesTurns, QueueLosesItems,
        QueueOverlooksPutters, QueueIsUnordered,
    ],
)  # fmt: skip
def test_what_is_lost_is_found(broken, soak_it):
    with pytest.raises(SoakError):
        soak_it(broken_in(broken), 10_000)
    gc.collect()  # the tasks that are stuck


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (SemaphoreLosesPermits, "permits lost|waits since|left behind"),
        pytest.param(LockKeepsErrors, "are left|objects, and then|grew", marks=needs_refcounts),
        pytest.param(LockGrows, "grew", marks=needs_refcounts),
    ],
)
def test_what_shows_at_the_end_is_found(broken, message, soak_it):
    with pytest.raises(SoakError, match=message):
        soak_it(broken_in(broken), 1_200)
    vars(broken).get("kept", []).clear()
    gc.collect()
