"""What Event does, in asyncio and in both implementations."""

import asyncio
import contextlib
import itertools
import threading

import pytest
from helpers import failing, finish, on_interrupted_loop, park, parked

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


async def test_a_newcomer_need_not_wait_for_the_woken_tasks(Event):
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


async def test_each_is_woken_once_although_the_first_clears_it(Event):
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


async def test_set_from_a_thread(Event):
    event, loop = Event(), asyncio.get_running_loop()
    (task,) = await park(event.wait)
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(event.set,))
    thread.start()
    assert await task is True
    thread.join()


def test_set_before_there_is_a_loop(Event):
    event = Event()
    event.set()
    assert event._loop is None
    assert asyncio.run(event.wait()) is True
    event.clear()
    assert asyncio.run(set_and_wait(event)) is True


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
    await queue.join()  # no item is unfinished
    for number in range(20):
        await queue.put(number)
    joining = await park(queue.join, 2)
    assert not any(task.done() for task in joining)
    await asyncio.gather(*joining)
    assert got == list(range(20))
    for task in consumers:
        task.cancel()
    await asyncio.wait(consumers)


# ---- In every order ----


async def test_every_short_history(Event):
    """The tasks that wait when it is set return, unless they are cancelled. No others do."""
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


@pytest.mark.parametrize("index", [0, 1, 2])
def test_parked_while_set_runs(OurEvent, index):
    """asyncio raises there: its deque changes during the iteration."""

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


def test_set_and_cleared_while_set_runs(OurEvent):
    async def main():
        event = OurEvent()
        waiting = [parked(event.wait()) for _ in range(3)]

        def again():
            event.clear()
            event.set()
            event.clear()

        waiting[0][1].in_set_result = again
        # The inner set() also wakes the first task, whose future then refuses a second result.
        with contextlib.suppress(asyncio.InvalidStateError):
            event.set()
        assert not event.is_set()
        for coroutine, future in waiting:
            assert future.done()
            finish(coroutine)
        assert not event._waiters

    on_interrupted_loop(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_failing_set_result_loses_no_waiter(Event, error):
    async def main():
        event = Event()
        waiting = [parked(event.wait()) for _ in range(3)]
        waiting[1][1].in_set_result = failing(error)
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
    """asyncio's event is set then, and the waiters that it did not reach are never woken."""

    async def main():
        event = OurEvent()
        waiting = [parked(event.wait()) for _ in range(3)]
        waiting[1][1].in_set_result = failing(MemoryError)
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


async def test_private_state_is_writable(Event):
    event = Event()
    assert event._value is False
    (task,) = await park(event.wait)
    event._value = True
    assert event.is_set() is True
    assert await event.wait() is True
    event.set()  # no effect: the event is set
    await asyncio.sleep(0)
    assert not task.done()
    event._value = False
    assert event.is_set() is False
    event.set()
    assert await task is True
    assert event._value is True
