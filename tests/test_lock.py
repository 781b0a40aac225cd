"""What Lock does, on asyncio's and on both of ours."""

import asyncio
import collections
import collections.abc
import contextlib
import ctypes
import gc
import sys
import warnings
import weakref
from unittest import mock

import pytest
from conftest import OURS, needs_refcounts

on_cpython = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="PyPy's coroutines say it otherwise"
)

needs_compiled = pytest.mark.skipif("compiled" not in OURS, reason="the compiled half's own")


async def park(lock, count=1):
    """Tasks that wait for a held lock, each in its turn, and then give it back."""

    async def take_turn():
        async with lock:
            pass

    tasks = [asyncio.create_task(take_turn()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


# ---- Acquiring and releasing ----


async def test_acquire_returns_true_and_locks(Lock):
    lock = Lock()
    assert lock.locked() is False
    assert await lock.acquire() is True
    assert lock.locked() is True
    assert lock.release() is None
    assert lock.locked() is False


async def test_async_with_gives_none_and_unlocks(Lock):
    lock = Lock()
    async with lock as given:
        assert given is None
        assert lock.locked()
    assert not lock.locked()


async def test_async_with_unlocks_after_an_exception_and_does_not_swallow_it(Lock):
    lock = Lock()
    with pytest.raises(ZeroDivisionError):
        async with lock:
            raise ZeroDivisionError
    assert not lock.locked()


async def test_release_of_an_unlocked_lock(Lock):
    lock = Lock()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^Lock is not acquired\.$"):
            lock.release()
        assert not lock.locked()
    async with lock:
        pass


async def test_exit_of_an_unlocked_lock(Lock):
    with pytest.raises(RuntimeError, match=r"^Lock is not acquired\.$"):
        await Lock().__aexit__(None, None, None)


async def test_waiters_are_served_in_order(Lock):
    lock, order = Lock(), []

    async def take_turn(name):
        async with lock:
            order.append(name)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for name in range(20):
            group.create_task(take_turn(name))
    assert order == list(range(20))


async def test_a_newcomer_does_not_overtake(Lock):
    lock, order = Lock(), []
    await lock.acquire()

    async def take_turn(name):
        async with lock:
            order.append(name)

    waiter = asyncio.create_task(take_turn("waiter"))
    await asyncio.sleep(0)
    lock.release()
    newcomer = asyncio.create_task(take_turn("newcomer"))
    assert not lock.locked()  # as in asyncio: the lock is on its way to the waiter
    await take_turn("releaser")
    await asyncio.gather(waiter, newcomer)
    assert order == ["waiter", "releaser", "newcomer"]


async def test_a_newcomer_passes_those_that_are_all_cancelled(Lock):
    lock = Lock()
    await lock.acquire()
    tasks = await park(lock, 3)
    for task in tasks:
        task.cancel()
    lock.release()
    assert await lock.acquire()  # without a pause, although the three still stand in the queue
    assert len(lock._waiters) == 3
    lock.release()
    await asyncio.wait(tasks)
    assert not lock.locked()


async def test_one_task_at_a_time(Lock):
    lock, inside, most = Lock(), 0, 0

    async def work():
        nonlocal inside, most
        for _ in range(20):
            async with lock:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

    await asyncio.gather(*(work() for _ in range(10)))
    assert (inside, most) == (0, 1)


# ---- Nothing happens at the call ----


@pytest.mark.parametrize("method", ["acquire", "__aenter__"])
async def test_nothing_is_taken_before_the_await(Lock, method):
    lock = Lock()
    awaitable = getattr(lock, method)()
    assert not lock.locked()
    await awaitable
    assert lock.locked()


async def test_nothing_is_released_before_the_await(Lock):
    lock = Lock()
    await lock.acquire()
    awaitable = lock.__aexit__(None, None, None)
    assert lock.locked()
    assert await awaitable is None
    assert not lock.locked()


async def test_a_wait_for_that_never_starts_takes_nothing(Lock):
    lock = Lock()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(lock.__aenter__(), 0)
    assert not lock.locked()


@needs_refcounts
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda lock: lock.acquire(), r"Lock\.acquire"),
        (lambda lock: lock.__aenter__(), r"\w+\.__aenter__"),
        (lambda lock: lock.__aexit__(None, None, None), r"\w+\.__aexit__"),
    ],
)
def test_dropped_without_being_awaited(Lock, call, name):
    lock = Lock()
    with pytest.warns(RuntimeWarning, match=rf"^coroutine '{name}' was never awaited$"):
        call(lock)
    assert not lock.locked()


