"""What is true of every primitive, or of most, in asyncio and in both implementations."""

import asyncio
import collections
import collections.abc
import contextlib
import copy
import gc
import re
import sys
import types
import warnings
import weakref
from typing import Any, NamedTuple
from unittest import mock

import pytest
from conftest import (
    FREE_THREADED,
    IMPLEMENTATIONS,
    OURS,
    PRIMITIVES,
    needs_compiled,
    needs_refcounts,
)
from helpers import (
    ARGUMENTS,
    COPIES,
    Parking,
    abandon,
    abandoned,
    by_hand,
    copies,
    finish,
    on_interrupted_loop,
    park,
    parked,
    queue_up,
    state,
    steps,
)

import aiofastlock

on_cpython = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="the messages of PyPy's coroutines differ"
)
REUSED = "^cannot reuse already awaited coroutine$"
UNSTARTED = "^can't send non-None value to a just-started coroutine$"


class Call(NamedTuple):
    """A call that need not wait: the state before it and after it, and what it returns."""

    before: str
    returns: Any
    after: str
    arguments: tuple = ()
    name: str = ""  # of the coroutine; empty if that is the context manager's, which may vary


NONE = (None, None, None)
CALLS = {
    "Lock.acquire": Call("unlocked", True, "locked", name="Lock.acquire"),
    "Lock.__aenter__": Call("unlocked", None, "locked"),
    "Lock.__aexit__": Call("locked", None, "unlocked", NONE),
    "Event.wait": Call("set", True, "set", name="Event.wait"),
    "Condition.acquire": Call("unlocked", True, "locked", name="Lock.acquire"),
    "Condition.__aenter__": Call("unlocked", None, "locked"),
    "Condition.__aexit__": Call("locked", None, "unlocked", NONE),
    "Condition.wait_for": Call("locked", "it", "locked", (lambda: "it",), "Condition.wait_for"),
    "Semaphore.acquire": Call("unlocked, value:1", True, "locked", name="Semaphore.acquire"),
    "Semaphore.__aenter__": Call("unlocked, value:1", None, "locked"),
    "Semaphore.__aexit__": Call("locked", None, "unlocked, value:1", NONE),
    "BoundedSemaphore.acquire": Call("unlocked, value:1", True, "locked", name="Semaphore.acquire"),
    "BoundedSemaphore.__aenter__": Call("unlocked, value:1", None, "locked"),
    "BoundedSemaphore.__aexit__": Call("locked", None, "unlocked, value:1", NONE),
    "Barrier.wait": Call("filling, waiters:0/1", 0, "filling, waiters:0/1", name="Barrier.wait"),
    "Barrier.__aenter__": Call("filling, waiters:0/1", 0, "filling, waiters:0/1"),
    "Barrier.__aexit__": Call("filling, waiters:0/1", None, "filling, waiters:0/1", NONE),
    "Barrier.reset": Call("broken", None, "filling, waiters:0/1", name="Barrier.reset"),
    "Barrier.abort": Call("filling, waiters:0/1", None, "broken", name="Barrier.abort"),
}


class Calling:
    """A primitive, and a call of one of its methods that need not wait."""

    def __init__(self, namespace, call):
        name, self.method = call.split(".")
        self.before, self.returns, self.after, self.arguments, self.name = CALLS[call]
        self.name = self.name or rf"\w+\.{self.method}"
        self.primitive = getattr(namespace, name)(*[1] * (name == "Barrier"))
        if self.before == "locked":
            finish(self.primitive.acquire())
        elif self.before == "set":
            self.primitive.set()
        elif self.before == "broken":
            by_hand(self.primitive.abort())
        self.has_not_begun()

    def __call__(self):
        return getattr(self.primitive, self.method)(*self.arguments)

    def has_not_begun(self):
        assert state(self.primitive) == self.before

    def has_ended(self):
        assert state(self.primitive) == self.after


@pytest.fixture(params=CALLS)
def call(request, implementation):
    return Calling(IMPLEMENTATIONS[implementation], request.param)


@pytest.fixture(params=CALLS)
def our_call(request, our_name):
    return Calling(OURS[our_name], request.param)


# All methods that may wait, except those that call another one: Condition.acquire(), __aenter__().
WAITS = (
    "Lock.acquire", "Event.wait", "Condition.wait", "Condition.wait_for", "Semaphore.acquire",
    "BoundedSemaphore.acquire", "Barrier.wait",
)  # fmt: skip


def parking_at(namespace, wait):
    name, method = wait.split(".")
    return Parking(getattr(namespace, name), method)


@pytest.fixture(params=WAITS)
def parking(request, implementation):
    return parking_at(IMPLEMENTATIONS[implementation], request.param)


@pytest.fixture(params=WAITS)
def our_parking(request, our_name):
    return parking_at(OURS[our_name], request.param)


# Here a waiter that leaves before it is woken changes nothing for the other waiters.
QUEUES = ["Lock", "Event", "Semaphore", "BoundedSemaphore"]


@pytest.fixture(params=QUEUES)
def queue(request, implementation):
    return Parking(getattr(IMPLEMENTATIONS[implementation], request.param))


@pytest.fixture(params=QUEUES)
def our_queue(request, our_name):
    return Parking(getattr(OURS[our_name], request.param))


# ---- Acquiring and releasing ----


@pytest.fixture(params=["Lock", "Semaphore", "BoundedSemaphore"])
def Held(request, implementation):
    return getattr(IMPLEMENTATIONS[implementation], request.param)


@pytest.fixture(params=["Lock", "Condition", "Semaphore", "BoundedSemaphore"])
def held(request, implementation):
    return getattr(IMPLEMENTATIONS[implementation], request.param)()


async def test_acquire_returns_true_and_release_none(held):
    assert held.locked() is False
    assert await held.acquire() is True
    assert held.locked() is True
    assert held.release() is None
    assert held.locked() is False


