"""A KeyboardInterrupt anywhere in an `async with`: who has the lock when all is over?

A signal handler runs between two bytecodes, and what it raises comes up there. No lock in Python is
safe from that: its __aexit__() can be interrupted before it has released anything. So it is counted
how often a lock is lost, that is, held by or promised to nobody who lives, and ours must be lost at
no more points than asyncio's. Once the interrupt comes at every point of the tasks and the locks
where the interpreter looks for signals, one after the other. Once it comes from a timer, at random.

`python tests/test_signals.py 20000` has the timer interrupt each so many times, and prints counts.
"""

import asyncio
import gc
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import IMPLEMENTATIONS, OURS

import aiofastlock

pytestmark = pytest.mark.skipif(
    sys.implementation.name != "cpython",
    reason="the points are CPython's, and elsewhere destructors run at any time",
)

LOCKS = ("Lock", "Semaphore", "BoundedSemaphore", "Condition")
STEPS = 30  # of a loop, after which all that can end have ended


async def use(lock):
    async with lock:
        await asyncio.sleep(0)


async def use_often(lock):
    while True:
        for _ in range(10):
            async with lock:
                pass
        await use(lock)


def let_run(loop):
    for _ in range(STEPS):
        loop.call_soon(loop.stop)
        loop.run_forever()


def fate(loop, lock, tasks, cancel):
    """What has become of a lock, some time after an interrupt."""
    if cancel:
        for task in tasks:
            task.cancel()
    let_run(loop)
    if lock.locked():
        return "held"
    acquiring = lock.acquire()
    asyncio._set_running_loop(loop)
    try:
        acquiring.send(None)
    except StopIteration:
        return "free"
    finally:
        acquiring.close()
        asyncio._set_running_loop(None)
    return "promised"


def end(loop, tasks):
    for task in tasks:
        task._log_destroy_pending = False  # its turn may have been lost in the loop
        task.cancel()
    let_run(loop)
    for task in tasks:
        task.get_coro().close()
        if task.done() and not task.cancelled():
            task.exception()  # or else asyncio complains that nobody asked for it
    loop.close()


# ---- At each point ----


class Interrupt:
    """Raises at one of the points where the interpreter runs signal handlers.

    That is where a function begins, and where one in C has returned.
    """

    places = str(Path(aiofastlock.__file__).parent), asyncio.locks.__file__

    def __init__(self, at):
        self.left = at
        self.begun = set()  # frames, since one that is resumed does not begin

    def __call__(self, frame, event, argument):
        code = frame.f_code
        if code is not use.__code__ and not code.co_filename.startswith(self.places):
            return
        if event == "call" and frame not in self.begun:
            self.begun.add(frame)
        elif event != "c_return":
            return
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def interrupted_at(at, cls, count, cancel):
    """Return what became of a lock, or None if all have ended before."""
    loop = asyncio.new_event_loop()
    lock = cls()
    tasks = [loop.create_task(use(lock)) for _ in range(count)]
    sys.setprofile(Interrupt(at))
    try:
        let_run(loop)
    except KeyboardInterrupt:
        sys.setprofile(None)
        return fate(loop, lock, tasks, cancel)
    finally:
        sys.setprofile(None)
        end(loop, tasks)
    return None


def fates(cls, count, cancel):
    found = Counter()
    while (one := interrupted_at(found.total() + 1, cls, count, cancel)) is not None:
        found[one] += 1
    return found


def lost(found):
    return found["held"] + found["promised"]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("cancel", [False, True], ids=["go on", "cancel"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", LOCKS)
def test_at_each_point(name, count, cancel, our_name):
    """Nothing but the tasks that were interrupted is ended, or all of them are cancelled."""
    theirs = fates(getattr(asyncio, name), count, cancel)
    ours = fates(getattr(OURS[our_name], name), count, cancel)
    # The pure half's semaphores wake a waiter through one more function, once for each that waits.
    more = (count - 1) * ("Semaphore" in name and our_name == "pure" and not cancel)
    assert theirs["free"] > 0
    assert ours["free"] > 0
    assert lost(theirs) > 0
    assert lost(ours) <= lost(theirs) + more


# ---- From a timer ----


def start_timer():
    signal.setitimer(signal.ITIMER_REAL, random.uniform(20e-6, 400e-6))


def interrupt_a_task(_number, frame):
    """Raise, but not where the loop would be what loses a turn.

    Nor where asyncio would never give back a lock of threads, and hang at the next wait.
    """
    while frame is not None and frame.f_code.co_name != "_get_loop":
        if frame.f_code is use_often.__code__:
            raise KeyboardInterrupt
        frame = frame.f_back
    start_timer()


def interrupted_anywhere(cls, count):
    """What became of a lock, after a KeyboardInterrupt out of a task and the loop."""
    signal.signal(signal.SIGALRM, interrupt_a_task)
    loop = asyncio.new_event_loop()
    lock = cls()
    tasks = [loop.create_task(use_often(lock)) for _ in range(count)]
    try:
        start_timer()
        loop.run_forever()
    except KeyboardInterrupt:
        return fate(loop, lock, tasks, cancel=True)
    finally:
        end(loop, tasks)


def interrupted_in_run(cls, count):
    """The same by asyncio.run(), which cancels the main task instead."""
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    lock = cls()

    async def main():
        tasks = [use_often(lock) for _ in range(count)]
        start_timer()
        await asyncio.gather(*tasks)

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        return "held" if lock.locked() else "free"
    except asyncio.InvalidStateError:
        # asyncio's release(), interrupted before it wakes one that is being cancelled.
        return "release() failed"


HOW = {"anywhere": interrupted_anywhere, "run": interrupted_in_run}


def measure(how, cls, times):
    """What became of locks, half of the times contended."""
    found = Counter()
    gc.disable()  # a destructor that runs meanwhile would swallow the interrupt
    for number in range(times):
        found[HOW[how](cls, 1 + number % 2 * 2)] += 1
        if number % 100 == 0:
            gc.collect()
    gc.enable()
    return found


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer")
def test_from_a_timer():
    """In a process of its own: a timer that goes off late must not hit pytest."""
    times = 200
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(times), "Lock"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        how, implementation, _name, counts = line.split(maxsplit=3)
        found[how, implementation] = Counter(json.loads(counts))
    assert {implementation for _, implementation in found} == set(IMPLEMENTATIONS)
    for (how, implementation), ours in found.items():
        assert ours.total() == times
        if how == "run":
            assert lost(ours) == 0
            assert implementation == "asyncio" or ours["free"] == times
        else:
            # A share of the interrupts, which fall on other points where other code takes the time:
            # what is compared is at how many points a lock is lost, above.
            assert 0 < lost(ours) < times, implementation


def main():
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    for how in HOW:
        for name in sys.argv[2:] or LOCKS:
            for implementation, locks in IMPLEMENTATIONS.items():
                counts = measure(how, getattr(locks, name), times)
                print(how, implementation, name, json.dumps(counts), flush=True)


if __name__ == "__main__":
    main()
