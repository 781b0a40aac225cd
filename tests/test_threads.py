"""Loops in several threads: each test runs threads.py for a short while, in another process.

A crash or a hang fails the test, and shows where each thread was.
"""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import CLASSES, FREE_THREADED, OURS, OWN, SWITCHES

THREADS = Path(__file__).with_name("threads.py")


def run(command, implementation, *options):
    switch = SWITCHES.get(implementation, os.environ.get("AIOFASTLOCK_EXTENSIONS", ""))
    done = subprocess.run(
        [sys.executable, THREADS, command, f"--implementation={implementation}", *options],
        env={**os.environ, "AIOFASTLOCK_EXTENSIONS": switch},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not FREE_THREADED, reason="needs a free-threaded build")
def test_the_gil_stays_off(our_name):
    subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            "import aiofastlock, sys; sys.exit(sys._is_gil_enabled())",
        ],
        env={**os.environ, "AIOFASTLOCK_EXTENSIONS": SWITCHES[our_name]},
        check=True,
    )


def test_each_thread_with_its_own_objects(our_name):
    run("own", our_name, "--seconds=0.2")


def test_objects_that_were_used_in_another_thread(our_name):
    run("handed", our_name, "--seconds=0.2")


@pytest.mark.parametrize("primitive", CLASSES)
def test_one_object_misused_by_all(implementation, primitive):
    heapq_crashes = FREE_THREADED and sys.version_info < (3, 14) and implementation != "compiled"
    if primitive == "PriorityQueue" and heapq_crashes:
        pytest.skip("gh-116738: heapq crashes in the interpreter")
    run("shared", implementation, "--seconds=0.5", primitive)


@pytest.mark.parametrize("primitive", OWN)
def test_one_object_of_ours_misused_by_all(our_name, primitive):
    run("shared", our_name, "--seconds=0.5", primitive)


def test_keys(our_name):
    run("keys", our_name, "--seconds=0.5")


def test_install_in_all_threads(our_name):
    run("install", our_name, "--seconds=0.1")


# ---- A waiter that is deallocated while another thread holds its primitive's critical section ----


class Dropping:
    """A thread that parks a waiter, and drops it in the middle of another thread's step."""

    def __init__(self, loop, acquire):
        self.parked, self.dropping, self.ended = threading.Event(), False, False
        self.thread = threading.Thread(target=self.main, args=(loop, acquire), daemon=True)
        self.thread.start()
        assert self.parked.wait(20)

    def main(self, loop, acquire):
        asyncio._set_running_loop(loop)
        waiter = acquire()
        waiter.send(None)
        self.parked.set()
        while not self.dropping:
            pass
        self.dropping = False
        del waiter  # waits for the critical section
        self.ended = True

    def drop(self):
        """Make the thread drop its waiter. Nothing here may block: that would end the section."""
        self.dropping = True
        while self.dropping:
            pass
        end = time.perf_counter() + 0.05  # the thread has time to reach the section
        while time.perf_counter() < end:
            pass
        assert not self.ended


class Future(asyncio.Future):
    """A future that runs a given callable in the middle of a step, once."""

    meanwhile = None

    def run(self):
        code, self.meanwhile = self.meanwhile, None
        if code:
            code()

    def done(self):
        self.run()
        return super().done()

    def set_result(self, result):
        self.run()
        super().set_result(result)


async def while_it_is_to_be_woken():
    event = OURS["compiled"].Event()
    future = Future()
    event._waiters.append(future)
    other = Dropping(asyncio.get_running_loop(), event.wait)
    behind = event.wait()
    woken = behind.send(None)
    future.meanwhile = other.drop
    event.set()
    other.thread.join()
    assert future.done()
    assert woken.done()
    behind.close()
    assert list(event._waiters) == [future]


