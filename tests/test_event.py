"""What Event does, on asyncio's and on both of ours."""

import asyncio
import collections.abc
import contextlib
import copy
import gc
import itertools
import pickle
import sys
import threading
import warnings
import weakref
from unittest import mock

import pytest
from conftest import needs_refcounts

on_cpython = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="PyPy's coroutines say it otherwise"
)


async def park(event, count=1):
    tasks = [asyncio.create_task(event.wait()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def finish(coroutine):
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value is True


# ---- Setting, clearing and waiting ----


def test_the_flag(Event):
    event = Event()
    assert event.is_set() is False
    for _ in range(2):
        assert event.set() is None
        assert event.is_set() is True
    for _ in range(2):
        assert event.clear() is None
        assert event.is_set() is False


async def test_wait_on_a_set_event_returns_true_without_a_pause(Event):
    event, paused = Event(), []
    event.set()
    asyncio.get_running_loop().call_soon(paused.append, True)
    assert await event.wait() is True
    assert not paused
    assert event.is_set()


async def test_wait_returns_true_when_it_is_set(Event):
    event = Event()
    (task,) = await park(event)
    await asyncio.sleep(0)
    assert not task.done()
    event.set()
    assert not task.done()
    await asyncio.sleep(0)
    assert task.result() is True
    assert event.is_set()


async def test_all_are_woken_in_order_and_in_one_iteration(Event):
    event, order = Event(), []

    async def wait(name):
        await event.wait()
        order.append(name)

    tasks = [asyncio.create_task(wait(name)) for name in range(20)]
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    loop.call_soon(order.append, "before")
    event.set()
    loop.call_soon(order.append, "after")
    await asyncio.sleep(0)
    assert order == ["before", *range(20), "after"]
    assert all(task.done() for task in tasks)


async def test_a_newcomer_need_not_wait_for_those_who_are_woken(Event):
    event, order = Event(), []

    async def wait(name):
        await event.wait()
        order.append(name)

    waiter = asyncio.create_task(wait("waiter"))
    await asyncio.sleep(0)
    event.set()
    await wait("setter")
    await waiter
    assert order == ["setter", "waiter"]


async def test_each_is_woken_once(Event):
    event, woken = Event(), []

    async def wait(name):
        while True:
            await event.wait()
            woken.append(name)
            event.clear()

    tasks = [asyncio.create_task(wait(name)) for name in "ab"]
    await asyncio.sleep(0)
    for count in range(1, 4):
        event.set()
        event.set()
        event.clear()
        event.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert woken == ["a", "b"] * count
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_set_and_cleared_before_they_run(Event):
    event = Event()
    early = await park(event, 2)
    event.set()
    event.clear()
    late = await park(event)
    assert [await task for task in early] == [True, True]
    assert not event.is_set()
    await asyncio.sleep(0)
    assert not late[0].done()
    assert len(event._waiters) == 1
    event.set()
    assert await late[0] is True


async def test_set_cleared_and_set_with_a_newcomer_between(Event):
    event = Event()
    tasks = await park(event)
    event.set()
    event.clear()
    coroutine = event.wait()
    future = coroutine.send(None)
    assert len(event._waiters) == 2
    assert not future.done()
    event.set()
    assert future.done()
    finish(coroutine)
    assert await tasks[0] is True
    assert not event._waiters


async def test_a_waiter_that_clears_does_not_keep_the_others(Event):
    event = Event()

    async def wait():
        await event.wait()
        event.clear()

    tasks = [asyncio.create_task(wait()) for _ in range(3)]
    await asyncio.sleep(0)
    event.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 1)
    assert not event.is_set()


async def test_two_tasks_take_turns(Event):
    events, turns = [Event(), Event()], []

    async def play(mine, others):
        for _ in range(10):
            await events[mine].wait()
            events[mine].clear()
            turns.append(mine)
            events[others].set()

    events[0].set()
    await asyncio.wait_for(asyncio.gather(play(0, 1), play(1, 0)), 1)
    assert turns == [0, 1] * 10


async def test_set_by_a_callback(Event):
    loop = asyncio.get_running_loop()
    for schedule in (loop.call_soon, lambda callback: loop.call_later(0.001, callback)):
        event = Event()
        schedule(event.set)
        assert await asyncio.wait_for(event.wait(), 1) is True


async def test_set_from_a_thread(Event):
    event, loop = Event(), asyncio.get_running_loop()
    (task,) = await park(event)
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(event.set,))
    thread.start()
    assert await asyncio.wait_for(task, 5) is True
    thread.join()


