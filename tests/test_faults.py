"""Faults that asyncio's locks and queues once had, each under the number of its issue.

Each test fails on locks, or queues, that have the fault.
"""

import asyncio
import gc
import sys
import weakref

import pytest
from conftest import IMPLEMENTATIONS, QUEUES, needs_refcounts
from helpers import by_hand, end, park, park_on, parked, queue_up, result, steps

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


# ---- Queues ----


@pytest.fixture(params=QUEUES)
def AnyQueue(implementation, request):
    return getattr(IMPLEMENTATIONS[implementation], request.param)


@pytest.fixture
def Shutdown(Queue):
    """Queue, if it has shutdown(): asyncio's has it from Python 3.13 on."""
    if not hasattr(Queue, "shutdown"):
        pytest.skip("asyncio's queues cannot be shut down before Python 3.13")
    return Queue


async def end_with(tasks, error):
    await end(*tasks)
    assert [type(task.exception()).__name__ for task in tasks] == [error] * len(tasks)


# ---- bpo-21723: maxsize was to be an int ----


async def test_bpo_21723_a_size_between_two_numbers(AnyQueue):
    queue = AnyQueue(1.5)
    queue.put_nowait(1)
    assert not queue.full()
    queue.put_nowait(2)
    assert queue.full()
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait(3)
    (task,) = await park(lambda: queue.put(3))
    assert len(queue._putters) == 1
    await queue.get()
    await result(task)


# ---- bpo-23812: the item was lost of a getter that was cancelled once it was woken ----


async def test_bpo_23812_the_item_of_a_cancelled_getter_stays(AnyQueue):
    queue = AnyQueue()
    (getter,) = await park(queue.get)
    queue.put_nowait("item")
    getter.cancel()
    await end(getter)
    assert getter.cancelled()
    assert queue.get_nowait() == "item"


async def test_bpo_23812_it_goes_to_the_next_getter_in_its_order(Queue):
    queue = Queue()
    cancelled, *others = await park(queue.get, 3)
    queue.put_nowait(1)
    cancelled.cancel()
    queue.put_nowait(2)
    assert [await result(task) for task in others] == [1, 2]
    assert queue.empty()


async def test_bpo_23812_timed_out_in_the_step_in_which_an_item_comes(Queue):
    """Also gh-92824, which asks whether that can happen, and python/asyncio#201."""
    queue, timeout = Queue(), asyncio.timeout(None)

    async def get():
        async with timeout:
            return await queue.get()

    task = asyncio.create_task(get())
    await asyncio.sleep(0)
    timeout.reschedule(asyncio.get_running_loop().time())
    queue.put_nowait("item")
    await end(task)
    with pytest.raises(TimeoutError):
        task.result()
    assert queue.get_nowait() == "item"


# ---- python/asyncio#235: put() of these two did not count unfinished tasks ----


@pytest.mark.parametrize("put", ["put", "put_nowait"])
async def test_asyncio_235_join_waits_for_what_was_put(AnyQueue, put):
    queue = AnyQueue()
    for item in (1, 2):
        if put == "put":
            await queue.put(item)
        else:
            queue.put_nowait(item)
    (joiner,) = await park(queue.join)
    for _ in range(2):
        await steps()
        assert not joiner.done()
        queue.task_done()
    await result(joiner)


# ---- bpo-25233: an assertion failed, or all waited, where several waited to put ----


async def test_bpo_25233_several_slots_become_free_in_one_step(Queue):
    """python/asyncio#265"""
    queue = Queue(2)
    putters = [asyncio.create_task(queue.put(number)) for number in range(4)]
    await asyncio.sleep(0)
    assert [queue.get_nowait() for _ in range(2)] == [0, 1]
    await end(*putters)
    assert [queue.get_nowait() for _ in range(2)] == [2, 3]


@pytest.mark.parametrize("maxsize", [1, 2, 3, 4, 5, 0])
async def test_bpo_25233_a_producer_and_a_consumer(Queue, maxsize):
    """python/asyncio#268"""
    queue = Queue(maxsize)

    async def produce():
        for number in range(5):
            await queue.put(number)

    async def consume():
        return [await queue.get() for _ in range(5)]

    tasks = [asyncio.create_task(produce()), asyncio.create_task(consume())]
    await end(*tasks)
    assert tasks[1].result() == [0, 1, 2, 3, 4]


async def test_bpo_25233_a_woken_putter_is_cancelled(Queue):
    queue = Queue(1)
    queue.put_nowait(1)
    putters = [asyncio.create_task(queue.put(number)) for number in (2, 3)]
    await asyncio.sleep(0)
    assert queue.get_nowait() == 1
    putters[0].cancel()
    await end(*putters)
    assert putters[0].cancelled()
    assert queue.get_nowait() == 3


# ---- bpo-31620, bpo-32574: the waiters that had been cancelled stayed in the queue ----


async def test_bpo_31620_no_cancelled_getter_is_kept(AnyQueue):
    queue = AnyQueue()
    cancelled, *others = await park(queue.get, 3)
    cancelled.cancel()
    await end(cancelled)
    assert len(queue._getters) == 2
    for task in others:
        task.cancel()
    await end(*others)
    assert not queue._getters


