"""What RWLock does, in both implementations. asyncio has none: the reference is the rule itself."""

import asyncio
import contextlib
import copy
import gc
import inspect
import pickle
import weakref
from unittest import mock

import pytest
from conftest import OURS, needs_compiled, needs_refcounts
from helpers import (
    ROUND_TRIPS,
    abandon,
    abandoned_or_cancelled,
    end,
    finish,
    on_interrupted_loop,
    park,
    parked,
    steps,
)

import aiofastlock

SIDES = ("reader_lock", "writer_lock")
both_sides = pytest.mark.parametrize("side", SIDES)


class Log(list):
    """Tasks that read and write, and in which order they do."""

    def __init__(self, lock):
        super().__init__()
        self.lock = lock

    async def visit(self, name):
        """Read if the name begins with an r, else write. Stay for two steps."""
        async with self.lock.reader_lock if name.startswith("r") else self.lock.writer_lock:
            self.append(name)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.append(f"/{name}")

    async def come(self, names):
        """Start tasks in this order; return them when each has begun."""
        tasks = [asyncio.create_task(self.visit(name)) for name in names.split()]
        await asyncio.sleep(0)
        return tasks

    def seen(self):
        return " ".join(self)


async def works(lock):
    """Check that the lock is free and serves readers and writers."""
    assert not lock.reader_lock.locked()
    assert not lock.writer_lock.locked()
    assert not lock._turns._waiters
    log = Log(lock)
    await end(*await log.come("r1 r2 w1 r3"))
    assert log.seen() == "r1 r2 /r1 /r2 w1 /w1 r3 /r3"
    assert not lock._turns._waiters


# ---- The rule ----


async def test_readers_together_and_a_writer_alone(OurRWLock):
    log = Log(OurRWLock())
    await end(*await log.come("r1 r2 w1 w2 r3 r4 w3"))
    assert log.seen() == "r1 r2 /r1 /r2 w1 /w1 w2 /w2 r3 r4 /r3 /r4 w3 /w3"
    await works(log.lock)


async def test_nobody_overtakes(OurRWLock):
    lock = OurRWLock()
    log = Log(lock)
    tasks = await log.come("r1 w1")
    tasks += await log.come("r2")  # it could read with r1, but w1 came before it
    tasks += await log.come("w2 r3")
    await end(*tasks)
    assert log.seen() == "r1 /r1 w1 /w1 r2 /r2 w2 /w2 r3 /r3"
    await works(lock)


async def test_a_newcomer_reads_with_readers_that_were_woken(OurRWLock):
    lock = OurRWLock()
    finish(lock.writer_lock.acquire())
    (task,) = await park(lock.reader_lock.acquire)
    lock.writer_lock.release()
    finish(lock.reader_lock.acquire())
    await end(task)
    for _ in range(2):
        lock.reader_lock.release()
    await works(lock)


@both_sides
async def test_a_newcomer_does_not_overtake_a_writer_that_was_woken(OurRWLock, side):
    lock = OurRWLock()
    finish(lock.reader_lock.acquire())
    (task,) = await park(lock.writer_lock.acquire)
    lock.reader_lock.release()
    waiter, _ = parked(getattr(lock, side).acquire())
    await end(task)
    lock.writer_lock.release()
    finish(waiter)
    getattr(lock, side).release()
    await works(lock)


async def test_a_cancelled_writer_lets_in_the_readers_behind_it(OurRWLock):
    log = Log(OurRWLock())
    finish(log.lock.reader_lock.acquire())
    writer, *others = await log.come("w1 r1 r2 w2 r3")
    writer.cancel()
    await steps(2)
    assert log == ["r1", "r2"]
    log.lock.reader_lock.release()
    await end(*others)
    assert log.seen() == "r1 r2 /r1 /r2 w2 /w2 r3 /r3"
    await works(log.lock)