def test_set_before_there_is_a_loop(Event):
    event = Event()
    event.set()
    assert event._loop is None
    assert asyncio.run(event.wait()) is True
    event.clear()
    assert asyncio.run(asyncio.wait_for(set_and_wait(event), 1)) is True


async def set_and_wait(event):
    (task,) = await park(event)
    event.set()
    return await task


async def test_in_a_queue(Event, monkeypatch):
    monkeypatch.setattr(asyncio.locks, "Event", Event)
    queue = asyncio.Queue(2)
    assert type(queue._finished) is Event
    got = []

    async def consume():
        while True:
            got.append(await queue.get())
            await asyncio.sleep(0)
            queue.task_done()

    consumers = [asyncio.create_task(consume()) for _ in range(3)]
    await asyncio.wait_for(queue.join(), 1)  # nothing is unfinished
    for number in range(20):
        await queue.put(number)
    joining = await park(mock.Mock(wait=queue.join), 2)
    assert not any(task.done() for task in joining)
    await asyncio.wait_for(asyncio.gather(*joining), 1)
    assert got == list(range(20))
    for task in consumers:
        task.cancel()
    await asyncio.wait(consumers)


# ---- Nothing happens at the call ----


@pytest.mark.parametrize("parks", [False, True])
async def test_the_flag_is_looked_at_when_it_is_awaited(Event, parks):
    event = Event()
    if parks:
        event.set()
    coroutine = event.wait()
    assert not event._waiters
    if parks:
        event.clear()
        assert coroutine.send(None) is event._waiters[0]
        coroutine.close()
    else:
        event.set()
        finish(coroutine)
    assert event._loop is (asyncio.get_running_loop() if parks else None)


@pytest.mark.parametrize("is_set", [False, True])
async def test_a_wait_for_that_never_starts(Event, is_set):
    event = Event()
    if is_set:
        event.set()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(event.wait(), 0)
    assert not event._waiters
    assert event._loop is None


@needs_refcounts
def test_dropped_without_being_awaited(Event):
    with pytest.warns(RuntimeWarning, match=r"^coroutine 'Event\.wait' was never awaited$"):
        Event().wait()


@needs_refcounts
def test_no_warning_once_closed_or_thrown_into(Event):
    event = Event()
    event.wait().close()
    with pytest.raises(KeyError):
        event.wait().throw(KeyError("unstarted"))
    assert not event._waiters


# ---- The awaitable is a coroutine ----


async def test_the_awaitable_is_a_coroutine_to_asyncio(Event):
    event = Event()
    event.set()
    awaitable = event.wait()
    assert isinstance(awaitable, collections.abc.Coroutine)
    assert isinstance(awaitable, collections.abc.Awaitable)
    assert asyncio.iscoroutine(awaitable)
    assert (awaitable.__name__, awaitable.__qualname__) == ("wait", "Event.wait")
    assert repr(awaitable).startswith("<coroutine object Event.wait at 0x")
    assert await awaitable is True


@pytest.mark.parametrize("is_set", [False, True])
async def test_tasks_take_it(Event, is_set):
    event = Event()
    for run in (
        asyncio.create_task,
        asyncio.ensure_future,
        asyncio.shield,
        lambda coroutine: asyncio.wait_for(coroutine, 10),
        asyncio.gather,
    ):
        event.clear()
        if is_set:
            event.set()
        else:
            asyncio.get_running_loop().call_later(0.001, event.set)
        assert await run(event.wait()) in (True, [True])


def test_run_until_complete_takes_it(Event):
    event = Event()
    event.set()
    with asyncio.Runner() as runner:
        assert runner.get_loop().run_until_complete(event.wait()) is True
        event.clear()
        runner.get_loop().call_soon(event.set)
        assert runner.get_loop().run_until_complete(event.wait()) is True


def test_by_hand(Event):
    event = Event()
    event.set()
    coroutine = event.wait()
    with pytest.raises(TypeError, match="^can't send non-None value to a just-started coroutine$"):
        coroutine.send(1)
    finish(coroutine)
    with pytest.raises(StopIteration) as stop:
        next(event.wait().__await__())
    assert stop.value.value is True


