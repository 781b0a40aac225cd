"""What it costs: size, growth, and that nothing is left behind."""

import asyncio
import gc
import itertools
import sys
import time

import pytest
from conftest import OURS, needs_refcounts


@pytest.mark.skipif("compiled" not in OURS, reason="the compiled half is not here")
@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("Lock", 96),
        ("Event", 96),
        ("Semaphore", 96),
        ("BoundedSemaphore", 104),
        ("Condition", 96),  # and a Lock
        ("Barrier", 112),
    ],
)
def test_size(name, most):
    arguments = [10] if name == "Barrier" else []
    assert sys.getsizeof(getattr(OURS["compiled"], name)(*arguments)) <= most


async def is_ever_below(bound, cost, *arguments):
    """Whether one of three measurements is: other programs can spoil any of them."""
    for _ in range(3):
        if await cost(*arguments) < bound:
            return True
    return False


async def park_many(ours, name, count):
    """Park that many awaitables of a primitive, which are driven by hand."""
    primitive = getattr(ours, name)(*{"Semaphore": [0], "Barrier": [count + 1]}.get(name, []))
    waiters = []
    for _ in range(count):
        if name == "Condition":
            await primitive.acquire()
        wait = "acquire" if name in ("Lock", "Semaphore") else "wait"
        if name == "Lock" and not waiters:
            await primitive.acquire()
        waiters.append(getattr(primitive, wait)())
        waiters[-1].send(None)
    return primitive, waiters


async def cost_of_leaving(ours, name, count, step):
    """Seconds that one of `count` waiters takes to leave, the last or every second one first.

    Awaitables driven by hand, not tasks, whose own cost grows with the processor's cache misses.
    """
    primitive, waiters = await park_many(ours, name, count)
    if name == "Condition":
        await primitive.acquire()  # or each of them would take it
    leaving = waiters[::step] + waiters[1::2] * (step == 2)
    del waiters
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    for waiter in leaving:
        if name == "Condition":
            primitive._lock._locked = False
        waiter.close()
    took = time.perf_counter() - start
    gc.enable()
    assert not primitive._waiters
    return took / count


@pytest.mark.parametrize("step", [-1, 2])
@pytest.mark.parametrize("name", ["Lock", "Event", "Semaphore", "Condition", "Barrier"])
async def test_leaving_does_not_cost_more_the_more_waiters_there_are(our_name, name, step):
    ours = OURS[our_name]
    few = min([await cost_of_leaving(ours, name, 500, step) for _ in range(5)])
    # A queue that is searched makes it 64. Not 2 instead: no processor's cache holds the many,
    # least of all where others use it too.
    assert await is_ever_below(16 * few, cost_of_leaving, ours, name, 32_000, step)


WAKING = {
    "Event": lambda event: (event.set(), event.clear()),
    "Semaphore": lambda semaphore: semaphore.release(),
    "Condition": lambda condition: condition.notify(),
}


async def cost_of_waking(ours, name, count):
    """Seconds that one of `count` wake-ups takes, all of them before any waiter has run."""
    primitive, waiters = await park_many(ours, name, count)
    if name == "Condition":
        await primitive.acquire()
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    for _ in waiters:
        WAKING[name](primitive)
    took = time.perf_counter() - start
    gc.enable()
    assert all(future.done() for future in primitive._waiters)
    if name == "Condition":
        primitive.release()
    for waiter in waiters:
        with pytest.raises(StopIteration):
            waiter.send(None)
        if name == "Condition":
            primitive.release()
    return took / count


@pytest.mark.parametrize("name", WAKING)
async def test_waking_does_not_cost_more_the_more_are_woken_already(our_name, name):
    ours = OURS[our_name]
    few = min([await cost_of_waking(ours, name, 1_000) for _ in range(5)])
    # asyncio, which looks at all that are woken, makes it 16.
    assert await is_ever_below(8 * few, cost_of_waking, ours, name, 16_000)


async def test_meeting_does_not_cost_more_the_more_are_blocked(OurBarrier):
    """Pairs meet at a barrier, while all the others that have come wait for their turn."""

    async def cost(count):
        barrier = OurBarrier(2)
        tasks = [asyncio.create_task(barrier.wait()) for _ in range(count)]
        start = time.perf_counter()
        indices = await asyncio.gather(*tasks)
        assert sum(indices) == count / 2
        return (time.perf_counter() - start) / count

    few = min([await cost(500) for _ in range(5)])
    assert await is_ever_below(8 * few, cost, 8_000)


async def test_passing_cancelled_waiters_does_not_cost_more_the_more_there_are(OurLock):
    """Newcomers pass a queue of cancelled waiters, again and again, within one iteration."""

    async def cost(count):
        lock = OurLock()
        await lock.acquire()
        tasks = [asyncio.create_task(lock.acquire()) for _ in range(count)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        lock.release()
        start = time.perf_counter()
        for _ in range(count):
            await lock.acquire()
            lock.release()
        took = time.perf_counter() - start
        await asyncio.wait(tasks)
        return took / count

    few = min([await cost(1_000) for _ in range(5)])
    assert await is_ever_below(8 * few, cost, 16_000)


# ---- Leaks ----


async def uncontended(lock):
    async with lock:
        pass
    await lock.acquire()
    lock.release()


async def parked(lock):
    async with lock:
        task = asyncio.create_task(uncontended(lock))
        await asyncio.sleep(0)
    await task


async def cancelled(lock):
    async with lock:
        task = asyncio.create_task(uncontended(lock))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])


async def cancelled_when_woken(lock):
    await lock.acquire()
    task = asyncio.create_task(uncontended(lock))
    await asyncio.sleep(0)
    lock.release()
    task.cancel()
    await asyncio.wait([task])


async def by_hand(lock):
    await lock.acquire()
    for end in ("close", "throw", "drop"):
        coroutine = lock.acquire()
        coroutine.send(None)
        if end == "close":
            coroutine.close()
        elif end == "throw":
            with pytest.raises(KeyError):
                coroutine.throw(KeyError("x"))
        del coroutine
    lock.release()


async def refused(lock):
    with pytest.raises(RuntimeError):
        lock.release()
    coroutine = lock.acquire()
    await coroutine
    with pytest.raises(RuntimeError):
        await coroutine
    lock.release()
    with pytest.raises(TypeError):
        type(lock)(1)


async def made(lock):
    other = type(lock)()
    other.attribute = other
    repr(other), other._waiters, other.__getstate__()


@needs_refcounts
@pytest.mark.parametrize(
    "work", [uncontended, parked, cancelled, cancelled_when_woken, by_hand, refused, made]
)
async def test_nothing_is_left_behind(OurLock, work):
    lock = OurLock()
    await parked(lock)  # what is made once is made now: the binding to the loop, the spares
    blocks = []
    for _ in range(4):
        for _ in range(200):
            await work(lock)
        gc.collect()
        blocks.append((sys.getallocatedblocks(), sys.getrefcount(lock), sys.getrefcount(OurLock)))
    # What leaks does so every time, and one block a round would be 200; other threads' come once.
    grown = min(after[0] - before[0] for before, after in itertools.pairwise(blocks))
    assert grown < 100, blocks
    assert blocks[-1][1:] == blocks[0][1:]
    assert not lock.locked()