async def test_a_newcomer_does_not_wait_for_a_cancelled_writer(OurRWLock):
    """Not even if the writer's task has yet to run."""
    lock = OurRWLock()
    finish(lock.reader_lock.acquire())
    writer, future = parked(lock.writer_lock.acquire())
    behind, its_future = parked(lock.reader_lock.acquire())
    future.cancel()
    finish(lock.reader_lock.acquire())
    assert its_future.done()
    abandon(writer, "cancel")
    finish(behind)
    for _ in range(3):
        lock.reader_lock.release()
    await works(lock)


async def test_a_release_looks_past_cancelled_waiters(OurRWLock):
    lock = OurRWLock()
    for _ in range(2):
        finish(lock.reader_lock.acquire())
    writer, future = parked(lock.writer_lock.acquire())
    behind, its_future = parked(lock.reader_lock.acquire())
    last, last_future = parked(lock.writer_lock.acquire())
    future.cancel()
    lock.reader_lock.release()
    assert its_future.done()
    finish(behind)
    abandon(writer, "cancel")
    lock.reader_lock.release()
    assert not last_future.done()
    lock.reader_lock.release()
    finish(last)
    lock.writer_lock.release()
    await works(lock)


# ---- A waiter that ends without its turn ----


@both_sides
@abandoned_or_cancelled
@pytest.mark.parametrize("when", ["parked", "woken"])
async def test_a_turn_is_handed_on(OurRWLock, side, how, when):
    lock = OurRWLock()
    finish(lock.writer_lock.acquire())
    waiter, future = parked(getattr(lock, side).acquire())
    behind = [parked(lock.writer_lock.acquire()), parked(lock.reader_lock.acquire())]
    if when == "woken":
        lock.writer_lock.release()
        assert future.done()
    abandon(waiter, how)
    del waiter
    if when == "parked":
        assert not behind[0][1].done()
        lock.writer_lock.release()
    assert [future.done() for _, future in behind] == [True, False]
    finish(behind[0][0])
    lock.writer_lock.release()
    finish(behind[1][0])
    lock.reader_lock.release()
    await works(lock)


@abandoned_or_cancelled
async def test_the_last_of_the_woken_readers_hands_on(OurRWLock, how):
    lock = OurRWLock()
    finish(lock.writer_lock.acquire())
    readers = [parked(lock.reader_lock.acquire())[0] for _ in range(2)]
    writer, future = parked(lock.writer_lock.acquire())
    lock.writer_lock.release()
    abandon(readers.pop(), how)
    assert not future.done()
    abandon(readers.pop(), how)
    finish(writer)
    lock.writer_lock.release()
    await works(lock)


async def test_a_writer_waits_for_a_woken_reader_that_others_leave_behind(OurRWLock):
    lock = OurRWLock()
    finish(lock.writer_lock.acquire())
    readers = [parked(lock.reader_lock.acquire())[0] for _ in range(2)]
    writer, future = parked(lock.writer_lock.acquire())
    lock.writer_lock.release()
    finish(readers[0])
    lock.reader_lock.release()
    assert not future.done()
    assert not lock.writer_lock.try_acquire()
    finish(readers[1])
    lock.reader_lock.release()
    finish(writer)
    lock.writer_lock.release()
    await works(lock)


@both_sides
async def test_cancelled_before_and_after_the_wake_up_in_one_iteration(OurRWLock, side):
    lock = OurRWLock()
    await lock.writer_lock.acquire()
    tasks = await park(getattr(lock, side).acquire, 3)
    tasks[0].cancel()
    lock.writer_lock.release()
    tasks[1].cancel()
    await end(*tasks)
    assert [task.cancelled() for task in tasks] == [True, True, False]
    getattr(lock, side).release()
    await works(lock)


@both_sides
async def test_a_future_that_others_set(OurRWLock, side):
    """Its task is let in by them. Nothing is counted wrong after that."""
    lock = OurRWLock()
    finish(lock.reader_lock.acquire())
    writer, _ = parked(lock.writer_lock.acquire())
    waiter, future = parked(getattr(lock, side).acquire())
    future.set_result(None)
    finish(waiter)
    getattr(lock, side).release()
    waiter, future = parked(getattr(lock, side).acquire())
    future.set_result(None)
    abandon(waiter, "cancel")
    assert lock.reader_lock.locked()
    lock.reader_lock.release()
    finish(writer)
    lock.writer_lock.release()
    await works(lock)