@needs_refcounts
def test_no_warning_once_closed_or_thrown_into(Lock):
    lock = Lock()
    lock.acquire().close()
    with pytest.raises(KeyError):
        lock.acquire().throw(KeyError("unstarted"))
    assert not lock.locked()


# ---- The awaitable is a coroutine ----


async def test_the_awaitable_is_a_coroutine_to_asyncio(Lock):
    lock = Lock()
    awaitable = lock.acquire()
    assert isinstance(awaitable, collections.abc.Coroutine)
    assert isinstance(awaitable, collections.abc.Awaitable)
    assert asyncio.iscoroutine(awaitable)
    assert (awaitable.__name__, awaitable.__qualname__) == ("acquire", "Lock.acquire")
    assert repr(awaitable).startswith("<coroutine object Lock.acquire at 0x")
    assert await awaitable


@pytest.mark.parametrize("held", [False, True])
async def test_tasks_take_it(Lock, held):
    lock = Lock()
    for run in (
        asyncio.create_task,
        asyncio.ensure_future,
        asyncio.shield,
        lambda coroutine: asyncio.wait_for(coroutine, 10),
        asyncio.gather,
    ):
        if held:
            await lock.acquire()
            asyncio.get_running_loop().call_soon(lock.release)
        assert await run(lock.acquire()) in (True, [True])
        assert lock.locked()
        lock.release()


def test_run_until_complete_takes_it(Lock):
    lock = Lock()
    with asyncio.Runner() as runner:
        assert runner.get_loop().run_until_complete(lock.acquire()) is True
        assert runner.get_loop().run_until_complete(lock.__aexit__(None, None, None)) is None
    assert not lock.locked()


def test_by_hand(Lock):
    lock = Lock()
    coroutine = lock.acquire()
    with pytest.raises(TypeError, match="^can't send non-None value to a just-started coroutine$"):
        coroutine.send(1)
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value is True
    with pytest.raises(StopIteration) as stop:
        lock.__aexit__(None, None, None).send(None)
    assert stop.value.value is None


async def test_parked_by_hand(Lock):
    lock = Lock()
    await lock.acquire()
    coroutine = lock.acquire()
    future = coroutine.send(None)
    assert asyncio.isfuture(future)
    assert future.get_loop() is asyncio.get_running_loop()
    assert future._asyncio_future_blocking is True
    assert list(lock._waiters) == [future]
    lock.release()
    assert future.result() is True
    with pytest.raises(StopIteration) as stop:
        coroutine.send("ignored")
    assert stop.value.value is True
    assert lock.locked()


async def test_reuse(Lock):
    lock = Lock()
    coroutine = lock.acquire()
    await coroutine
    text = "^cannot reuse already awaited coroutine$"
    with pytest.raises(RuntimeError, match=text):
        await coroutine
    with pytest.raises(RuntimeError, match=text):
        coroutine.send(None)
    with pytest.raises(RuntimeError, match=text):
        coroutine.throw(ValueError)
    coroutine.close()
    assert lock.locked()
    lock.release()
    async with lock:
        pass


async def test_awaited_by_two(Lock):
    lock = Lock()
    await lock.acquire()
    coroutine = lock.acquire()

    async def wait():
        return await coroutine

    first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="^coroutine is being awaited already$"):
        await second
    lock.release()
    assert await first
    assert lock.locked()


async def test_resumed_too_early(Lock):
    lock = Lock()
    await lock.acquire()
    coroutine = lock.acquire()
    coroutine.send(None)
    with pytest.raises(RuntimeError, match="^await wasn't used with future$"):
        coroutine.send(None)
    assert not lock._waiters
    lock.release()
    assert not lock.locked()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((ValueError,), ValueError()),
        ((ValueError("text"),), ValueError("text")),
        ((ValueError, "text"), ValueError("text")),
        ((KeyError, (1, "text")), KeyError(1, "text")),
        ((ValueError, ValueError("text")), ValueError("text")),
        ((ValueError("text"), None, None), ValueError("text")),
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
async def test_throw_takes_what_a_coroutine_takes(Lock, arguments, expected):
    lock = Lock()
    await lock.acquire()
    coroutine = lock.acquire()
    coroutine.send(None)
    with pytest.raises(type(expected)) as raised:
        coroutine.throw(*arguments)
    assert str(raised.value).startswith(str(expected))
    assert not lock._waiters
    assert lock.locked()