async def test_async_with_returns_none_and_releases(held):
    async with held as entered:
        assert entered is None
        assert held.locked()
    assert not held.locked()
    async with contextlib.AsyncExitStack() as stack:
        assert await stack.enter_async_context(held) is None
        assert held.locked()
    assert not held.locked()


async def test_async_with_releases_after_an_exception_and_does_not_swallow_it(held):
    with pytest.raises(ZeroDivisionError):
        async with held:
            raise ZeroDivisionError
    assert not held.locked()


@pytest.mark.parametrize("name", ["Lock", "Condition"])
async def test_release_of_an_unlocked_one(implementation, name):
    lock = getattr(IMPLEMENTATIONS[implementation], name)()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^Lock is not acquired\.$"):
            lock.release()
        assert not lock.locked()
    with pytest.raises(RuntimeError, match=r"^Lock is not acquired\.$"):
        await lock.__aexit__(None, None, None)
    async with lock:
        pass


async def test_waiters_are_served_in_order(held):
    order = []

    async def take_turn(name):
        async with held:
            order.append(name)
            await asyncio.sleep(0)
            assert order[-1] == name  # nobody else came in

    async with asyncio.TaskGroup() as group:
        for name in range(20):
            group.create_task(take_turn(name))
    assert order == list(range(20))


async def test_a_newcomer_passes_those_that_are_all_cancelled(Held):
    held = Held()
    await held.acquire()
    tasks = await queue_up(held, 3)
    for task in tasks:
        task.cancel()
    held.release()
    assert not held.locked()
    finish(held.acquire())  # although the three are still in the queue
    assert len(held._waiters) == 3
    held.release()
    await asyncio.wait(tasks)
    assert not held.locked()


# ---- Nothing happens at the call ----


def test_nothing_happens_before_the_await(call):
    awaitable = call()
    call.has_not_begun()
    assert by_hand(awaitable) == call.returns
    call.has_ended()


async def test_a_wait_for_that_never_starts(call):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call(), 0)
    call.has_not_begun()
    assert call.primitive._loop is None


async def test_a_wait_for_that_would_park_and_never_starts(parking):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(parking.wait(), 0)
    assert not parking.queue()
    assert parking.primitive._loop is None
    parking.ended()
    await parking.works()


@pytest.mark.parametrize("opened", [False, True])
async def test_whether_it_must_wait_is_decided_at_the_await(queue, opened):
    if not opened:
        queue.open()
        coroutine = queue.call()
        if queue.is_given:
            finish(queue.call())
        else:
            queue.primitive.clear()
        assert queue.queue() == []
        assert coroutine.send(None) is queue.queue()[0]
        coroutine.close()
    else:
        coroutine = queue.call()
        queue.open()
        finish(coroutine)
    assert queue.primitive._loop is (None if opened else asyncio.get_running_loop())


@needs_refcounts
def test_dropped_without_being_awaited(call):
    with pytest.warns(RuntimeWarning, match=rf"^coroutine '{call.name}' was never awaited$"):
        call()
    call.has_not_begun()


@needs_refcounts
def test_no_warning_once_closed_or_thrown_into(call):
    call().close()
    with pytest.raises(KeyError):
        call().throw(KeyError("unstarted"))
    call.has_not_begun()


@needs_refcounts
def test_a_warning_that_is_an_error_is_reported_and_harmless(our_call):
    reports = []
    with (
        mock.patch("sys.unraisablehook", reports.append),
        warnings.catch_warnings(action="error"),
    ):
        our_call()
    assert [report.exc_type for report in reports] == [RuntimeWarning]
    our_call.has_not_begun()


# ---- The awaitable is a coroutine ----


def assert_a_coroutine(awaitable, name):
    assert isinstance(awaitable, collections.abc.Coroutine)
    assert isinstance(awaitable, collections.abc.Awaitable)
    assert asyncio.iscoroutine(awaitable)
    assert re.fullmatch(name, awaitable.__qualname__)
    assert awaitable.__name__ == awaitable.__qualname__.rpartition(".")[2]
    address = object.__repr__(awaitable).rpartition(" at ")[2]
    assert repr(awaitable) == f"<coroutine object {awaitable.__qualname__} at {address}"


def test_the_awaitable_is_a_coroutine_to_asyncio(call):
    awaitable = call()
    assert_a_coroutine(awaitable, call.name)
    assert by_hand(awaitable) == call.returns


async def test_one_that_parks_is_a_coroutine_to_asyncio(parking):
    awaitable = parking.wait()
    assert_a_coroutine(awaitable, f"{parking.name.removeprefix('Bounded')}.{parking.method}")
    assert asyncio.isfuture(awaitable.send(None))
    awaitable.close()


RUNS = (
    asyncio.create_task,
    asyncio.ensure_future,
    asyncio.shield,
    lambda coroutine: asyncio.wait_for(coroutine, 10),
    lambda coroutine: asyncio.wait_for(coroutine, None),
    asyncio.gather,
)


async def test_tasks_take_it(implementation, parking):
    for run in RUNS:
        waking = asyncio.create_task(wake_the_waiter(parking))
        assert await run(parking.wait()) in (True, 0, [True], [0])
        parking.ended()
        await waking
    await parking.works()


async def wake_the_waiter(parking):
    while not parking.queue():
        await asyncio.sleep(0)
    parking.wake()


async def test_tasks_take_it_when_it_need_not_wait(implementation, request):
    for name in CALLS:
        for run in RUNS:
            call = Calling(IMPLEMENTATIONS[implementation], name)
            assert await run(call()) in (call.returns, [call.returns])
            call.has_ended()


async def test_it_does_not_pause_when_it_need_not_wait(call):
    paused = []
    asyncio.get_running_loop().call_soon(paused.append, True)
    async with asyncio.timeout(0):
        assert await call() == call.returns
    assert not paused


