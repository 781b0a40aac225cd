"""A KeyboardInterrupt at any point of an `async with`: is the lock free afterwards?

A signal handler runs between two bytecodes, and its exception is raised there. No lock in Python is
safe from that: an interrupt can end its __aexit__() before the lock is released. So the tests count
how often a lock is lost: it is held, or on its way to a task, and no such task is left. aiofastlock
must not lose a lock at more points than asyncio. One test raises the interrupt at each point of the
tasks and the locks where the interpreter checks for signals. The other uses a timer, at random.

`python tests/test_signals.py 20000` interrupts each lock 20,000 times, and prints the counts.
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
STEPS = 30  # of a loop: then every task that can end has ended


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
    """Return the state of a lock after an interrupt: held, free or promised to a task."""
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
        task._log_destroy_pending = False  # the loop may have lost its step
        task.cancel()
    let_run(loop)
    for task in tasks:
        task.get_coro().close()
        if task.done() and not task.cancelled():
            task.exception()  # or asyncio logs that it was never retrieved
    loop.close()


# ---- At each point ----


class Interrupt:
    """Raises KeyboardInterrupt at one of the points where the interpreter runs signal handlers.

    These are where a function begins, and where a C function has returned.
    """

    places = str(Path(aiofastlock.__file__).parent), asyncio.locks.__file__

    def __init__(self, at):
        self.left = at
        self.begun = set()  # frames: a resumed coroutine does not begin again

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
    """Return the fate of a lock, or None if all tasks ended before that point."""
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
    """Afterwards, the tasks go on, or all of them are cancelled."""
    theirs = fates(getattr(asyncio, name), count, cancel)
    ours = fates(getattr(OURS[our_name], name), count, cancel)
    # The pure-Python semaphores wake each waiter through one more function, and call done().
    more = 2 * (count - 1) * ("Semaphore" in name and our_name == "pure" and not cancel)
    assert theirs["free"] > 0
    assert ours["free"] > 0
    assert lost(theirs) > 0
    assert lost(ours) <= lost(theirs) + more


# ---- From a timer ----


def start_timer():
    signal.setitimer(signal.ITIMER_REAL, random.uniform(20e-6, 400e-6))


def interrupt_a_task(_number, frame):
    """Raise in a task, but not where asyncio itself would lose a step.

    Nor in _get_loop(), where asyncio would keep its threading lock, and hang at the next wait.
    """
    while frame is not None and frame.f_code.co_name != "_get_loop":
        if frame.f_code is use_often.__code__:
            raise KeyboardInterrupt
        frame = frame.f_back
    start_timer()


def interrupted_anywhere(cls, count):
    """Return the fate of a lock after a KeyboardInterrupt that ended a task and the loop."""
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
    """Do the same with asyncio.run(), which cancels the main task instead."""
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
        # asyncio's release() was interrupted before it woke a task that is being cancelled.
        return "release() failed"


HOW = {"anywhere": interrupted_anywhere, "run": interrupted_in_run}


def measure(how, cls, times):
    """Count the fates of locks, of which every other one is contended."""
    found = Counter()
    gc.disable()  # an interrupt in a destructor would be ignored
    for number in range(times):
        found[HOW[how](cls, 1 + number % 2 * 2)] += 1
        if number % 100 == 0:
            gc.collect()
    gc.enable()
    return found


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer")
def test_from_a_timer():
    """This runs in another process, where a late signal cannot hit pytest."""
    times = 200
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(times), "Lock"],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for line in done.stdout.splitlines():
        if " lost " in line:  # the totals
            continue
        how, implementation, _name, counts = line.split(maxsplit=3)
        found[how, implementation] = Counter(json.loads(counts))
    assert {implementation for _, implementation in found} == set(IMPLEMENTATIONS)
    for (how, implementation), ours in found.items():
        assert ours.total() == times
        if how == "run":
            assert lost(ours) == 0
            assert implementation == "asyncio" or ours["free"] == times
        else:
            # The share depends on where the time goes. test_at_each_point compares the points.
            assert 0 < lost(ours) < times, implementation


def main():
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    for how in HOW:
        totals = {implementation: Counter() for implementation in IMPLEMENTATIONS}
        for name in sys.argv[2:] or LOCKS:
            for implementation, locks in IMPLEMENTATIONS.items():
                counts = measure(how, getattr(locks, name), times)
                print(how, implementation, name, json.dumps(counts), flush=True)
                totals[implementation].update(counts)
        for implementation, counts in totals.items():
            share = lost(counts) / counts.total()
            print(f"{how} {implementation} lost {share:.1%} of {counts.total():,}", flush=True)


if __name__ == "__main__":
    main()
