"""What aiofastlock.watch finds, and what it must not find.

Each shape of a hang has a sound twin, in which nothing may be reported. No test asks a clock: the
thread that looks every so often does not run, and the tests take its look at times of their own.
"""

import asyncio
import collections
import contextlib
import functools
import gc
import importlib
import io
import itertools
import json
import logging
import math
import os
import pickle
import re
import signal
import sys
import threading
import time
import weakref
from importlib.util import find_spec

import pytest
from conftest import OURS, SWITCHES, needs_compiled, needs_refcounts
from helpers import by_hand, park, parked, retrieve, steps

from aiofastlock import _internals, _pure, watch
from aiofastlock.watch import DeadlockError, _deadlocks, _order, _tasks, _watching

LOOKS = _watching.Watch.looks
LATER = 1000.0  # seconds, after which what still waits is stuck


class Watched:
    """The primitives of one implementation, and what the watch reports of them."""

    def __init__(self, name):
        self.module = OURS[name]
        self.records = []

    def __getattr__(self, name):
        return getattr(self.module, name)

    def texts(self):
        return [record.getMessage() for record in self.records]

    def kinds(self):
        """Return the kinds of what was reported, in order, and forget it."""
        kinds = [
            record.deadlock["kind"] if hasattr(record, "deadlock") else "stuck"
            for record in self.records
        ]
        self.records.clear()
        return kinds

    def look(self, later=0.0):
        _watching.watch.look(time.monotonic() + later)
        return self.kinds()


@pytest.fixture
def ours(our_name, monkeypatch):
    """An implementation that is not watched yet."""
    recorder = importlib.import_module(f"aiofastlock._{our_name}.{RECORDERS[our_name]}")
    monkeypatch.setattr(_tasks, "recorder", recorder)
    monkeypatch.setattr(_watching.Watch, "looks", lambda self: None)
    found = Watched(our_name)
    handler = logging.Handler()
    handler.emit = found.records.append
    logger = logging.getLogger("aiofastlock.watch")
    logger.addHandler(handler)
    monkeypatch.setattr(logger, "propagate", False)
    yield found
    watch.stop()
    logger.removeHandler(handler)
    assert not found.records, found.texts()


RECORDERS = {"pure": "recorder", "compiled": "_recorder"}


@pytest.fixture
def watched(ours):
    watch.start()
    return ours


@pytest.fixture
def raising(ours):
    watch.start(on_deadlock="raise")
    return ours


@contextlib.asynccontextmanager
async def running(*coroutines):
    """Run tasks until they wait. In the end, they are cancelled."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    for task in tasks:
        task.add_done_callback(retrieve)
    await steps(5)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# ---- A task that waits for what it holds ----


class Pool:
    """As in a client whose connections call back into the pool while it is locked."""

    def __init__(self, ours, callback=True):
        self._lock = ours.Lock()
        self.callback = callback

    async def get(self):
        async with self._lock:
            if self.callback:
                await self.on_connect()

    async def on_connect(self):
        await self.release()

    async def release(self):
        async with self._lock:
            pass


async def test_a_pool_that_is_locked_in_its_own_callback(watched):
    async with running(Pool(watched).get()) as (task,):
        (text,) = watched.texts()
        assert f"{task.get_name()} (Pool.get) waits for Lock Pool._lock, which it holds" in text
        assert "test_watch.py" in text
        assert "in Pool.release" in text
        assert watched.kinds() == ["self"]
        assert watched.look() == []  # it was reported
    await Pool(watched, callback=False).get()
    async with running(Pool(watched, callback=False).get()):
        assert watched.look(LATER) == []


@needs_refcounts
async def test_another_one_at_the_same_addresses(watched):
    """Each is reported, also if the memory of the one before is used again."""

    async def take_twice():
        lock = watched.Lock()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0), lock:
                await lock.acquire()

    for _ in range(10):
        await asyncio.create_task(take_twice())
        await asyncio.sleep(0)
        assert watched.kinds() == ["self"]


async def test_it_is_raised_and_the_lock_is_as_it_was(raising):
    pool = Pool(raising)
    with pytest.raises(DeadlockError, match="Pool._lock, which it holds itself") as caught:
        await pool.get()
    assert caught.value.deadlock.kind == "self"
    assert caught.value.deadlock.tasks == (asyncio.current_task(),)
    assert caught.value.deadlock.primitives == (pool._lock,)
    assert str(caught.value.deadlock) == str(caught.value)
    copied = pickle.loads(pickle.dumps(caught.value))  # as processes pass errors on
    assert (type(copied), str(copied)) == (RuntimeError, str(caught.value))
    assert not pool._lock.locked()
    assert not pool._lock._waiters
    await pool.release()
    assert watch.snapshot().primitives == ()


async def test_a_lock_as_a_gate(raising):
    """Another task may release a lock. From then on it is a signal."""
    gate = raising.Lock()
    await gate.acquire()

    async def open_it():
        gate.release()

    await asyncio.create_task(open_it())
    await gate.acquire()
    async with running(open_it()):
        await gate.acquire()
    async with running(gate.acquire()):
        assert raising.look(LATER) == []


async def test_released_by_another_task_in_python(watched):
    """Python's methods serve a lock whose queue a program has made."""
    lock = watched.Lock()
    lock._waiters = collections.deque()
    await lock.acquire()
    async with running(release(lock)):
        pass
    assert _tasks.recorder.released_by_others(lock)


async def release(lock):
    lock.release()


# ---- A circle of tasks and locks ----


async def take_both(first, second, step=None):
    async with first:
        await asyncio.sleep(0)
        if step is not None:
            await step.wait()
        async with second:
            pass


async def test_two_locks_in_both_orders(watched):
    one, other = watched.Lock(), watched.Lock()
    async with running(take_both(one, other), take_both(other, one)) as tasks:
        (text,) = watched.texts()
        assert "2 tasks wait for each other in a circle, with 2 locks" in text
        for task in tasks:
            assert f"{task.get_name()} (take_both), at " in text
        assert text.count("waits for Lock second, held for") == 2
        assert watched.kinds() == ["circle"]
        (deadlock,) = watch.snapshot().deadlocks
        assert set(deadlock.tasks) == set(tasks)
        assert set(deadlock.primitives) == {one, other}
        assert not deadlock.ends_by_timeout
        assert watched.look() == []


async def test_two_locks_in_one_order(watched):
    one, other = watched.Lock(), watched.Lock()
    await asyncio.gather(*(take_both(one, other) for _ in range(5)))
    assert watched.look(LATER) == []


async def test_the_task_that_closes_the_circle_gets_the_error(raising):
    one, other = raising.Lock(), raising.Lock()
    results = await asyncio.gather(
        take_both(one, other), take_both(other, one), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), DeadlockError]
    assert not one.locked()
    assert not other.locked()


async def test_who_joins_the_queue_of_a_circle_is_not_in_it(watched):
    one, other = watched.Lock(), watched.Lock()
    async with running(take_both(one, other), take_both(other, one)) as tasks:
        watched.kinds()
        async with running(take_both(one, other)):
            assert watched.kinds() == []
            assert watched.look() == []
            (deadlock,) = watch.snapshot().deadlocks
            assert set(deadlock.tasks) == set(tasks)


async def test_a_reader_that_reads_again_while_a_writer_waits(watched):
    """As in a lock for readers and writers, made of a turnstile and a lock."""
    turnstile, nobody_reads = watched.Lock(), watched.Lock()
    again = asyncio.Event()

    async def read(twice):
        async with turnstile:
            await nobody_reads.acquire()
        await again.wait()
        if twice:
            async with turnstile:
                pass
        nobody_reads.release()

    async def write():
        async with turnstile, nobody_reads:
            pass

    for twice in (False, True):
        async with running(read(twice), write()):
            assert watched.kinds() == []
            again.set()
            await steps()
            assert watched.kinds() == ["circle"] * twice
            again.clear()


async def test_a_circle_of_many(watched):
    locks = [watched.Lock() for _ in range(1000)]
    pairs = [take_both(one, other) for one, other in zip(locks, locks[1:] + locks[:1], strict=True)]
    async with running(*pairs):
        (text,) = watched.texts()
        assert "1,000 tasks wait for each other in a circle, with 1,000 locks" in text
        assert "and 990 more tasks" in text
        assert watched.kinds() == ["circle"]
        assert len(watch.snapshot().deadlocks[0].tasks) == 1000
        assert watched.look() == []


# ---- A circle through tasks ----


async def visit(lock, step=None):
    if step is not None:
        await step.wait()
    async with lock:
        pass


async def await_task(child):
    await asyncio.create_task(child)


async def await_gather(child):
    await asyncio.gather(asyncio.gather(child), asyncio.sleep(0))


async def await_wait(child):
    await asyncio.wait([asyncio.create_task(child)])


async def await_first(child):
    await asyncio.wait([asyncio.create_task(child)], return_when=asyncio.FIRST_COMPLETED)


