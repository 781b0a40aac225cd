"""A woken waiter's future calls its task through aiofastlock's own handle if nobody can tell."""

import asyncio
import contextvars
import functools
import gc
import subprocess
import sys
import weakref

import pytest
from conftest import FREE_THREADED
from schedules import Clockwork

import aiofastlock

pytestmark = pytest.mark.skipif(
    aiofastlock.IMPLEMENTATION != "compiled", reason="only compiled code"
)


class Watched(asyncio.SelectorEventLoop):
    """asyncio's loop, which also shows the last handle that was put into it."""

    @property
    def last_handle(self):
        return self._ready[-1] if self._ready else None


def run(main, loop_class=Watched, debug=False):
    with asyncio.Runner(loop_factory=loop_class, debug=debug) as runner:
        return runner.run(main)


def is_own(handle):
    """Return whether this is aiofastlock's own handle."""
    return type(handle).__module__ == "aiofastlock._compiled._lock"


async def park(waiting):
    task = asyncio.ensure_future(waiting)
    await asyncio.sleep(0)
    return task


async def wakes_with_own():
    """Wake a task that waits for an event, and return whether that used an own handle."""
    event = aiofastlock.Event()
    task = await park(event.wait())
    loop = asyncio.get_running_loop()
    event.set()
    own = is_own(loop._ready[-1])
    assert await task is True
    return own


def test_a_wake_up_on_asyncios_loop_uses_an_own_handle():
    assert run(wakes_with_own()) is True
    assert run(wakes_with_own(), asyncio.new_event_loop) is True


def test_the_wake_up_of_every_primitive_does():
    async def main():
        loop = asyncio.get_running_loop()
        lock = aiofastlock.Lock()
        await lock.acquire()
        task = await park(lock.acquire())
        lock.release()
        assert is_own(loop.last_handle)
        await task

        semaphore = aiofastlock.Semaphore(0)
        task = await park(semaphore.acquire())
        semaphore.release()
        assert is_own(loop.last_handle)
        await task

        condition = aiofastlock.Condition()
        await condition.acquire()

        async def wait():
            async with condition:
                await condition.wait()

        task = await park(wait())
        condition.release()
        await asyncio.sleep(0)
        async with condition:
            condition.notify()
            assert is_own(loop.last_handle)
        await task

        barrier = aiofastlock.Barrier(2)
        task = await park(barrier.wait())
        await barrier.wait()
        assert is_own(loop.last_handle)
        await task

        for cls in (aiofastlock.Queue, aiofastlock.LifoQueue, aiofastlock.PriorityQueue):
            queue = cls(1)
            task = await park(queue.get())
            queue.put_nowait(1)
            assert is_own(loop.last_handle)
            await task
            queue.put_nowait(2)
            task = await park(queue.put(3))
            assert await queue.get() == 2
            assert is_own(loop.last_handle)
            await task
            task = await park(queue.put(4))
            queue.shutdown()
            assert is_own(loop.last_handle) is False  # as it is written in Python
            with pytest.raises(aiofastlock.QueueShutDown):
                await task

    run(main())


def test_debug_mode_uses_asyncios_handles():
    assert run(wakes_with_own(), debug=True) is False


def test_debug_mode_turned_on_and_off():
    async def main():
        loop = asyncio.get_running_loop()
        found = [await wakes_with_own()]
        loop.set_debug(True)
        found.append(await wakes_with_own())
        loop.set_debug(False)
        found.append(await wakes_with_own())
        return found

    assert run(main()) == [True, False, True]


def test_debug_mode_turned_on_between_wake_up_and_run(caplog):
    async def main():
        loop = asyncio.get_running_loop()
        event = aiofastlock.Event()
        task = await park(event.wait())
        event.set()
        loop.slow_callback_duration = 0
        loop.set_debug(True)
        await task
        loop.set_debug(False)

    run(main())
    assert "Executing <Task" in caplog.text


@pytest.mark.parametrize(
    "name", ["call_soon", "_call_soon", "_check_closed", "_run_once", "create_future", "get_debug"]
)
def test_a_loop_that_overrides_a_method(name):
    original = getattr(asyncio.SelectorEventLoop, name)
    called = []

    def own(self, *args, **kwargs):
        called.append(name)
        return original(self, *args, **kwargs)

    assert run(wakes_with_own(), type("Loop", (Watched,), {name: own})) is False
    assert called


