"""No operation leaves anything behind, and no object is freed while it is still needed.

After many of each operation, the numbers of references, of blocks of memory and of objects have not
grown. The tests do each operation some hundred times. The command does it a given number of
times, at least 100, prints by how much the numbers have grown, and exits with 1 if any operation
leaks:

    python tests/test_lifetime.py asyncio|pure|compiled 1000000

Cycles through a waiter are collected; the collector may run at any time; a loop may be closed, and
an interpreter may end, while tasks wait. The warnings and errors that follow are asyncio's.
"""

import argparse
import asyncio
import contextlib
import copy
import gc
import os
import re
import subprocess
import sys
import time
import warnings
import weakref

import pytest
from conftest import (
    CLASSES,
    FREE_THREADED,
    IMPLEMENTATIONS,
    OURS,
    QUEUES,
    SWITCHES,
    needs_refcounts,
)
from helpers import Parking, WriterParking, by_hand, finish
from schedules import Clockwork

# ---- Counts ----


class Item:
    def __lt__(self, other):
        return False


async def uncontended(parking):
    """All methods, where none of them must wait."""
    primitive = parking.primitive
    if parking.name == "Event":
        primitive.set()
        assert primitive.is_set()
        await primitive.wait()
        primitive.clear()
    elif parking.name == "Barrier":
        first = primitive.wait()
        first.send(None)
        assert primitive.n_waiting == primitive.parties - 1
        async with primitive:
            by_hand(first)
        await primitive.abort()
        assert primitive.broken
        await primitive.reset()
    elif parking.name == "Condition":
        async with primitive:
            primitive.notify_all()
            await primitive.wait_for(primitive.locked)
    elif parking.name in QUEUES:
        await primitive.put(Item())
        primitive.put_nowait(Item())
        assert not primitive.full()
        assert primitive.maxsize == 0 < primitive.qsize()
        await primitive.get()
        primitive.get_nowait()
        primitive.task_done()
        primitive.task_done()
        await primitive.join()
        assert primitive.empty()
    else:
        primitive.release()
        async with primitive:
            assert primitive.locked()
        await primitive.acquire()


async def made(parking):
    """Another primitive, in a cycle with itself."""
    other = parking.another()
    if not FREE_THREADED:  # 3.13 leaks there a __dict__ that refers to its object, of any class
        other.primitive.attribute = other
    assert repr(other.primitive)
    assert not other.queue()
    other.primitive.__getstate__()


async def refused(parking):
    primitive = parking.primitive
    with pytest.raises(TypeError):
        type(primitive)(1, 2, 3)
    if parking.name == "Condition":
        with pytest.raises(RuntimeError):
            primitive.notify()
    elif parking.name in ("Lock", "BoundedSemaphore", "WriterLock"):
        primitive.release()
        with pytest.raises((RuntimeError, ValueError)):
            primitive.release()
        await primitive.acquire()
    elif parking.name in QUEUES and hasattr(primitive, "shutdown"):
        other = type(primitive)(1)
        other.put_nowait(Item())
        putter = other.put(Item())
        putter.send(None)
        other.shutdown(immediate=True)
        with pytest.raises(Exception, match="^$"):
            putter.send(None)
    waiter = parking.wait()
    waiter.send(None)
    parking.wake()
    by_hand(waiter)
    with pytest.raises(RuntimeError):
        waiter.send(None)
    parking.ended()


async def woken(parking):
    waiter = parking.wait()
    waiter.send(None)
    parking.wake()
    by_hand(waiter)
    parking.ended()


async def parked_task(parking):
    task = asyncio.create_task(parking.wait())
    await asyncio.sleep(0)
    return task


async def woken_task(parking):
    task = await parked_task(parking)
    parking.wake()
    await task
    parking.ended()


async def cancelled(parking):
    task = await parked_task(parking)
    task.cancel()
    await asyncio.wait([task])
    parking.ended()


def take_back(parking):
    """Take what a woken waiter left, unless its permit is lost, as asyncio's semaphores lose it.

    They do so where the waiter is not ended by a CancelledError.
    """
    if parking.name in QUEUES:
        by_hand(parking.primitive.get())
    elif parking.is_given and parking.primitive.locked():
        assert issubclass(type(parking.primitive), asyncio.Semaphore)
    elif parking.is_given:
        by_hand(parking.primitive.acquire())


async def cancelled_when_woken(parking):
    task = await parked_task(parking)
    parking.wake()
    task.cancel()
    await asyncio.wait([task])
    take_back(parking)
    parking.ended()