async def await_group(child):
    async with asyncio.TaskGroup() as group:
        group.create_task(child)


async def await_shield(child):
    await asyncio.shield(asyncio.create_task(child))


async def await_wait_for(child):
    await asyncio.wait_for(asyncio.create_task(child), None)


needs_anyio = pytest.mark.skipif(
    not (find_spec("anyio") and find_spec("_ssl")), reason="needs anyio, which needs ssl"
)


async def await_anyio(child):
    import anyio

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: child)


AWAIT = pytest.mark.parametrize(
    "await_",
    [
        await_task,
        await_gather,
        await_wait,
        await_first,
        await_group,
        await_shield,
        await_wait_for,
        pytest.param(await_anyio, marks=needs_anyio),
    ],
)


async def hold_and_await(lock, await_, child):
    async with lock:
        await await_(child)


@AWAIT
async def test_a_parent_that_awaits_a_child_that_needs_its_lock(watched, await_):
    lock = watched.Lock()
    async with running(hold_and_await(lock, await_, visit(lock))) as (parent,):
        (text,) = watched.texts()
        assert "2 tasks wait for each other in a circle, with 1 lock" in text
        assert f"{parent.get_name()} (hold_and_await)" in text
        assert ", awaits " in text
        assert watched.kinds() == ["circle"]
        assert watched.look() == []
    await hold_and_await(lock, await_, visit(watched.Lock()))
    assert watched.look(LATER) == []


@AWAIT
async def test_a_parent_that_awaits_a_child_which_waits_already(watched, await_):
    lock = watched.Lock()
    step = asyncio.Event()

    async def parent():
        async with lock:
            task = asyncio.create_task(visit(lock))
            await step.wait()
            await await_(join(task))

    async def join(task):
        await task

    async with running(parent()):
        assert watched.look() == []
        step.set()
        await steps()
        assert watched.look() == ["circle"]
        assert watched.look() == []


async def test_a_parent_that_awaits_the_first_of_two(watched):
    lock, other = watched.Lock(), asyncio.Event()

    async def parent():
        async with lock:
            children = [asyncio.create_task(visit(lock)), asyncio.create_task(other.wait())]
            await asyncio.wait(children, return_when=asyncio.FIRST_COMPLETED)

    async with running(parent()) as (task,):
        assert watched.look() == []
        other.set()
        await task


async def test_a_parent_of_many(watched):
    """More children than are looked at when one begins to wait."""
    lock = watched.Lock()
    others = asyncio.Event()

    async def parent():
        async with lock, asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(others.wait())
            group.create_task(visit(lock, others))

    async with running(parent()) as (task,):
        assert watched.look() == []
        others.set()
        await steps()
        assert watched.kinds() == ["circle"]
        assert not task.done()


async def test_a_child_deep_below_many(watched):
    """What is not found at once is found by the look."""
    lock = watched.Lock()
    others = asyncio.Event()

    async def middle():
        await asyncio.create_task(visit(lock))

    async def parent():
        async with lock, asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(others.wait())
            group.create_task(middle())

    async with running(parent()):
        assert watched.kinds() + watched.look() == ["circle"]


# ---- Semaphores ----


async def nest(semaphore, count=2):
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(semaphore)
            await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])
async def test_tasks_that_hold_all_permits_and_want_more(watched, kind):
    semaphore = getattr(watched, kind)(3)
    async with running(nest(semaphore), nest(semaphore), nest(semaphore)) as tasks:
        (text,) = watched.texts()
        assert f"all permits of {kind} semaphore are held by tasks that wait for one" in text
        assert watched.kinds() == ["permits"]
        (deadlock,) = watch.snapshot().deadlocks
        assert set(deadlock.tasks) == set(tasks)
        assert watched.look() == []


async def test_a_permit_that_will_be_released(watched):
    semaphore = watched.Semaphore(3)
    async with running(nest(semaphore), nest(semaphore), nest(semaphore, 1)):
        pass
    step = asyncio.Event()

    async def hold():
        async with semaphore:
            await step.wait()

    async with running(hold(), nest(semaphore), nest(semaphore)) as tasks:
        assert watched.look() == []
        step.set()
        await asyncio.gather(*tasks)
    assert watched.look(LATER) == []


async def test_the_last_permit(raising):
    semaphore = raising.Semaphore(1)
    with pytest.raises(DeadlockError, match="all permits of Semaphore semaphore"):
        await nest(semaphore)
    assert not semaphore.locked()
    assert semaphore._value == 1


async def test_a_circle_of_a_semaphore_and_a_lock(watched):
    semaphore, lock = watched.Semaphore(1), watched.Lock()
    async with running(take_both(semaphore, lock), take_both(lock, semaphore)):
        assert watched.kinds() == ["permits"]


async def test_a_bounded_buffer(raising):
    """Producers acquire what consumers release."""
    free, used = raising.Semaphore(2), raising.Semaphore(0)

    async def produce():
        for _ in range(10):
            await free.acquire()
            used.release()

    async def consume():
        for _ in range(10):
            await used.acquire()
            free.release()

    async with running(produce()) as (producer,):
        assert raising.look() == []
        await consume()
        await producer
        assert raising.look(LATER) == []
        async with running(consume()):
            assert raising.look(LATER) == []


async def test_permits_without_async_with(watched):
    """Anybody may release them, so they are given time."""
    semaphore = watched.Semaphore(2)

    async def acquire_two():
        await semaphore.acquire()
        await asyncio.sleep(0)
        await semaphore.acquire()

    async with running(acquire_two(), acquire_two()):
        assert watched.look() == []
        assert watched.look(LATER) == ["permits"]


# ---- Holders that have ended ----


async def acquire(lock):
    await lock.acquire()


async def fail(lock):
    await lock.acquire()
    raise KeyError


async def be_cancelled(lock):
    await lock.acquire()
    await asyncio.Event().wait()
    lock.release()


@pytest.mark.parametrize(
    ("hold", "how"),
    [(acquire, "has ended"), (fail, "failed with KeyError"), (be_cancelled, "was cancelled")],
)
async def test_a_lock_whose_holder_has_ended(watched, hold, how):
    lock = watched.Lock()
    async with running(hold(lock)) as (holder,):
        holder.cancel()
        await steps()
        assert holder.done()
        (deadlock,) = watch.snapshot().deadlocks
        assert deadlock.kind == "ended"
        assert deadlock.tasks == (holder,)
        async with running(visit(lock)):
            (text,) = watched.texts()
            assert "Lock lock is held by a task that has ended. Nobody will release it." in text
            assert f"by {holder.get_name()} ({hold.__name__}), which {how}" in text
            assert watched.kinds() == ["ended"]
            assert watched.look(LATER) == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="has no eager tasks")
async def test_a_holder_that_ended_when_it_was_made(watched):
    """Python 3.12.1 crashes if it is asked for the coroutine of such a task."""
    lock = watched.Lock()
    holder = asyncio.eager_task_factory(asyncio.get_running_loop(), acquire(lock))
    assert holder.done()
    async with running(visit(lock)):
        assert f"by {holder.get_name()}, which has ended" in watched.texts()[0]
        assert watched.kinds() == ["ended"]
        (primitive,) = watch.snapshot().primitives
        assert primitive.holders[0].task is holder
        lock.release()


async def test_a_holder_that_was_collected(raising):
    lock = raising.Lock()
    await asyncio.create_task(acquire(lock))
    await asyncio.sleep(0)
    gc.collect()
    with pytest.raises(DeadlockError, match="a task that has ended and is forgotten"):
        await visit(lock)
    (primitive,) = watch.snapshot().primitives
    (holder,) = primitive.holders
    assert (holder.task, holder.ended) == (None, True)
    assert " s, by a task that has ended" in str(primitive)
    lock.release()
    await visit(lock)


async def test_a_holder_outside_of_a_task(watched):
    """Who released it last is not known, and who will is not."""
    lock = watched.Lock()
    done = asyncio.get_running_loop().create_future()

    def by_hand():
        with pytest.raises(StopIteration):
            lock.acquire().send(None)
        done.set_result(None)

    asyncio.get_running_loop().call_soon(by_hand)
    await done
    async with running(visit(lock)):
        assert watched.look() == []
        (primitive,) = watch.snapshot().primitives
        assert primitive.holders[0].task is None
        assert not primitive.holders[0].ended
        assert re.search(r"\n  held for \d\.\d s, acquired outside of a task\n", str(primitive))
        lock.release()


def test_what_is_acquired_without_an_event_loop(watched):
    lock = watched.Lock()
    assert lock.try_acquire()
    (primitive,) = watch.snapshot().primitives
    assert [(holder.task, holder.ended) for holder in primitive.holders] == [(None, False)]
    lock.release()
    assert watch.snapshot().primitives == ()


async def rows(lock):
    async with lock:
        yield 1
        yield 2