async def test_bpo_32574_no_cancelled_putter_is_kept(AnyQueue):
    queue = AnyQueue(1)
    queue.put_nowait(1)
    cancelled, *others = await park(lambda: queue.put(2), 3)
    cancelled.cancel()
    await end(cancelled)
    assert len(queue._putters) == 2
    for task in others:
        task.cancel()
    await end(*others)
    assert not queue._putters


@needs_refcounts
async def test_bpo_32574_the_item_of_a_cancelled_putter_is_freed(AnyQueue):
    class Item:
        pass

    queue = AnyQueue(1)
    queue.put_nowait(1)
    item = Item()
    seen = weakref.ref(item)
    task = asyncio.create_task(queue.put(item))
    await asyncio.sleep(0)
    task.cancel()
    await end(task)
    del task, item
    await asyncio.sleep(0)
    gc.collect()
    assert seen() is None


# ---- bpo-42392: a queue that was made before its event loop belonged to another one ----


def test_bpo_42392_a_queue_made_before_the_loop(AnyQueue):
    queue = AnyQueue(1)

    async def main():
        getter = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.put_nowait(1)
        return await getter

    assert asyncio.run(main()) == 1


# ---- gh-108042: does a woken waiter wake the next one if it ends by another exception? ----


@abandoned
async def test_gh_108042_a_getter_that_was_woken_ends(AnyQueue, how):
    queue = AnyQueue()
    waiting = [parked(queue.get())[0] for _ in range(3)]
    (task,) = await park(queue.get)
    queue.put_nowait("item")
    while waiting:
        abandon_first(waiting, how)
    assert await result(task) == "item"


@abandoned
async def test_gh_108042_a_putter_that_was_woken_ends(AnyQueue, how):
    queue = AnyQueue(1)
    queue.put_nowait(1)
    waiting = [parked(queue.put(2))[0] for _ in range(3)]
    (task,) = await park(lambda: queue.put(3))
    queue.get_nowait()
    while waiting:
        abandon_first(waiting, how)
    await result(task)
    assert queue.get_nowait() == 3


@abandoned
async def test_gh_108042_another_has_put_before_it_ends(Queue, how):
    """The putter finds a queue that is full again: the next one is woken by the next get()."""
    queue = Queue(1)
    queue.put_nowait(1)
    waiting = [parked(queue.put(2))[0]]
    second, future = parked(queue.put(3))
    queue.get_nowait()
    queue.put_nowait(4)
    abandon_first(waiting, how)
    assert not future.done()
    assert queue.get_nowait() == 4
    assert by_hand(second) is None
    assert queue.get_nowait() == 3


# ---- gh-117531: queue.Queue's shutdown() left those who wait to get, which asyncio's must not ----


@pytest.mark.parametrize("immediate", [False, True])
async def test_gh_117531_all_are_woken(Shutdown, immediate):
    empty, full = Shutdown(), Shutdown(1)
    full.put_nowait(1)
    getters = await park(empty.get, 3)
    putters = await park(lambda: full.put(2), 3)
    for queue in (empty, full):
        queue.shutdown(immediate=immediate)
    await end_with(getters, "QueueShutDown")
    await end_with(putters, "QueueShutDown")
    assert full.empty() == immediate


async def test_gh_117531_more_getters_were_woken_than_there_are_items(Shutdown):
    queue = Shutdown()
    getters = await park(queue.get, 3)
    queue.put_nowait("item")
    queue.shutdown()
    assert await result(getters[0]) == "item"
    await end_with(getters[1:], "QueueShutDown")


@pytest.mark.parametrize("taken", [0, 1])
async def test_gh_137088_an_immediate_shutdown_ends_join_unless_an_item_is_worked_on(
    Shutdown, taken
):
    queue = Shutdown()
    for item in (1, 2):
        queue.put_nowait(item)
    for _ in range(taken):
        queue.get_nowait()
    (joiner,) = await park(queue.join)
    queue.shutdown(immediate=True)
    await steps()
    assert joiner.done() == (not taken)
    for _ in range(taken):
        queue.task_done()
    await result(joiner)
    with pytest.raises(ValueError, match="called too many times"):
        queue.task_done()


# ---- gh-83055, which is open: aiofastlock's queues do as asyncio's ----


async def test_gh_83055_a_newcomer_puts_before_the_putter_that_was_woken(Queue):
    queue = Queue(2)
    for item in (1, 2):
        queue.put_nowait(item)
    (putter,) = await park(lambda: queue.put(3))
    assert [queue.get_nowait() for _ in range(2)] == [1, 2]
    queue.put_nowait(4)
    await result(putter)
    assert [queue.get_nowait() for _ in range(2)] == [4, 3]


async def test_gh_83055_a_putter_that_comes_too_late_waits_behind_all_others(Queue):
    queue = Queue(1)
    queue.put_nowait(1)
    putters = [asyncio.create_task(queue.put(number)) for number in (2, 3)]
    await asyncio.sleep(0)
    assert queue.get_nowait() == 1
    queue.put_nowait(4)
    await steps()
    got = [await queue.get() for _ in range(3)]
    await end(*putters)
    assert got == [4, 3, 2]