@both_sides
async def test_the_first_in_the_queue_is_let_in_by_others(OurRWLock, side):
    lock = OurRWLock()
    finish(lock.writer_lock.acquire())
    waiter, future = parked(getattr(lock, side).acquire())
    future.set_result(None)
    behind, _ = parked(lock.writer_lock.acquire())  # it looks at the first
    lock.writer_lock.release()
    finish(waiter)
    getattr(lock, side).release()
    finish(behind)
    lock.writer_lock.release()
    await works(lock)


# ---- The methods ----


async def test_try_acquire(OurRWLock):
    lock = OurRWLock()
    read, write = lock.reader_lock.try_acquire, lock.writer_lock.try_acquire
    assert read() is True
    assert read() is True
    assert write() is False
    writer, _ = parked(lock.writer_lock.acquire())
    assert read() is False  # the writer waits
    lock.reader_lock.release()
    lock.reader_lock.release()
    assert (read(), write()) == (False, False)  # the writer is on its way
    finish(writer)
    assert (read(), write()) == (False, False)
    lock.writer_lock.release()
    assert write() is True
    lock.writer_lock.release()
    await works(lock)


async def test_try_acquire_looks_past_cancelled_waiters(OurRWLock):
    lock = OurRWLock()
    finish(lock.reader_lock.acquire())
    writer, future = parked(lock.writer_lock.acquire())
    future.cancel()
    assert lock.reader_lock.try_acquire()
    abandon(writer, "cancel")
    for _ in range(2):
        lock.reader_lock.release()
    await works(lock)


async def test_locked(OurRWLock):
    lock = OurRWLock()
    sides = lock.reader_lock, lock.writer_lock
    assert [side.locked() for side in sides] == [False, False]
    async with lock.reader_lock:
        assert [side.locked() for side in sides] == [True, False]
    async with lock.writer_lock:
        assert [side.locked() for side in sides] == [False, True]
        (task,) = await park(lock.reader_lock.acquire)
    assert [side.locked() for side in sides] == [False, False]  # it is handed over
    await task
    lock.reader_lock.release()
    await works(lock)


MESSAGES = {
    "reader_lock": r"^RWLock is not acquired to read\.$",
    "writer_lock": r"^RWLock is not acquired to write\.$",
}


@both_sides
@pytest.mark.parametrize("held", [None, *SIDES])
@pytest.mark.parametrize("method", ["release", "__aexit__"])
async def test_a_release_too_many(OurRWLock, side, held, method):
    lock = OurRWLock()
    if held == side:
        finish(getattr(lock, side).acquire())
        getattr(lock, side).release()
    elif held:
        finish(getattr(lock, held).acquire())
    before = repr(lock)
    leave = getattr(getattr(lock, side), method)
    arguments = [None] * 3 if method == "__aexit__" else []
    with pytest.raises(RuntimeError, match=MESSAGES[side]):
        await leave(*arguments)
    assert repr(lock) == before
    if held and held != side:
        getattr(lock, held).release()
    await works(lock)


@both_sides
async def test_a_release_too_many_does_not_take_the_turn_of_a_woken_waiter(OurRWLock, side):
    lock = OurRWLock()
    finish(lock.writer_lock.acquire())
    waiter, _ = parked(getattr(lock, side).acquire())
    behind, future = parked(lock.writer_lock.acquire())
    lock.writer_lock.release()
    for name in SIDES:
        with pytest.raises(RuntimeError, match=MESSAGES[name]):
            getattr(lock, name).release()
    assert not future.done()
    finish(waiter)
    getattr(lock, side).release()
    finish(behind)
    lock.writer_lock.release()
    await works(lock)


async def test_nothing_happens_at_the_call(OurRWLock):
    lock = OurRWLock()
    awaitables = [getattr(lock, side).acquire() for side in SIDES]
    awaitables += [getattr(lock, side).__aenter__() for side in SIDES]
    assert "unlocked" in repr(lock)
    for awaitable in awaitables:
        awaitable.close()
    await works(lock)