async def test_a_generator_that_is_left_inside(watched):
    lock = watched.Lock()
    left = []

    async def first_row():
        generator = rows(lock)
        left.append(generator)
        return await anext(generator)

    async with running(first_row()), running(visit(lock)):
        assert watched.look() == []
        assert watch.snapshot().deadlocks == ()
        (holder,) = watch.snapshot().primitives[0].holders
        assert holder.generator
        assert holder.where.function == "rows"
        _watching.watch.look(time.monotonic() + LATER)
        assert "by an asynchronous generator that is suspended, at " in watched.texts()[0]
        assert watched.kinds() == ["stuck"]
        await left[0].aclose()
        await steps()
        assert not lock.locked()
    async for _ in rows(lock):
        pass
    assert watched.look(LATER) == []


def test_a_generator_that_is_left_inside_on_uvloop(watched):
    """It does not show its generators."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_a_generator_that_is_left_inside(watched))


@pytest.mark.parametrize("kind", ["plain", "subclass", "asyncio"])
@pytest.mark.parametrize("ends", ["notified", "cancelled"])
async def test_a_condition_that_takes_its_lock_back(raising, kind, ends):
    """wait() does not end without the lock. So nothing is raised there, and the look reports it."""

    class Traced(raising.Lock):
        async def acquire(self):
            return await super().acquire()

    lock = Traced() if kind == "subclass" else raising.Lock()
    condition = (_internals.locks.Condition if kind == "asyncio" else raising.Condition)(lock)

    async def wait():
        async with condition:
            await condition.wait()

    async def end_inside():
        await condition.acquire()
        if ends == "notified":
            condition.notify()

    async with running(wait()) as (waiter,):
        await asyncio.create_task(end_inside())
        if ends == "cancelled":
            waiter.cancel()
        await steps(5)
        assert not waiter.done()
        assert raising.look() == ["ended"]
        lock.release()


# ---- What does not move ----


async def test_a_lock_that_is_held_across_a_long_call(watched):
    lock = watched.Lock()
    answer = asyncio.Event()

    async def fetch():
        await answer.wait()

    async def hold():
        async with lock:
            await fetch()

    async with running(hold(), visit(lock), visit(lock)) as (holder, *_):
        assert watched.look() == []
        assert watched.look(29) == []
        _watching.watch.look(time.monotonic() + LATER)
        (record,) = watched.records
        assert record.levelno == logging.WARNING
        text = record.getMessage()
        assert "Stuck: Lock lock, which has not moved while 2 tasks waited up to 1,0" in text
        assert f"by {holder.get_name()} (hold)" in text
        assert "await answer.wait()" in text  # what the holder does
        assert record.stuck["holders"][0]["where"]["function"].endswith("hold")
        assert watched.kinds() == ["stuck"]
        assert watched.look(LATER) == []
        answer.set()
        await steps()
    assert watched.look(LATER) == []


async def test_a_long_queue_that_moves(watched):
    """Its last task waits long, but not for one holder."""
    lock = watched.Lock()
    go = asyncio.Semaphore(0)

    async def hold():
        async with lock:
            await go.acquire()

    async with running(*(hold() for _ in range(3))):
        go.release()
        await steps()
        # The second has held it since now.
        assert _watching.watch.stuck_key(lock, time.monotonic() + LATER) is not None
        assert _watching.watch.stuck_key(lock, time.monotonic() + 29) is None


@pytest.mark.parametrize("primitive", ["Lock", "Semaphore", "BoundedSemaphore"])
async def test_a_look_calls_no_method_of_a_subclass(watched, primitive):
    """It is taken in another thread."""
    calls = []

    class Subclass(getattr(watched, primitive)):
        def locked(self):
            calls.append("locked")
            return super().locked()

        def _get_loop(self):
            calls.append("_get_loop")
            return super()._get_loop()

    lock = Subclass()
    async with running(visit_and(lock, asyncio.Event().wait()), visit(lock)):
        assert calls
        calls.clear()
        assert watched.look(LATER) == ["stuck"]
        assert len(watch.snapshot().primitives) == 1
        assert calls == []


async def test_what_waits_for_an_event_is_not_stuck(watched):
    event, condition, barrier = watched.Event(), watched.Condition(), watched.Barrier(2)

    async def wait():
        async with condition:
            await condition.wait()

    async with running(event.wait(), wait(), barrier.wait()):
        assert watched.look(LATER) == []
        kinds = {primitive.kind: primitive for primitive in watch.snapshot().primitives}
        assert set(kinds) == {"Event", "Condition", "Barrier"}
        assert all(len(primitive.waiters) == 1 for primitive in kinds.values())


def test_a_loop_that_is_blocked(ours):
    blocked, go_on = threading.Event(), threading.Event()
    lock = ours.Lock()

    async def block():
        async with lock:
            await asyncio.sleep(0)
            blocking_call()

    def blocking_call():
        blocked.set()
        go_on.wait()

    async def main():
        watch.start()
        await asyncio.gather(block(), visit(lock))

    thread = threading.Thread(target=asyncio.run, args=[main()])
    thread.start()
    blocked.wait()
    _watching.watch.look(time.monotonic() + LATER)
    (text,) = ours.texts()
    assert "blocking_call()" in text
    assert "go_on.wait()" in text
    text = str(watch.snapshot())  # of a loop in another thread
    assert "Lock lock" in text
    assert "in visit" in text
    go_on.set()
    thread.join()
    assert ours.kinds() == ["stuck"]


# ---- Timeouts and cancellations ----


async def with_timeout(coroutine):
    async with asyncio.timeout(1000):
        await coroutine


async def with_wait_for(coroutine):
    await asyncio.wait_for(coroutine, 1000)


async def with_wait(coroutine):
    await asyncio.wait([asyncio.create_task(coroutine)], timeout=1000)


async def with_anyio(coroutine):
    import anyio

    with anyio.fail_after(1000):
        await coroutine


async def with_anyio_and_a_scope(coroutine):
    import anyio

    with anyio.fail_after(1000), anyio.CancelScope():
        await coroutine


async def with_a_callback(coroutine):
    """What is called when the task ends sets a future, which a task with a timeout awaits."""
    done = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(coroutine)
    task.add_done_callback(functools.partial(set_if_pending, done))
    try:
        async with asyncio.timeout(1000):
            await done
    finally:
        task.cancel()
        await asyncio.wait([task])


def set_if_pending(future, _):
    if not future.done():
        future.set_result(None)


async def with_timer(coroutine):
    timer = asyncio.get_running_loop().call_later(1000, asyncio.current_task().cancel)
    try:
        await coroutine
    finally:
        timer.cancel()


WITH_ANYIO = pytest.param(with_anyio, marks=needs_anyio)
LIMITS = (
    *(with_timeout, with_wait_for, with_wait, with_a_callback, with_timer),
    *(WITH_ANYIO, pytest.param(with_anyio_and_a_scope, marks=needs_anyio)),
)


@pytest.mark.parametrize("limit", LIMITS)
async def test_a_deadlock_that_a_timeout_will_end(raising, limit):
    async with running(limit(Pool(raising).get())):
        assert "One of these tasks will be cancelled, which ends this." in raising.texts()[0]
        assert raising.records[0].deadlock["ends_by_timeout"]
        assert raising.kinds() == ["self"]


@pytest.mark.parametrize("limit", [with_timeout, with_timer])
def test_a_deadlock_on_uvloop_that_a_timeout_will_end(raising, limit):
    """It does not show its timers."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_a_deadlock_that_a_timeout_will_end(raising, limit))


async def test_a_circle_that_a_callback_will_end(raising):
    """As in CPython's tests of locks."""
    lock = raising.Lock()
    async with lock:
        task = asyncio.create_task(lock.acquire())
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert raising.records[0].deadlock["ends_by_timeout"]
    assert raising.kinds() == ["circle"]


@pytest.mark.parametrize("limit", [with_timeout, with_wait_for, WITH_ANYIO])
async def test_a_timeout_that_is_over(raising, limit):
    await limit(asyncio.sleep(0))
    async with asyncio.timeout(None):
        with pytest.raises(DeadlockError):
            await Pool(raising).get()


async def test_a_waiter_that_was_cancelled(watched):
    one, other = watched.Lock(), watched.Lock()
    async with running(take_both(one, other)) as (first,):
        await first
    hold = asyncio.Event()

    async def keep():
        async with other:
            await hold.wait()

    async with running(keep(), take_both(one, other)) as (_, second):
        second.cancel()
        # It releases `one` when it runs.
        assert watched.look() == []


async def test_a_permit_that_a_program_has_added(watched):
    """Nobody waits for the holder then."""
    semaphore, lock = watched.Semaphore(1), watched.Lock()
    async with running(take_both(semaphore, lock), take_both(lock, semaphore)):
        assert watched.kinds() == ["permits"]
        assert len(watch.snapshot().deadlocks) == 1
        semaphore._value += 1
        assert watch.snapshot().deadlocks == ()


