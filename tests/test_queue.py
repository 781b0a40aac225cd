"""Queue, LifoQueue and PriorityQueue: what test_cpython and the random programs leave out."""

import asyncio
import collections
import contextlib
import copy
import functools
import gc
import heapq
import pickle
import random
import subprocess
import sys
import weakref

import oracle
import pytest
from conftest import OURS, QUEUES, needs_compiled, needs_refcounts
from helpers import (
    COPIES,
    abandon,
    abandoned_or_cancelled,
    by_hand,
    end,
    on_interrupted_loop,
    parked,
    steps,
)

import aiofastlock
from aiofastlock import QueueEmpty, QueueFull, QueueShutDown, _pure

ORACLES = {"asyncio": oracle, **OURS}


@pytest.fixture(params=ORACLES)
def module(request):
    return ORACLES[request.param]


@pytest.fixture(params=QUEUES)
def Any(request, module):
    return getattr(module, request.param)


@pytest.fixture
def Queue(module):
    return module.Queue


@pytest.fixture(params=OURS)
def Own(request):
    return OURS[request.param].Queue


def test_the_exceptions_are_asyncios():
    assert QueueEmpty is asyncio.QueueEmpty
    assert QueueFull is asyncio.QueueFull
    assert QueueShutDown is getattr(asyncio, "QueueShutDown", QueueShutDown)


@pytest.mark.parametrize("name", QUEUES)
def test_they_are_subclasses_of_asyncios(name):
    for module in OURS.values():
        queue = getattr(module, name)()
        assert isinstance(queue, getattr(asyncio, name))
        assert isinstance(queue, module.Queue)
        assert getattr(module, name)[int].__origin__ is getattr(module, name)


# ---- Items ----


def test_order(module):
    orders = {"Queue": [2, 3, 1], "LifoQueue": [1, 3, 2], "PriorityQueue": [1, 2, 3]}
    for name, expected in orders.items():
        queue = getattr(module, name)()
        for item in (2, 3, 1):
            queue.put_nowait(item)
        assert [queue.get_nowait() for _ in range(3)] == expected


@pytest.mark.parametrize("item", [None, (), (1, 2), StopIteration(3), NotImplemented], ids=repr)
async def test_any_item(Queue, item):
    queue = Queue()
    await queue.put(item)
    assert await queue.get() is item
    task = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put_nowait(item)
    assert await task is item
    queue.put_nowait(item)
    assert by_hand(queue.get()) is item


@needs_refcounts
async def test_no_item_is_kept(Any):
    class Item:
        def __lt__(self, other):
            return False

    queue = Any(1)
    for _ in range(3):
        item = Item()
        seen = weakref.ref(item)
        await queue.put(item)
        assert await queue.get() is item
        queue.put_nowait(item)
        assert queue.get_nowait() is item
        task = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.put_nowait(item)
        assert await task is item
        del item, task
        await asyncio.sleep(0)
        assert seen() is None
    refused = queue.put(Item())
    seen = weakref.ref(queue)
    queue.put_nowait(Item())
    _, future = parked(refused)
    assert future is not None
    refused.close()
    del queue, refused
    assert seen() is None