@needs_refcounts
@both_sides
async def test_never_awaited(OurRWLock, side):
    one = getattr(OurRWLock(), side)
    name = side.replace("_l", "L").capitalize().replace("lock", "Lock")
    with pytest.warns(RuntimeWarning, match=f"coroutine '{name}.acquire' was never awaited"):
        one.acquire()


async def test_an_error_in_the_block_releases_it(OurRWLock):
    lock = OurRWLock()
    for side in SIDES:
        try:
            async with getattr(lock, side) as entered:
                assert entered is None
                raise KeyError
        except KeyError:
            assert not getattr(lock, side).locked()
    await works(lock)


@both_sides
def test_methods_are_those_of_a_python_class(OurRWLock, side):
    lock = getattr(OurRWLock(), side)
    for name in ("acquire", "__aenter__", "__aexit__"):
        assert inspect.iscoroutinefunction(getattr(lock, name))
    for name in ("acquire", "release", "locked", "try_acquire"):
        method = getattr(lock, name)
        assert inspect.ismethod(method)
        assert inspect.getdoc(method)
        assert not inspect.signature(method).parameters
        assert weakref.WeakMethod(method)() == method
        with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
            method(1)


def look_of(part):
    """What the parts of both implementations have in common."""
    found = {"class": (type(part).__module__, type(part).__qualname__, inspect.getdoc(type(part)))}
    for name in (name for name in dir(part) if not name.startswith("_")):
        method = getattr(part, name)
        if callable(method) and inspect.ismethod(method):
            found[name] = method.__qualname__, inspect.signature(method), inspect.getdoc(method)
            assert all(found[name][::2]), name
            if inspect.iscoroutinefunction(method):
                awaitable = method()
                found[name] += (
                    awaitable.__name__,
                    awaitable.__qualname__,
                    inspect.iscoroutine(awaitable),
                )
                awaitable.close()
        else:
            found[name] = type(method).__qualname__
    return found


@needs_compiled
@pytest.mark.parametrize("part", ["itself", *SIDES])
def test_both_implementations_look_alike(part):
    looks = []
    for implementation in OURS.values():
        lock = implementation.RWLock()
        looks.append(look_of(lock if part == "itself" else getattr(lock, part)))
    assert looks[0] == looks[1]
    assert len(looks[0]) == (3 if part == "itself" else 5)


@both_sides
async def test_it_is_no_awaitable(OurRWLock, side):
    with pytest.raises(TypeError, match="ReaderLock|WriterLock"):
        await getattr(OurRWLock(), side)


@both_sides
async def test_a_patched_method_is_called(OurRWLock, side):
    lock = OurRWLock()
    one = getattr(lock, side)
    with (
        mock.patch.object(one, "acquire", wraps=one.acquire) as acquire,
        mock.patch.object(one, "release", wraps=one.release) as release,
    ):
        async with one:
            acquire.assert_called_once_with()
            release.assert_not_called()
        release.assert_called_once_with()
    await works(lock)


@both_sides
async def test_a_condition_over_it(OurRWLock, our_name, side):
    lock = OurRWLock()
    condition = OURS[our_name].Condition(getattr(lock, side))

    async def wait():
        async with condition:
            return await condition.wait()

    (task,) = await park(wait)
    async with condition:
        condition.notify()
    assert await task is True
    await works(lock)


# ---- Event loops ----


@both_sides
def test_another_loop(OurRWLock, other_loop, side):
    lock = OurRWLock()

    async def wait():
        await getattr(lock, side).acquire()

    async def main():
        await lock.writer_lock.acquire()
        (task,) = await park(wait)
        asyncio._set_running_loop(other_loop)
        with pytest.raises(RuntimeError, match=r"writing, waiters:1\]> is bound to a different ev"):
            wait().send(None)
        asyncio._set_running_loop(task.get_loop())
        lock.writer_lock.release()
        await task
        getattr(lock, side).release()
        await works(lock)

    asyncio.run(main())