async def test_a_lock_that_is_on_its_way_to_a_task(watched):
    one, other, event = watched.Lock(), watched.Lock(), asyncio.Event()
    await one.acquire()
    async with running(visit(one), hold_and_await(other, visit_and_wait, one), visit(other)):
        one.release()
        assert watched.look() == []
        assert watch.snapshot().deadlocks == ()
        event.set()


async def visit_and_wait(lock):
    async with lock:
        await asyncio.sleep(0)


async def test_what_moves_between_two_looks(watched, monkeypatch):
    one, other = watched.Lock(), watched.Lock()
    async with running(take_both(one, other), take_both(other, one)):
        assert watched.kinds() == ["circle"]
        assert len(watch.snapshot().deadlocks) == 1
        monkeypatch.setattr(_deadlocks, "same", lambda one, other: False)
        assert watch.snapshot().deadlocks == ()


# ---- Readers and writers ----

BY_DESIGN = "An RWLock works so by design"


async def read(lock, then=None):
    async with lock.reader_lock:
        await asyncio.sleep(0)
        if then is not None:
            await then


async def write(lock, then=None):
    async with lock.writer_lock:
        await asyncio.sleep(0)
        if then is not None:
            await then


async def read_twice(lock):
    async with lock.reader_lock:
        await asyncio.sleep(0)
        async with lock.reader_lock:
            await asyncio.sleep(0)


async def test_a_reader_that_reads_again(watched):
    lock = watched.RWLock()
    async with running(read_twice(lock), write(lock)) as (reader, _):
        (text,) = watched.texts()
        assert f"{reader.get_name()} (read_twice) waits for RWLock lock, which it holds" in text
        assert BY_DESIGN in text
        assert watched.kinds() == ["self"]
        (deadlock,) = watch.snapshot().deadlocks
        assert deadlock.tasks == (reader,)
        assert watched.look() == []  # it was reported
    await asyncio.gather(read_twice(lock), read_twice(lock), read(lock))  # nobody writes
    assert watched.look(LATER) == []


async def test_a_reader_that_wants_to_write(raising):
    lock = raising.RWLock()
    with pytest.raises(DeadlockError, match=BY_DESIGN) as caught:
        await read(lock, write(lock))
    assert caught.value.deadlock.kind == "self"
    assert not lock.reader_lock.locked()
    assert not lock._turns._waiters
    async with lock.reader_lock:
        assert not lock.writer_lock.try_acquire()
    assert lock.writer_lock.try_acquire()
    lock.writer_lock.release()
    await read(lock)
    await write(lock)
    assert watch.snapshot().primitives == ()


async def test_two_readers_that_both_want_to_write(raising):
    """The second of them waits for the first, who waits for it: as soon as one fails, both end."""
    lock = raising.RWLock()
    tasks = [asyncio.create_task(read(lock, write(lock))) for _ in range(2)]
    await asyncio.wait(tasks)
    assert [type(task.exception()) for task in tasks] == [DeadlockError] * 2


@pytest.mark.parametrize("then", [read, write])
async def test_a_writer_that_wants_more(raising, then):
    lock = raising.RWLock()
    with pytest.raises(DeadlockError, match="RWLock lock, which it holds itself") as caught:
        await write(lock, then(lock))
    assert BY_DESIGN not in str(caught.value)
    await write(lock)


async def test_two_rwlocks_in_both_orders(watched):
    """Of one of them another task reads, too, which is not in the circle."""
    one, other, event = watched.RWLock(), watched.RWLock(), asyncio.Event()
    tasks = read(one, event.wait()), read(one, write(other)), read(other, write(one))
    async with running(*tasks) as (_, *both):
        assert watched.kinds() == ["circle"]
        (deadlock,) = watch.snapshot().deadlocks
        assert set(deadlock.tasks) == {*both}
        event.set()
    await asyncio.gather(read(one, write(other)), read(one, write(other)))
    assert watched.look(LATER) == []


async def test_two_rwlocks_in_one_order(watched):
    one, other = watched.RWLock(), watched.RWLock()
    await asyncio.gather(*(read(one, then(other)) for then in (read, write) for _ in range(4)))
    assert watched.look(LATER) == []


async def test_a_writer_waits_for_every_reader(watched):
    """A parent awaits a child that wants to write, while others read and go on."""
    lock, event = watched.RWLock(), asyncio.Event()

    async def parent():
        async with lock.reader_lock:
            await asyncio.create_task(write(lock))

    readers = [read(lock, event.wait()) for _ in range(3)]
    async with running(*readers, parent()):
        assert watched.look() == ["circle"]
        event.set()
    async with running(*(read(lock, steps(20)) for _ in range(3)), write(lock)):
        assert watched.look() == []


async def test_a_reader_that_goes_on_hides_no_other(watched):
    """What was found of it when a writer came is not true of all readers."""
    lock, upgrade = watched.RWLock(), asyncio.Event()

    async def wait_and_write():
        await upgrade.wait()
        await write(lock)

    readers = read(lock, wait_and_write()), read(lock, asyncio.sleep(1000))
    async with running(*readers), running(write(lock)):
        assert watched.kinds() == []
        upgrade.set()
        await steps()
        assert watched.kinds() == ["self"]


async def test_a_reader_that_has_ended(watched):
    lock = watched.RWLock()
    await asyncio.create_task(lock.reader_lock.acquire())
    await lock.reader_lock.acquire()
    async with running(write(lock)):
        assert watched.look(LATER) == ["ended"]
    lock.reader_lock.release()
    lock.reader_lock.release()


async def test_a_snapshot_of_an_rwlock(watched):
    lock, event = watched.RWLock(), asyncio.Event()
    lines = str(watch.snapshot())
    assert "Nothing is held" in lines
    names = read(lock, event.wait()), read(lock, event.wait()), write(lock), read(lock)
    async with running(*names) as tasks:
        (found,) = watch.snapshot().primitives
        assert (found.kind, found.name, found.unknown) == ("RWLock", "lock", False)
        assert [holder.task for holder in found.holders] == tasks[:2]
        assert [holder.operation for holder in found.holders] == ["read", "read"]
        assert [waiter.task for waiter in found.waiters] == tasks[2:]
        assert [waiter.operation for waiter in found.waiters] == ["write", "read"]
        assert found.as_dict()["holders"][0]["operation"] == "read"
        assert "in test_a_snapshot_of_an_rwlock" in str(found.made_at)
        text = str(found)
        assert text.count("held to read for ") == 2
        assert " to write, at " in text
        assert " item" not in text
        assert "in read" in str(found.holders[0].where)
        assert watched.look(LATER) == ["stuck"]
        event.set()
    async with lock.writer_lock:
        (found,) = watch.snapshot().primitives
        assert [holder.operation for holder in found.holders] == ["write"]
    assert watch.snapshot().primitives == ()


async def test_acquire_and_try_acquire_are_recorded(watched):
    lock = watched.RWLock()
    assert lock.reader_lock.try_acquire()
    await lock.reader_lock.acquire()
    (found,) = watch.snapshot().primitives
    assert [holder.task for holder in found.holders] == [asyncio.current_task()] * 2
    (waiter,) = await park(lock.writer_lock.acquire)
    lock.reader_lock.release()
    lock.reader_lock.release()
    await waiter
    (found,) = watch.snapshot().primitives
    assert [(it.task, it.operation) for it in found.holders] == [(waiter, "write")]
    lock.writer_lock.release()
    with pytest.raises(RuntimeError):
        lock.writer_lock.release()
    assert watch.snapshot().primitives == ()
    (counted,) = watch.statistics()
    assert (counted.kind, counted.made, counted.acquired, counted.waited) == ("RWLock", 1, 3, 1)


async def test_an_rwlock_that_was_held_before(ours):
    lock = ours.RWLock()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(lock.reader_lock)
        (found,) = [await park(lock.writer_lock.acquire)]
        watch.start()
        (known,) = watch.snapshot().primitives
        assert known.unknown
        assert [(it.task, it.operation) for it in known.holders] == [
            (asyncio.current_task(), "read")
        ]
        found[0].cancel()
    async with lock.writer_lock:
        (known,) = watch.snapshot().primitives
        assert not known.unknown


async def test_an_rwlock_without_start(ours):
    lock = ours.RWLock()
    async with lock.reader_lock, running(write(lock), read(lock)):
        (found,) = watch.snapshot().primitives
        assert found.unknown
        assert [holder.task for holder in found.holders] == [asyncio.current_task()]
        assert [waiter.operation for waiter in found.waiters] == ["write", "read"]


async def test_try_acquire_of_a_lock_and_a_semaphore_is_recorded(watched):
    for one in (watched.Lock(), watched.Semaphore(1), watched.BoundedSemaphore(1)):
        assert one.try_acquire()
        (found,) = watch.snapshot().primitives
        assert [holder.task for holder in found.holders] == [asyncio.current_task()]
        assert not one.try_acquire()
        one.release()
        assert watch.snapshot().primitives == ()
    assert {(row.kind, row.acquired) for row in watch.statistics()} == {
        ("Lock", 1),
        ("Semaphore", 1),
        ("BoundedSemaphore", 1),
    }