async def closed(parking):
    waiter = parking.wait()
    waiter.send(None)
    waiter.close()
    parking.ended()


async def closed_when_woken(parking):
    waiter = parking.wait()
    waiter.send(None)
    parking.wake()
    waiter.close()
    take_back(parking)
    parking.ended()


async def thrown(parking):
    waiter = parking.wait()
    waiter.send(None)
    with contextlib.suppress(KeyError):
        waiter.throw(KeyError("a"))
    parking.ended()


async def dropped(parking):
    waiter = parking.wait()
    waiter.send(None)
    del waiter
    parking.ended()


WORKS = (
    uncontended, made, refused, woken, woken_task, cancelled, cancelled_when_woken, closed,
    closed_when_woken, thrown, dropped,
)  # fmt: skip


# ---- RWLock ----


async def read(parking):
    lock, reader_lock = parking.rwlock, parking.rwlock.reader_lock
    parking.primitive.release()
    assert repr(lock)
    copy.copy(lock).attribute = lock
    async with reader_lock:
        assert reader_lock.locked()
        assert reader_lock.try_acquire()
        assert not parking.primitive.try_acquire()
        reader_lock.release()
    await reader_lock.acquire()
    reader_lock.release()
    with pytest.raises(RuntimeError):
        reader_lock.release()
    assert parking.primitive.try_acquire()
    with pytest.raises(TypeError):
        lock.__getstate__()


async def let_readers_in(parking):
    """Two end without their turn."""
    reader_lock = parking.rwlock.reader_lock
    readers = [reader_lock.acquire() for _ in range(4)]
    writer = parking.primitive.acquire()
    for waiter in (*readers, writer):
        waiter.send(None)
    readers.pop().close()
    parking.primitive.release()
    readers.pop().close()
    for reader in readers:
        by_hand(reader)
        reader_lock.release()
    by_hand(writer)


async def strand_no_readers(parking):
    lock = parking.rwlock
    parking.primitive.release()
    await lock.reader_lock.acquire()
    waiters = [parking.primitive.acquire(), lock.reader_lock.acquire()]
    for waiter in waiters:
        waiter.send(None)
    waiters[0].close()
    by_hand(waiters[1])
    lock.reader_lock.release()
    lock.reader_lock.release()
    await parking.primitive.acquire()


WORKS_OF_RWLOCK = (*WORKS, read, let_readers_in, strand_no_readers)


# ---- By key ----


class ByKey:
    """A KeyedLock or KeyedSemaphore, in place of a Parking."""

    def __init__(self, cls):
        self.primitive = cls(*[1] if cls.__name__ == "KeyedSemaphore" else [])


async def by_a_new_key(by_key):
    key = object()
    async with by_key.primitive[key]:
        assert key in by_key.primitive
    assert repr(by_key.primitive[key])
    by_key.primitive.__getstate__()


async def by_a_key_that_is_waited_for(by_key):
    key = object()
    assert by_key.primitive[key].try_acquire()
    waiters = [by_key.primitive[key].acquire() for _ in range(3)]
    for waiter in waiters:
        waiter.send(None)
    waiters[1].close()
    by_key.primitive[key].release()
    by_hand(waiters[0])
    assert list(by_key.primitive) == [key]
    by_key.primitive[key].release()
    waiters[2].close()
    assert not list(by_key.primitive)


async def dropped_while_held(by_key):
    """The collector finds an owner and its primitives, which own each other."""
    other = ByKey(type(by_key.primitive)).primitive
    for key in range(10):
        assert other[key].try_acquire()


OF_KEYS = ("KeyedLock", "KeyedSemaphore")
WORKS_BY_KEY = (by_a_new_key, by_a_key_that_is_waited_for, dropped_while_held)


async def tried(parking):
    if hasattr(parking.primitive, "try_acquire"):  # asyncio's have none
        if parking.name != "Condition":
            assert not parking.primitive.try_acquire()
            parking.primitive.release()
        assert parking.primitive.try_acquire()
        if parking.name == "Condition":
            parking.primitive.release()


def operations(implementation):
    """What holds a primitive, by name, and what is done with it."""
    namespace = IMPLEMENTATIONS[implementation]
    for name in CLASSES:
        for work in (*WORKS, tried):
            yield name, Parking(getattr(namespace, name)), work
    if implementation in OURS:
        for work in WORKS_OF_RWLOCK:
            yield "RWLock", WriterParking(namespace.RWLock), work
        for name in OF_KEYS:
            for work in WORKS_BY_KEY:
                yield name, ByKey(getattr(namespace, name)), work