@both_sides
@pytest.mark.parametrize("woken", [False, True])
@pytest.mark.parametrize("method", ["acquire", "try_acquire"])
def test_a_closed_loop(OurRWLock, side, woken, method):
    """Those who waited on it are forgotten, with the turns that they had."""
    lock = OurRWLock()
    waiters = []

    async def leave_behind():
        finish(lock.writer_lock.acquire())
        waiters.append(parked(lock.writer_lock.acquire())[0])
        waiters.append(parked(lock.reader_lock.acquire())[0])
        lock.writer_lock.release()
        if not woken:
            finish(waiters.pop(0))

    async def main():
        if not woken:
            lock.writer_lock.release()
        result = getattr(getattr(lock, side), method)()
        assert result is True or await result is True
        getattr(lock, side).release()
        for waiter in waiters:
            abandon(waiter, "close")
        await works(lock)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave_behind())
    loop.close()
    asyncio.run(main())


def test_a_waiter_that_ends_when_its_loop_is_closed(OurRWLock):
    lock = OurRWLock()

    async def leave_behind():
        finish(lock.reader_lock.acquire())
        return parked(lock.writer_lock.acquire())[0], parked(lock.reader_lock.acquire())[0]

    loop = asyncio.new_event_loop()
    writer, reader = loop.run_until_complete(leave_behind())
    loop.close()
    writer.close()
    reader.close()
    lock.reader_lock.release()
    asyncio.run(works(lock))


def test_without_a_running_loop(OurRWLock):
    lock = OurRWLock()
    finish(lock.writer_lock.acquire())
    for side in SIDES:
        with pytest.raises(RuntimeError, match=r"^no running event loop$"):
            getattr(lock, side).acquire().send(None)
    lock.writer_lock.release()
    asyncio.run(works(lock))


# ---- Code that runs in the middle of a step ----


@both_sides
def test_released_while_a_future_is_made(OurRWLock, side):
    async def main():
        lock, loop = OurRWLock(), asyncio.get_running_loop()
        finish(lock.writer_lock.acquire())
        loop.in_create_future = lock.writer_lock.release
        finish(getattr(lock, side).acquire())
        getattr(lock, side).release()
        await works(lock)

    on_interrupted_loop(main)


@pytest.mark.parametrize("asked_by", ["release", "newcomer", "another"])
@pytest.mark.parametrize("point", ["in_done", "in_set_result"])
def test_a_waiter_closed_in_its_own_future(OurRWLock, asked_by, point):
    async def main():
        lock = OurRWLock()
        for _ in range(2):
            finish(lock.reader_lock.acquire())
        writer, future = parked(lock.writer_lock.acquire())
        reader, its_future = parked(lock.reader_lock.acquire())
        if asked_by != "another":
            setattr(future, point, writer.close)
        setattr(its_future, point, reader.close)
        if asked_by == "newcomer":
            waiter = lock.reader_lock.acquire()
            with contextlib.suppress(StopIteration):
                waiter.send(None)
                writer.close()
                finish(waiter)
            lock.reader_lock.release()
        elif asked_by == "another":
            writer.close()
        for _ in range(2):
            lock.reader_lock.release()
        writer.close()
        reader.close()
        await works(lock)

    on_interrupted_loop(main)


@both_sides
def test_acquired_while_it_is_asked_whether_the_loop_is_closed(OurRWLock, side):
    """A writer is inside with nobody, whatever comes in between."""

    async def main():
        lock, loop = OurRWLock(), asyncio.get_running_loop()
        finish(lock.reader_lock.acquire())
        writer, _ = parked(lock.writer_lock.acquire())
        waiter, future = parked(getattr(lock, side).acquire())
        loop.in_is_closed = lock.reader_lock.release
        writer.close()
        finish(waiter)
        assert future.done()
        assert not lock.writer_lock.try_acquire()
        getattr(lock, side).release()
        await works(lock)

    on_interrupted_loop(main)