async def refuses_reuse(coroutine):
    with pytest.raises(RuntimeError, match=REUSED):
        await coroutine
    with pytest.raises(RuntimeError, match=REUSED):
        coroutine.send(None)
    with pytest.raises(RuntimeError, match=REUSED):
        coroutine.throw(ValueError)
    coroutine.close()


async def test_by_hand(call):
    coroutine = call()
    with pytest.raises(TypeError, match=UNSTARTED):
        coroutine.send(1)
    call.has_not_begun()
    with pytest.raises(StopIteration) as stop:
        next(coroutine.__await__())
    assert stop.value.value == call.returns
    await refuses_reuse(coroutine)
    call.has_ended()


async def test_parked_by_hand(parking):
    coroutine = parking.wait()
    with pytest.raises(TypeError, match=UNSTARTED):
        coroutine.send(1)
    future = coroutine.send(None)
    assert asyncio.isfuture(future)
    assert future.get_loop() is asyncio.get_running_loop()
    assert future._asyncio_future_blocking is True
    assert parking.queue() == [future]
    assert not future.done()
    parking.wake()
    assert future.done()
    if parking.name not in ("Condition", "Barrier"):
        assert future.result() is True
    assert parking.queue() == [future]  # it leaves the queue when it runs
    with pytest.raises(StopIteration) as stop:
        coroutine.send("ignored")
    assert stop.value.value in (True, 0)
    await refuses_reuse(coroutine)
    parking.ended()
    await parking.works()


async def test_reuse_of_a_closed_one(parking):
    coroutine = parking.wait()
    coroutine.send(None)
    coroutine.close()
    await refuses_reuse(coroutine)
    parking.ended()
    await parking.works()


async def test_awaited_by_two(parking):
    coroutine = parking.wait()

    async def wait():
        return await coroutine

    first, second = await park(wait, 2)
    with pytest.raises(RuntimeError, match="^coroutine is being awaited already$"):
        await second
    parking.wake()
    assert await first in (True, 0)
    parking.ended()
    await parking.works()


async def test_resumed_too_early(parking):
    coroutine = parking.wait()
    coroutine.send(None)
    with pytest.raises(RuntimeError, match="^await wasn't used with future$"):
        coroutine.send(None)
    parking.ended()
    await parking.works()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((ValueError,), ValueError()),
        ((ValueError("text"),), ValueError("text")),
        ((ValueError, "text"), ValueError("text")),
        ((KeyError, (1, "text")), KeyError(1, "text")),
        ((ValueError, ValueError("text")), ValueError("text")),
        ((ValueError("text"), None, None), ValueError("text")),
        ((asyncio.CancelledError("text"),), asyncio.CancelledError("text")),
        ((GeneratorExit,), GeneratorExit()),
        pytest.param(
            (5,),
            TypeError("exceptions must be classes deriving BaseException or instances"),
            marks=on_cpython,
        ),
        pytest.param(
            (ValueError(), 5),
            TypeError("instance exception may not have a separate value"),
            marks=on_cpython,
        ),
        pytest.param(
            (ValueError, None, 5),
            TypeError("throw() third argument must be a traceback"),
            marks=on_cpython,
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:the .type, exc, tb. signature of throw:DeprecationWarning")
async def test_throw_takes_what_a_coroutine_takes(implementation, arguments, expected):
    for wait in WAITS:
        for woken in (False, True):
            parking = parking_at(IMPLEMENTATIONS[implementation], wait)
            coroutine = parking.wait()
            coroutine.send(None)
            if woken:
                parking.wake()
            with pytest.raises(type(expected)) as raised:
                coroutine.throw(*arguments)
            assert str(raised.value).startswith(str(expected))
            parking.ended()
            assert not parking.queue()
            if implementation == "asyncio" and "Semaphore" in wait:
                continue  # before 3.13 a CancelledError adds a permit there: gh-111693
            assert woken or state(parking.primitive) == parking.shut


async def test_throw_keeps_the_instance_and_its_traceback(parking):
    coroutine = parking.wait()
    coroutine.send(None)
    try:
        raise ValueError("made here")
    except ValueError as error:
        thrown, traceback = error, error.__traceback__
    with pytest.raises(ValueError, match="made here") as raised:
        coroutine.throw(thrown)
    assert raised.value is thrown
    last = thrown.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    assert last.tb_frame is traceback.tb_frame
    parking.ended()
    await parking.works()


# ---- Cancelled ----


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("when", ["long before", "before", "after"])
async def test_cancelled_before_or_after_the_wake_up(queue, when, index):
    tasks = await park(queue.visit, 3)
    cancelled = tasks.pop(index)
    if when == "after":
        queue.wake()
    cancelled.cancel("message")
    if when == "long before":
        await asyncio.wait([cancelled])
        assert queue.queue() == [task._fut_waiter for task in tasks]
    if when != "after":
        queue.wake()
    await steps()
    with pytest.raises(asyncio.CancelledError, match="message"):
        await cancelled
    assert [task.done() for task in tasks] == [True, not queue.is_given]
    assert await tasks[0] is True
    if queue.is_given:
        queue.wake()
    assert await asyncio.wait_for(tasks[1], 1) is True
    await queue.works()


@pytest.mark.parametrize("woken", [False, True])
async def test_cancelled_twice(parking, woken):
    (task,) = await park(parking.visit)
    if woken:
        parking.wake()
    task.cancel("one")
    task.cancel("two")
    with pytest.raises(asyncio.CancelledError) as raised:
        await task
    assert raised.value.args in (("one",), ("two",))
    if woken and parking.is_given:
        finish(parking.primitive.acquire())
    await parking.works()


async def test_timed_out(parking):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await parking.visit()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(parking.visit(), 0.001)
    await parking.works()


@pytest.mark.parametrize("name", ["Lock", "Semaphore", "BoundedSemaphore", "Barrier"])
async def test_timed_out_on_the_way_in(implementation, name):
    parking = Parking(getattr(IMPLEMENTATIONS[implementation], name))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001), parking.primitive:
            pass
    await parking.works()