async def test_parked_by_hand(Event):
    event = Event()
    coroutine = event.wait()
    future = coroutine.send(None)
    assert asyncio.isfuture(future)
    assert future.get_loop() is asyncio.get_running_loop()
    assert future._asyncio_future_blocking is True
    assert list(event._waiters) == [future]
    event.set()
    assert future.result() is True
    assert list(event._waiters) == [future]
    with pytest.raises(StopIteration) as stop:
        coroutine.send("ignored")
    assert stop.value.value is True
    assert not event._waiters


@pytest.mark.parametrize("parks", [False, True])
async def test_reuse(Event, parks):
    event = Event()
    coroutine = event.wait()
    if parks:
        asyncio.get_running_loop().call_soon(event.set)
    else:
        event.set()
    await coroutine
    text = "^cannot reuse already awaited coroutine$"
    with pytest.raises(RuntimeError, match=text):
        await coroutine
    with pytest.raises(RuntimeError, match=text):
        coroutine.send(None)
    with pytest.raises(RuntimeError, match=text):
        coroutine.throw(ValueError)
    coroutine.close()
    assert await event.wait() is True


async def test_reuse_of_a_closed_one(Event):
    event = Event()
    coroutine = event.wait()
    coroutine.send(None)
    coroutine.close()
    coroutine.close()
    with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
        await coroutine
    assert not event._waiters


async def test_awaited_by_two(Event):
    event = Event()
    coroutine = event.wait()

    async def wait():
        return await coroutine

    first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="^coroutine is being awaited already$"):
        await second
    event.set()
    assert await first is True