async def test_a_lock_that_was_unlocked_unseen(watched):
    lock = watched.Lock()
    await lock.acquire()
    lock._locked = False
    async with running(visit_and(lock, asyncio.Event().wait())) as tasks:
        (found,) = watch.snapshot().primitives
        assert [holder.task for holder in found.holders] == tasks
    assert watch.snapshot().primitives == ()
    async with lock:
        assert len(watch.snapshot().primitives[0].holders) == 1


@needs_compiled
async def test_a_program_that_uses_both_implementations(monkeypatch):
    """The compiled recorder also records the pure-Python primitives."""
    monkeypatch.setattr(_watching.Watch, "looks", lambda self: None)
    recorder = importlib.import_module("aiofastlock._compiled._recorder")
    monkeypatch.setattr(_tasks, "recorder", recorder)
    watch.start(on_deadlock="raise")
    try:
        one, other, event = OURS["compiled"].Lock(), OURS["pure"].Lock(), asyncio.Event()
        async with running(visit_and(other, event.wait()), visit(other)) as (holder, waiter):
            (found,) = watch.snapshot().primitives
            assert [it.task for it in found.holders] == [holder]
            assert [it.task for it in found.waiters] == [waiter]
            assert found.made_at.function.endswith("test_a_program_that_uses_both_implementations")
            event.set()
            await waiter
        tasks = [asyncio.create_task(take_both(*pair)) for pair in [(one, other), (other, one)]]
        await asyncio.wait(tasks)
        assert [type(task.exception()) for task in tasks] == [type(None), DeadlockError]
        assert {(row.acquired, row.waited) for row in watch.statistics()} >= {(4, 2)}
        assert watch.snapshot().primitives == ()
    finally:
        watch.stop()


@needs_refcounts
async def test_a_primitive_that_is_being_deallocated_is_not_seen(watched):
    class Look:
        def __del__(self):
            seen.append(watch.snapshot().primitives)

    class Slotted(watched.Semaphore):
        __slots__ = ("look",)  # cleared before the primitive itself ends

    seen = []
    semaphore = Slotted(2)
    await semaphore.acquire()
    await semaphore.acquire()
    semaphore.look = Look()
    del semaphore
    assert seen == [()]
    assert watch.snapshot().primitives == ()


async def test_a_task_that_has_not_begun_waits_for_nothing(watched):
    lock = watched.Lock()
    await lock.acquire()
    task = asyncio.create_task(lock.acquire())
    (found,) = watch.snapshot().primitives
    assert found.waiters == ()
    assert _tasks.waits(task) is None
    await steps()
    assert [waiter.task for waiter in watch.snapshot().primitives[0].waiters] == [task]
    lock.release()
    await task
    lock.release()


# ---- When the watch begins ----


async def test_what_was_held_before(ours):
    lock, semaphore = ours.Lock(), ours.BoundedSemaphore(1)

    async def hold():
        async with lock, semaphore:
            await asyncio.Event().wait()

    async with running(hold(), visit(lock), visit(semaphore)):
        watch.start(on_deadlock="raise")
        snapshot = watch.snapshot()
        assert {primitive.kind for primitive in snapshot.primitives} == {"Lock", "BoundedSemaphore"}
        assert all(primitive.unknown for primitive in snapshot.primitives)
        async with running(visit(lock), visit(semaphore)):
            assert ours.look() == []
            assert sorted(ours.look(LATER)) == ["stuck", "stuck"]
    async with running(visit(lock), visit(semaphore)):
        pass
    assert watch.snapshot().primitives == ()


async def test_without_start(ours):
    lock, event = ours.Lock(), ours.Event()

    async def hold():
        async with lock:
            await asyncio.Event().wait()

    async with running(hold(), visit(lock), visit(lock), event.wait()) as tasks:
        snapshot = watch.snapshot()
        assert not snapshot.recorded
        found = {primitive.primitive: primitive for primitive in snapshot.primitives}
        assert set(found) == {lock, event}
        assert found[lock].unknown
        (holder,) = found[lock].holders
        assert (holder.task, holder.held_for) == (tasks[0], None)
        assert holder.where.function.endswith("hold")
        assert [waiter.task for waiter in found[lock].waiters] == tasks[1:3]
        assert {waiter.waited for waiter in found[lock].waiters} == {None}
        assert "Who holds what is not recorded" in str(snapshot)
        assert f"held by {tasks[0].get_name()} (hold), at" in str(snapshot)


async def test_a_holder_without_async_with_is_unknown(ours):
    lock = ours.Lock()
    await lock.acquire()
    async with running(visit(lock)):
        (primitive,) = watch.snapshot().primitives
        assert (primitive.holders, primitive.unknown) == ((), True)
        assert "held since before the watch, by an unknown task" in str(primitive)
        lock.release()


async def test_a_task_that_waits_for_its_own_lock_without_start(ours):
    pool = Pool(ours)
    async with running(pool.get()) as (task,):
        (primitive,) = watch.snapshot().primitives
        assert [holder.task for holder in primitive.holders] == [task]
        assert [waiter.task for waiter in primitive.waiters] == [task]


async def by_with(enter, first, second):
    async with enter(first):
        await asyncio.sleep(0)
        async with enter(second):
            pass


async def by_stack(enter, first, second):
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(enter(first))
        await asyncio.sleep(0)
        await stack.enter_async_context(enter(second))


async def by_acquire(enter, first, second):
    async with enter(first):
        await asyncio.sleep(0)
        await second.acquire()


@pytest.mark.parametrize("how", [by_with, by_stack, by_acquire])
@pytest.mark.parametrize("indirect", [False, True])
async def test_who_is_inside_one_and_waits_for_another_without_start(ours, how, indirect):
    """What `async with` is about to enter is not entered."""
    enter = connection if indirect else lambda lock: lock
    one, other = ours.Lock(), ours.Lock()
    for pairs in ([(one, other), (other, one)], [(one, one)]):
        async with running(*(how(enter, *pair) for pair in pairs)) as tasks:
            found = {primitive.primitive: primitive for primitive in watch.snapshot().primitives}
            for (first, second), task in zip(pairs, tasks, strict=True):
                assert [holder.task for holder in found[first].holders] == [task]
                assert [waiter.task for waiter in found[second].waiters] == [task]


@pytest.mark.parametrize("how", [by_with, by_acquire])
async def test_who_is_inside_a_lock_of_many_that_are_waited_for(ours, how, monkeypatch):
    """Not all tasks that wait are asked, since that would take long."""
    monkeypatch.setattr(_tasks, "MOST_WAITING", 2)
    locks = [ours.Lock() for _ in range(4)]
    pairs = itertools.pairwise([*locks, locks[0]])
    async with running(*(how(lambda lock: lock, *pair) for pair in pairs)):
        found = watch.snapshot().primitives
        assert len(found) == 4
        assert sum(len(primitive.holders) for primitive in found) == 2


async def test_who_is_inside_by_methods_of_another_object(ours):
    lock, event = ours.Lock(), asyncio.Event()

    class Guard:
        __aenter__, __aexit__ = lock.__aenter__, lock.__aexit__

    async def hold():
        async with Guard():
            await event.wait()

    async with running(hold(), visit(lock)) as tasks:
        (found,) = watch.snapshot().primitives
        assert [holder.task for holder in found.holders] == tasks[:1]
        event.set()
        await asyncio.wait(tasks)


async def test_starting_twice_changes_the_settings(ours):
    assert not watch.is_watching()
    watch.start()
    lock = ours.Lock()
    await lock.acquire()
    watch.start(on_deadlock="raise", stuck_after=5)
    assert watch.is_watching()
    with pytest.raises(DeadlockError):
        await lock.acquire()
    watch.stop()
    watch.stop()
    assert not watch.is_watching()
    async with running(visit(lock)):
        assert watch.snapshot().primitives[0].holders == ()
        lock.release()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"on_deadlock": "panic"}, ValueError, "on_deadlock must be 'log' or 'raise', not 'panic'"),
        ({"stuck_after": -1}, ValueError, "above 0, not -1"),
        ({"stuck_after": 0}, ValueError, "above 0, not 0"),
        ({"stuck_after": math.nan}, ValueError, "above 0, not nan"),
        ({"stuck_after": math.inf}, ValueError, "above 0, not inf"),
        ({"stuck_after": "1"}, TypeError, "a number of seconds, not '1'"),
        ({"order": "all"}, ValueError, "order must be False, True or 'each', not 'all'"),
    ],
)
def test_wrong_settings(arguments, error, message):
    with pytest.raises(error, match=message):
        watch.start(**arguments)
    assert not watch.is_watching()