async def test_throw_keeps_the_instance_and_its_traceback(Lock):
    lock = Lock()
    await lock.acquire()
    coroutine = lock.acquire()
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


# ---- Cancelled ----


async def test_cancelled_before_the_wake_up(Lock):
    lock = Lock()
    await lock.acquire()
    first, second = await park(lock, 2)
    first.cancel("message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        await first
    assert len(lock._waiters) == 1
    lock.release()
    await second
    assert not lock.locked()


async def test_cancelled_after_the_wake_up(Lock):
    lock = Lock()
    await lock.acquire()
    first, second = await park(lock, 2)
    lock.release()  # wakes the first
    first.cancel("message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        await first
    await asyncio.wait_for(second, 1)
    assert not lock.locked()


async def test_cancelled_before_the_release_in_one_iteration(Lock):
    lock = Lock()
    await lock.acquire()
    first, second = await park(lock, 2)
    first.cancel()
    lock.release()  # the head is cancelled: it hands on when it runs
    await asyncio.wait([first])
    assert first.cancelled()
    await asyncio.wait_for(second, 1)
    assert not lock.locked()


async def test_cancelled_twice(Lock):
    lock = Lock()
    await lock.acquire()
    (task,) = await park(lock)
    lock.release()
    task.cancel("one")
    task.cancel("two")
    with pytest.raises(asyncio.CancelledError) as raised:
        await task
    assert raised.value.args in (("one",), ("two",))
    await asyncio.wait_for(lock.acquire(), 1)


async def test_timed_out(Lock):
    lock = Lock()
    async with lock:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001), lock:
                pass
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lock.acquire(), 0.001)
        assert not lock._waiters
    assert not lock.locked()


async def test_cancelled_waiters_leave_in_any_order(Lock):
    lock = Lock()
    await lock.acquire()
    tasks = await park(lock, 7)
    for index in (3, 0, 6, 5, 1):
        tasks[index].cancel()
        await asyncio.wait([tasks[index]])
    assert len(lock._waiters) == 2
    lock.release()
    await asyncio.gather(tasks[2], tasks[4])
    assert not lock.locked()
    assert not lock._waiters


# ---- A woken waiter that dies hands its turn on ----


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize("how", ["close", "throw", pytest.param("drop", marks=needs_refcounts)])
async def test_a_woken_waiter_that_dies_hands_on(Lock, how):
    lock = Lock()
    await lock.acquire()
    dying = lock.acquire()
    dying.send(None)
    (task,) = await park(lock)
    lock.release()  # wakes the one that dies
    if how == "close":
        dying.close()
    elif how == "throw":
        with pytest.raises(KeyError):
            dying.throw(KeyError("dead"))
    else:
        del dying
        gc.collect()
    await asyncio.wait_for(task, 0.1)
    assert not lock.locked()


async def test_a_parked_waiter_that_dies_leaves_the_queue(Lock):
    lock = Lock()
    await lock.acquire()
    for how in ("close", "throw"):
        coroutine = lock.acquire()
        coroutine.send(None)
        assert len(lock._waiters) == 1
        if how == "close":
            coroutine.close()
        else:
            with pytest.raises(KeyError):
                coroutine.throw(KeyError)
        assert len(lock._waiters) == 0
    lock.release()
    assert not lock.locked()


@needs_refcounts
async def test_a_parked_waiter_that_is_dropped_leaves_the_queue(Lock):
    lock = Lock()
    await lock.acquire()
    coroutine = lock.acquire()
    coroutine.send(None)
    assert len(lock._waiters) == 1
    del coroutine
    assert len(lock._waiters) == 0


# ---- Loops ----


def test_bound_to_the_first_loop_it_waits_on(Lock):
    lock = Lock()

    async def hold(event):
        await lock.acquire()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(lock.acquire(), 0.001)  # waits, and so binds
        await event

    first = asyncio.new_event_loop()
    first.run_until_complete(hold(asyncio.sleep(0)))
    second = asyncio.new_event_loop()
    with pytest.raises(RuntimeError) as raised:
        second.run_until_complete(lock.acquire())
    assert str(raised.value) == f"{lock!r} is bound to a different event loop"
    assert lock.locked()
    assert not lock._waiters
    lock.release()
    assert second.run_until_complete(lock.acquire())  # nothing to wait for, so no loop matters
    first.close()
    second.close()