async def test_resumed_too_early(Event):
    event = Event()
    coroutine = event.wait()
    coroutine.send(None)
    with pytest.raises(RuntimeError, match="^await wasn't used with future$"):
        coroutine.send(None)
    assert not event._waiters
    event.set()
    assert await event.wait() is True


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((ValueError,), ValueError()),
        ((ValueError("text"),), ValueError("text")),
        ((ValueError, "text"), ValueError("text")),
        ((KeyError, (1, "text")), KeyError(1, "text")),
        ((ValueError("text"), None, None), ValueError("text")),
        ((asyncio.CancelledError("text"),), asyncio.CancelledError("text")),
        pytest.param(
            (5,),
            TypeError("exceptions must be classes deriving BaseException or instances"),
            marks=on_cpython,
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:the .type, exc, tb. signature of throw:DeprecationWarning")
@pytest.mark.parametrize("woken", [False, True])
async def test_throw_takes_what_a_coroutine_takes(Event, arguments, expected, woken):
    event = Event()
    coroutine = event.wait()
    coroutine.send(None)
    if woken:
        event.set()
    with pytest.raises(type(expected)) as raised:
        coroutine.throw(*arguments)
    assert str(raised.value).startswith(str(expected))
    assert not event._waiters
    assert event.is_set() is woken


# ---- Cancelled ----


async def test_cancelled_before_the_wake_up(Event):
    event = Event()
    first, second = await park(event, 2)
    first.cancel("message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        await first
    assert len(event._waiters) == 1
    assert not second.done()
    event.set()
    assert await second is True


async def test_cancelled_after_the_wake_up(Event):
    event = Event()
    first, second, third = await park(event, 3)
    event.set()
    second.cancel("message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        await second
    assert (await first, await third) == (True, True)
    assert event.is_set()
    assert not event._waiters


async def test_cancelled_before_the_set_in_one_iteration(Event):
    event = Event()
    first, second, third = await park(event, 3)
    second.cancel()
    event.set()
    await asyncio.wait([first, second, third])
    assert second.cancelled()
    assert (first.result(), third.result()) == (True, True)
    assert not event._waiters


async def test_cancelled_with_the_event_cleared_again(Event):
    event = Event()
    first, second = await park(event, 2)
    event.set()
    event.clear()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second is True
    assert not event.is_set()


async def test_cancelled_twice(Event):
    event = Event()
    (task,) = await park(event)
    event.set()
    task.cancel("one")
    task.cancel("two")
    with pytest.raises(asyncio.CancelledError) as raised:
        await task
    assert raised.value.args in (("one",), ("two",))
    assert not event._waiters


async def test_a_cancellation_that_is_caught(Event):
    event, caught = Event(), []

    async def wait():
        try:
            await event.wait()
        except asyncio.CancelledError:
            caught.append(True)
            return await event.wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert caught
    assert len(event._waiters) == 1
    event.set()
    assert await task is True


async def test_timed_out(Event):
    event = Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await event.wait()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(event.wait(), 0.001)
    assert not event._waiters
    event.set()
    async with asyncio.timeout(0):
        assert await event.wait() is True


async def test_cancelled_waiters_leave_in_any_order(Event):
    event = Event()
    tasks = await park(event, 7)
    left = list(event._waiters)
    for index in (3, 0, 6, 5, 1):
        tasks[index].cancel()
        left.remove(tasks[index]._fut_waiter)
        await asyncio.wait([tasks[index]])
        assert list(event._waiters) == left
    event.set()
    assert await asyncio.gather(tasks[2], tasks[4]) == [True, True]
    assert not event._waiters


async def test_a_task_group_that_fails(Event):
    event, never, behind, others = Event(), Event(), [], []

    async def fail():
        await event.wait()
        raise ZeroDivisionError

    async def run():
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            behind.extend(group.create_task(event.wait()) for _ in range(3))
            others.extend(group.create_task(never.wait()) for _ in range(3))
            await asyncio.sleep(0)
            event.set()

    with pytest.raises(ExceptionGroup):
        await run()
    assert all(task.result() is True for task in behind)  # woken before it failed
    assert all(task.cancelled() for task in others)
    assert not event._waiters
    assert not never._waiters


async def test_every_short_history(Event):
    """Whoever waits when it is set returns, unless cancelled; nobody else does."""
    for history in itertools.product(("set", "clear", "wait", "cancel", "run"), repeat=5):
        event = Event()
        tasks = await park(event, 2)
        started, free, cancelled = set(tasks), set(), set()
        for step in history:
            if step == "set":
                event.set()
                free |= started
            elif step == "clear":
                event.clear()
            elif step == "wait":
                tasks.append(asyncio.create_task(event.wait()))
            elif step == "cancel":
                task = next((task for task in tasks if task not in cancelled), None)
                if task is not None and task.cancel():
                    cancelled.add(task)
            else:
                await asyncio.sleep(0)
                if event.is_set():
                    free |= set(tasks)
                started |= set(tasks)
        await asyncio.sleep(0)
        if event.is_set():
            free |= set(tasks)
        await asyncio.sleep(0)
        for task in tasks:
            assert task.cancelled() is (task in cancelled), history
            assert task.done() is (task in cancelled | free), history
        assert len(event._waiters) == len(set(tasks) - cancelled - free), history
        event.set()
        await asyncio.wait(tasks)


# ---- A waiter that dies ----


@pytest.mark.parametrize("woken", [False, True])
@pytest.mark.parametrize("how", ["close", "throw", pytest.param("drop", marks=needs_refcounts)])
async def test_a_waiter_that_dies_leaves_the_queue_and_the_others_alone(Event, how, woken):
    event = Event()
    dying = event.wait()
    dying.send(None)
    (task,) = await park(event)
    if woken:
        event.set()
    assert len(event._waiters) == 2
    if how == "close":
        dying.close()
    elif how == "throw":
        with pytest.raises(KeyError):
            dying.throw(KeyError("dead"))
    else:
        del dying
        gc.collect()
    assert list(event._waiters) == [task._fut_waiter]
    await asyncio.sleep(0)
    assert task.done() is woken
    event.set()
    assert await task is True


# ---- Loops ----


def test_bound_to_the_first_loop_it_waits_on(Event):
    event = Event()

    async def wait():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), 0.001)

    first = asyncio.new_event_loop()
    event.set()
    first.run_until_complete(event.wait())
    assert event._loop is None  # it did not have to wait
    event.clear()
    first.run_until_complete(wait())
    assert event._loop is first
    second = asyncio.new_event_loop()
    with pytest.raises(RuntimeError) as raised:
        second.run_until_complete(event.wait())
    assert str(raised.value) == f"{event!r} is bound to a different event loop"
    assert not event._waiters
    assert event._loop is first
    event.set()
    assert second.run_until_complete(event.wait()) is True
    first.close()
    second.close()


def test_another_loop_is_refused_while_tasks_wait(Event):
    event = Event()
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    (task,) = first.run_until_complete(park(event))
    with pytest.raises(RuntimeError) as raised:
        second.run_until_complete(event.wait())
    assert str(raised.value) == f"{event!r} is bound to a different event loop"
    assert str(raised.value).startswith("<")
    assert "[unset, waiters:1]> is bound" in str(raised.value)
    event.set()
    assert first.run_until_complete(task) is True
    first.close()
    second.close()


@pytest.mark.usefixtures("mended")
def test_binds_anew_when_its_loop_is_closed(Event):
    event = Event()
    assert asyncio.run(set_and_wait(event)) is True
    event.clear()
    assert asyncio.run(set_and_wait(event)) is True
    assert not event._waiters


@pytest.mark.parametrize("woken", [False, True])
def test_a_loop_closed_under_waiters(OurEvent, woken):
    event = OurEvent()
    loop = asyncio.new_event_loop()
    tasks = loop.run_until_complete(park(event, 3))
    if woken:
        event.set()
        event.clear()
    loop.close()
    assert len(event._waiters) == 3

    async def use():
        for _ in range(2):
            (task,) = await park(event)
            assert len(event._waiters) == 1
            event.set()
            assert await asyncio.wait_for(task, 1) is True
            event.clear()

    asyncio.run(use())
    for task in tasks:
        task._log_destroy_pending = False
    del tasks, task
    gc.collect()  # the stale waiters end, and disturb nobody
    asyncio.run(use())
    assert not event._waiters


def test_waiting_without_a_loop(OurEvent):
    event = OurEvent()
    with pytest.raises(RuntimeError, match="^no running event loop$"):
        event.wait().send(None)
    assert not event._waiters
    event.set()
    finish(event.wait())


def test_the_loop_makes_the_future(Event):
    made = []

    class Loop(asyncio.SelectorEventLoop):
        def create_future(self):
            made.append(super().create_future())
            return made[-1]

    async def main():
        event = Event()
        event.set()
        made.clear()
        await event.wait()
        assert not made
        event.clear()
        coroutine = event.wait()
        assert coroutine.send(None) is made[0]
        event.set()
        assert made[0].result() is True
        finish(coroutine)
        assert len(made) == 1

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


def test_a_loop_that_cannot_make_a_future(Event):
    class Loop(asyncio.SelectorEventLoop):
        broken = False

        def create_future(self):
            if self.broken:
                raise MemoryError("no future")
            return super().create_future()

    async def main():
        loop = asyncio.get_running_loop()
        event = Event()
        loop.broken = True
        with pytest.raises(MemoryError, match="no future"):
            await event.wait()
        loop.broken = False
        assert not event._waiters
        assert await set_and_wait(event) is True

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


# ---- Code that runs in the middle of a step ----


class Future(asyncio.futures._PyFuture):
    """A future in Python, which does what it is told in the middle of set_result()."""

    def __init__(self, **keywords):
        self.in_set_result = None
        super().__init__(**keywords)

    def set_result(self, result):
        if self.in_set_result is not None:
            interrupt, self.in_set_result = self.in_set_result, None
            interrupt()
        super().set_result(result)


class Loop(asyncio.SelectorEventLoop):
    in_create_future = None

    def create_future(self):
        if self.in_create_future is not None:
            interrupt, self.in_create_future = self.in_create_future, None
            interrupt()
        return Future(loop=self)


def on(main):
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main())