@pytest.mark.parametrize("hook", ["__getattribute__", "__getattr__"])
def test_a_loop_that_overrides_attribute_access(hook):
    def look_up(self, name):
        return object.__getattribute__(self, name)

    assert run(wakes_with_own(), type("Loop", (Watched,), {hook: look_up})) is False


def test_call_soon_patched_on_one_loop_while_a_task_waits():
    async def main():
        loop = asyncio.get_running_loop()
        event = aiofastlock.Event()
        task = await park(event.wait())
        calls = []

        def call_soon(callback, *args, context=None):
            calls.append(callback)
            return Watched.call_soon(loop, callback, *args, context=context)

        loop.call_soon = call_soon
        event.set()
        assert len(calls) == 1
        assert not is_own(loop.last_handle)
        del loop.call_soon
        assert await task is True
        assert await wakes_with_own() is True

    run(main())


def test_a_loop_that_does_not_show_its_thread():
    """In free-threaded builds, only this thread may find a handle that is not finished."""

    async def main():
        loop = asyncio.get_running_loop()
        number = loop._thread_id
        del loop._thread_id
        own = await wakes_with_own()
        loop._thread_id = number
        assert await wakes_with_own()
        return own

    assert run(main()) is not FREE_THREADED


@pytest.mark.parametrize("name", ["call_soon", "_debug", "_closed", "_ready"])
def test_an_attribute_of_the_loop_whose_lookup_fails(name):
    class Key(str):
        __slots__ = ()
        __hash__ = str.__hash__
        failing = False

        def __eq__(self, other):
            if self is not other and Key.failing:
                Key.failing = False
                raise LookupError(name)
            return self is other

    async def main():
        event = aiofastlock.Event()
        task = await park(event.wait())
        attributes = vars(asyncio.get_running_loop())
        key = Key(name)
        later = {name: attributes.pop(name)} if name in attributes else {}
        attributes[key] = None
        attributes.update(later)
        Key.failing = True
        with pytest.raises(LookupError, match=name):
            event.set()
        assert not Key.failing
        event.clear()
        event.set()
        del attributes[key]
        assert await task is True

    run(main())


@pytest.mark.parametrize(
    ("owner", "name"),
    [(asyncio.BaseEventLoop, "call_soon"), (asyncio.Handle, "_run"), (asyncio.Handle, "__init__")],
)
def test_asyncio_patched_and_restored(monkeypatch, owner, name):
    original = getattr(owner, name)
    called = []

    def patched(self, *args, **kwargs):
        called.append(self)
        return original(self, *args, **kwargs)

    async def main():
        found = [await wakes_with_own()]
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, patched)
            found.append(await wakes_with_own())
        found.append(await wakes_with_own())
        return found

    assert run(main()) == [True, False, True]
    assert called


def test_another_class_of_handles(monkeypatch):
    class Handle(asyncio.Handle):
        __slots__ = ()

    async def main():
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.events, "Handle", Handle)
            event = aiofastlock.Event()
            task = await park(event.wait())
            event.set()
            handle = asyncio.get_running_loop().last_handle
            assert type(handle) is Handle
            assert await task is True
        return await wakes_with_own()

    assert run(main()) is True


def test_two_kinds_of_loops_in_turn():
    class Loop(Watched):
        def call_soon(self, *args, **kwargs):
            return super().call_soon(*args, **kwargs)

    for _ in range(3):
        assert run(wakes_with_own()) is True
        assert run(wakes_with_own(), Loop) is False


@pytest.mark.parametrize("late", [False, True])
def test_an_added_callback_is_called_after_the_task(Event, late):
    """It is added before the wake-up, or after it."""

    async def main():
        event = Event()
        calls = []

        async def wait():
            await event.wait()
            calls.append("task")

        task = await park(wait())
        (future,) = event._waiters
        if late:
            event.set()
        future.add_done_callback(lambda future: calls.append(future.result()))
        if not late:
            event.set()
        await task
        if late:
            await asyncio.sleep(0)
        return calls

    assert run(main()) == ["task", True]