async def while_a_getter_is_to_be_woken():
    queue = OURS["compiled"].Queue()
    future = Future()
    queue._getters.append(future)
    other = Dropping(asyncio.get_running_loop(), queue.get)
    behind = queue.get()
    behind.send(None)
    future.meanwhile = other.drop
    queue.put_nowait("item")
    other.thread.join()
    assert future.done()
    assert len(queue._getters) == 1
    queue.put_nowait("another")
    assert not queue._getters
    with pytest.raises(StopIteration, match="item"):
        behind.send(None)


async def while_a_newcomer_looks_at_it():
    lock = OURS["compiled"].Lock()
    future = Future()
    lock._get_loop()  # from then on it has a queue
    lock._waiters.append(future)
    lock._locked = True
    other = Dropping(asyncio.get_running_loop(), lock.acquire)
    lock._locked = False
    future.cancel()
    future.meanwhile = other.drop
    with pytest.raises(StopIteration):
        lock.acquire().send(None)
    other.thread.join()
    assert list(lock._waiters) == [future]
    lock.release()
    assert not lock.locked()


async def while_a_closed_loop_is_replaced():
    class Loop(asyncio.SelectorEventLoop):
        meanwhile = None

        def is_closed(self):
            code, self.meanwhile = self.meanwhile, None
            if code:
                code()
            return super().is_closed()

    loop = Loop()
    lock = OURS["compiled"].Lock()
    lock._locked = True
    other = Dropping(loop, lock.acquire)
    loop.close()
    loop.meanwhile = other.drop
    waiter = lock.acquire()
    future = waiter.send(None)
    other.thread.join()
    assert list(lock._waiters) == [future]
    lock.release()
    assert future.done()
    waiter.close()
    assert not lock._waiters


@pytest.mark.skipif(not FREE_THREADED, reason="with a GIL, no other thread runs in a step")
@pytest.mark.skipif("compiled" not in OURS, reason="tests the compiled code")
@pytest.mark.parametrize(
    "case",
    [
        while_it_is_to_be_woken,
        while_a_getter_is_to_be_woken,
        while_a_newcomer_looks_at_it,
        while_a_closed_loop_is_replaced,
    ],
)
async def test_a_waiter_that_is_deallocated_in_a_step(case):
    gc.disable()  # a collection would make every thread leave its critical sections
    try:
        await case()
    finally:
        gc.enable()


# ---- Free-threaded builds: the fast paths ----


@pytest.mark.skipif(not FREE_THREADED, reason="with a GIL, no other thread runs in a step")
@pytest.mark.skipif("compiled" not in OURS, reason="tests the compiled code")
def test_an_awaitable_that_two_threads_begin_at_once():
    """One of them acquires, even if neither has a reference of its own, as here map() has."""
    rounds = 500
    semaphore = OURS["compiled"].Semaphore(rounds)
    references = sys.getrefcount(semaphore)
    steps = [map(str, semaphore.acquire()) for _ in range(rounds)]
    outcomes = [[], []]

    def begin(own, others):
        for step in steps:
            own.append(None)
            while len(others) < len(own):
                time.sleep(0)
            try:
                next(step)
            except (StopIteration, RuntimeError) as error:
                own[-1] = type(error)

    threads = [threading.Thread(target=begin, args=order) for order in (outcomes, outcomes[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {frozenset(pair) for pair in zip(*outcomes, strict=True)} == {
        frozenset({StopIteration, RuntimeError})
    }
    assert semaphore._value == 0
    steps.clear()
    assert sys.getrefcount(semaphore) == references


@pytest.mark.skipif("compiled" not in OURS, reason="tests the compiled code")
def test_a_thread_that_ends_leaves_no_waiter():
    lock = OURS["compiled"].Lock()
    waiter = lock.acquire()
    kind = type(waiter)
    waiter.close()

    async def enter():
        async with lock:
            pass

    def waiters():
        gc.collect()
        return sum(type(found) is kind for found in gc.get_objects())

    before = waiters()
    for _ in range(20):
        thread = threading.Thread(target=asyncio.run, args=[enter()])
        thread.start()
        thread.join()
    assert waiters() < before + 5