async def test_cancelled_waiters_leave_in_any_order(queue):
    tasks = await park(queue.visit, 7)
    left = queue.queue()
    for index in (3, 0, 6, 5, 1):
        tasks[index].cancel()
        left.remove(tasks[index]._fut_waiter)
        await asyncio.wait([tasks[index]])
        assert queue.queue() == left
    queue.wake()
    assert await tasks[2] is True
    if queue.is_given:
        queue.wake()
    assert await tasks[4] is True
    await queue.works()


async def test_a_task_group_that_fails(parking):
    async def fail():
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def work():
        async with asyncio.TaskGroup() as group:
            for _ in range(1 if parking.name == "Barrier" else 50):
                group.create_task(parking.visit())
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as raised:
        await work()
    assert [type(error) for error in raised.value.exceptions] == [ZeroDivisionError]
    await parking.works()


# ---- Ended by something else ----


@abandoned
@pytest.mark.parametrize("woken", [False, True])
async def test_an_abandoned_waiter_changes_nothing_for_the_others(request, queue, how, woken):
    """If it was woken, its turn goes to another waiter."""
    if woken and queue.is_given:
        request.getfixturevalue("mended")
    waiter = queue.wait()
    waiter.send(None)
    (task,) = await park(queue.visit)
    if woken:
        queue.wake()
    assert len(queue.queue()) == 2
    abandon(waiter, how)
    del waiter
    assert queue.queue() == [task._fut_waiter]
    await steps()
    assert task.done() is woken
    if not woken:
        queue.wake()
    assert await asyncio.wait_for(task, 1) is True
    await queue.works()


# ---- Loops ----


class Loop(asyncio.SelectorEventLoop):
    """Keeps the futures that it makes, and fails to make any while it is broken."""

    def __init__(self):
        self.made, self.broken = [], False
        super().__init__()

    def create_future(self):
        if self.broken:
            raise MemoryError("no future")
        self.made.append(super().create_future())
        return self.made[-1]


def test_bound_to_the_first_loop_it_waits_on(implementation, parking, other_loop):
    primitive = parking.primitive
    assert primitive._loop is None
    with asyncio.Runner() as runner:
        (task,) = runner.run(park(parking.visit))
        task.cancel()
        runner.run(steps())
        with pytest.raises(RuntimeError) as raised:
            other_loop.run_until_complete(parking.wait())
        text = f"{primitive!r} is bound to a different event loop"
        if implementation == "asyncio":  # its barrier names the condition that it waits on
            text = text.rpartition("]")[2]
        assert str(raised.value).endswith(text)
        assert getattr(primitive, "_cond", primitive)._loop is runner.get_loop()
        parking.ended()
        runner.run(parking.works())


def test_another_loop_is_refused_while_tasks_wait(queue, other_loop):
    with asyncio.Runner() as runner:
        (task,) = runner.run(park(queue.visit))
        with pytest.raises(RuntimeError) as raised:
            other_loop.run_until_complete(queue.wait())
        text = f"{queue.primitive!r} is bound to a different event loop"
        assert str(raised.value) == text
        assert f"[{queue.shut}, waiters:1]> is bound" in text
        queue.wake()
        assert runner.run(asyncio.wait_for(task, 1)) is True
        runner.run(queue.works())


def test_a_call_that_need_not_wait_uses_no_loop(call):
    async def main():
        loop = asyncio.get_running_loop()
        loop.broken = True
        try:
            assert await call() == call.returns
        finally:
            loop.broken = False

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())
    assert call.primitive._loop is None


@pytest.mark.parametrize("name", ["Lock.acquire", "Event.wait", "Semaphore.acquire"])
def test_a_call_that_need_not_wait_may_run_on_any_loop(implementation, name, other_loop):
    call = Calling(IMPLEMENTATIONS[implementation], name)
    call.primitive._loop = loop = asyncio.new_event_loop()
    assert other_loop.run_until_complete(call()) is True
    assert call.primitive._loop is loop
    loop.close()


@pytest.mark.usefixtures("mended")
def test_binds_anew_when_its_loop_is_closed(parking):
    for _ in range(3):
        asyncio.run(parking.works())


late = pytest.mark.skipif(
    FREE_THREADED, reason="there, tasks of a closed loop are deallocated late, with warnings"
)


@pytest.mark.parametrize("name", [*QUEUES, pytest.param("Condition", marks=late)])
@pytest.mark.parametrize("woken", [False, True])
def test_a_loop_closed_under_waiters(our_name, name, woken):
    """A turn that was on its way to a task of that loop can be taken again."""
    parking = Parking(getattr(OURS[our_name], name))
    loop = asyncio.new_event_loop()
    tasks = loop.run_until_complete(park(parking.visit, 3))
    if woken:
        parking.wake()
    loop.close()
    assert len(parking.queue()) == 3

    async def use():
        if woken and parking.is_given:
            await asyncio.wait_for(parking.primitive.acquire(), 1)
        (task,) = await park(parking.visit)
        assert len(parking.queue()) == 1
        parking.wake()
        assert await asyncio.wait_for(task, 1) is True
        await parking.works()

    asyncio.run(use())
    for task in tasks:
        task._log_destroy_pending = False
    del tasks, task
    gc.collect()  # the waiters of the closed loop end, and change nothing
    asyncio.run(parking.works())


def test_waiting_without_a_loop(our_parking):
    with pytest.raises(RuntimeError, match="^no running event loop$"):
        our_parking.wait().send(None)
    our_parking.ended()
    asyncio.run(our_parking.works())


def test_the_loop_makes_the_future(parking):
    async def main():
        made = asyncio.get_running_loop().made
        made.clear()
        coroutine = parking.wait()
        assert not made
        assert coroutine.send(None) is made[0]
        parking.wake()
        assert by_hand(coroutine) in (True, 0)
        assert len(made) == 1

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