def counts(parking):
    gc.collect()
    primitive, loop = parking.primitive, asyncio.get_running_loop()
    things = (None, True, False, primitive, type(primitive), loop, asyncio.Future)
    references = [sys.getrefcount(thing) for thing in things]
    return sys.getallocatedblocks(), len(gc.get_objects()), *references


async def grown(parking, work, times):
    """By how much the counts grow while an operation is done so many times."""
    for _ in range(100):  # what is made only once, and what is kept to be used again
        await work(parking)
    counts(parking)
    before = counts(parking)
    for _ in range(times):
        await work(parking)
    return [after - count for after, count in zip(counts(parking), before, strict=True)]


def leaks(counts, times):
    """Whether any of them has grown by about one each time."""
    return max(counts) > times / 2


async def leaks_always(parking, work, times):
    """What has not grown in each of three measurements may be something else's."""
    least = await grown(parking, work, times)
    for _ in range(2):
        if not leaks(least, times):
            break
        least = list(map(min, least, await grown(parking, work, times)))
    return leaks(least, times)


@needs_refcounts
@pytest.mark.parametrize("work", [*WORKS, tried])
@pytest.mark.parametrize("name", CLASSES)
async def test_counts_are_flat(implementation, name, work):
    parking = Parking(getattr(IMPLEMENTATIONS[implementation], name))
    assert not await leaks_always(parking, work, 100)


@needs_refcounts
@pytest.mark.parametrize("work", WORKS_OF_RWLOCK)
async def test_counts_of_an_rwlock_are_flat(OurRWLock, work):
    assert not await leaks_always(WriterParking(OurRWLock), work, 100)


@needs_refcounts
@pytest.mark.parametrize("work", WORKS_BY_KEY)
@pytest.mark.parametrize("name", OF_KEYS)
async def test_counts_are_flat_by_key(our_name, name, work):
    subject = ByKey(getattr(OURS[our_name], name))
    assert not await leaks_always(subject, work, 100)


@needs_refcounts
@pytest.mark.parametrize("kept", ["block", "None"])
async def test_a_leak_would_be_seen(OurLock, kept):
    class Leaking(OurLock):
        def acquire(self):
            leaked.append(object() if kept == "block" else None)
            return super().acquire()

    if kept == "None" and sys.version_info >= (3, 12):
        pytest.skip("None is immortal")
    if kept == "block" and not sys.getallocatedblocks():
        pytest.skip("PYTHONMALLOC=malloc counts no blocks")
    leaked = []
    parking = Parking(Leaking)
    assert await leaks_always(parking, closed, 100)


# ---- Cycles ----


def noise_of(namespace, name, how, loop_closed):
    """Drop a cycle of a primitive, its loop and a waiter; return the messages and warnings."""
    messages = []

    async def leave_behind():
        loop, parking = asyncio.get_running_loop(), Parking(getattr(namespace, name))
        waiter = parking.wait()
        if how == "task":
            waiter = loop.create_task(waiter)
            await asyncio.sleep(0)
        else:
            waiter.send(None)
        parking.primitive.cycle = [loop, waiter, parking]
        return [weakref.ref(parking.primitive), weakref.ref(parking)]

    loop = asyncio.SelectorEventLoop()
    loop.set_exception_handler(lambda _, context: messages.append(context["message"]))
    references = [*loop.run_until_complete(leave_behind()), weakref.ref(loop)]
    old = sys.unraisablehook
    sys.unraisablehook = lambda report: messages.append(repr(report.exc_type))
    try:
        with warnings.catch_warnings(record=True, action="always") as warned:
            if loop_closed:
                loop.close()
            del loop
            gc.collect()
    finally:
        sys.unraisablehook = old
    categories = sorted({str(warning.category) for warning in warned})
    warned.clear()  # they know the loop
    gc.collect()
    assert [reference() for reference in references] == [None] * 3
    return sorted(messages), categories


@needs_refcounts
@pytest.mark.parametrize("loop_closed", [False, True])
@pytest.mark.parametrize("how", ["raw", "task"])
@pytest.mark.parametrize("name", CLASSES)
def test_a_cycle_through_a_waiter_is_collected(our_name, name, how, loop_closed):
    expected = noise_of(asyncio, name, how, loop_closed)
    if name in QUEUES:  # asyncio's getter cancels its future, also on a loop that is closed
        expected[0][:] = [message for message in expected[0] if "RuntimeError" not in message]
    assert noise_of(OURS[our_name], name, how, loop_closed) == expected
    assert (expected == ([], [])) is (how == "raw" and loop_closed)