@both_sides
def test_a_wake_up_that_fails_is_made_up_for(OurRWLock, side):
    async def main():
        lock = OurRWLock()
        finish(lock.writer_lock.acquire())
        waiter, future = parked(getattr(lock, side).acquire())
        behind, _ = parked(lock.writer_lock.acquire())
        future.in_set_result = mock.Mock(side_effect=MemoryError)
        with pytest.raises(MemoryError):
            lock.writer_lock.release()
        assert not lock.writer_lock.locked()
        assert not future.done()
        last, _ = parked(lock.reader_lock.acquire())  # it comes, and wakes the first
        finish(waiter)
        getattr(lock, side).release()
        finish(behind)
        lock.writer_lock.release()
        finish(last)
        lock.reader_lock.release()
        await works(lock)

    on_interrupted_loop(main)


# ---- A Python object like any other ----


async def test_reprs(OurRWLock):
    lock = OurRWLock()
    parts = lock, lock.reader_lock, lock.writer_lock
    plain = [object.__repr__(part)[1:-1] for part in parts]
    assert [text.partition(" object")[0] for text in plain] == [
        "aiofastlock.RWLock",
        "aiofastlock.ReaderLock",
        "aiofastlock.WriterLock",
    ]

    def check(state):
        assert [repr(part) for part in parts] == [f"<{text} [{state}]>" for text in plain]
        assert repr(lock._turns).endswith(f" [{state}]>")

    check("unlocked")
    await lock.reader_lock.acquire()
    await lock.reader_lock.acquire()
    check("locked, readers:2")
    (task,) = await park(lock.writer_lock.acquire)
    check("locked, readers:2, waiters:1")
    lock.reader_lock.release()
    lock.reader_lock.release()
    check("unlocked, waiters:1")
    await task
    check("locked, writing")
    lock.writer_lock.release()
    check("unlocked")


def test_attributes_and_weak_references(OurRWLock):
    lock = OurRWLock()
    for part in (lock, lock.reader_lock, lock.writer_lock):
        part.attribute = 1
        assert weakref.ref(part)().attribute == 1
    assert lock.reader_lock is lock.reader_lock
    with pytest.raises(TypeError):
        OurRWLock(1)


@needs_refcounts
@both_sides
async def test_it_is_freed_when_it_is_dropped(OurRWLock, side):
    """No cycle is left, and one of its locks is enough to use it."""
    lock = OurRWLock()
    one = getattr(lock, side)
    references = [weakref.ref(part) for part in (lock, lock.reader_lock, lock.writer_lock, one)]
    gc.disable()
    try:
        del lock
        async with one:
            assert one.locked()
        assert [reference() is None for reference in references].count(True) == 2
        del one
        assert not any(reference() for reference in references)
    finally:
        gc.enable()


class Named(aiofastlock.RWLock):
    def __init__(self, name):
        super().__init__()
        self.name = name


@pytest.mark.parametrize("duplicate", [copy.copy, *ROUND_TRIPS.values()])
async def test_copies(OurRWLock, importable, duplicate):
    lock = OurRWLock()
    lock.attribute = ["kept"]
    other = duplicate(lock)
    assert type(other) is type(lock)
    assert other.attribute == ["kept"]
    async with lock.writer_lock, other.writer_lock:
        pass
    await works(lock)
    await works(other)
    await works(duplicate(OurRWLock()))  # which has no attributes


async def test_a_copy_of_a_subclass():
    other = copy.deepcopy(Named("a name"))
    assert (type(other), other.name) == (Named, "a name")
    await works(other)
    other = pickle.loads(pickle.dumps(other))
    assert (type(other), other.name) == (Named, "a name")
    await works(other)


@both_sides
@pytest.mark.parametrize("use", ["held", "waited for"])
async def test_no_copy_of_one_in_use(OurRWLock, importable, side, use):
    lock = OurRWLock()
    finish(lock.writer_lock.acquire() if use != "held" else getattr(lock, side).acquire())
    if use == "waited for":
        waiter, _ = parked(getattr(lock, side).acquire())
        lock.writer_lock.release()
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot copy or pickle a 'RWLock' object in use"):
            duplicate(lock)
    if use == "waited for":
        finish(waiter)
    getattr(lock, side).release()
    await works(lock)


@both_sides
def test_no_copy_of_one_of_its_locks(OurRWLock, side):
    one = getattr(OurRWLock(), side)
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="object; copy or pickle its RWLock"):
            duplicate(one)
