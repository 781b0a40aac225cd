"""The primitives with other code: asyncio, anyio, unittest, mock, threads and call graphs."""

import asyncio
import asyncio.staggered
import contextlib
import importlib.util
import os
import subprocess
import sys
import unittest
from typing import Any, NamedTuple
from unittest import mock

import anyio
import pytest
from conftest import IMPLEMENTATIONS, PRIMITIVES, needs_compiled

pytest.importorskip("ssl", reason="anyio needs ssl")

# ---- A primitive that tasks must wait for ----


class Door(NamedTuple):
    """A primitive that tasks must wait for. open() lets one task through."""

    primitive: Any
    wait: Any
    open: Any

    def waiting(self):
        if hasattr(self.primitive, "n_waiting"):
            return self.primitive.n_waiting
        return len(self.primitive._waiters or ())


def finish(coroutine):
    """Run a coroutine that need not wait."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


def door_of(implementation, name):
    primitive = getattr(implementation, name)(*[2] * (name == "Barrier"))

    async def wait_for_a_notification():
        async with primitive:
            return await primitive.wait()

    def pulse():
        primitive.set()
        primitive.clear()

    def notify():
        finish(primitive.acquire())
        primitive.notify()
        primitive.release()

    match name:
        case "Event":
            return Door(primitive, primitive.wait, pulse)
        case "Condition":
            return Door(primitive, wait_for_a_notification, notify)
        case "Barrier":
            return Door(primitive, primitive.wait, lambda: finish(primitive.wait()))
    finish(primitive.acquire())
    return Door(primitive, primitive.acquire, primitive.release)


@pytest.fixture(params=PRIMITIVES)
def door(request, implementation):
    return door_of(IMPLEMENTATIONS[implementation], request.param)


async def park(door, **keywords):
    task = asyncio.create_task(door.wait(), **keywords)
    await asyncio.sleep(0)
    assert door.waiting() == 1
    return task


async def works(door):
    assert door.waiting() == 0
    task = await park(door)
    door.open()
    assert await task in (True, 0)  # a barrier returns 0
    assert door.waiting() == 0


@pytest.fixture
def in_place(implementation, monkeypatch):
    """Put an implementation's classes where asyncio and anyio look them up."""
    for name in PRIMITIVES:
        for module in (asyncio, asyncio.locks):
            monkeypatch.setattr(module, name, getattr(IMPLEMENTATIONS[implementation], name))


# ---- Ways to wait, and to stop waiting ----


async def in_a_task_group(wait):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(wait())
    return task.result()


async def in_anyios_task_group(wait):
    async with anyio.create_task_group() as group:
        handle = group.start_soon(wait)
    return handle.return_value


async def within_a_timeout(wait):
    async with asyncio.timeout(60):
        return await wait()


async def within_anyios_timeout(wait):
    with anyio.fail_after(60):
        return await wait()


async def as_the_first_completed(wait):
    (first,) = asyncio.as_completed([wait()])
    return await first


async def from_another_thread(wait):
    loop = asyncio.get_running_loop()

    def wait_there():
        return asyncio.run_coroutine_threadsafe(wait(), loop).result(60)

    return await asyncio.to_thread(wait_there)


async def from_a_thread_by_anyio(wait):
    return await anyio.to_thread.run_sync(anyio.from_thread.run, wait)


@pytest.mark.parametrize(
    "wait_in",
    [
        in_a_task_group, in_anyios_task_group, within_a_timeout, within_anyios_timeout,
        as_the_first_completed, from_another_thread, from_a_thread_by_anyio,
    ],
)  # fmt: skip
async def test_waiting(door, wait_in):
    waiting = asyncio.create_task(wait_in(door.wait))
    while not door.waiting():
        await asyncio.sleep(0)
    door.open()
    assert await waiting in (True, 0)
    assert door.waiting() == 0


async def timed_out(wait):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await wait()


async def timed_out_by_wait_for(wait):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wait(), 0.001)