@needs_refcounts
@pytest.mark.parametrize("name", CLASSES)
async def test_a_primitive_lives_as_long_as_it_has_waiters(our_name, name):
    parking = Parking(getattr(OURS[our_name], name))
    waiters = []
    for _ in range(1 if name == "Barrier" else 3):
        waiters.append(parking.wait())
        waiters[-1].send(None)
    gone = weakref.ref(parking.primitive)
    del parking
    gc.collect()
    while waiters:
        queue = gone()._getters if name in QUEUES else gone()._waiters
        assert len(queue) == len(waiters)
        del queue
        waiters.pop(len(waiters) // 2).close()
        if name == "Condition" and waiters:  # which has taken its lock back
            gone().release()
    assert gone() is None


@needs_refcounts
async def test_the_turn_of_a_collected_waiter_goes_to_a_task_without_references(OurLock):
    lock = OurLock()
    await lock.acquire()
    first = lock.acquire()
    first.send(None)
    cycle = [first]
    cycle.append(cycle)
    task = asyncio.create_task(lock.acquire())
    await asyncio.sleep(0)
    lock.release()  # the turn is first's
    reference = weakref.ref(task)
    del first, cycle, task
    gc.collect()
    await asyncio.sleep(0)
    assert lock.locked()
    assert reference() is None  # it has run to its end


# ---- The collector at any time ----


async def everything(namespace):
    """Run a short program of all primitives, and return its trace."""
    trace = []
    lock, event, barrier = namespace.Lock(), namespace.Event(), namespace.Barrier(3)
    condition, semaphore = namespace.Condition(lock), namespace.BoundedSemaphore(2)
    queues = namespace.Queue(1), namespace.PriorityQueue()
    rwlock = namespace.RWLock()

    async def work(number):
        await event.wait()
        async with semaphore:
            trace.append(("semaphore", number))
            await asyncio.sleep(0)
        await queues[0].put(number)
        await queues[1].put(await queues[0].get())
        trace.append(("item", await queues[1].get()))
        async with rwlock.writer_lock if number % 3 else rwlock.reader_lock:
            trace.append(("rwlock", number))
        async with condition:
            trace.append(("condition", number))
            condition.notify()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01 if number == 5 else None):
                    await condition.wait_for(lambda: number < 3 or number == 5)
        async with lock:
            trace.append(("lock", number))
        await barrier.wait()

    tasks = [asyncio.create_task(work(number)) for number in range(6)]
    await asyncio.sleep(0)
    event.set()
    tasks[4].cancel()
    await asyncio.sleep(0.005)
    tasks[3].cancel()
    cycle = namespace.Event()
    cycle.itself = cycle
    cycle.waiter = cycle.wait()
    cycle.waiter.send(None)
    del cycle
    await asyncio.wait(tasks, timeout=0.2)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return trace


@contextlib.contextmanager
def at_each_allocation():
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)


@contextlib.contextmanager
def frozen():
    """The collector ignores all objects that exist already."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@needs_refcounts
@pytest.mark.parametrize("collector", [at_each_allocation, frozen])
def test_whenever_the_collector_runs(our_name, collector):
    def run():  # however long the collector takes
        with asyncio.Runner(loop_factory=Clockwork) as runner:
            return runner.run(everything(OURS[our_name]))

    expected = run()
    with collector():
        assert run() == expected
        gc.collect()
    assert len(expected) > 12


# ---- Loops that are closed, and interpreters that end ----


@pytest.mark.parametrize("how", ["raw", "task"])
@pytest.mark.parametrize("name", CLASSES)
def test_another_loop_after_the_first_was_closed_under_its_waiters(our_name, name, how):
    parking = Parking(getattr(OURS[our_name], name))

    async def park():
        waiter = parking.wait()
        if how == "raw":
            waiter.send(None)
            return waiter
        waiter = asyncio.create_task(waiter)
        waiter._log_destroy_pending = False
        await asyncio.sleep(0)
        return waiter

    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    left = first.run_until_complete(park())
    first.close()

    async def go_on():
        for _ in range(2):
            await woken_task(parking)

    second.run_until_complete(go_on())
    if how == "raw":
        left.close()
        parking.ended()
    second.run_until_complete(go_on())
    second.close()


ENDS = """
import asyncio, importlib, sys
namespace = importlib.import_module(sys.argv[1])

lock, event, condition = namespace.Lock(), namespace.Event(), namespace.Condition()
semaphore, bounded = namespace.Semaphore(0), namespace.BoundedSemaphore(1)
barrier = namespace.Barrier(2)