@pytest.mark.usefixtures("mended")
def test_binds_anew_when_its_loop_is_closed(Lock):
    lock = Lock()

    async def contend():
        async with lock:
            tasks = await park(lock, 3)
        await asyncio.gather(*tasks)

    asyncio.run(contend())
    asyncio.run(contend())
    assert not lock.locked()


@pytest.mark.parametrize("woken", [False, True])
def test_a_loop_closed_under_waiters(OurLock, woken):
    lock = OurLock()
    loop = asyncio.new_event_loop()

    async def leave_behind():
        await lock.acquire()
        return await park(lock, 3)

    tasks = loop.run_until_complete(leave_behind())
    if woken:
        lock.release()
    loop.close()
    assert len(lock._waiters) == 3
    lock._locked = False

    async def use():
        for _ in range(2):
            await asyncio.wait_for(lock.acquire(), 1)
            (task,) = await park(lock)
            assert len(lock._waiters) == 1
            lock.release()
            await task

    asyncio.run(use())
    for task in tasks:
        task._log_destroy_pending = False
    del tasks
    gc.collect()  # the stale waiters end, and disturb nobody
    asyncio.run(use())
    assert not lock.locked()


def test_waiting_without_a_loop(OurLock):
    lock = OurLock()
    with pytest.raises(StopIteration):
        lock.acquire().send(None)
    with pytest.raises(RuntimeError, match="^no running event loop$"):
        lock.acquire().send(None)
    assert lock.locked()
    assert not lock._waiters


def test_the_loop_makes_the_future(Lock):
    made = []

    class Loop(asyncio.SelectorEventLoop):
        def create_future(self):
            made.append(super().create_future())
            return made[-1]

    lock = Lock()

    async def main():
        await lock.acquire()
        made.clear()
        coroutine = lock.acquire()
        assert coroutine.send(None) is made[0]
        coroutine.close()
        lock.release()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


def test_a_loop_that_cannot_make_a_future(Lock):
    class Loop(asyncio.SelectorEventLoop):
        broken = False

        def create_future(self):
            if self.broken:
                raise MemoryError("no future")
            return super().create_future()

    async def main():
        loop = asyncio.get_running_loop()
        lock = Lock()
        await lock.acquire()
        loop.broken = True
        with pytest.raises(MemoryError, match="no future"):
            await lock.acquire()
        loop.broken = False
        assert lock.locked()
        assert not lock._waiters
        (task,) = await park(lock)
        lock.release()
        await task

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


# ---- A Python object like any other ----


async def test_overridden_methods_are_used_by_async_with(Lock):
    calls = []

    class Recorded(Lock):
        async def acquire(self):
            calls.append("acquire")
            return await super().acquire()

        def release(self):
            calls.append("release")
            super().release()

    lock = Recorded()
    async with lock:
        assert lock.locked()
        (task,) = await park(lock)
    await task
    assert calls == ["acquire", "acquire", "release", "release"]
    assert not lock.locked()


async def test_patched_methods_are_used_by_async_with(Lock):
    lock = Lock()
    with mock.patch.object(lock, "acquire", mock.AsyncMock()) as acquire, lock_held(lock):
        async with lock:
            acquire.assert_awaited_once_with()
    with mock.patch.object(lock, "release") as release:
        async with lock:
            pass
        release.assert_called_once_with()
    assert lock.locked()
    other = Lock()
    lock.release()
    lock.acquire, lock.release = other.acquire, other.release
    async with lock:
        assert (lock.locked(), other.locked()) == (False, True)


@contextlib.contextmanager
def lock_held(lock):
    lock._locked = True
    yield
    assert not lock.locked()


@pytest.mark.parametrize("slots", [False, True])
async def test_a_subclass_that_overrides_nothing(Lock, slots):
    namespace = {"__slots__": ("name",)} if slots else {}
    Named = type("Named", (Lock,), namespace)
    lock = Named()
    lock.name = "x"
    async with lock:
        (task,) = await park(lock)
        assert lock.locked()
    await task
    assert (lock.name, lock.locked()) == ("x", False)
    assert repr(lock).startswith(f"<{__name__}.Named object at 0x")
    coroutine = lock.acquire()
    assert coroutine.__qualname__ == "Lock.acquire"
    coroutine.close()