async def timed_out_by_anyio(wait):
    with pytest.raises(TimeoutError), anyio.fail_after(0.001):
        await wait()


async def moved_on_by_anyio(wait):
    with anyio.move_on_after(0.001) as scope:
        await wait()
    assert scope.cancelled_caught


async def fail():
    await asyncio.sleep(0)
    raise KeyError


async def in_a_task_group_that_fails(wait):
    async def run():
        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            group.create_task(fail())

    with pytest.raises(ExceptionGroup):
        await run()


async def in_anyios_task_group_that_fails(wait):
    async def run():
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            group.start_soon(fail)

    with pytest.raises(ExceptionGroup):
        await run()


async def gathered_and_cancelled(wait):
    gathering = asyncio.gather(wait(), asyncio.sleep(60))
    await asyncio.sleep(0)
    gathering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gathering


async def cancelled_from_another_thread(wait):
    others = asyncio.all_tasks()
    future = asyncio.run_coroutine_threadsafe(wait(), asyncio.get_running_loop())
    while not (waiting := asyncio.all_tasks() - others):
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.to_thread(future.cancel)
    await asyncio.wait(waiting)
    assert future.cancelled()


async def cancelled_again_and_again(wait):
    """A cancelled scope of anyio cancels every await in it."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        for _ in range(3):
            with pytest.raises(asyncio.CancelledError):
                await wait()


@pytest.mark.parametrize(
    "stop_waiting",
    [
        timed_out, timed_out_by_wait_for, timed_out_by_anyio, moved_on_by_anyio,
        in_a_task_group_that_fails, in_anyios_task_group_that_fails, gathered_and_cancelled,
        cancelled_from_another_thread, cancelled_again_and_again,
    ],
)  # fmt: skip
async def test_no_longer_waiting(door, stop_waiting):
    await stop_waiting(door.wait)
    await works(door)


async def test_shielded(door):
    inner = await park(door)
    outer = asyncio.shield(inner)
    outer.cancel()
    await asyncio.sleep(0)
    assert outer.cancelled()
    assert door.waiting() == 1
    door.open()
    assert await inner in (True, 0)


async def test_a_cancel_scope_around_a_condition(Condition):
    """While wait() takes its lock back, the scope cancels it in each iteration of the loop."""
    condition, scope = Condition(), anyio.CancelScope()

    async def wait():
        with scope:
            async with condition:
                await condition.wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    async with condition:
        scope.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not task.done()
    await task
    assert scope.cancelled_caught
    assert not condition.locked()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager tasks before 3.12")
async def test_eager_tasks(door):
    loop = asyncio.get_running_loop()
    first = asyncio.Task(door.wait(), loop=loop, eager_start=True)
    assert door.waiting() == 1
    door.open()
    assert not first.done()
    assert await first in (True, 0)
    await works(door)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager tasks before 3.12")
@pytest.mark.parametrize("name", PRIMITIVES)
async def test_an_eager_task_that_need_not_wait_is_done_at_once(implementation, name):
    primitive = getattr(IMPLEMENTATIONS[implementation], name)(*[1] * (name == "Barrier"))
    if name == "Event":
        primitive.set()
    wait = primitive.wait if name in ("Event", "Barrier") else primitive.acquire
    task = asyncio.Task(wait(), loop=asyncio.get_running_loop(), eager_start=True)
    assert task.result() in (True, 0)


@pytest.mark.parametrize("debug", [False, True])
def test_asyncio_run(implementation, debug):
    found = IMPLEMENTATIONS[implementation]
    lock, semaphore = found.Lock(), found.Semaphore()
    assert asyncio.run(lock.acquire(), debug=debug) is True
    assert asyncio.run(semaphore.acquire(), debug=debug) is True
    assert asyncio.run(found.Condition(semaphore).wait_for(lambda: 5), debug=debug) == 5
    assert asyncio.run(found.Barrier(1).wait(), debug=debug) == 0


async def test_an_exit_stack(implementation):
    found = IMPLEMENTATIONS[implementation]
    entered = [found.Lock(), found.Condition(), found.Semaphore(), found.BoundedSemaphore()]
    async with contextlib.AsyncExitStack() as stack:
        for primitive in entered:
            assert await stack.enter_async_context(primitive) is None
        assert await stack.enter_async_context(found.Barrier(1)) == 0
        assert all(primitive.locked() for primitive in entered)
    assert not any(primitive.locked() for primitive in entered)


# ---- Code that uses asyncio's classes ----


@pytest.mark.usefixtures("in_place")
async def test_anyios_primitives():
    event, condition, limiter = anyio.Event(), anyio.Condition(), anyio.CapacityLimiter(1)
    send, receive = anyio.create_memory_object_stream(1)

    async def wait_for_a_notification():
        async with condition:
            await condition.wait()

    async def take_a_token():
        async with limiter:
            pass

    limiter.acquire_on_behalf_of_nowait("somebody")
    with send, receive:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(event.wait)
                group.start_soon(wait_for_a_notification)
                group.start_soon(take_a_token)
            item = group.start_soon(receive.receive)
            await anyio.wait_all_tasks_blocked()
            for primitive in (event, condition, limiter):
                assert primitive.statistics().tasks_waiting == 3
            event.set()
            async with condition:
                condition.notify_all()
            limiter.release_on_behalf_of("somebody")
            await send.send("item")
    for primitive in (event, condition, limiter):
        assert primitive.statistics().tasks_waiting == 0
    assert item.return_value == "item"


@pytest.mark.usefixtures("in_place")
async def test_happy_eyeballs():
    async def succeed():
        await asyncio.sleep(0.01)
        return "connected"

    race = asyncio.staggered.staggered_race([fail, succeed, succeed], 0.001)
    winner, index, exceptions = await race
    assert (winner, index) == ("connected", 1)
    assert isinstance(exceptions[0], KeyError)


def run_case(case):
    result = unittest.TestResult()
    case.run(result)
    assert result.testsRun == 1
    assert result.wasSuccessful(), result.errors + result.failures


def test_unittest(Lock, Event):
    class Case(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self):
            self.lock, self.event = Lock(), Event()
            asyncio.get_running_loop().call_later(0.001, self.event.set)
            await self.lock.acquire()

        async def test(self):
            await self.event.wait()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(self.lock.acquire(), 0.001)

        async def asyncTearDown(self):
            self.lock.release()

    run_case(Case("test"))


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_unittest_enters_a_context(Lock):
    class Case(unittest.IsolatedAsyncioTestCase):
        async def test(self):
            self.lock = Lock()
            await self.enterAsyncContext(self.lock)
            assert self.lock.locked()

    case = Case("test")
    run_case(case)
    assert not case.lock.locked()


PLUGIN = """
import anyio
import pytest
from {} import Lock

