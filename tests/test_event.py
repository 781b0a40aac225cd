"""What Event does, on asyncio's and on both of ours."""

import asyncio
import contextlib
import itertools
import threading
from unittest import mock

import pytest
from helpers import finish, on_interrupted_loop, park, parked

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
    (task,) = await park(event.wait)
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
    early = await park(event.wait, 2)
    event.set()
    event.clear()
    late = await park(event.wait)
    assert [await task for task in early] == [True, True]
    assert not event.is_set()
    await asyncio.sleep(0)
    assert not late[0].done()
    assert len(event._waiters) == 1
    event.set()
    assert await late[0] is True


async def test_set_cleared_and_set_with_a_newcomer_between(Event):
    event = Event()
    tasks = await park(event.wait)
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
    (task,) = await park(event.wait)
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
    (task,) = await park(event.wait)
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
    joining = await park(queue.join, 2)
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


# ---- Cancelled ----


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
        tasks = await park(event.wait, 2)
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


# ---- Code that runs in the middle of a step ----


def test_set_while_the_future_is_made(OurEvent):
    """asyncio parks for ever there: what would have woken it has gone by."""

    async def main():
        event = OurEvent()
        asyncio.get_running_loop().in_create_future = event.set
        assert await asyncio.wait_for(event.wait(), 1) is True
        assert not event._waiters

    on_interrupted_loop(main)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_parked_while_set_runs(OurEvent, index):
    """asyncio raises there: its deque changes while it goes through it."""

    async def main():
        event, late = OurEvent(), []

        def interrupt():
            event.clear()
            late.append(parked(event.wait()))

        waiting = [parked(event.wait()) for _ in range(3)]
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

    on_interrupted_loop(main)


@pytest.mark.parametrize("leaving", [0, 1, 2, 3])
@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_a_waiter_closed_while_set_runs(OurEvent, index, leaving):
    async def main():
        event = OurEvent()
        waiting = [parked(event.wait()) for _ in range(4)]
        waiting[index][1].in_set_result = waiting[leaving][0].close
        event.set()
        for number, (coroutine, future) in enumerate(waiting):
            if number != leaving:
                assert future.done()
                finish(coroutine)
        assert not event._waiters
        assert event.is_set()

    on_interrupted_loop(main)


def test_all_closed_while_set_runs(OurEvent):
    async def main():
        event = OurEvent()
        waiting = [parked(event.wait()) for _ in range(4)]

        def leave():
            for coroutine, _ in waiting:
                coroutine.close()

        waiting[1][1].in_set_result = leave
        event.set()
        assert not event._waiters
        event.clear()
        assert await asyncio.wait_for(set_and_wait(event), 1) is True

    on_interrupted_loop(main)


def test_set_and_cleared_while_set_runs(OurEvent):
    async def main():
        event = OurEvent()
        waiting = [parked(event.wait()) for _ in range(3)]

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

    on_interrupted_loop(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_set_result_that_fails_loses_nobody(Event, error):
    def fail():
        raise error("not now")

    async def main():
        event = Event()
        waiting = [parked(event.wait()) for _ in range(3)]
        waiting[1][1].in_set_result = fail
        with pytest.raises(error, match="not now"):
            event.set()
        event.clear()
        event.set()
        for coroutine, future in waiting:
            assert future.done()
            finish(coroutine)
        assert not event._waiters

    on_interrupted_loop(main)


def test_set_again_after_a_memory_error(OurEvent):
    """asyncio's is set then, and whoever was not reached waits on."""

    def fail():
        raise MemoryError

    async def main():
        event = OurEvent()
        waiting = [parked(event.wait()) for _ in range(3)]
        waiting[1][1].in_set_result = fail
        with pytest.raises(MemoryError):
            event.set()
        assert not event.is_set()
        event.set()
        for coroutine, _ in waiting:
            finish(coroutine)
        assert event.is_set()
        assert not event._waiters

    on_interrupted_loop(main)


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
    (task,) = await park(event.wait)
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


async def test_repr(Event):
    event = Event()
    plain = object.__repr__(event)[1:-1]
    assert repr(event) == f"<{plain} [unset]>"
    event.set()
    assert repr(event) == f"<{plain} [set]>"
    event.clear()
    tasks = await park(event.wait, 2)
    assert repr(event) == f"<{plain} [unset, waiters:2]>"
    event.set()
    assert repr(event) == f"<{plain} [set, waiters:2]>"
    await asyncio.wait(tasks)
    assert repr(event) == f"<{plain} [set]>"


def test_mocks_appended_to_the_waiters(Event):
    event = Event()
    for count in (1, 2):
        event._waiters.append(mock.Mock())
        assert len(event._waiters) == count
        assert repr(event).endswith(f" [unset, waiters:{count}]>")
    event.set()
    assert repr(event).endswith(" [set, waiters:2]>")


async def test_a_future_set_by_others(Event):
    event = Event()
    first, second, third = await park(event.wait, 3)
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
    (task,) = await park(event.wait)
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