def test_a_removed_callback(Event):
    async def main():
        event = Event()
        task = await park(event.wait())
        (future,) = event._waiters
        ((callback, _context),) = future._callbacks
        assert future.remove_done_callback(callback) == 1
        event.set()
        await asyncio.sleep(0)
        assert future.result() is True
        assert not task.done()
        asyncio.get_running_loop().call_soon(callback, future)
        assert await task is True

    run(main())


def test_order_among_other_callbacks(Semaphore):
    async def main():
        loop = asyncio.get_running_loop()
        semaphore = Semaphore(0)
        order = []

        async def wait(number):
            await semaphore.acquire()
            order.append(number)

        tasks = [await park(wait(number)) for number in range(3)]
        for number in range(3):
            loop.call_soon(order.append, f"before {number}")
            semaphore.release()
        loop.call_soon(order.append, "after")
        await asyncio.gather(*tasks)
        return order

    assert run(main()) == ["before 0", 0, "before 1", 1, "before 2", 2, "after"]


def test_the_tasks_context(Event):
    variable = contextvars.ContextVar("variable", default="the loop's")

    async def main():
        event = Event()
        seen = []

        async def wait(value):
            variable.set(value)
            await event.wait()
            seen.append(variable.get())
            variable.set("changed")

        tasks = [await park(wait(value)) for value in ("one", "two")]
        event.set()
        seen.append(variable.get())
        await asyncio.gather(*tasks)
        return [*seen, variable.get()]

    assert run(main()) == ["the loop's", "one", "two", "the loop's"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_ends_the_loop_is_raised(Event, error):
    async def main():
        event = Event()

        async def wait():
            await event.wait()
            raise error("from the task")

        task = await park(wait())
        event.set()
        await task

    with pytest.raises(error, match="from the task"):
        run(main())


def test_an_exception_of_a_callback_goes_to_the_loops_handler(Event):
    def fail(_future):
        raise ZeroDivisionError("from the callback")

    async def main():
        loop = asyncio.get_running_loop()
        reports = []
        loop.set_exception_handler(lambda _loop, report: reports.append(report))
        event = Event()
        task = await park(event.wait())
        (future,) = event._waiters
        ((callback, context),) = future._callbacks
        future.remove_done_callback(callback)
        future.add_done_callback(fail, context=context)
        event.set()
        loop.call_soon(callback, future)
        assert await task is True
        return reports

    (report,) = run(main())
    assert report["message"].startswith("Exception in callback ")
    assert "fail" in report["message"]
    assert isinstance(report["exception"], ZeroDivisionError)
    assert report["exception"].__traceback__ is not None
    assert isinstance(report["handle"], asyncio.Handle)
    assert set(report) == {"message", "exception", "handle"}


def test_a_context_that_is_entered_already(Event, caplog):
    here = contextvars.copy_context()

    async def main():
        event = Event()
        task = await park(event.wait())
        (future,) = event._waiters
        ((callback, _context),) = future._callbacks
        future.remove_done_callback(callback)
        future.add_done_callback(callback, context=here)
        event.set()
        asyncio.get_running_loop().call_soon(callback, future)
        assert await task is True

    here.run(run, main())
    assert "cannot enter context" in caplog.text
    assert "Exception in callback" in caplog.text


def test_a_callback_that_leaves_another_context_entered(Event):
    """C code can do that."""
    ctypes = pytest.importorskip("ctypes")
    enter, leave = ctypes.pythonapi.PyContext_Enter, ctypes.pythonapi.PyContext_Exit
    own, other = (ctypes.py_object(contextvars.copy_context()) for _ in range(2))

    async def main():
        loop = asyncio.get_running_loop()
        reports = []

        def handle(report):
            reports.append(report)
            assert leave(other) == leave(own) == 0

        loop.call_exception_handler = handle
        event = Event()
        task = await park(event.wait())
        (future,) = event._waiters
        ((callback, _context),) = future._callbacks
        future.remove_done_callback(callback)
        future.add_done_callback(lambda _future: enter(other), context=own.value)
        event.set()
        loop.call_soon(callback, future)
        assert await task is True
        return reports

    (report,) = run(main())
    assert "cannot exit context" in str(report["exception"])


def test_a_closed_loop(Event):
    """No task can be woken on it: that raises an exception."""
    loop = asyncio.new_event_loop()
    event = Event()

    async def wait():
        await event.wait()

    waiting = wait()
    task = loop.create_task(waiting)
    loop.run_until_complete(asyncio.sleep(0))
    (future,) = event._waiters
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        future.set_result(True) if event.is_set() else event.set()
    task._log_destroy_pending = False
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        waiting.throw(RuntimeError("Event loop is closed"))


@pytest.mark.skipif(FREE_THREADED, reason="there, a loop that does not run has asyncio's handle")
def test_a_loop_that_is_dropped_with_a_wake_up_in_it():
    """The handle, the task and the loop are a cycle of garbage."""
    loop = asyncio.new_event_loop()
    loop.set_debug(False)
    event = aiofastlock.Event()
    task = loop.create_task(event.wait())
    loop.run_until_complete(asyncio.sleep(0))
    event.set()
    assert is_own(loop._ready[-1])
    task._log_destroy_pending = False
    gone = weakref.ref(task)
    loop._selector.close()
    loop._ssock.close()
    loop._csock.close()
    loop._closed = True  # avoids the loop's ResourceWarning
    del task, event, loop
    gc.collect()
    assert gone() is None


def test_a_task_that_has_ended_is_not_kept(Event):
    async def main():
        event = Event()

        async def wait():
            await event.wait()

        task = await park(wait())
        event.set()
        await task
        gone = weakref.ref(task)
        del task
        await asyncio.sleep(0)
        return gone()

    assert run(main()) is None


def test_the_callback_of_a_barrier_is_called_in_its_turn(OurBarrier):
    """When the last party has left, a callback lets in the blocked ones."""

    async def main():
        loop = asyncio.get_running_loop()
        barrier = OurBarrier(2)
        order = []

        async def wait(name):
            index = await barrier.wait()
            order.append((name, index))
            loop.call_soon(order.append, f"after {name}")

        tasks = [asyncio.create_task(wait(name)) for name in "abcd"]
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)
        return order

    # b comes last and leaves at once. c and d come before a has left.
    assert run(main()) == [
        ("b", 1), ("a", 0), "after b", "after a", ("c", 0), ("d", 1), "after c", "after d",
    ]  # fmt: skip