def test_a_loop_that_cannot_make_a_future(parking):
    async def main():
        loop = asyncio.get_running_loop()
        coroutine = parking.wait()
        loop.broken = True
        try:
            with pytest.raises(MemoryError, match="no future"):
                coroutine.send(None)
        finally:
            loop.broken = False
        parking.ended()
        await parking.works()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


# ---- A Python object like any other ----


@pytest.fixture(params=PRIMITIVES)
def Primitive(request, implementation):
    return getattr(IMPLEMENTATIONS[implementation], request.param)


async def test_overridden_methods_are_used_by_async_with(Held):
    calls = []

    class Recorded(Held):
        async def acquire(self):
            calls.append("acquire")
            return await super().acquire()

        def release(self):
            calls.append("release")
            super().release()

    recorded = Recorded()
    async with recorded:
        assert recorded.locked()
        (task,) = await queue_up(recorded)
    await task
    assert calls == ["acquire", "acquire", "release", "release"]
    assert not recorded.locked()


async def test_patched_methods_are_used_by_async_with(Held):
    held, other = Held(), Held()
    with mock.patch.object(held, "acquire", mock.AsyncMock()) as acquire:
        with mock.patch.object(held, "release") as release:
            async with held:
                acquire.assert_awaited_once_with()
                release.assert_not_called()
            release.assert_called_once_with()
        assert not held.locked()
    with mock.patch.object(held, "release") as release:
        async with held:
            assert held.locked()
        release.assert_called_once_with()
    assert held.locked()
    with mock.patch.object(held, "acquire", mock.AsyncMock()):
        async with held:
            pass
    assert not held.locked()
    held.acquire, held.release = other.acquire, other.release
    async with held:
        assert (held.locked(), other.locked()) == (False, True)
    assert not other.locked()


@pytest.mark.parametrize("slots", [False, True])
async def test_a_subclass_that_overrides_nothing(Primitive, slots):
    namespace = {"__slots__": ("name",)} if slots else {}
    parking = Parking(type("Named", (Primitive,), namespace))
    parking.primitive.name = "x"
    await parking.works()
    assert parking.primitive.name == "x"
    assert repr(parking.primitive).startswith(f"<{__name__}.Named object at 0x")
    coroutine, plain = parking.wait(), Parking(Primitive).wait()
    assert coroutine.__qualname__ == plain.__qualname__
    coroutine.close()
    plain.close()


async def test_a_subclass_with_arguments(Primitive):
    class Named(Primitive):
        def __init__(self, *given, name="a"):
            super().__init__(*given)
            self.name, self.told = name, state(self)

    arguments = ARGUMENTS.get(Primitive.__name__, [])
    named = Named(*arguments, name="b")
    assert (named.name, named.told) == ("b", state(Primitive(*arguments)))
    await Parking(Named).works()


async def test_attributes_and_weak_references(implementation, Primitive):
    parking = Parking(Primitive)
    primitive = parking.primitive
    if implementation == "compiled":
        assert vars(primitive) == {}
    primitive.note = "kept"
    assert primitive.note == "kept"
    assert "note" in vars(primitive)
    await parking.works()
    del primitive.note
    with pytest.raises(AttributeError):
        _ = primitive.note
    reference = weakref.ref(primitive)
    assert reference() is primitive
    assert {primitive: 1}[primitive] == 1
    assert primitive != Parking(Primitive).primitive
    assert bool(primitive)
    del primitive, parking
    gc.collect()
    assert reference() is None


async def test_it_is_neither_awaitable_nor_a_synchronous_context_manager(Primitive):
    primitive = Parking(Primitive).primitive
    with pytest.raises(TypeError, match=Primitive.__name__):
        await primitive
    with pytest.raises(TypeError, match=Primitive.__name__), primitive:
        pass
    if Primitive.__name__ == "Event":
        with pytest.raises(TypeError, match="Event"):
            async with primitive:
                pass
    assert not isinstance(primitive, collections.abc.Awaitable)


CONSTRUCTED = {
    "Lock": [
        ((), {"loop": None}, "got an unexpected keyword argument 'loop'"),
        ((1,), {}, "takes 1 positional argument but 2 were given"),
        ((1, 2), {}, "takes 1 positional argument but 3 were given"),
        ((1,), {"loop": 1}, "got an unexpected keyword argument 'loop'"),
    ],
    "Condition": [
        ((), {"loop": None}, "got an unexpected keyword argument 'loop'"),
        ((None,), {"loop": 1}, "got an unexpected keyword argument 'loop'"),
        ((1, 2), {}, "takes from 1 to 2 positional arguments but 3 were given"),
        ((None,), {"lock": None}, "got multiple values for argument 'lock'"),
    ],
    "Semaphore": [
        ((), {"loop": None}, "got an unexpected keyword argument 'loop'"),
        ((1,), {"loop": None}, "got an unexpected keyword argument 'loop'"),
        ((1, 2), {}, "takes from 1 to 2 positional arguments but 3 were given"),
        ((1, 2, 3), {}, "takes from 1 to 2 positional arguments but 4 were given"),
        ((1,), {"value": 2}, "got multiple values for argument 'value'"),
    ],
    "Barrier": [
        ((), {}, "missing 1 required positional argument: 'parties'"),
        ((), {"loop": None}, "got an unexpected keyword argument 'loop'"),
        ((1,), {"loop": None}, "got an unexpected keyword argument 'loop'"),
        ((1, 2), {}, "takes 2 positional arguments but 3 were given"),
        ((1, 2, 3), {}, "takes 2 positional arguments but 4 were given"),
        ((1,), {"parties": 1}, "got multiple values for argument 'parties'"),
    ],
}
CONSTRUCTED["Event"] = CONSTRUCTED["Lock"]
CONSTRUCTED["BoundedSemaphore"] = CONSTRUCTED["Semaphore"]