def parked(event):
    coroutine = event.wait()
    return coroutine, coroutine.send(None)


def test_set_while_the_future_is_made(OurEvent):
    """asyncio parks for ever there: what would have woken it has gone by."""

    async def main():
        event = OurEvent()
        asyncio.get_running_loop().in_create_future = event.set
        assert await asyncio.wait_for(event.wait(), 1) is True
        assert not event._waiters

    on(main)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_parked_while_set_runs(OurEvent, index):
    """asyncio raises there: its deque changes while it goes through it."""

    async def main():
        event, late = OurEvent(), []

        def interrupt():
            event.clear()
            late.append(parked(event))

        waiting = [parked(event) for _ in range(3)]
        waiting[index][1].in_set_result = interrupt
        event.set()
        for coroutine, future in waiting:
            assert future.done()
            finish(coroutine)
        ((coroutine, future),) = late
        event.clear()
        event.set()
        assert future.done()
        finish(coroutine)
        assert not event._waiters

    on(main)


@pytest.mark.parametrize("leaving", [0, 1, 2, 3])
@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_a_waiter_closed_while_set_runs(OurEvent, index, leaving):
    async def main():
        event = OurEvent()
        waiting = [parked(event) for _ in range(4)]
        waiting[index][1].in_set_result = waiting[leaving][0].close
        event.set()
        for number, (coroutine, future) in enumerate(waiting):
            if number != leaving:
                assert future.done()
                finish(coroutine)
        assert not event._waiters
        assert event.is_set()

    on(main)