async def wait_on_condition():
    async with condition:
        await condition.wait()

async def park():
    global waiters
    await lock.acquire()
    await bounded.acquire()
    await condition.acquire()
    waiters = [lock.acquire(), semaphore.acquire(), bounded.acquire(), event.wait(), barrier.wait()]
    waiters += [condition.wait()]
    if sys.argv[2] == "tasks":
        condition.release()
        waiters[-1].close()
        waiters[-1] = wait_on_condition()
        waiters = [asyncio.create_task(waiter) for waiter in waiters]
        await asyncio.sleep(0)
    else:
        for waiter in waiters:
            waiter.send(None)
    if sys.argv[3] == "woken":
        lock.release(), semaphore.release(), bounded.release(), event.set()
    if sys.argv[3] == "cycle":
        lock.waiters = event.waiters = condition.waiters = waiters
        semaphore.lock = lock

loop = asyncio.new_event_loop()
loop.run_until_complete(park())
if sys.argv[4] == "closed":
    loop.close()
"""


def end(module, switch, *arguments):
    """End an interpreter; return its exit code and messages, without what differs in every run."""
    ran = subprocess.run(
        [sys.executable, "-W", "always", "-c", ENDS, module, *arguments],
        env={**os.environ, "AIOFASTLOCK_EXTENSIONS": switch, "PYTHONASYNCIODEBUG": ""},
        check=False,
        capture_output=True,
        text=True,
    )
    messages = re.sub(
        r"^(task|coro|source_traceback|loop):? .*\n", "", ran.stderr, flags=re.MULTILINE
    )
    return ran.returncode, sorted(re.sub(r"0x[0-9a-f]+", "0x", messages).splitlines())


@pytest.mark.parametrize("loop", ["open", "closed"])
@pytest.mark.parametrize("state", ["parked", "woken", "cycle"])
@pytest.mark.parametrize("how", ["raw", "tasks"])
def test_an_interpreter_ends_while_tasks_wait(our_name, how, state, loop):
    expected = end("asyncio", "0", how, state, loop)
    assert expected[0] == 0
    assert end("aiofastlock", SWITCHES[our_name], how, state, loop) == expected


@pytest.mark.skipif("compiled" not in OURS, reason="the pure-Python queue is another object")
async def test_the_collector_visits_the_futures():
    lock = OURS["compiled"].Lock()
    await lock.acquire()
    waiters = [lock.acquire() for _ in range(3)]
    futures = [waiter.send(None) for waiter in waiters]
    for future in futures:
        assert any(found is lock for found in gc.get_referrers(future))
    for waiter in waiters:
        waiter.close()


@pytest.mark.skipif("compiled" not in OURS, reason="pure-Python frames are cleared before")
def test_a_loop_that_the_collector_has_cleared():
    """It is freed together with its waiters, which call its is_closed() when they leave."""

    class Loop:
        def __init__(self, running):
            self.running = running

        def is_closed(self):
            return self.running.is_closed()

        def create_future(self):
            return self.running.create_future()

    async def main():
        loop = Loop(asyncio.get_running_loop())
        asyncio.events._set_running_loop(loop)
        lock = OURS["compiled"].Lock()
        finish(lock.acquire())
        waiters = [lock.acquire() for _ in range(2)]
        futures = [waiter.send(None) for waiter in waiters]
        asyncio.events._set_running_loop(loop.running)
        lock.release()
        vars(loop).clear()
        waiters[0].close()
        assert [future.done() for future in futures] == [True, False]
        waiters[1].close()

    asyncio.run(main())


# ---- The command ----


async def measure(implementation, times):
    """Print what each operation leaves behind; return those that leak."""
    leaking = []
    number = 0
    for name, subject, work in operations(implementation):
        start = time.perf_counter()
        number += 1
        blocks, objects, *references = found = await grown(subject, work, times)
        took = time.perf_counter() - start
        print(
            f"{name:16} {work.__name__:27} {took:5.0f} s  blocks {blocks:+d}, "
            f"objects {objects:+d}, references {references}",
            flush=True,
        )
        if leaks(found, times):
            leaking.append(f"{name} {work.__name__}")
    print(f"{number} operations, {times:,} times each")
    return leaking


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("implementation", choices=IMPLEMENTATIONS)
    parser.add_argument("times", type=int)
    options = parser.parse_args()
    leaking = asyncio.run(measure(options.implementation, options.times))
    print(f"these leak: {', '.join(leaking)}" if leaking else "nothing leaks")
    return bool(leaking)


if __name__ == "__main__":
    sys.exit(main())