@pytest.mark.parametrize(("setting", "reports"), [("0", 0), ("1", 0), ("each", 1)])
async def test_the_order_by_the_environment(ours, setting, reports):
    _watching.start_by_environment(f"stuck_after=5,order={setting}")
    assert _watching.watch.stuck_after == 5
    one, other = (ours.Lock() for _ in range(2))
    await take_both(one, other)
    await take_both(other, one)
    assert len(of_order(ours)) == reports
    last = ours.Lock()
    await take_both(one, last)
    await take_both(last, one)
    assert len(of_order(ours)) == reports + (setting != "0")
    ours.records.clear()


# ---- Snapshots ----


async def test_a_snapshot(watched):
    lock = watched.Lock()
    go = asyncio.Event()

    async def hold():
        async with lock:
            await go.wait()

    async with running(hold(), visit(lock), visit(lock)) as (holder, *waiters):
        waiters.append(asyncio.create_task(visit(lock)))
        await steps()
        snapshot = watch.snapshot()
        (primitive,) = snapshot.primitives
        assert (primitive.kind, primitive.name, primitive.primitive) == ("Lock", "lock", lock)
        assert primitive.made_at.function == "test_a_snapshot"
        assert not primitive.unknown
        assert primitive.holders[0].task is holder
        assert primitive.holders[0].held_for >= 0
        assert primitive.holders[0].where.function.endswith("hold")
        assert [waiter.task for waiter in primitive.waiters] == waiters
        assert all(waiter.waited >= 0 for waiter in primitive.waiters)
        assert {waiter.where.function for waiter in primitive.waiters} == {"visit"}
        lines = str(snapshot).splitlines()
        assert lines[0].startswith("Lock lock, made at ")
        assert re.match(r"  held for \d+\.\d s by Task-", lines[1])
        assert [line[:5] for line in lines[2:]] == ["  1. ", "  2. ", "  3. "]
        plain = json.loads(json.dumps(snapshot.as_dict()))
        assert plain["primitives"][0]["waiters"][0]["where"]["function"] == "visit"
        assert plain["recorded"]
        assert plain["deadlocks"] == []
        with pytest.raises(AttributeError):
            snapshot.recorded = False
        go.set()
        await waiters[-1]
    assert str(watch.snapshot()) == "Nothing is held, and nobody waits.\n"


async def test_a_snapshot_of_many(watched):
    semaphore = watched.Semaphore(12)
    names = [visit_and(semaphore, asyncio.Event().wait()) for _ in range(12)]
    async with running(*names, *(visit(semaphore) for _ in range(13))):
        (found,) = watch.snapshot().primitives
        assert (len(found.holders), len(found.waiters)) == (12, 13)
        lines = str(found).splitlines()
        assert sum("held for " in line for line in lines) == 10
        assert lines[11] == "  and by 2 others"
        assert lines[-1] == "  and 3 more tasks wait"


async def test_a_deadlock_of_many_permits(watched):
    semaphore = watched.Semaphore(12)
    async with running(*(nest(semaphore) for _ in range(12))):
        (text,) = watched.texts()
        assert text.count("\n  held for ") == 10
        assert "\n  and 2 more times" in text
        assert watched.kinds() == ["permits"]


def by_its_awaitable(kind, shown):
    """An awaitable that is a coroutine or a generator of Cython, or another one."""

    class Awaitable:
        def __init__(self, coroutine):
            self.coroutine = coroutine
            self.send, self.throw = coroutine.send, coroutine.throw

        def __await__(self):
            return self

        def __next__(self):
            return self.send(None)

    Awaitable.__name__ = kind
    if shown:
        setattr(Awaitable, shown, property(lambda self: self.coroutine))
    return Awaitable


@pytest.mark.parametrize(
    ("kind", "shown"), [("coroutine", "cr_await"), ("generator", "gi_yieldfrom"), ("other", None)]
)
async def test_what_a_task_waits_for_through_other_awaitables(watched, kind, shown):
    lock, awaitable = watched.Lock(), by_its_awaitable(kind, shown)

    async def outer():
        await awaitable(visit(lock))

    async with lock, running(outer()) as tasks:
        (found,) = watch.snapshot().primitives
        # Of another one nothing is known.
        assert [waiter.task for waiter in found.waiters] == (tasks if shown else [])
        assert [waiter.where.function for waiter in found.waiters] == ["visit"] * bool(shown)


async def test_who_waits_for_an_item_and_who_for_a_free_slot(ours):
    jobs, results = ours.Queue(1), ours.PriorityQueue()

    async def produce():
        await jobs.put(1)
        await jobs.put(2)

    async def consume():
        await results.get()

    early = asyncio.create_task(produce(), name="early")
    await steps()
    watch.start()
    late = [asyncio.create_task(consume(), name=name) for name in ("first", "second")]
    bare = asyncio.create_task(results.get(), name="third")
    await steps()
    found = {primitive.name: primitive for primitive in watch.snapshot().primitives}
    assert set(found) == {"jobs", "results"}
    assert [found[name].kind for name in ("jobs", "results")] == ["Queue", "PriorityQueue"]
    (putter,) = found["jobs"].waiters
    assert (putter.task, putter.operation, putter.waited) == (early, "put", None)
    assert putter.where.function.endswith("produce")
    getters = found["results"].waiters
    assert [getter.task for getter in getters] == [*late, bare]
    assert {getter.operation for getter in getters} == {"get"}
    assert all(getter.waited >= 0 for getter in getters)
    assert "waits to put an item, at " in str(found["jobs"])
    assert " to get an item, at " in str(found["results"])
    assert found["jobs"].as_dict()["waiters"][0]["operation"] == "put"
    assert not found["jobs"].holders
    assert not found["jobs"].unknown
    # A queue of programs and their subclasses, and one that is empty again, hold nothing up.
    late[0].cancel()
    results.put_nowait(1)
    results.put_nowait(2)
    assert jobs.get_nowait() == 1
    await asyncio.wait([*late, bare, early])
    assert watch.snapshot().primitives == ()
    assert ours.look(LATER) == []


async def test_what_is_counted_of_queues(watched):
    queue = watched.Queue(1)
    getter = asyncio.create_task(queue.get())
    await steps()
    queue.put_nowait(1)
    await getter
    cancelled = asyncio.create_task(queue.get())
    await steps()
    cancelled.cancel()
    await steps()
    (counted,) = watch.statistics()
    assert (counted.kind, counted.made, counted.waited) == ("Queue", 1, 2)
    assert counted.total_wait >= counted.longest_wait >= 0


def upper(queue):
    class Upper(queue):
        def _put(self, item):
            super()._put(item.upper())

    return Upper


async def test_the_event_of_join_is_not_counted_as_made(watched):
    for queue in (watched.Queue(), upper(watched.Queue)()):
        queue.put_nowait("a")
        async with running(queue.join()):
            queue.get_nowait()
            queue.task_done()
    assert {found.kind for found in watch.statistics() if found.place} == {"Queue"}


async def test_a_condition_of_another_lock_makes_none(watched):
    class Subclass(watched.Condition):
        def __init__(self):
            super().__init__(lock=watched.Lock())

    for condition in (
        watched.Condition(asyncio.Lock()),
        watched.Condition(watched.Lock()),
        Subclass(),
    ):
        async with condition:
            pass
    made = collections.Counter()
    for found in watch.statistics():
        if found.place and "makes_none" in found.place.function:
            made[found.kind] += found.made
    assert made == {"Condition": 3, "Lock": 2}


async def test_a_subclass_of_queue_with_hooks(ours):
    queue = upper(ours.Queue)(1)
    watch.start()
    getter = asyncio.create_task(queue.get())
    await steps()
    ((waiter,),) = [primitive.waiters for primitive in watch.snapshot().primitives]
    assert (waiter.task, waiter.operation) == (getter, "get")
    queue.put_nowait("a")
    assert await getter == "A"


@contextlib.asynccontextmanager
async def connection(lock):
    async with lock:
        yield


async def test_where_the_code_is_that_is_inside(watched):
    """Not where it is now: that is further inside."""
    lock = watched.Condition()

    async def sleep():
        await asyncio.Event().wait()

    async def directly():
        async with lock:
            await sleep()

    async def in_a_context():
        async with connection(lock):
            await sleep()

    async def in_a_stack():
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(lock)
            await sleep()

    for hold in (directly, in_a_context, in_a_stack):
        async with running(hold()):
            (primitive,) = watch.snapshot().primitives
            assert primitive.kind == "Lock"
            assert primitive.name == "lock"
            assert primitive.holders[0].where.function == hold.__qualname__


a_global = None