async def test_a_subclass_with_arguments(Lock):
    class Named(Lock):
        def __init__(self, name, *, size=1):
            super().__init__()
            self.name, self.size = name, size

    lock = Named("a", size=2)
    async with lock:
        assert (lock.name, lock.size) == ("a", 2)


async def test_attributes_and_weak_references(Lock):
    lock = Lock()
    assert vars(lock) == {} or "_locked" in vars(lock)
    lock.note = "kept"
    assert lock.note == "kept"
    assert "note" in vars(lock)
    async with lock:
        pass
    del lock.note
    with pytest.raises(AttributeError):
        _ = lock.note
    reference = weakref.ref(lock)
    assert reference() is lock
    assert {lock: 1}[lock] == 1
    assert bool(lock)
    del lock
    gc.collect()
    assert reference() is None


def test_repr(Lock):
    async def main():
        lock = Lock()
        plain = object.__repr__(lock)[1:-1]
        assert repr(lock) == f"<{plain} [unlocked]>"
        await lock.acquire()
        assert repr(lock) == f"<{plain} [locked]>"
        tasks = await park(lock, 2)
        assert repr(lock) == f"<{plain} [locked, waiters:2]>"
        lock.release()
        assert repr(lock) == f"<{plain} [unlocked, waiters:2]>"
        await asyncio.gather(*tasks)
        assert repr(lock) == f"<{plain} [unlocked]>"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("arguments", "keywords", "text"),
    [
        ((), {"loop": None}, "Lock.__init__() got an unexpected keyword argument 'loop'"),
        ((1,), {}, "Lock.__init__() takes 1 positional argument but 2 were given"),
        ((1, 2), {}, "Lock.__init__() takes 1 positional argument but 3 were given"),
        ((1,), {"loop": 1}, "Lock.__init__() got an unexpected keyword argument 'loop'"),
    ],
)
def test_arguments(Lock, arguments, keywords, text):
    for cls in (Lock, type("Sub", (Lock,), {})):
        with pytest.raises(TypeError) as raised:
            cls(*arguments, **keywords)
        assert str(raised.value) == text


async def test_waiters(Lock):
    lock = Lock()
    assert lock._waiters is None
    await lock.acquire()
    assert lock._waiters is None
    tasks = await park(lock, 3)
    waiters = lock._waiters
    assert len(waiters) == 3
    assert waiters
    assert [task._fut_waiter for task in tasks] == list(waiters)
    assert waiters[0] is tasks[0]._fut_waiter
    assert waiters[-1] is tasks[2]._fut_waiter
    assert not any(future.done() for future in waiters)
    tasks[1].cancel()
    assert lock._waiters[1].cancelled()
    lock.release()
    assert lock._waiters[0].done()
    await asyncio.wait(tasks)
    assert len(lock._waiters) == 0
    assert not lock._waiters


async def test_waiters_appended_by_others(Lock):
    lock = Lock()
    await lock.acquire()
    (task,) = await park(lock)
    lock.release()
    await task
    await lock.acquire()
    future = asyncio.get_running_loop().create_future()
    lock._waiters.append(future)
    assert (len(lock._waiters), lock._waiters[0]) == (1, future)
    assert "waiters:1" in repr(lock)
    lock.release()
    assert future.result() is True
    reference = weakref.ref(lock)
    del lock, task
    gc.collect()
    assert reference() is None


async def test_a_future_set_by_others(Lock):
    lock = Lock()
    await lock.acquire()
    (task,) = await park(lock)
    lock._waiters[0].set_result(True)
    lock._locked = False
    newcomer = asyncio.create_task(lock.acquire())  # there is a live one before it
    await task
    assert await newcomer
    assert lock.locked()


async def test_private_state_is_writable(Lock):
    lock = Lock()
    lock._locked = True
    assert lock.locked()
    lock.release()
    lock._loop = loop = asyncio.get_running_loop()
    assert lock._loop is loop
    async with lock:
        pass


@pytest.mark.parametrize("cancelled", [False, True])
async def test_made_to_forget_its_loop(Lock, cancelled):
    """Some set `_loop` to None to use a lock on another loop. It loses nobody by that."""
    lock = Lock()
    await lock.acquire()
    tasks = await park(lock, 2)
    lock._loop = None
    if cancelled:
        lock.release()
        tasks[0].cancel()
    tasks += await park(lock)
    if not cancelled:
        lock.release()
    await asyncio.wait(tasks, timeout=1)
    assert all(task.done() for task in tasks)
    assert not lock.locked()