def test_the_loop_of_the_random_schedules_uses_own_handles():
    assert run(wakes_with_own(), Clockwork) is True


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="3.15 requires a contextvars.Context")
def test_a_context_of_another_class(Event):
    class Context:
        def run(self, function, *args):
            return function(*args)

    async def main():
        event = Event()
        task = asyncio.get_running_loop().create_task(event.wait(), context=Context())
        await asyncio.sleep(0)
        event.set()
        assert await task is True

    run(main())


def test_a_callback_with_no_context(Event):
    async def main():
        event = Event()
        awaitable = event.wait()
        future = awaitable.send(None)
        future._asyncio_future_blocking = False
        ended = []

        def wake(_future):
            try:
                awaitable.send(None)
            except StopIteration as stop:
                ended.append(stop.value)

        future.add_done_callback(wake, context=None)
        event.set()
        await asyncio.sleep(0)
        assert ended == [True]

    run(main())


def test_a_report_after_debug_mode_is_turned_on(Event, caplog):
    """The loop's exception handler looks at the handle that runs."""

    async def main():
        loop = asyncio.get_running_loop()
        event = Event()

        async def wait():
            await event.wait()
            loop.call_exception_handler({"message": "something went wrong"})

        task = await park(wait())
        event.set()
        loop.set_debug(True)
        await task
        loop.set_debug(False)

    run(main())
    assert "something went wrong" in caplog.text
    assert "Exception in default exception handler" not in caplog.text


def test_the_exception_is_being_handled_while_it_is_reported(Event):
    def fail(_future):
        raise ZeroDivisionError

    async def main():
        loop = asyncio.get_running_loop()
        handled = []
        loop.set_exception_handler(lambda _loop, _report: handled.append(sys.exc_info()[0]))
        event = Event()
        awaitable = event.wait()
        future = awaitable.send(None)
        future._asyncio_future_blocking = False
        future.add_done_callback(fail)
        event.set()
        await asyncio.sleep(0)
        awaitable.close()
        assert handled == [ZeroDivisionError]
        assert sys.exc_info() == (None, None, None)

    run(main())