@pytest.mark.parametrize(
    ("name", "arguments", "keywords", "text"),
    [(name, *row) for name, rows in CONSTRUCTED.items() for row in rows],
)
def test_arguments(implementation, name, arguments, keywords, text):
    found = getattr(IMPLEMENTATIONS[implementation], name)
    for cls in (found, type("Sub", (found,), {})):
        with pytest.raises(TypeError) as raised:
            cls(*arguments, **keywords)
        assert str(raised.value) == f"{name}.__init__() {text}"


@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("Event", ["wait", "set", "clear", "is_set"]),
        ("Semaphore", ["acquire", "release", "locked", "__aenter__"]),
        ("BoundedSemaphore", ["acquire", "release", "locked", "__aenter__"]),
    ],
)
def test_methods_take_no_arguments(implementation, name, methods):
    primitive = getattr(IMPLEMENTATIONS[implementation], name)()
    before = state(primitive)
    for method in methods:
        with pytest.raises(TypeError):
            getattr(primitive, method)(1)
        with pytest.raises(TypeError):
            getattr(primitive, method)(blocking=False)
    assert state(primitive) == before


# ---- Private state ----


@pytest.fixture(params=["Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore"])
def open_queue(request, implementation):
    """A parking with `_waiters` that can be looked at, and written to."""
    return Parking(getattr(IMPLEMENTATIONS[implementation], request.param))


async def test_waiters(open_queue):
    primitive = open_queue.primitive
    assert (primitive._waiters is None) is open_queue.is_given
    assert list(primitive._waiters or ()) == []
    tasks = await park(open_queue.visit, 3)
    waiters = primitive._waiters
    assert len(waiters) == 3
    assert waiters
    assert [task._fut_waiter for task in tasks] == list(waiters)
    assert waiters[0] is tasks[0]._fut_waiter
    assert waiters[-1] is tasks[2]._fut_waiter
    assert waiters.index(tasks[1]._fut_waiter) == 1
    assert tasks[1]._fut_waiter in waiters
    with pytest.raises(IndexError):
        waiters[3]
    assert not any(future.done() for future in waiters)
    tasks[1].cancel()
    assert primitive._waiters[1].cancelled()
    open_queue.wake()
    assert primitive._waiters[0].done()
    tasks[2].cancel()
    await asyncio.wait(tasks)
    assert primitive._waiters is not None
    assert len(primitive._waiters) == 0
    assert not primitive._waiters


async def test_a_queue_of_mocks(open_queue):
    primitive = open_queue.primitive
    primitive._waiters = collections.deque()
    await open_queue.works()
    for count in (1, 2):
        primitive._waiters.append(mock.Mock())
        assert len(primitive._waiters) == count
        assert state(primitive) == f"{open_queue.shut}, waiters:{count}"
    open_queue.wake()
    assert len(primitive._waiters) == 2


@pytest.mark.parametrize("behind_another", [False, True])
async def test_waiters_appended_by_others(open_queue, behind_another):
    await open_queue.works()
    primitive, tasks = open_queue.primitive, []
    if behind_another:
        tasks = await park(open_queue.visit)
    future = asyncio.get_running_loop().create_future()
    primitive._waiters.append(future)
    assert (len(primitive._waiters), primitive._waiters[-1]) == (1 + behind_another, future)
    assert f"waiters:{1 + behind_another}" in repr(primitive)
    open_queue.wake()
    if behind_another:
        assert await tasks[0] is True
    assert future.done() is (not behind_another or open_queue.name == "Event")
    if not future.done():
        open_queue.wake()
    assert future.result() is (open_queue.name != "Condition")
    assert list(primitive._waiters) == [future]
    reference = weakref.ref(primitive)
    del primitive, open_queue.primitive, tasks
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("behind_a_woken_one", [False, True])
async def test_a_waiter_that_others_put_first(open_queue, behind_a_woken_one):
    await open_queue.works()
    primitive = open_queue.primitive
    first, second = await park(open_queue.visit, 2)
    if behind_a_woken_one:
        open_queue.wake()
    future = asyncio.get_running_loop().create_future()
    primitive._waiters.appendleft(future)
    assert len(primitive._waiters) == 3
    if behind_a_woken_one:
        assert await first is True
    else:
        assert primitive._waiters[0] is future
    assert not future.done()
    open_queue.wake()
    assert future.result() is (open_queue.name != "Condition")
    await steps()
    assert second.done() is (open_queue.name == "Event")
    primitive._waiters.remove(future)
    first.cancel()
    second.cancel()
    await asyncio.wait([first, second])
    assert not primitive._waiters


async def test_waiters_that_others_take_out(open_queue):
    await open_queue.works()
    waiters = open_queue.primitive._waiters
    with pytest.raises(IndexError, match="pop from an empty"):
        waiters.popleft()
    tasks = await park(open_queue.visit, 4)
    futures = [task._fut_waiter for task in tasks]
    assert waiters.popleft() is futures[0]
    assert list(waiters) == futures[1:]
    waiters.clear()
    assert list(waiters) == []
    assert len(waiters) == 0
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.parametrize("outcome", ["a result", "an exception"])
@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("name", ["Event", "Condition", "Semaphore", "BoundedSemaphore"])
async def test_a_future_completed_by_others(implementation, name, resumed, outcome):
    """Its task goes on without a turn. The next turn is the next waiter's."""
    parking = Parking(getattr(IMPLEMENTATIONS[implementation], name))
    first, second = await park(parking.visit, 2)
    if outcome == "a result":
        parking.queue()[0].set_result("ignored")
    else:
        parking.queue()[0].set_exception(KeyError("someone else's"))
    if resumed:
        await asyncio.wait([first])
        assert name == "Condition" or not second.done()  # wait() may notify another if it fails
    parking.wake()
    assert await asyncio.wait_for(second, 1) is True
    if outcome == "a result":
        assert await first is True
    else:
        with pytest.raises(KeyError, match="someone else's"):
            await first
    await parking.works()