@pytest.mark.parametrize("maxsize", [0, -1, 1, 2, 2.5, True, 10**30, -(10**30), 2**63, -(2**63)])
def test_sizes(Any, maxsize):
    for queue in (Any(maxsize), Any(maxsize=maxsize)):
        assert queue.maxsize == maxsize
        assert type(queue.maxsize) is type(maxsize)
        for _ in range(4):
            with contextlib.suppress(QueueFull):
                queue.put_nowait(1)
        assert queue.qsize() == (4 if maxsize <= 0 or maxsize > 4 else -int(-maxsize // 1))
        assert queue.full() is (0 < maxsize < 4)


@pytest.mark.parametrize("maxsize", [None, "1", []])
def test_a_size_that_cannot_be_compared(Any, maxsize):
    queue = Any(maxsize)
    with pytest.raises(TypeError, match="'<=' not supported between instances of"):
        queue.full()
    with pytest.raises(TypeError, match="'<=' not supported between instances of"):
        queue.put_nowait(1)
    assert queue.empty()


def test_too_many_arguments(Any):
    for arguments in ((1, 2), (1, 2, 3)):
        with pytest.raises(TypeError):
            Any(*arguments)
    with pytest.raises(TypeError):
        Any(size=1)
    queue = Any()
    for call in (queue.put_nowait, lambda: queue.get_nowait(1), lambda: queue.put(1, 2)):
        with pytest.raises(TypeError):
            call()
    queue.put_nowait(item=1)
    assert by_hand(queue.get()) == 1


def test_task_done_too_often(Any):
    queue = Any()
    queue.put_nowait(1)
    queue.task_done()
    with pytest.raises(ValueError, match=r"^task_done\(\) called too many times$"):
        queue.task_done()


def test_initialised_again(Any):
    queue = Any(1)
    queue.put_nowait(1)
    queue.shutdown()
    queue.__init__(3)
    assert (queue.maxsize, queue.qsize(), queue._unfinished_tasks) == (3, 0, 0)
    queue.put_nowait(1)


# ---- Waiters ----


@abandoned_or_cancelled
async def test_an_item_whose_getter_ends_stays_first(Queue, how):
    queue = Queue()
    first, _ = parked(queue.get())
    second, future = parked(queue.get())
    queue.put_nowait(1)
    queue.put_nowait(2)
    assert future.done()
    abandon(first, how)
    del first
    assert by_hand(second) == 1
    assert by_hand(queue.get()) == 2
    assert queue.empty()


@abandoned_or_cancelled
async def test_a_turn_is_handed_on(Queue, how):
    queue = Queue(1)
    first, _ = parked(queue.get())
    second, future = parked(queue.get())
    queue.put_nowait(1)
    assert not future.done()
    abandon(first, how)
    del first
    assert future.done()
    assert by_hand(second) == 1
    queue.put_nowait(2)
    first, _ = parked(queue.put(3))
    second, future = parked(queue.put(4))
    queue.get_nowait()
    abandon(first, how)
    del first
    assert future.done()
    assert by_hand(second) is None
    assert queue.get_nowait() == 4


@abandoned_or_cancelled
async def test_a_parked_waiter_that_ends_is_cancelled(Queue, how):
    queue = Queue()
    waiter, future = parked(queue.get())
    abandon(waiter, how)
    del waiter
    assert future.cancelled()
    assert not queue._getters


async def test_a_newcomer_may_take_the_item_of_a_woken_getter(Queue):
    queue = Queue()
    first, _ = parked(queue.get())
    second, _ = parked(queue.get())
    queue.put_nowait(1)
    assert by_hand(queue.get()) == 1
    again = first.send(None)  # behind the second now
    assert list(queue._getters)[1] is again
    queue.put_nowait(2)
    assert by_hand(second) == 2
    assert not again.done()
    first.close()


async def test_a_woken_putter_may_find_the_queue_full(Queue):
    queue = Queue(1)
    queue.put_nowait(1)
    first, _ = parked(queue.put(2))
    assert queue.get_nowait() == 1
    queue.put_nowait(3)
    assert not first.send(None).done()
    assert queue.get_nowait() == 3
    assert by_hand(first) is None
    assert queue.get_nowait() == 2


async def test_a_cancelled_getter_is_passed_over(Queue):
    queue = Queue()
    tasks = [asyncio.create_task(queue.get()) for _ in range(4)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[1].cancel()
    assert len(queue._getters) == 4
    queue.put_nowait(1)
    assert len(queue._getters) == 1
    await end(*tasks[:3])
    assert tasks[2].result() == 1
    queue.put_nowait(2)
    assert await tasks[3] == 2


async def test_others_set_the_future(Queue):
    queue = Queue()
    waiter, future = parked(queue.get())
    future.set_result("by hand")
    assert not waiter.send(None).done()  # there is still no item
    queue.put_nowait(1)
    assert by_hand(waiter) == 1
    waiter, future = parked(queue.get())
    future.set_exception(KeyError("by hand"))
    with pytest.raises(KeyError):
        waiter.send(None)
    queue.put_nowait(2)
    assert queue.get_nowait() == 2
    waiter, future = parked(queue.get())
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        waiter.send(None)
    assert future.cancelled()


async def test_a_woken_awaitable_is_used_up(Any):
    queue = Any()
    for waiter in (queue.put(1), queue.get()):
        with contextlib.suppress(StopIteration):
            waiter.send(None)
        for call, argument in ((waiter.send, None), (waiter.throw, KeyError)):
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                call(argument)
        waiter.close()


def collected(call):
    call()
    gc.collect()


@pytest.mark.parametrize("method", ["get", "put"])
def test_never_awaited(Own, method):
    queue = Own()
    call = functools.partial(getattr(queue, method), *[1] * (method == "put"))
    with pytest.warns(RuntimeWarning, match=f"coroutine 'Queue.{method}' was never awaited"):
        collected(call)
    assert queue.empty()


async def test_join(Queue):
    queue = Queue()
    await queue.join()
    queue.put_nowait(1)
    tasks = [asyncio.create_task(queue.join()) for _ in range(2)]
    await steps()
    assert not any(task.done() for task in tasks)
    queue.put_nowait(2)
    for _ in range(2):
        assert not queue._finished.is_set()
        await queue.get()
        queue.task_done()
    assert queue._finished.is_set()
    assert await asyncio.gather(*tasks) == [None, None]


@pytest.mark.parametrize("immediate", [False, True])
async def test_shutdown(Queue, immediate):
    queue = Queue(1)
    queue.put_nowait(1)
    putter, joiner = [asyncio.create_task(wait()) for wait in (lambda: queue.put(2), queue.join)]
    await asyncio.sleep(0)
    queue.shutdown(immediate=immediate)
    queue.shutdown(immediate)
    assert str(queue).endswith(" shutdown>")
    await end(putter)
    assert type(putter.exception()) is QueueShutDown
    if not immediate:
        assert await queue.get() == 1
        assert not joiner.done()
        queue.task_done()
    await end(joiner)
    for call in (queue.get_nowait, lambda: queue.put_nowait(1)):
        with pytest.raises(QueueShutDown):
            call()
    for wait in (queue.get, lambda: queue.put(1)):
        with pytest.raises(QueueShutDown):
            await wait()


# ---- Event loops ----


def test_another_loop(Queue, other_loop):
    queue = Queue(1)

    async def wait():
        return asyncio.create_task(queue.get())

    async def refuse():
        with pytest.raises(RuntimeError, match="is bound to a different event loop"):
            await queue.get()
        queue.put_nowait(1)  # works anywhere
        return queue.get_nowait()

    with asyncio.Runner() as runner:
        task = runner.run(wait())
        assert other_loop.run_until_complete(refuse()) == 1
        task.cancel()
        runner.run(end(task))


def test_a_loop_that_is_closed(Own):
    queue = Own(1)

    async def leave_behind():
        futures = [parked(queue.get()), parked(queue.get())]
        queue.put_nowait(0)
        return futures

    loop = asyncio.new_event_loop()
    left = loop.run_until_complete(leave_behind())
    loop.close()

    async def go_on():
        assert await queue.get() == 0
        task = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        assert len(queue._getters) == 1
        await queue.put(1)
        return await task

    assert asyncio.run(go_on()) == 1
    for waiter, _ in left:
        waiter.close()
    assert queue.empty()


def test_no_error_if_a_getter_is_dropped_after_its_loop(Own):
    """asyncio's cancels its future, whose callbacks cannot be called: "Event loop is closed"."""
    queue = Own()
    loop = asyncio.new_event_loop()

    async def park():
        getter, future = parked(queue.get())
        future.add_done_callback(print)
        return getter

    getter = loop.run_until_complete(park())
    loop.close()
    getter.close()
    assert not queue._getters


def test_no_error_if_getters_are_dropped_after_their_loop(Own):
    """In any order: nobody wakes what has left from the middle."""
    queue = Own()
    loop = asyncio.new_event_loop()

    async def park():
        waiters = [parked(queue.get()) for _ in range(3)]
        for _, future in waiters:
            future.add_done_callback(print)
        return [getter for getter, _ in waiters]

    first, second, third = loop.run_until_complete(park())
    loop.close()
    for getter in (second, first, third):
        getter.close()
    queue.put_nowait(1)
    assert queue.get_nowait() == 1


# ---- Subclasses, patches and private attributes ----


async def test_who_left_is_not_seen(Queue):
    queue = Queue()
    getters = [parked(queue.get()) for _ in range(5)]
    getters[2][0].close()
    assert list(queue._getters) == [getters[number][1] for number in (0, 1, 3, 4)]
    assert len(queue._getters) == 4
    assert "_getters[4]" in repr(queue)
    assert getters[2][1] not in queue._getters
    for _ in range(2):
        queue.put_nowait(1)
    getters[4][0].close()
    queue.put_nowait(1)
    assert [future.done() for _, future in getters] == [True] * 5
    assert not queue._getters
    for number in (0, 1, 3):
        assert by_hand(getters[number][0]) == 1


LOOKS = [
    list,
    len,
    repr,
    copy.copy,
    collections.deque.copy,
    reversed,
    lambda waiters: waiters[-1],
    lambda waiters: waiters.index(waiters[len(waiters) // 2]),
    lambda waiters: waiters.count(waiters[-1]),
    lambda waiters: waiters == collections.deque(waiters),
    lambda waiters: waiters + collections.deque("a"),
]
CHANGES = [
    collections.deque.pop,
    collections.deque.reverse,
    lambda waiters: waiters.rotate(2),
    lambda waiters: waiters.extend([waiters.pop(), "new"]),
    lambda waiters: waiters.insert(1, 1),
    lambda waiters: waiters.appendleft(waiters[-1]),
    lambda waiters: waiters.__delitem__(-1),
    lambda waiters: waiters.remove(waiters[-1]),
]


def test_a_pure_parking_lot_is_a_deque():
    lot_class, thinned = _pure.queue.Parked, _pure.queue.Thinned
    classes = set()
    for seed in range(400):
        pick = random.Random(seed)
        lot, model, left = lot_class(), collections.deque(), [object()]
        for _ in range(pick.randrange(80)):
            step = pick.choice(["append", "append", "leave", "leave", "popleft", "look", "change"])
            if step == "append":
                waiter = pick.choice([object(), object(), left[-1]])
                if waiter not in model:
                    lot.append(waiter)
                    model.append(waiter)
            elif step == "leave":
                waiter = pick.choice([*model, left[-1]])
                lot.leave(waiter)
                if waiter in model:
                    model.remove(waiter)
                left.append(waiter)
            elif step == "popleft" and model:
                assert lot.popleft() is model.popleft()
            elif step == "look" and model and pick.random() < 0.5:
                look, seen_as = pick.choice(LOOKS), type(lot)
                assert as_of_a_deque(look(lot)) == as_of_a_deque(look(model))
                assert type(lot) is seen_as  # another thread may look
            elif step == "change" and model and pick.random() < 0.2:
                change = pick.choice(CHANGES)
                change(lot)
                change(model)
                model = collections.deque(dict.fromkeys(model))  # each waiter is there once
                lot = lot_class(model)
            assert bool(lot) is bool(model)
            classes.add(type(lot))
        assert list(lot) == list(model)
    assert classes == {lot_class, thinned}


def test_methods_of_a_pure_parking_lot_that_were_bound_before():
    lot = _pure.queue.Parked("abcde")
    lot.leave("c")
    append, popleft, reverse, copied = lot.append, lot.popleft, lot.reverse, lot.copy
    lot.rotate(0)
    assert type(lot) is _pure.queue.Parked
    append("f")
    assert popleft() == "a"
    reverse()
    assert list(copied()) == list(lot) == ["f", "e", "d", "b"]


def as_of_a_deque(found):
    if isinstance(found, str):
        return found.partition("(")[2]
    return list(found) if hasattr(found, "__iter__") else found


def test_a_pure_parking_lot_has_all_methods_of_a_deque():
    seen_by_none = {"__class_getitem__", "__hash__", "__init__", "__new__", "__weakref__", "maxlen"}
    seen_by_none |= {"__getattribute__", "__sizeof__"}
    own = vars(_pure.queue.Thinned).keys()
    assert vars(collections.deque).keys() - own <= seen_by_none


@pytest.mark.skipif(sys.implementation.name == "pypy", reason="it has no set_nomemory()")
def test_a_pure_parking_lot_without_memory():
    pytest.importorskip("_testcapi")
    code = """
from _testcapi import remove_mem_hooks, set_nomemory
from aiofastlock._pure.queue import Parked

failures = 0
for start in range(40):
    lot = Parked(range(200))
    lot.leave(100)
    try:
        set_nomemory(start, start + 1)
        lot.rotate(0)
    except MemoryError:
        failures += 1
    finally:
        remove_mem_hooks()
    assert list(lot) == [*range(100), *range(101, 200)], start
assert failures > 5, failures
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=250)


def test_the_documented_hooks(module):
    class Unique(module.Queue):
        def _init(self, maxsize):
            self._queue = {}

        def _put(self, item):
            self._queue[item] = None

        def _get(self):
            item = next(iter(self._queue))
            del self._queue[item]
            return item

    async def main():
        queue = Unique(2)
        for item in (1, 1, 2):
            await queue.put(item)
        assert queue.full()
        assert repr(queue).endswith(" maxsize=2 _queue=[1, 2] tasks=3>")
        task = asyncio.create_task(queue.put(3))
        await asyncio.sleep(0)
        assert await queue.get() == 1
        await task
        assert [await queue.get(), queue.get_nowait()] == [2, 3]

    asyncio.run(main())


@pytest.mark.parametrize(
    "method", ["put", "get", "put_nowait", "get_nowait", "qsize", "full", "empty"]
)
@pytest.mark.parametrize("where", ["subclass", "instance"])
async def test_an_override_is_called(Any, method, where):
    called = []
    cls = type("Sub", (Any,), {})
    queue = cls(1)
    original = getattr(queue, method)

    def override(*arguments):
        called.append(method)
        return original(*arguments)

    if where == "instance":
        setattr(queue, method, override)
    else:
        setattr(cls, method, lambda self, *arguments: override(*arguments))
    await queue.put(1)
    assert await queue.get() == 1
    getter = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    await queue.put(2)
    assert await getter == 2
    assert len(called) == 2 or (len(called) > 2 and method in ("qsize", "full", "empty"))


async def test_items_put_while_one_is_put(module):
    class Doubling(module.Queue):
        def _put(self, item):
            super()._put(item)
            if item > 0:
                self.put_nowait(item - 1)

    queue = Doubling()
    getters = [asyncio.create_task(queue.get()) for _ in range(4)]
    await asyncio.sleep(0)
    queue.put_nowait(2)
    await steps(2)
    assert [getter.done() for getter in getters] == [True, True, True, False]
    assert queue._unfinished_tasks == 3
    getters[-1].cancel()


async def test_items_can_be_reached(Queue):
    queue = Queue()
    for item in range(5):
        queue.put_nowait(item)
    assert queue._queue[1] == 1
    assert type(queue._queue) is collections.deque
    del queue._queue[1]
    random.shuffle(queue._queue)
    queue._queue.appendleft("first")
    assert queue.get_nowait() == "first"
    queue._queue = collections.deque([7, 8])
    assert queue.qsize() == 2
    assert await queue.get() == 7
    queue._queue.clear()
    assert queue.empty()
    queue._queue = [1]  # has no popleft()
    assert queue.qsize() == 1
    with pytest.raises(AttributeError, match="popleft"):
        queue.get_nowait()


async def test_waiters_can_be_replaced(Queue):
    queue = Queue()
    before, _ = parked(queue.get())
    queue._getters = collections.deque()
    after, future = parked(queue.get())
    assert list(queue._getters) == [future]
    queue.put_nowait(1)
    assert not queue._getters
    assert by_hand(after) == 1
    before.close()


async def test_waiters_can_be_taken_out(Queue):
    queue = Queue()
    first, future = parked(queue.get())
    second, _ = parked(queue.get())
    assert queue._getters.popleft() is future
    queue.put_nowait(1)
    assert by_hand(second) == 1
    future.set_result(None)
    queue.put_nowait(2)
    assert by_hand(first) == 2


async def test_numbers_can_be_assigned(Queue):
    queue = Queue()
    queue.put_nowait(1)
    joiner = asyncio.create_task(queue.join())
    await asyncio.sleep(0)
    queue._unfinished_tasks = 2
    queue.task_done()
    await steps()
    assert not joiner.done()
    queue._finished.set()
    await joiner
    queue._unfinished_tasks = 0
    queue._maxsize = 1
    assert queue.full()


async def test_patched_while_a_getter_waits(Any):
    queue = Any()
    getter = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue._get = lambda: "patched"
    queue.put_nowait(1)
    assert await getter == "patched"
    del queue._get
    assert queue.get_nowait() == 1


def test_no_super_init(Own):
    class Sub(Own):
        def __init__(self):
            pass

    queue = Sub()
    if Own is _pure.Queue:  # as asyncio's
        with pytest.raises(AttributeError, match="_is_shutdown"):
            queue.put_nowait(1)
    else:
        queue.put_nowait(1)
        assert queue.get_nowait() == 1


# ---- Comparisons of a PriorityQueue's items ----


class Weird:
    def __init__(self, number, act):
        self.number, self.act = number, act

    def __lt__(self, other):
        self.act()
        return self.number < other.number


def test_items_that_cannot_be_compared(module):
    queue = module.PriorityQueue()
    queue.put_nowait(1)
    with pytest.raises(TypeError, match="'<' not supported"):
        queue.put_nowait("a")
    assert queue.qsize() == 2  # as heapq leaves it
    assert queue._unfinished_tasks == 1


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="heapq does not notice it there")
def test_a_comparison_comes_back_into_the_queue(module):
    queue = module.PriorityQueue()
    acts = [functools.partial(queue.put_nowait, Weird(0, list))]

    def act():
        if acts:
            acts.pop()()

    queue.put_nowait(Weird(5, act))
    with pytest.raises(RuntimeError, match="list changed size during iteration"):
        queue.put_nowait(Weird(3, act))
    assert queue.qsize() == 3  # as heapq leaves it
    assert queue._unfinished_tasks == 2
    acts.append(queue.qsize)
    assert {queue.get_nowait().number for _ in range(3)} == {0, 3, 5}
    assert queue.empty()


def test_priorities(module):
    queue = module.PriorityQueue()
    numbers = random.sample(range(1000), 300)
    for number in numbers:
        queue.put_nowait(number)
    assert queue._queue[0] == min(numbers)
    heapq.heapify(queue._queue)
    assert [queue.get_nowait() for _ in numbers] == sorted(numbers)


# ---- Code that runs in the middle of a step ----


def test_an_item_comes_while_the_future_is_made(Own):
    async def main():
        queue = Own()
        loop = asyncio.get_running_loop()
        loop.in_create_future = lambda: queue.put_nowait(1)
        return await asyncio.wait_for(queue.get(), 1)

    assert on_interrupted_loop(main) == 1


def test_a_slot_becomes_free_while_the_future_is_made(Own):
    async def main():
        queue = Own(1)
        queue.put_nowait(1)
        asyncio.get_running_loop().in_create_future = queue.get_nowait
        await asyncio.wait_for(queue.put(2), 1)
        return queue.get_nowait()

    assert on_interrupted_loop(main) == 2


def test_a_shutdown_while_the_future_is_made(Own):
    async def main():
        queue = Own()
        asyncio.get_running_loop().in_create_future = queue.shutdown
        with pytest.raises(QueueShutDown):
            await asyncio.wait_for(queue.get(), 1)

    on_interrupted_loop(main)


def test_a_put_while_a_getter_is_woken(Own):
    async def main():
        queue = Own()
        getters = [asyncio.create_task(queue.get()) for _ in range(2)]
        await asyncio.sleep(0)
        next(iter(queue._getters)).in_set_result = lambda: queue.put_nowait(2)
        queue.put_nowait(1)
        return await asyncio.gather(*getters)

    assert sorted(on_interrupted_loop(main)) == [1, 2]


def test_a_wake_up_that_fails(Own):
    async def main():
        queue = Own()
        getter = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        (future,) = queue._getters

        def fail():
            raise MemoryError

        future.in_set_result = fail
        with pytest.raises(MemoryError):
            queue.put_nowait(1)
        assert list(queue._getters) == [future]  # the next item wakes it
        queue.put_nowait(2)
        return await getter

    assert on_interrupted_loop(main) == 1


# ---- Copies and memory ----


@pytest.mark.parametrize("name", QUEUES)
@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_copies(module, name, duplicate, monkeypatch):
    if module is oracle:
        pytest.skip("the oracle is not importable")
    for each in QUEUES:
        monkeypatch.setattr(aiofastlock, each, getattr(module, each))
    monkeypatch.setattr(aiofastlock, "Event", module.Event)
    queue = getattr(module, name)(3)
    queue.put_nowait(1)
    queue.put_nowait(2)
    queue.get_nowait()
    queue.task_done()
    queue.attribute = "kept"
    copied = duplicate(queue)
    assert str(copied) == str(queue)
    assert (copied.attribute, copied._unfinished_tasks) == ("kept", 1)
    assert not copied._finished.is_set()
    copied.task_done()
    assert copied._finished.is_set()


def test_no_copy_while_a_task_waits(Own):
    async def main():
        queue = Own()
        task = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        with pytest.raises(TypeError, match="that tasks wait for"):
            copy.copy(queue)
        with pytest.raises(TypeError, match="that tasks wait for"):
            pickle.dumps(queue)
        task.cancel()

    asyncio.run(main())


@needs_compiled
def test_size():
    for name in QUEUES:
        queue = getattr(aiofastlock, name)()
        overhead = 16 if sys.implementation.name == "cpython" else 0  # of the garbage collector
        assert sys.getsizeof(queue) <= 240 - overhead
        assert not gc.get_referents(queue) or all(
            found is None or isinstance(found, type) for found in gc.get_referents(queue)
        )


@needs_refcounts
@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_getter_that_nothing_refers_to_is_collected(Own, is_frozen):
    """Also if gc.freeze() hid its awaitable from the collector while that was a spare."""

    async def program():
        queue = Own()
        queue.put_nowait(1)
        await queue.get()
        if is_frozen:
            gc.freeze()
        waiting = asyncio.Task(Own().get())  # nothing else refers to it, or to its queue
        await asyncio.sleep(0)
        waiting, seen = None, weakref.ref(waiting)
        gc.collect()
        await steps()  # the end of get() has woken the task once more
        gc.collect()
        return seen()

    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: None)
        assert runner.run(program()) is None


@needs_refcounts
def test_cycles_are_collected(Any):
    class Item:
        def __lt__(self, other):
            return False

    queue, item = Any(), Item()
    item.queue = queue
    queue.put_nowait(item)
    seen = weakref.ref(item)
    del queue, item
    gc.collect()
    assert seen() is None


@needs_refcounts
def test_a_parked_task_that_nothing_else_refers_to_is_kept(Any):
    async def main():
        queue, seen = Any(), []

        async def get():
            seen.append(await queue.get())

        task = asyncio.Task(get(), loop=asyncio.get_running_loop())
        await asyncio.sleep(0)
        del task
        gc.collect()
        queue.put_nowait(1)
        await steps()
        return seen

    assert asyncio.run(main()) == [1]


def test_no_queue_is_searched(Own):
    """The number of comparisons of futures is no measure: count steps of a trace instead."""
    count = 300

    async def main(total):
        queue = Own()
        tasks = [asyncio.create_task(queue.get()) for _ in range(total)]
        await asyncio.sleep(0)
        random.Random(1).shuffle(tasks)
        calls = 0

        def note(*_):
            nonlocal calls
            calls += 1

        for task in tasks:
            task.cancel()
        sys.setprofile(note)
        await asyncio.wait(tasks)
        sys.setprofile(None)
        assert not queue._getters
        return calls

    few, many = asyncio.run(main(count)), asyncio.run(main(4 * count))
    assert many < 5 * few