def test_a_class_of_handles_set_before_aiofastlock_is_imported():
    code = """if True:
        import asyncio
        ran = []
        class Handle(asyncio.Handle):
            def _run(self):
                ran.append(self._callback)
                super()._run()
        asyncio.events.Handle = Handle
        import aiofastlock
        async def main():
            event = aiofastlock.Event()
            task = asyncio.create_task(event.wait())
            await asyncio.sleep(0)
            event.set()
            del ran[:]
            await task
            assert any(getattr(callback, "__self__", None) is task for callback in ran), ran
        asyncio.run(main())
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=250)


def at_depth(depth, function):
    return function() if depth == 0 else at_depth(depth - 1, function)


def test_a_wake_up_at_the_end_of_the_stack_is_not_lost():
    """At whatever depth set() raises RecursionError, a later set() wakes the waiters."""

    async def main():
        failed = 0
        limit = sys.getrecursionlimit()
        for depth in range(limit - 150, limit):
            event = aiofastlock.Event()
            task = await park(event.wait())
            try:
                at_depth(depth, event.set)
            except RecursionError:
                failed += 1
                event.clear()
                event.set()
            assert await task is True
        assert 0 < failed < 150

    run(main())


def test_a_getter_that_is_woken_at_the_end_of_the_stack_is_not_lost():
    """At whatever depth put_nowait() raises RecursionError, a later one wakes the getter."""

    async def main():
        failed = 0
        limit = sys.getrecursionlimit()
        for depth in range(limit - 150, limit):
            queue = aiofastlock.Queue()
            task = await park(queue.get())
            put = functools.partial(queue.put_nowait, depth)
            try:
                at_depth(depth, put)
            except RecursionError:
                failed += 1
                put()
            assert await task == depth
        assert 0 < failed < 150

    run(main())


def test_an_exception_from_a_lookup_in_the_loops_class_is_raised():
    class Meta(type):
        failing = False

        def __getattr__(cls, name):
            raise ZeroDivisionError if Meta.failing else AttributeError(name)

    class Loop(asyncio.SelectorEventLoop, metaclass=Meta):
        pass

    def fail(failing):
        Meta.failing = failing
        Loop.changed = failing  # so that the class is checked again

    async def main():
        lock = aiofastlock.Lock()
        await lock.acquire()
        task = await park(lock.acquire())
        fail(True)
        with pytest.raises(ZeroDivisionError):
            lock.release()
        waiting = lock.acquire()
        with pytest.raises(ZeroDivisionError):
            waiting.send(None)
        fail(False)
        assert not lock.locked()
        second = await park(lock.acquire())
        assert await task is True
        lock.release()
        assert await second is True

        queue = aiofastlock.Queue()
        task = await park(queue.get())
        fail(True)
        with pytest.raises(ZeroDivisionError):
            queue.put_nowait(1)
        waiting = aiofastlock.Queue().get()
        with pytest.raises(ZeroDivisionError):
            waiting.send(None)
        fail(False)
        queue.put_nowait(2)
        assert await task == 1  # it was put, and the getter was not lost
        assert queue.get_nowait() == 2

    run(main(), Loop)


def test_an_exception_from_a_lookup_in_the_loops_attributes_is_raised():
    class Name:
        def __hash__(self):
            return hash("create_future")

        def __eq__(self, other):
            raise ZeroDivisionError

    async def main():
        lock = aiofastlock.Lock()
        await lock.acquire()
        attributes, name = vars(asyncio.get_running_loop()), Name()
        attributes[name] = None
        waiting = lock.acquire()
        with pytest.raises(ZeroDivisionError):
            waiting.send(None)
        attributes.pop(name)
        task = await park(lock.acquire())
        lock.release()
        assert await task is True

    run(main())


def test_an_asyncio_without_its_c_accelerator():
    code = """if True:
        import sys
        sys.modules["_asyncio"] = None
        import asyncio
        import aiofastlock
        assert asyncio.Future is asyncio.futures._PyFuture
        async def main():
            lock = aiofastlock.Lock()
            await lock.acquire()
            tasks = [asyncio.create_task(lock.acquire()) for _ in range(3)]
            await asyncio.sleep(0)
            tasks[0].cancel()
            for task in tasks[1:]:
                lock.release()
                assert await task is True
            assert tasks[0].cancelled()
        asyncio.run(main())
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=250)