def test_all_closed_while_set_runs(OurEvent):
    async def main():
        event = OurEvent()
        waiting = [parked(event) for _ in range(4)]

        def leave():
            for coroutine, _ in waiting:
                coroutine.close()

        waiting[1][1].in_set_result = leave
        event.set()
        assert not event._waiters
        event.clear()
        assert await asyncio.wait_for(set_and_wait(event), 1) is True

    on(main)


def test_set_and_cleared_while_set_runs(OurEvent):
    async def main():
        event = OurEvent()
        waiting = [parked(event) for _ in range(3)]

        def again():
            event.clear()
            event.set()
            event.clear()

        waiting[0][1].in_set_result = again
        # The inner set() wakes the first as well, whose future then refuses a second result.
        with contextlib.suppress(asyncio.InvalidStateError):
            event.set()
        assert not event.is_set()
        for coroutine, future in waiting:
            assert future.done()
            finish(coroutine)
        assert not event._waiters

    on(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_set_result_that_fails_loses_nobody(Event, error):
    def fail():
        raise error("not now")

    async def main():
        event = Event()
        waiting = [parked(event) for _ in range(3)]
        waiting[1][1].in_set_result = fail
        with pytest.raises(error, match="not now"):
            event.set()
        event.clear()
        event.set()
        for coroutine, future in waiting:
            assert future.done()
            finish(coroutine)
        assert not event._waiters

    on(main)


def test_set_again_after_a_memory_error(OurEvent):
    """asyncio's is set then, and whoever was not reached waits on."""

    def fail():
        raise MemoryError

    async def main():
        event = OurEvent()
        waiting = [parked(event) for _ in range(3)]
        waiting[1][1].in_set_result = fail
        with pytest.raises(MemoryError):
            event.set()
        assert not event.is_set()
        event.set()
        for coroutine, _ in waiting:
            finish(coroutine)
        assert event.is_set()
        assert not event._waiters

    on(main)


# ---- A Python object like any other ----


async def test_overridden_methods(Event):
    class AutoReset(Event):
        async def wait(self):
            await super().wait()
            self.clear()
            return "waited"

        def set(self):
            self.count = getattr(self, "count", 0) + 1
            super().set()

    event = AutoReset()
    (task,) = await park(event)
    event.set()
    assert await task == "waited"
    assert (event.count, event.is_set()) == (1, False)


async def test_patched_methods(Event):
    event = Event()
    with mock.patch.object(event, "wait", mock.AsyncMock(return_value="patched")) as wait:
        assert await event.wait() == "patched"
        wait.assert_awaited_once_with()
    with mock.patch.object(event, "set"):
        event.set()
    assert not event.is_set()
    event.set()
    assert await event.wait() is True


@pytest.mark.parametrize("slots", [False, True])
async def test_a_subclass_that_overrides_nothing(Event, slots):
    namespace = {"__slots__": ("name",)} if slots else {}
    Named = type("Named", (Event,), namespace)
    event = Named()
    event.name = "x"
    assert await set_and_wait(event) is True
    assert (event.name, event.is_set()) == ("x", True)
    assert repr(event).startswith(f"<{__name__}.Named object at 0x")
    coroutine = event.wait()
    assert coroutine.__qualname__ == "Event.wait"
    coroutine.close()


async def test_a_subclass_with_arguments(Event):
    class Named(Event):
        def __init__(self, name, *, is_set=False):
            super().__init__()
            self.name = name
            if is_set:
                self.set()

    event = Named("a", is_set=True)
    assert event.name == "a"
    assert await event.wait() is True


async def test_attributes_and_weak_references(Event):
    event = Event()
    assert vars(event) == {} or "_value" in vars(event)
    event.note = "kept"
    assert event.note == "kept"
    assert "note" in vars(event)
    del event.note
    with pytest.raises(AttributeError):
        _ = event.note
    reference = weakref.ref(event)
    assert reference() is event
    assert {event: 1}[event] == 1
    assert event != Event()
    assert bool(event)
    await set_and_wait(event)
    del event
    gc.collect()
    assert reference() is None


async def test_repr(Event):
    event = Event()
    plain = object.__repr__(event)[1:-1]
    assert repr(event) == f"<{plain} [unset]>"
    event.set()
    assert repr(event) == f"<{plain} [set]>"
    event.clear()
    tasks = await park(event, 2)
    assert repr(event) == f"<{plain} [unset, waiters:2]>"
    event.set()
    assert repr(event) == f"<{plain} [set, waiters:2]>"
    await asyncio.wait(tasks)
    assert repr(event) == f"<{plain} [set]>"


@pytest.mark.parametrize(
    ("arguments", "keywords", "text"),
    [
        ((), {"loop": None}, "Event.__init__() got an unexpected keyword argument 'loop'"),
        ((1,), {}, "Event.__init__() takes 1 positional argument but 2 were given"),
        ((1, 2), {}, "Event.__init__() takes 1 positional argument but 3 were given"),
        ((1,), {"loop": 1}, "Event.__init__() got an unexpected keyword argument 'loop'"),
    ],
)
def test_arguments(Event, arguments, keywords, text):
    for cls in (Event, type("Sub", (Event,), {})):
        with pytest.raises(TypeError) as raised:
            cls(*arguments, **keywords)
        assert str(raised.value) == text


@pytest.mark.parametrize("method", ["wait", "set", "clear", "is_set"])
def test_methods_take_no_arguments(Event, method):
    event = Event()
    with pytest.raises(TypeError):
        getattr(event, method)(1)
    with pytest.raises(TypeError):
        getattr(event, method)(timeout=1)
    assert not event.is_set()


async def test_an_event_is_no_awaitable_and_no_context_manager(Event):
    event = Event()
    event.set()
    with pytest.raises(TypeError, match="Event"):
        await event
    with pytest.raises(TypeError, match="Event"):
        async with event:
            pass
    assert not isinstance(event, collections.abc.Awaitable)


async def test_waiters(Event):
    event = Event()
    assert event._waiters is not None
    assert len(event._waiters) == 0
    assert not event._waiters
    tasks = await park(event, 3)
    waiters = event._waiters
    assert len(waiters) == 3
    assert waiters
    assert [task._fut_waiter for task in tasks] == list(waiters)
    assert waiters[0] is tasks[0]._fut_waiter
    assert waiters[-1] is tasks[2]._fut_waiter
    assert tasks[1]._fut_waiter in waiters
    assert not any(future.done() for future in waiters)
    tasks[1].cancel()
    assert event._waiters[1].cancelled()
    event.set()
    assert all(future.done() for future in event._waiters)
    await asyncio.wait(tasks)
    assert len(event._waiters) == 0
    assert not event._waiters


def test_mocks_appended_to_the_waiters(Event):
    event = Event()
    for count in (1, 2):
        event._waiters.append(mock.Mock())
        assert len(event._waiters) == count
        assert repr(event).endswith(f" [unset, waiters:{count}]>")
    event.set()
    assert repr(event).endswith(" [set, waiters:2]>")


async def test_waiters_appended_by_others(Event):
    event = Event()
    future = asyncio.get_running_loop().create_future()
    (task,) = await park(event)
    event._waiters.append(future)
    assert (len(event._waiters), event._waiters[1]) == (2, future)
    event.set()
    assert future.result() is True
    await task
    assert list(event._waiters) == [future]
    reference = weakref.ref(event)
    del event, task
    gc.collect()
    assert reference() is None


async def test_a_future_set_by_others(Event):
    event = Event()
    first, second, third = await park(event, 3)
    event._waiters[0].set_result("ignored")
    event._waiters[1].set_exception(KeyError("by other hands"))
    assert await first is True
    with pytest.raises(KeyError, match="by other hands"):
        await second
    assert not event.is_set()
    assert not third.done()
    event.set()
    assert await third is True
    assert not event._waiters


async def test_private_state_is_writable(Event):
    event = Event()
    assert event._value is False
    (task,) = await park(event)
    event._value = True
    assert event.is_set() is True
    assert await event.wait() is True
    event.set()  # does nothing, being set
    await asyncio.sleep(0)
    assert not task.done()
    event._value = False
    assert event.is_set() is False
    event.set()
    assert await task is True
    assert event._value is True
    other = Event()
    other._loop = loop = asyncio.get_running_loop()
    assert other._loop is loop
    assert await set_and_wait(other) is True


@pytest.mark.parametrize("woken", [False, True])
async def test_made_to_forget_its_loop(Event, woken):
    """Some set `_loop` to None to use an event on another loop. It loses nobody by that."""
    event = Event()
    tasks = await park(event, 2)
    if woken:
        event.set()
        event.clear()
    event._loop = None
    tasks += await park(event)
    event.set()
    await asyncio.wait(tasks, timeout=1)
    assert all(task.done() for task in tasks)
    assert not event._waiters


# ---- Copied and pickled ----


def pickled(event):
    return pickle.loads(pickle.dumps(event))


@pytest.fixture
def importable(Event, monkeypatch):
    """The class under the name by which pickle finds it, whichever half is in use."""
    monkeypatch.setattr(f"{Event.__module__}.{Event.__name__}", Event)


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
@pytest.mark.parametrize("is_set", [False, True])
async def test_a_copy_keeps_the_flag_and_the_attributes(Event, duplicate, is_set):
    event = Event()
    event.note = ["kept"]
    if is_set:
        event.set()
    other = duplicate(event)
    assert type(other) is Event
    assert other is not event
    assert (other.is_set(), other.note) == (is_set, ["kept"])
    assert (other.note is event.note) is (duplicate is copy.copy)
    other.clear()
    assert await set_and_wait(other) is True
    assert event.is_set() is is_set


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
async def test_a_copy_has_a_loop_and_waiters_of_its_own(OurEvent, duplicate, monkeypatch):
    monkeypatch.setattr("aiofastlock.Event", OurEvent)
    event = OurEvent()
    await set_and_wait(event)
    assert event._loop is asyncio.get_running_loop()
    other = duplicate(event)
    assert other.is_set()
    assert other._loop is None
    event.clear()
    other.clear()
    (task,) = await park(event)
    assert not other._waiters
    other.set()
    await asyncio.sleep(0)
    assert not task.done()
    event.set()
    assert await task is True


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
async def test_no_copy_while_tasks_wait(OurEvent, duplicate):
    event = OurEvent()
    (task,) = await park(event)
    text = "^cannot copy or pickle a 'Event' object that tasks wait for$"
    with pytest.raises(TypeError, match=text):
        duplicate(event)
    event.set()
    assert await task is True


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(Event, importable, protocol):
    event = Event()
    event.set()
    assert pickle.loads(pickle.dumps(event, protocol)).is_set()


def test_a_copied_subclass_with_slots(Event):
    class Named(Event):
        __slots__ = ("name",)

    event = Named()
    event.name, event.note = "x", "y"
    event.set()
    for duplicate in (copy.copy, copy.deepcopy):
        other = duplicate(event)
        assert (type(other), other.name, other.note) == (Named, "x", "y")
        assert other.is_set()


# ---- Collected ----


@needs_refcounts
def test_dropped_with_everybody(OurEvent):
    """An event, its waiters and their tasks in one cycle of garbage, and the loop closed."""

    async def leave_behind():
        event = OurEvent()
        event.itself = event
        event.tasks = await park(event, 5)
        for task in event.tasks:
            task._log_destroy_pending = False
        return weakref.ref(event)

    loop = asyncio.new_event_loop()
    reference = loop.run_until_complete(leave_behind())
    gc.collect()
    assert reference() is None
    loop.close()


@needs_refcounts
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_cycles_through_an_awaitable(OurEvent):
    async def cycle(start):
        event = OurEvent()
        event.pending = event.wait()
        if start:
            event.pending.send(None)
        return weakref.ref(event)

    for start in (False, True):
        reference = asyncio.run(cycle(start))
        gc.collect()
        assert reference() is None


@needs_refcounts
async def test_an_awaitable_holds_its_event_no_longer_than_it_needs(OurEvent):
    event = OurEvent()
    event.set()
    reference = weakref.ref(event)
    coroutine = event.wait()
    await coroutine
    del event
    assert reference() is None
    coroutine.close()


@needs_refcounts
def test_a_warning_that_is_an_error_is_reported_and_harmless(OurEvent):
    event = OurEvent()
    reports = []
    with (
        mock.patch("sys.unraisablehook", reports.append),
        warnings.catch_warnings(action="error"),
    ):
        event.wait()
    assert [report.exc_type for report in reports] == [RuntimeWarning]
    assert not event._waiters


# ---- On another loop ----


def test_on_uvloop(Event):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        event, order = Event(), []

        async def wait(name):
            await event.wait()
            order.append(name)

        tasks = [asyncio.create_task(wait(name)) for name in range(10)]
        await asyncio.sleep(0)
        assert len(event._waiters) == 10
        for name in (0, 3, 9):
            tasks[name].cancel()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(event.wait(), 0.001)
        event.set()
        event.clear()
        await asyncio.wait(tasks)
        assert order == [1, 2, 4, 5, 6, 7, 8]
        assert not event._waiters
        assert await set_and_wait(event) is True

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
