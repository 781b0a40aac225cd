"""Faults that asyncio's locks once had, each under the number of its issue.

Each test fails on locks that have the fault.
"""

import asyncio
import gc
import sys

import pytest
from conftest import needs_refcounts
from helpers import end, park_on, queue_up, result, steps

# ---- bpo-27585: after a cancellation no task was woken any more ----


async def test_bpo_27585_a_cancelled_waiter_in_the_queue_stops_nobody(Lock):
    lock = Lock()
    await lock.acquire()
    (cancelled,) = await queue_up(lock)
    cancelled.cancel()
    lock.release()
    newcomer = lock.acquire()
    with pytest.raises(StopIteration):
        newcomer.send(None)
    lock.release()
    await end(cancelled)
    assert cancelled.cancelled()


async def test_bpo_27585_a_turn_passes_all_cancelled_tasks(Lock):
    lock = Lock()
    await lock.acquire()
    tasks = await queue_up(lock, 10)
    lock.release()
    for task in tasks[:-1]:
        task.cancel()
    await result(tasks[-1])
    assert [task.cancelled() for task in tasks] == [True] * 9 + [False]
    assert not lock.locked()


async def test_bpo_27585_a_turn_passes_tasks_that_are_cancelled_once_they_are_woken(Lock):
    lock = Lock()
    await lock.acquire()
    coroutines = [lock.acquire() for _ in range(10)]
    futures = [coroutine.send(None) for coroutine in coroutines]
    lock.release()
    for coroutine, future in zip(coroutines[:-1], futures[:-1], strict=True):
        assert future.done()
        with pytest.raises(asyncio.CancelledError):
            coroutine.throw(asyncio.CancelledError)
    assert futures[-1].done()
    coroutines[-1].close()


# ---- bpo-32734: a cancelled task woke the next one, although the lock was on its way already ----


@pytest.mark.parametrize("cancelled", [{1}, {4}, {1, 2}, {2, 4}, {1, 2, 3, 4}])
async def test_bpo_32734_one_release_lets_one_in(Lock, cancelled):
    lock, inside, leave = Lock(), [], asyncio.Event()

    async def enter(name):
        async with lock:
            inside.append(name)
            await leave.wait()

    await lock.acquire()
    tasks = [asyncio.create_task(enter(name)) for name in range(6)]
    await asyncio.sleep(0)
    for name in cancelled:
        tasks[name].cancel()
    lock.release()
    await steps()
    assert inside == [0]
    leave.set()
    await end(*tasks)
    assert inside == [name for name in range(6) if name not in cancelled]
    assert not lock.locked()


# ---- bpo-22970: wait() ended without the lock if it was cancelled while it took the lock back ----


@pytest.mark.parametrize("times", [1, 2])
async def test_bpo_22970_a_cancelled_task_has_the_lock(Condition, times):
    condition, seen = Condition(), []

    async def wait():
        await condition.acquire()
        try:
            await condition.wait()
        except asyncio.CancelledError:
            seen.append((condition.locked(), free))
            raise

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await condition.acquire()
    free = False
    condition.notify()
    for _ in range(times):
        await steps()
        task.cancel()
    await steps()
    assert not task.done()
    free = True
    condition.release()
    await end(task)
    assert seen == [(True, True)]


# ---- bpo-32841: a cancellation while wait() took the lock back was swallowed ----


async def test_bpo_32841_a_cancellation_is_not_swallowed(Condition):
    condition = Condition()
    (task,) = await park_on(condition)
    async with condition:
        condition.notify()
        await steps()
        task.cancel()
        await steps()
    await end(task)
    assert task.cancelled()
    assert not condition.locked()


async def test_bpo_32841_a_timeout_is_not_swallowed(Condition):
    condition, timeout = Condition(), asyncio.timeout(None)

    async def wait():
        async with condition, timeout:
            await condition.wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    async with condition:
        condition.notify()
        await steps()
        timeout.reschedule(asyncio.get_running_loop().time())
        await steps()
        assert not task.done()
    await end(task)
    with pytest.raises(TimeoutError):
        task.result()


# ---- bpo-45416: Condition refused a lock that had not been used yet ----


async def test_bpo_45416_a_condition_over_a_lock_made_before_the_loop(Condition, Lock):
    lock = Lock()
    condition = Condition(lock)
    (task,) = await park_on(condition)
    async with lock:
        condition.notify()
    assert await task


# ---- gh-86296: a task was cancelled when the lock was on its way to it ----