async def test_a_name(watched, monkeypatch):
    class Account:
        def __init__(self, lock):
            self.lock = lock

        async def use(self):
            async with self.lock:
                await asyncio.Event().wait()

    class Slotted(Account):
        __slots__ = ("lock",)

    class Bank:
        def __init__(self, lock):
            self.locks = {"a": lock}

        async def use(self):
            async with self.locks["a"]:
                await asyncio.Event().wait()

    async def use_list(locks):
        async with locks[1]:
            await asyncio.Event().wait()

    async def use_global():
        async with a_global:
            await asyncio.Event().wait()

    async def use_a_global_list():
        async with a_global[0]:
            await asyncio.Event().wait()

    lock = watched.Lock()
    monkeypatch.setitem(globals(), "a_global", lock)
    for coroutine, name in [
        (use_global(), "a_global"),
        (Account(lock).use(), "Account.lock"),
        (Slotted(lock).use(), "Slotted.lock"),
        (Bank(lock).use(), "Bank.locks['a']"),
        (use_list([None, lock]), "locks[1]"),
    ]:
        async with running(coroutine):
            assert watch.snapshot().primitives[0].name == name
    monkeypatch.setitem(globals(), "a_global", [lock])
    async with running(use_a_global_list()):
        assert watch.snapshot().primitives[0].name == "a_global[0]"
    held = [lock]
    del lock
    await held[0].acquire()
    monkeypatch.setitem(globals(), "a_global", None)
    held = iter(held)
    assert watch.snapshot().primitives[0].name.startswith("made at ")


def test_the_values_of_variables_are_not_kept(ours):
    """Frames keep what is read from them, before Python 3.13."""

    class Value:
        pass

    async def hold(lock):
        value = Value()
        values.append(weakref.ref(value))
        async with lock:
            await asyncio.sleep(0)
            watch.snapshot()
            del value
            gc.collect()
            assert values[0]() is None

    async def main():
        watch.start()
        lock = ours.Lock()
        await asyncio.gather(hold(lock), visit(lock))

    values = []
    asyncio.run(main())


async def visit_and(lock, coroutine):
    async with lock:
        await coroutine


@needs_refcounts
async def test_nothing_is_kept(watched):
    for _ in range(3):
        one, other = watched.Lock(), watched.Lock()
        async with running(take_both(one, other), take_both(other, one)):
            assert watched.kinds() == ["circle"]
        event = asyncio.Event()
        async with running(visit_and(one, event.wait()), visit(one)):
            assert len(_deadlocks.sleepers) == 1
        watched.look()
        gone = weakref.ref(one)
        del one, other
        await asyncio.sleep(0)
        gc.collect()
        assert gone() is None
        assert not _watching.watch.reported
        assert not _deadlocks.sleepers


@needs_refcounts
@pytest.mark.parametrize("look", [watch.snapshot, lambda: None], ids=["snapshot", "deadlock"])
async def test_nothing_is_kept_until_the_collector_runs(watched, look):
    """What the watch makes to look at tasks and frames is in no cycle."""

    class Value:
        pass

    async def take_twice(lock):
        value = Value()
        values.append(weakref.ref(value))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0), lock:
                look()
                await lock.acquire()

    values = []
    gc.collect()
    gc.disable()
    try:
        task = asyncio.create_task(take_twice(watched.Lock()))
        await asyncio.wait([task])
        values.append(weakref.ref(task))
        del task
        await asyncio.sleep(0)
        assert [value() for value in values] == [None, None]
    finally:
        gc.enable()
    assert watched.kinds() == ["self"]


async def live(ours, keys, queue):
    """Make a primitive of each kind, hold it, wait for it, and drop it, some of them while held."""
    step = asyncio.Event()
    lock, semaphore, rwlock, barrier = ours.Lock(), ours.Semaphore(), ours.RWLock(), ours.Barrier(2)
    condition, queues, own_keys = ours.Condition(), (ours.Queue(), queue()), ours.KeyedLock()
    key = object()

    async def use():
        async with lock, semaphore, rwlock.writer_lock, keys[key]:
            await step.wait()
        async with condition:
            condition.notify()
            await condition.wait()
            condition.notify()
        await barrier.wait()
        for queue in queues:
            await queue.get()

    async def forget():
        for held in (lock, semaphore, rwlock.reader_lock, own_keys[key]):
            await held.acquire()

    async with running(use(), use()) as tasks:
        step.set()
        await steps(10)
        for queue in queues * 2:
            queue.put_nowait("a")
            await steps()
        await asyncio.gather(*tasks)
    async with running(forget(), visit(lock)) as tasks:
        assert type(tasks[1].exception()) is DeadlockError