@pytest.fixture(params=[{}])
def anyio_backend(request):
    return "asyncio", request.param

@pytest.fixture
async def lock():
    lock = Lock()
    async with lock:
        yield lock
    assert not lock.locked()

@pytest.mark.anyio
async def test(lock):
    with anyio.move_on_after(0.001) as scope:
        await lock.acquire()
    assert scope.cancelled_caught
    assert lock.locked()
"""


def test_anyios_pytest_plugin(implementation, tmp_path):
    options = ["{}"] + ['{"use_uvloop": True}'] * (importlib.util.find_spec("uvloop") is not None)
    text = PLUGIN.format(IMPLEMENTATIONS[implementation].__name__, ", ".join(options))
    (tmp_path / "test_plugin.py").write_text(text)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "anyio", "-W", "error", tmp_path],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f" {len(options)} passed" in run.stdout, run.stdout + run.stderr


SPECS = {
    "of the class": lambda class_, _: mock.create_autospec(class_)(),
    "of an instance": lambda _, primitive: mock.create_autospec(primitive),
    "as one": lambda class_, _: mock.create_autospec(class_, instance=True),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
async def test_autospec(Event, spec):
    event = spec(Event, Event())
    event.is_set.return_value = True
    assert event.is_set() is True
    with pytest.raises(AttributeError):
        event.no_such_method()
    event.wait.return_value = "mocked"
    assert await event.wait() == "mocked"
    event.wait.assert_called_once_with()


# ---- What a task waits for ----


def anyios_view_of(name):
    (found,) = [task for task in anyio.get_running_tasks() if task.name == name]
    return found


async def test_anyio_sees_what_a_task_waits_for(door):
    task = await park(door, name="woken")
    await anyio.wait_all_tasks_blocked()  # returns although a task waits
    assert not task.done()
    door.open()
    await anyio.wait_all_tasks_blocked()  # waits for a task that was woken
    assert task.done()
    task = await park(door, name="cancelled")
    view = anyios_view_of("cancelled")
    assert not view.has_pending_cancellation()
    task.cancel()
    assert view.has_pending_cancellation()
    await asyncio.wait([task])


@pytest.mark.skipif(sys.version_info < (3, 14), reason="no call graphs before 3.14")
async def test_a_call_graph(door):
    async def inner():
        return await door.wait()

    async def outer():
        return await inner()

    async def onlooker():
        return await task

    task, awaiting = asyncio.create_task(outer()), asyncio.create_task(onlooker())
    await asyncio.sleep(0)
    graph = asyncio.capture_call_graph(task)
    assert [entry.frame.f_code.co_name for entry in graph.call_stack][-2:] == ["inner", "outer"]
    assert [caller.future for caller in graph.awaited_by] == [awaiting]
    assert "outer()" in asyncio.format_call_graph(task)
    door.open()
    assert await awaiting in (True, 0)


@needs_compiled
@pytest.mark.skipif(sys.version_info < (3, 14), reason="python -m asyncio has no ps before 3.14")
def test_an_awaitable_has_no_frame_for_another_process():
    """It has what a coroutine has that has ended, at the place where `ps` looks for that."""
    ctypes = pytest.importorskip("ctypes")

    async def end():
        pass

    def state(coroutine):
        place = object.__basicsize__ + 6 * ctypes.sizeof(ctypes.c_void_p) + 3  # gi_frame_state
        return ctypes.string_at(id(coroutine) + place, 1)

    ended = end()
    with pytest.raises(StopIteration):
        ended.send(None)
    compiled = IMPLEMENTATIONS["compiled"]
    for awaitable in (compiled.Lock().acquire(), compiled.Condition().wait()):
        assert state(awaitable) == state(ended)
        awaitable.close()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="python -m asyncio has no ps before 3.14")
@pytest.mark.parametrize("command", ["ps", "pstree"])
async def test_a_process_seen_from_another(implementation, command):
    async def inner(door):
        return await door.wait()

    async def outer(door):
        return await inner(door)

    tasks = [
        asyncio.create_task(outer(door_of(IMPLEMENTATIONS[implementation], name)), name=name)
        for name in PRIMITIVES
    ]
    condition = IMPLEMENTATIONS[implementation].Condition()
    await condition.acquire()
    event = IMPLEMENTATIONS[implementation].Event()
    tasks += [asyncio.create_task(event.wait()), asyncio.create_task(condition.wait())]
    await asyncio.sleep(0)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "asyncio", command, str(os.getpid()),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    seen = (await process.communicate())[0].decode()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    if "insufficient permissions" in seen:
        pytest.skip("no permission to inspect another process")
    assert process.returncode == 0, seen
    for name in PRIMITIVES:
        if command == "ps":
            (line,) = [line for line in seen.splitlines() if f" {name} " in line]
            assert "<locals>.inner -> " in line
            assert "<locals>.outer" in line
        else:
            lines = seen.partition(f"(T) {name}\n")[2].splitlines()
            assert "<locals>.outer " in lines[0]
            assert "<locals>.inner " in lines[1]