async def test_the_loop_is_writable(parking):
    assert parking.primitive._loop is None
    parking.primitive._loop = loop = asyncio.get_running_loop()
    assert parking.primitive._loop is loop
    await parking.works()


@pytest.mark.parametrize("woken", [False, True])
@pytest.mark.parametrize("cancelled", [False, True])
async def test_made_to_forget_its_loop(open_queue, woken, cancelled):
    """Some programs set `_loop` to None to use a primitive on another loop. No waiter is lost."""
    tasks = await park(open_queue.visit, 2)
    if woken:
        open_queue.wake()
    open_queue.primitive._loop = None
    if cancelled:
        tasks[0].cancel()
    tasks += await park(open_queue.visit)
    for task in tasks:
        await steps()
        if not task.done():
            open_queue.wake()
    await asyncio.wait(tasks, timeout=1)
    assert [task.cancelled() for task in tasks] == [cancelled, False, False]
    await open_queue.works()


# ---- Copied and pickled ----

# The states that a copy keeps, as repr() shows them. A condition's is its lock's.
STATES = {
    "Lock": ["unlocked", "locked"],
    "Event": ["unset", "set"],
    "Semaphore": ["unlocked, value:3", "unlocked, value:2", "locked"],
    "BoundedSemaphore": ["unlocked, value:3", "unlocked, value:2", "locked"],
    "Barrier": ["filling, waiters:0/3", "broken"],
}


def bring_on(primitive):
    """Change the primitive from one of these states to the next."""
    if hasattr(primitive, "acquire"):
        finish(primitive.acquire())
    elif hasattr(primitive, "abort"):
        by_hand(primitive.abort())
    else:
        primitive.set()


@copies
@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("name", STATES)
def test_a_copy_keeps_the_state_and_the_attributes(implementation, name, duplicate):
    arguments = [3] * (name not in ("Lock", "Event"))
    original = getattr(IMPLEMENTATIONS[implementation], name)(*arguments)
    original.note = ["kept"]
    for expected in STATES[name]:
        while state(original) != expected:
            bring_on(original)
        other = duplicate(original)
        assert type(other) is type(original)
        assert other is not original
        assert (state(other), other.note) == (expected, ["kept"])
        assert (other.note is original.note) is (duplicate is copy.copy)
        assert getattr(other, "_bound_value", "none") == getattr(original, "_bound_value", "none")
        if expected != STATES[name][-1]:
            bring_on(other)
            assert state(other) != expected
            assert state(original) == expected


@copies
@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("name", PRIMITIVES)
async def test_a_copy_has_a_loop_and_waiters_of_its_own(our_name, name, duplicate):
    parking = Parking(getattr(OURS[our_name], name))
    await parking.works()
    assert parking.primitive._loop is asyncio.get_running_loop()
    other = copy.copy(parking)
    other.primitive = duplicate(parking.primitive)
    assert other.primitive._loop is None
    (task,) = await park(parking.visit)
    await other.works()
    assert not task.done()
    parking.wake()
    assert await asyncio.wait_for(task, 1) in (True, 0)
    await parking.works()


@copies
@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("name", PRIMITIVES)
async def test_no_copy_while_tasks_wait(our_name, name, duplicate):
    parking = Parking(getattr(OURS[our_name], name))
    (task,) = await park(parking.visit)
    text = f"^cannot copy or pickle a '{name}' object that tasks wait for$"
    with pytest.raises(TypeError, match=text):
        duplicate(parking.primitive)
    parking.wake()
    assert await task in (True, 0)
    assert state(duplicate(parking.primitive)) == parking.shut


@copies
@pytest.mark.usefixtures("importable")
def test_a_copied_subclass_with_slots(Primitive, implementation, duplicate, monkeypatch):
    if implementation == "asyncio" and duplicate in (COPIES["pickle 0"], COPIES["pickle 1"]):
        pytest.skip("these protocols need a __getstate__ for slots")
    Named = type("Named", (Primitive,), {"__slots__": ("name",), "__module__": __name__})
    monkeypatch.setitem(globals(), "Named", Named)
    original = Parking(Named).primitive
    original.name, original.note = ["x"], "y"
    other = duplicate(original)
    assert type(other) is Named
    assert (other.name, other.note, state(other)) == (["x"], "y", state(original))
    assert (other.name is original.name) is (duplicate is copy.copy)


# ---- Collected ----


# If the collector ends wait_for() before the task that awaits it, the lock is never released, and
# the next waiter fails to take it back. So it is in asyncio; test_lifetime compares the messages.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@needs_refcounts
def test_dropped_with_everybody(our_parking):
    """A primitive, its waiters and their tasks are one cycle of garbage, on a closed loop."""

    async def leave_behind():
        primitive = our_parking.primitive
        primitive.itself = primitive
        primitive.tasks = await park(our_parking.visit, 1 if our_parking.name == "Barrier" else 5)
        for task in primitive.tasks:
            task._log_destroy_pending = False
        del our_parking.primitive
        return weakref.ref(primitive)

    loop = asyncio.new_event_loop()
    reference = loop.run_until_complete(leave_behind())
    gc.collect()
    assert reference() is None
    loop.close()


@needs_refcounts
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_cycles_through_an_awaitable(our_call):
    reference = weakref.ref(our_call.primitive)
    our_call.primitive.pending = our_call()
    del our_call.primitive
    gc.collect()
    assert reference() is None


@needs_refcounts
def test_cycles_through_a_parked_awaitable(our_parking):
    async def cycle():
        primitive = our_parking.primitive
        primitive.pending = our_parking.wait()
        primitive.pending.send(None)
        del our_parking.primitive
        return weakref.ref(primitive)

    reference = asyncio.run(cycle())
    gc.collect()
    assert reference() is None