async def lives(ours, times, parts, memory):
    """Live so many times. Between parts of it, return what is recorded, and the memory in use."""
    keys, queue = ours.KeyedLock(), upper(ours.Queue)
    found = []
    for _ in range(parts):
        for _ in range(times // parts):
            await live(ours, keys, queue)
        watch.snapshot()
        ours.look()
        gc.collect()
        # The cache of attributes of types refers to names, also to temporary ones.
        getattr(sys, "_clear_internal_caches", sys._clear_type_cache)()
        recorder = _tasks.recorder
        found.append((len(recorder.counters()), len(recorder.holds()), len(keys), memory()))
    return found


@needs_refcounts
async def test_a_day_of_it(raising):
    """Nothing is kept of what has ended. The command makes a million of each."""
    tracemalloc = importlib.import_module("tracemalloc")  # PyPy has none
    tracemalloc.start()
    try:
        found = await lives(raising, 300, 5, lambda: tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert len({tuple(counts) for *counts, _ in found}) == 1
    # What Python keeps to use again grows at first.
    grown = [after - before for (*_, before), (*_, after) in itertools.pairwise(found)]
    assert min(grown) < 300 * 16  # the smallest object is larger


async def test_a_library_has_wrapped_asyncios_classes(watched, monkeypatch):
    """As ddtrace's profiler does, with objects that are no classes."""
    for name in ("Condition", "Lock", "Semaphore"):
        monkeypatch.setattr(asyncio, name, object())
        monkeypatch.setattr(asyncio.locks, name, object())
    lock = watched.Lock()
    async with running(take_both(lock, lock)):
        assert watched.kinds() == ["self"]
        (primitive,) = watch.snapshot().primitives
        assert primitive.kind == "Lock"
    assert watch.is_watching()


# ---- A look from another thread ----


def between_bytecodes(run, act, number=None):
    """Run a function, and do something where another thread could run; return how often.

    These are the bytecodes of aiofastlock, or only the one of that number.
    """
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if not frame.f_globals["__name__"].startswith("aiofastlock"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if number in (None, count):
                act()
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 asks for it here
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def many_wait(name):
    """Return a queue of waiters, and what makes some leave from its middle and wakes others."""
    primitive = getattr(_pure, name)()
    if name == "Lock":
        by_hand(primitive.acquire())
    wait = {"Lock": "acquire", "Event": "wait", "Queue": "get"}[name]
    waiting = [parked(getattr(primitive, wait)()) for _ in range(9)]
    waiting.pop(5)[0].close()

    def change():
        waiting.pop(2)[0].close()
        if name == "Queue":
            primitive.put_nowait(1)
            primitive.put_nowait(2)
        else:
            getattr(primitive, "release" if name == "Lock" else "set")()
        for number in (4, 3, 3, 2, 0, 0, 0):
            waiting.pop(number)[0].close()

    return primitive._getters if name == "Queue" else primitive._waiters, change


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="traces no bytecodes")
@pytest.mark.parametrize("name", ["Lock", "Event", "Queue"])
async def test_pure_waiters_change_while_another_thread_looks(name):
    waiters, change = many_wait(name)
    seen = set()

    def look():
        assert len(list(waiters)) < 10
        seen.add(len(waiters))

    assert between_bytecodes(change, look) > 200
    assert {8, 7, 0} <= seen <= set(range(10))
    assert len(seen) > 5


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="traces no bytecodes")
@pytest.mark.parametrize("name", ["Lock", "Event", "Queue"])
async def test_another_thread_changes_pure_waiters_while_one_looks(name):
    for number in itertools.count(1):
        waiters, change = many_wait(name)
        if between_bytecodes(lambda: len(list(waiters)), change, number) < number:  # noqa: B023
            change()
            break
    assert number > 10


# ---- Orders ----


def of_order(ours):
    return [record.getMessage() for record in ours.records if hasattr(record, "order")]


async def test_two_orders(ours):
    watch.start(order=True)
    one = ours.Lock()
    other = ours.Lock()
    await take_both(one, other)
    assert of_order(ours) == []
    await take_both(one, other)
    assert of_order(ours) == []
    await take_both(other, one)
    (text,) = of_order(ours)
    assert "Two locks are acquired in both orders" in text
    assert "acquires Lock second while it holds Lock first" in text
    await take_both(other, one)
    assert len(ours.records) == 1
    ours.records.clear()


@pytest.mark.parametrize("order", [True, "each"])
async def test_locks_of_one_place(ours, order):
    watch.start(order=order)
    one, other = (ours.Lock() for _ in range(2))
    await take_both(one, other)
    await take_both(other, one)
    assert len(of_order(ours)) == (order == "each")
    ours.records.clear()


async def test_two_orders_of_locks_that_were_made_before(ours):
    one, other = (ours.Lock() for _ in range(2))
    watch.start(order=True)
    await take_both(one, other)
    assert of_order(ours) == []
    await take_both(other, one)
    assert len(of_order(ours)) == 1
    ours.records.clear()


def test_the_order_outside_of_tasks(ours):
    """It counts for tasks only."""
    watch.start(order=True)
    one = ours.Lock()
    other = ours.Lock()

    def take(first, second):
        assert first.try_acquire()
        assert second.try_acquire()
        first.release()
        second.release()

    async def main():
        loop = asyncio.get_running_loop()
        loop.call_soon(take, one, other)
        loop.call_soon(take, other, one)
        await asyncio.sleep(0)

    take(one, other)
    take(other, one)
    asyncio.run(main())
    assert watch.is_watching()
    assert ours.records == []


async def test_a_lock_that_was_released_before(ours):
    watch.start(order=True)
    one = ours.Lock()
    other = ours.Lock()
    await take_both(one, other)
    await other.acquire()
    other.release()
    await one.acquire()
    one.release()
    assert ours.records == []


# ---- Faults ----


async def test_a_fault_of_the_watch(ours, monkeypatch):
    """It is logged once, and the watch is off; the program goes on."""
    watch.start(on_deadlock="raise")
    monkeypatch.setattr(_deadlocks, "at_once", lambda *_: 1 / 0)
    lock, event = ours.Lock(), asyncio.Event()
    async with running(visit_and(lock, event.wait()), visit(lock), visit(lock)) as tasks:
        (record,) = ours.records
        assert record.exc_info[0] is ZeroDivisionError
        assert not watch.is_watching()
        event.set()
        await asyncio.gather(*tasks)
    ours.records.clear()


async def test_a_fault_when_a_lock_was_acquired(ours, monkeypatch):
    monkeypatch.setattr(_order.Order, "acquired", lambda *_: 1 / 0)
    watch.start(order=True)
    lock = ours.Lock()
    async with lock:
        (record,) = ours.records
        assert record.exc_info[0] is ZeroDivisionError
        assert not watch.is_watching()
    assert not lock.locked()
    ours.records.clear()


def test_a_fault_of_the_look(ours, monkeypatch):
    watch.start()
    monkeypatch.setattr(_deadlocks, "search", lambda *_: 1 / 0)
    monkeypatch.setattr(_watching.watch.stopped, "wait", stop_after(3))
    LOOKS(_watching.watch)
    (record,) = ours.records
    assert record.exc_info[0] is ZeroDivisionError
    assert not watch.is_watching()
    ours.records.clear()


def stop_after(times):
    remaining = iter(range(times))
    return lambda timeout: next(remaining, None) is None


def test_looks(ours, monkeypatch):
    watch.start(stuck_after=0.4)
    looks = []
    monkeypatch.setattr(_watching.watch, "look", looks.append)
    monkeypatch.setattr(_watching.watch.stopped, "wait", stop_after(3))
    LOOKS(_watching.watch)
    assert looks == sorted(looks)
    assert len(looks) == 3


# ---- Statistics ----


async def test_statistics(watched):
    def make():
        return watched.Lock()

    locks = [make() for _ in range(3)]
    for lock in locks:
        await asyncio.gather(*(take_both(lock, watched.Lock()) for _ in range(2)))
    (found,) = (s for s in watch.statistics() if s.place.function.endswith("make"))
    assert (found.kind, found.made, found.acquired, found.waited) == ("Lock", 3, 6, 3)
    assert found.name.startswith("made at ")
    assert 0 <= found.longest_wait <= found.total_wait
    assert 0 <= found.longest_hold <= found.total_hold
    json.dumps(found.as_dict())


async def test_statistics_of_what_was_made_before(ours):
    lock = ours.Lock()
    watch.start()
    async with lock:
        pass
    (found,) = watch.statistics()
    assert (found.place, found.kind, found.made, found.acquired) == (None, "Lock", 1, 1)
    if ours.module is OURS.get("compiled"):
        assert found.name == "made before"  # with others, until a task waits for it
    async with running(visit_and(lock, asyncio.sleep(0)), visit(lock)) as tasks:
        await asyncio.wait(tasks)
    found = {row.name: row for row in watch.statistics()}
    found.pop("made before", None)
    (alone,) = found.values()
    assert (alone.kind, alone.made, alone.waited) == ("Lock", 1, 1)


@pytest.mark.parametrize("before", [False, True])
async def test_statistics_of_subclasses(ours, before):
    """The pure-Python methods serve them, or wait in a queue of the program's."""

    class Queued(ours.Lock):
        def __init__(self):
            super().__init__()
            self._waiters = collections.deque()

    class Woken(ours.Semaphore):
        def _wake_up_next(self):
            return super()._wake_up_next()

    if not before:
        watch.start()
    lock, semaphore, queue = Queued(), Woken(1), upper(ours.Queue)(1)
    watch.start()

    async def put():
        for item in "abc":
            await queue.put(item)

    for entered in (lock, semaphore):
        await asyncio.gather(*(nest(entered, 1) for _ in range(3)))
    async with running(put()):
        assert [await queue.get() for _ in range(3)] == ["A", "B", "C"]
    counted = {found.kind: found for found in watch.statistics() if found.waited}
    assert {kind: found.waited for kind, found in counted.items()} == {
        "Lock": 2,
        "Semaphore": 2,
        "Queue": 4,
    }
    for kind in ("Lock", "Semaphore"):
        assert counted[kind].longest_wait <= counted[kind].total_wait
        assert before or (counted[kind].made, counted[kind].acquired) == (1, 3)


# ---- Signals and files ----


async def test_a_dump(watched, capsys):
    file = io.StringIO()
    watch.dump(file)
    watch.dump()
    assert file.getvalue() == capsys.readouterr().err == str(watch.snapshot())


def test_a_dump_to_nowhere(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(ValueError, match="there is no sys.stderr"):
        watch.dump()
    with pytest.raises(ValueError, match="there is no sys.stderr"):
        watch.register(signal.SIGINT)


on_posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@on_posix
def test_a_signal():
    before = signal.getsignal(signal.SIGUSR1)
    file = io.StringIO()
    watch.register(signal.SIGUSR1, file)
    try:
        signal.raise_signal(signal.SIGUSR1)
        assert "Nothing is held" in file.getvalue()
        other = io.StringIO()
        watch.register(signal.SIGUSR1, other)
        signal.raise_signal(signal.SIGUSR1)
        assert other.getvalue() == file.getvalue()
    finally:
        assert watch.unregister(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) == before
    assert not watch.unregister(signal.SIGUSR1)


@on_posix
def test_a_signal_that_cannot_be_registered(tmp_path):
    with pytest.raises(ValueError, match="cannot be caught"):
        watch.register(signal.SIGKILL)
    with pytest.raises(ValueError, match="cannot be caught"):
        watch.register(12345)
    with (tmp_path / "x").open("w") as file:
        pass
    with pytest.raises(ValueError, match="closed file"):
        watch.register(signal.SIGUSR1, file)
    with (tmp_path / "x").open() as file, pytest.raises(ValueError, match="cannot be written"):
        watch.register(signal.SIGUSR1, file)
    with pytest.raises(ValueError, match="cannot be written"):
        watch.register(signal.SIGUSR1, tmp_path / "x")
    errors = []

    def elsewhere():
        try:
            watch.register(signal.SIGUSR1)
        except ValueError as error:
            errors.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert errors == ["signals can be registered in the main thread only"]


@on_posix
def test_a_file_that_fails_in_the_signal(ours):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError("no space")

    watch.register(signal.SIGUSR1, Full())
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        watch.unregister(signal.SIGUSR1)
    (record,) = ours.records
    assert record.exc_info[0] is OSError
    ours.records.clear()


@pytest.mark.parametrize(
    ("name", "arguments", "kind"), [("KeyedLock", [], "circle"), ("KeyedSemaphore", [1], "permits")]
)
async def test_the_locks_of_keys_are_named_by_their_keys(watched, name, arguments, kind):
    locks = getattr(watched, name)(*arguments)

    async def transfer(source, target):
        async with locks[source]:
            await asyncio.sleep(0)
            async with locks[target]:
                pass

    async with running(transfer("a", "b"), transfer("b", "a")):
        (deadlock,) = watch.snapshot().deadlocks
        primitive = "Lock" if name == "KeyedLock" else "BoundedSemaphore"
        assert sorted(deadlock.names) == [f"{primitive} locks['{key}']" for key in "ab"]
        assert watched.kinds() == [kind]


# ---- python tests/test_watch.py pure|compiled TIMES ----


def main():
    import resource

    name, times = sys.argv[1], int(sys.argv[2])
    recorder = importlib.import_module(f"aiofastlock._{name}.{RECORDERS[name]}")
    assert recorder is _tasks.recorder, f"AIOFASTLOCK_EXTENSIONS={SWITCHES[name]} selects it"
    watch.start(on_deadlock="raise")
    memory = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # noqa: E731
    for found in asyncio.run(lives(Watched(name), times, 10, memory)):
        print("{} rows of statistics, {} held, {} keys, {} KiB".format(*found))


if __name__ == "__main__":
    main()