async def test_gh_86296_cancelled_and_given_the_lock_at_once(Lock):
    lock, got = Lock(), []
    await lock.acquire()

    async def acquire():
        got.append(await lock.acquire())

    task = asyncio.create_task(acquire())
    (behind,) = await queue_up(lock)
    lock.release()
    task.cancel("now")
    await end(task)
    with pytest.raises(asyncio.CancelledError, match="now"):
        task.result()
    assert got == []
    await result(behind)
    assert not lock.locked()


async def test_gh_86296_timed_out_and_given_the_lock_at_once(Lock):
    lock, got, timeout = Lock(), [], asyncio.timeout(None)
    await lock.acquire()

    async def acquire():
        async with timeout:
            got.append(await lock.acquire())

    task = asyncio.create_task(acquire())
    (behind,) = await queue_up(lock)
    timeout.reschedule(asyncio.get_running_loop().time())
    lock.release()
    await end(task)
    with pytest.raises(TimeoutError):
        task.result()
    assert got == []
    await result(behind)
    assert not lock.locked()


@pytest.mark.xfail(sys.version_info < (3, 12), strict=True, reason="wait_for has gh-86296")
async def test_gh_86296_within_wait_for(Lock):
    lock = Lock()
    await lock.acquire()
    task = asyncio.create_task(asyncio.wait_for(lock.acquire(), 10))
    await steps()
    lock.release()
    task.cancel()
    await end(task)
    assert task.cancelled()
    assert not lock.locked()


# ---- gh-111693: wait() raised another CancelledError than the one that was thrown into it ----


@pytest.mark.usefixtures("gh_111693")
async def test_gh_111693_the_message_is_kept(Condition):
    condition = Condition()
    (task,) = await park_on(condition)
    async with condition:
        condition.notify()
        await steps()
        task.cancel("while it takes the lock back")
        await steps()
    await end(task)
    with pytest.raises(asyncio.CancelledError) as raised:
        task.result()
    assert raised.value.args == ("while it takes the lock back",)


@pytest.mark.usefixtures("gh_111693")
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("after", [1, 3])
async def test_gh_111693_the_last_instance_is_raised(Condition, before, after):
    class Cancelled(asyncio.CancelledError):
        pass

    condition = Condition()
    await condition.acquire()
    coroutine = condition.wait()
    coroutine.send(None)
    await condition.acquire()
    if not before:
        condition.notify()
        coroutine.send(None)
    thrown = [Cancelled(number) for number in range(before + after)]
    for error in thrown:
        assert asyncio.isfuture(coroutine.throw(error))
    condition.release()
    with pytest.raises(Cancelled) as raised:
        coroutine.send(None)
    assert raised.value is thrown[-1]
    assert condition.locked()


# ---- gh-112202: a notification was lost if the notified task was cancelled ----


@pytest.mark.usefixtures("gh_112202")
async def test_gh_112202_cancelled_when_just_notified(Condition):
    condition = Condition()
    cancelled, task = await park_on(condition, 2)
    async with condition:
        condition.notify()
        cancelled.cancel()
    assert await result(task)
    assert cancelled.cancelled()


@pytest.mark.usefixtures("gh_112202")
async def test_gh_112202_cancelled_while_it_takes_the_lock_back(Condition):
    condition = Condition()
    cancelled, task = await park_on(condition, 2)
    async with condition:
        condition.notify()
        await steps()
        cancelled.cancel()
        await steps()
    assert await result(task)
    assert cancelled.cancelled()


@pytest.mark.usefixtures("gh_112202")
async def test_gh_112202_cancelled_when_the_lock_is_on_its_way(Condition):
    condition = Condition()
    cancelled, task = await park_on(condition, 2)
    await condition.acquire()
    condition.notify()
    await steps()
    condition.release()
    cancelled.cancel()
    assert await result(task)
    assert cancelled.cancelled()


@pytest.mark.usefixtures("gh_112202")
async def test_gh_112202_a_notification_passes_all_cancelled_tasks(Condition):
    condition = Condition()
    tasks = await park_on(condition, 10)
    async with condition:
        condition.notify()
        for task in tasks[:-1]:
            task.cancel()
    assert await result(tasks[-1])
    assert all(task.cancelled() for task in tasks[:-1])


@pytest.mark.usefixtures("gh_112202")
async def test_gh_112202_timed_out_when_just_notified(Condition):
    condition, timeout = Condition(), asyncio.timeout(None)

    async def wait_with_a_timeout():
        async with timeout, condition:
            await condition.wait()

    timed_out = asyncio.create_task(wait_with_a_timeout())
    (task,) = await park_on(condition)
    async with condition:
        condition.notify()
        timeout.reschedule(asyncio.get_running_loop().time())
        await steps()
    await end(timed_out)
    with pytest.raises(TimeoutError):
        timed_out.result()
    assert await result(task)