# ---- Collected ----


@needs_refcounts
def test_dropped_with_everybody(OurLock):
    """A lock, its waiters and their tasks in one cycle of garbage, and the loop closed."""

    async def leave_behind():
        lock = OurLock()
        lock.itself = lock
        await lock.acquire()
        lock.tasks = await park(lock, 5)
        for task in lock.tasks:
            task._log_destroy_pending = False
        return weakref.ref(lock)

    loop = asyncio.new_event_loop()
    reference = loop.run_until_complete(leave_behind())
    gc.collect()
    assert reference() is None
    loop.close()


@needs_refcounts
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_cycles_through_an_awaitable(OurLock):
    async def cycle(start):
        lock = OurLock()
        await lock.acquire()
        lock.pending = lock.acquire()
        if start:
            lock.pending.send(None)
        return weakref.ref(lock)

    for start in (False, True):
        reference = asyncio.run(cycle(start))
        gc.collect()
        assert reference() is None


@needs_refcounts
async def test_an_awaitable_holds_its_lock_no_longer_than_it_needs(OurLock):
    lock = OurLock()
    reference = weakref.ref(lock)
    coroutine = lock.acquire()
    await coroutine
    del lock
    assert reference() is None
    coroutine.close()


@needs_refcounts
def test_a_warning_that_is_an_error_is_reported_and_harmless(OurLock):
    lock = OurLock()
    reports = []
    with (
        mock.patch("sys.unraisablehook", reports.append),
        warnings.catch_warnings(action="error"),
    ):
        lock.acquire()
    assert [report.exc_type for report in reports] == [RuntimeWarning]
    assert not lock.locked()


async def test_a_queue_that_was_set(Lock):
    lock = Lock()
    await lock.acquire()
    future = asyncio.get_running_loop().create_future()
    lock._waiters = collections.deque([future])
    assert list(lock._waiters) == [future]
    lock.release()
    assert future.result() is True


# ---- What calls C ----


@needs_compiled
@pytest.mark.parametrize("primitive", ["Lock", "Condition"])
async def test_a_value_sent_from_c_before_the_first_step(primitive):
    one = getattr(OURS["compiled"], primitive)()
    await one.acquire()
    awaitable = one.acquire() if primitive == "Lock" else one.wait()
    send = ctypes.PYFUNCTYPE(
        ctypes.c_int, ctypes.py_object, ctypes.py_object, ctypes.POINTER(ctypes.c_void_p)
    )(("PyIter_Send", ctypes.pythonapi))
    with pytest.raises(TypeError, match="non-None value to a just-started coroutine"):
        send(awaitable, "value", ctypes.byref(ctypes.c_void_p()))
    awaitable.close()
    one.release()
    async with one:
        pass


@needs_compiled
async def test_what_is_no_primitive_refuses_to_be_one():
    import aiofastlock._lock

    nothing = aiofastlock._lock.ContextManager()
    with pytest.raises(NotImplementedError):  # take()
        await nothing.__aenter__()
    with pytest.raises(NotImplementedError):  # give()
        await nothing.__aexit__(None, None, None)
    future = asyncio.get_running_loop().create_future()
    waiter = nothing._enqueue(future)
    with pytest.raises(NotImplementedError):  # forgo()
        waiter.throw(asyncio.CancelledError())
    waiter = nothing._enqueue(future)
    future.set_result(True)
    with pytest.raises(NotImplementedError):  # admit()
        waiter.send(None)
    assert not nothing._waiters


# ---- On another loop ----


def test_on_uvloop(Lock):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        lock, order = Lock(), []

        async def take_turn(name):
            async with lock:
                order.append(name)
                await asyncio.sleep(0)

        async with lock:
            tasks = [asyncio.create_task(take_turn(name)) for name in range(10)]
            await asyncio.sleep(0)
            assert len(lock._waiters) == 10
            for name in (0, 3, 9):
                tasks[name].cancel()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(lock.acquire(), 0.001)
        await asyncio.wait(tasks)
        assert order == [1, 2, 4, 5, 6, 7, 8]
        assert not lock.locked()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