@needs_refcounts
def test_an_awaitable_that_has_ended_does_not_keep_its_primitive(our_call):
    reference = weakref.ref(our_call.primitive)
    coroutine = our_call()
    by_hand(coroutine)
    del our_call.primitive
    assert reference() is None
    coroutine.close()


# ---- On another loop ----


def test_on_uvloop(parking):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        await parking.works()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(parking.visit(), 0.001)
        (task,) = await park(parking.visit)
        task.cancel()
        await asyncio.wait([task])
        await parking.works()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


# ---- Code that runs in the middle of a step ----


def test_opened_while_the_future_is_made(our_queue):
    """A task waits forever there with asyncio: the wake-up came before it was in the queue."""

    async def main():
        asyncio.get_running_loop().in_create_future = our_queue.open
        finish(our_queue.call())
        assert not our_queue.queue()

    on_interrupted_loop(main)


def test_all_closed_while_the_first_is_woken(our_queue):
    async def main():
        waiting = [parked(our_queue.call()) for _ in range(4)]

        def leave():
            for coroutine, _ in waiting:
                coroutine.close()

        waiting[0][1].in_set_result = leave
        our_queue.wake()
        if our_queue.is_given:
            finish(our_queue.call())
        await our_queue.works()

    on_interrupted_loop(main)


@needs_refcounts
def test_a_weak_reference_to_an_awaitable_that_has_ended(call):
    """It is not one to the next awaitable."""
    gc.collect()  # what earlier tests have left may refer to what is used again
    first = call()
    with contextlib.suppress(StopIteration):
        first.send(None)
    reference = weakref.ref(first)
    del first
    call.primitive.__init__(*[1] * (type(call.primitive).__name__ == "Barrier"))
    second = call()
    assert reference() is not second
    second.close()


# ---- What users see of the compiled implementation's insides ----


@needs_compiled
@pytest.mark.parametrize("name", PRIMITIVES)
def test_the_classes_show_nothing_of_cython(name):
    assert not [attribute for attribute in dir(getattr(aiofastlock, name)) if "pyx" in attribute]


@needs_compiled
def test_nor_after_an_import_that_failed():
    import aiofastlock._compiled._lock

    with pytest.raises(ModuleNotFoundError):
        aiofastlock._compiled._lock.load("nothing")
    test_the_classes_show_nothing_of_cython("Lock")


async def test_init_called_again_resets(implementation):
    made = IMPLEMENTATIONS[implementation]
    lock, event, condition, barrier = made.Lock(), made.Event(), made.Condition(), made.Barrier(2)
    semaphore, bounded = made.Semaphore(3), made.BoundedSemaphore(3)
    for primitive in (lock, condition, semaphore, bounded):
        await primitive.acquire()
    event.set()
    await barrier.abort()
    own_lock = condition._lock
    for primitive in (lock, event, condition, semaphore, bounded):
        primitive.__init__()
    barrier.__init__(3)
    assert not lock.locked()
    assert not event.is_set()
    assert not condition.locked()
    assert condition._lock is not own_lock
    assert semaphore._value == bounded._value == bounded._bound_value == 1
    assert (barrier.broken, barrier.parties, barrier.n_waiting) == (False, 3, 0)


# ---- Awaited through __await__() ----


class YieldsFrom:
    """An awaitable made of another, the usual way."""

    def __init__(self, awaitable):
        self.awaitable = awaitable

    def __await__(self):
        return (yield from self.awaitable.__await__())


class Returns(YieldsFrom):
    def __await__(self):
        return self.awaitable.__await__()


@types.coroutine
def as_generator(awaitable):
    return (yield from awaitable)


async def as_task(awaitable):
    return await asyncio.ensure_future(Returns(awaitable))


async def in_gather(awaitable):
    return (await asyncio.gather(Returns(awaitable)))[0]


WAYS = [YieldsFrom, Returns, as_generator, as_task, in_gather]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_awaited_through_another_awaitable(implementation, way):
    """Each of them waits at first, and is woken."""
    lock, semaphore, event, condition, barrier = (
        getattr(IMPLEMENTATIONS[implementation], name)(*arguments)
        for name, *arguments in (
            ("Lock",), ("Semaphore", 0), ("Event",), ("Condition",), ("Barrier", 2),
        )
    )  # fmt: skip
    await lock.acquire()
    await condition.acquire()

    async def wait(coroutine):
        return await way(coroutine)

    waits = [lock.acquire(), semaphore.acquire(), event.wait(), condition.wait(), barrier.wait()]
    tasks = [asyncio.create_task(wait(coroutine)) for coroutine in waits]
    await steps()
    assert not any(task.done() for task in tasks)
    lock.release()
    semaphore.release()
    event.set()
    async with condition:
        condition.notify()
    await barrier.wait()
    assert await asyncio.gather(*tasks) == [True, True, True, True, 0]


@pytest.mark.parametrize("end", ["throw", "close"])
def test_an_iterator_of_an_awaitable_that_has_not_begun(implementation, end):
    coroutine = IMPLEMENTATIONS[implementation].Lock().acquire()
    iterator = coroutine.__await__()
    assert isinstance(iterator, collections.abc.Iterator)
    assert iter(iterator) is iterator
    assert not isinstance(coroutine, collections.abc.Iterable)
    if end == "throw":
        with pytest.raises(KeyError):
            iterator.throw(KeyError())
    else:
        iterator.close()
    with pytest.raises(RuntimeError, match=REUSED):
        coroutine.send(None)


def test_an_iterator_of_an_awaitable_is_driven_by_hand(implementation):
    lock = IMPLEMENTATIONS[implementation].Lock()
    iterator = lock.acquire().__await__()
    with pytest.raises(StopIteration) as stop:
        next(iterator)
    assert stop.value.value is True
    assert lock.locked()