@pytest.mark.usefixtures("gh_112202")
async def test_gh_112202_an_item_finds_its_consumer(Condition):
    condition, items, eaten = Condition(), [], []

    async def consume():
        async with condition:
            await condition.wait_for(lambda: items)
            eaten.append(items.pop())

    consumers = [asyncio.create_task(consume()) for _ in range(2)]
    await asyncio.sleep(0)
    async with condition:
        items.append("the one")
        condition.notify()
    consumers[0].cancel()
    await end(*consumers)
    assert eaten == ["the one"]


# ---- anyio#1145: a newcomer waited behind cancelled waiters that were still in the queue ----


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("comes", ["before the release", "after the release"])
async def test_anyio_1145_a_newcomer_behind_cancelled_tasks(Lock, heads, comes):
    lock = Lock()
    await lock.acquire()
    cancelled = await queue_up(lock, heads)
    newcomer = lock.acquire()
    if comes == "before the release":
        newcomer.send(None)
    for head in cancelled:
        head.cancel()
    lock.release()
    if comes == "before the release":
        assert len(lock._waiters) == heads + 1
        await end(*cancelled)
        assert lock._waiters[0].done()
    with pytest.raises(StopIteration):
        newcomer.send(None)
    assert lock.locked()
    lock.release()
    await end(*cancelled)
    assert not lock._waiters
    assert not lock.locked()


async def test_anyio_1145_a_task_as_the_newcomer(Lock):
    lock = Lock()
    await lock.acquire()
    (cancelled,) = await queue_up(lock)
    newcomer = asyncio.create_task(lock.acquire())
    cancelled.cancel()
    lock.release()
    assert await result(newcomer)
    assert lock.locked()


async def test_anyio_1145_a_notified_task_as_the_newcomer(Condition):
    condition = Condition()
    (notified,) = await park_on(condition)
    await condition.acquire()
    (cancelled,) = await queue_up(condition)
    condition.notify()
    await asyncio.sleep(0)
    assert len(condition._lock._waiters) == 2
    cancelled.cancel()
    condition.release()
    assert await result(notified)
    assert not condition.locked()


# ---- A woken waiter that ends by anything but a CancelledError ----

abandoned = pytest.mark.parametrize(
    "how",
    ["close", GeneratorExit, KeyError, SystemExit, pytest.param("drop", marks=needs_refcounts)],
)


def abandon_first(coroutines, how):
    """End the first of these coroutines, and remove it from the list."""
    coroutine = coroutines.pop(0)
    if how == "close":
        coroutine.close()
    elif how == "drop":
        del coroutine
        gc.collect()
    else:
        with pytest.raises(how):
            coroutine.throw(how("abandoned"))


@abandoned
@pytest.mark.usefixtures("mended")
async def test_a_turn_passes_all_abandoned_waiters(Lock, how):
    lock, waiting = Lock(), []
    await lock.acquire()
    for _ in range(3):
        waiting.append(lock.acquire())
        waiting[-1].send(None)
    (task,) = await queue_up(lock)
    lock.release()
    while waiting:
        abandon_first(waiting, how)
    await result(task)
    assert not lock.locked()


@abandoned
@pytest.mark.usefixtures("gh_112202")
async def test_a_notification_passes_all_abandoned_waiters(Condition, how):
    condition, waiting = Condition(), []
    for _ in range(3):
        await condition.acquire()
        waiting.append(condition.wait())
        waiting[-1].send(None)
    (task,) = await park_on(condition)
    await condition.acquire()
    condition.notify()
    while waiting:
        condition.release()
        abandon_first(waiting, how)
        assert condition.locked()  # wait() always takes the lock back
    condition.release()
    assert await result(task)
    assert not condition.locked()


@abandoned
@pytest.mark.usefixtures("gh_112202")
async def test_a_notification_passes_a_waiter_that_takes_the_lock_back(Condition, how):
    condition = Condition()
    await condition.acquire()
    waiting = [condition.wait()]
    waiting[0].send(None)
    (task,) = await park_on(condition)
    async with condition:
        condition.notify()
        waiting[0].send(None)
        assert len(condition._waiters) == len(condition._lock._waiters) == 1
        abandon_first(waiting, how)
    assert await result(task)
    assert not condition.locked()


@abandoned
@pytest.mark.usefixtures("mended")
async def test_the_lock_passes_a_waiter_that_takes_it_back(Condition, how):
    condition = Condition()
    await condition.acquire()
    waiting = [condition.wait()]
    waiting[0].send(None)
    await condition.acquire()
    condition.notify()
    waiting[0].send(None)
    (task,) = await queue_up(condition)
    condition.release()
    abandon_first(waiting, how)
    await result(task)
    assert not condition.locked()
