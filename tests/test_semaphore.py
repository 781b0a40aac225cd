"""What Semaphore and BoundedSemaphore do, on asyncio's and on both of ours."""

import asyncio
import collections
import collections.abc
import contextlib
import copy
import enum
import gc
import itertools
import math
import pickle
import random
import sys
import warnings
import weakref
from unittest import mock

import pytest
from conftest import IMPLEMENTATIONS, OURS, needs_refcounts

on_cpython = pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="PyPy's coroutines say it otherwise"
)


@pytest.fixture(params=["Semaphore", "BoundedSemaphore"])
def Either(request, implementation):
    return getattr(IMPLEMENTATIONS[implementation], request.param)


@pytest.fixture(params=["Semaphore", "BoundedSemaphore"])
def OurEither(request, our_name):
    return getattr(OURS[our_name], request.param)


@pytest.fixture
def since_3_13(request, implementation):
    if implementation == "asyncio" and sys.version_info < (3, 13):
        reason = "gh-111693: asyncio before 3.13 wakes fewer than it could, or too many"
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))


async def drained(cls, count):
    semaphore = cls(count)
    for _ in range(count):
        await semaphore.acquire()
    return semaphore


async def acquiring(semaphore, count=1):
    """Tasks that wait for a permit, and keep it."""
    tasks = [asyncio.create_task(semaphore.acquire()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def park(semaphore, count=1):
    """Tasks that wait for a permit, and then give it back."""

    async def take_turn():
        async with semaphore:
            pass

    tasks = [asyncio.create_task(take_turn()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


def take(semaphore):
    """Take a permit without a pause."""
    with pytest.raises(StopIteration) as stop:
        semaphore.acquire().send(None)
    assert stop.value.value is True


def finish(coroutine):
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value is True


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


# ---- The value ----


def test_one_permit_by_default(Either):
    semaphore = Either()
    assert semaphore._value == 1
    assert semaphore.locked() is False
    take(semaphore)
    assert semaphore._value == 0
    assert semaphore.locked() is True


class Size(enum.IntEnum):
    TWO = 2


@pytest.mark.parametrize("value", [0, 1, 3, True, False, Size.TWO, 2**31, sys.maxsize])
def test_the_value_given(Either, value):
    for semaphore in (Either(value), Either(value=value)):
        assert semaphore._value == value
        assert semaphore.locked() is (value == 0)
        for taken in range(1, min(value, 5) + 1):
            take(semaphore)
            assert semaphore._value == value - taken
        for _ in range(min(value, 5)):
            semaphore.release()
        assert semaphore._value == value


def test_the_largest_value(Either):
    semaphore = Either(sys.maxsize)
    take(semaphore)
    assert semaphore._value == sys.maxsize - 1
    semaphore.release()
    assert semaphore._value == sys.maxsize


def test_a_larger_value(OurEither):
    with pytest.raises(OverflowError, match="^Semaphore value too large$"):
        OurEither(sys.maxsize + 1)
    semaphore = OurEither(sys.maxsize)
    with pytest.raises((OverflowError, ValueError)):
        semaphore.release()
    assert semaphore._value == sys.maxsize


@pytest.mark.parametrize("value", [-1, -(10**30), -math.inf])
def test_a_negative_value(Either, value):
    with pytest.raises(ValueError, match="^Semaphore initial value must be >= 0$"):
        Either(value)
    with pytest.raises(ValueError, match="^Semaphore initial value must be >= 0$"):
        Either(value=value)


@pytest.mark.parametrize("value", ["1", None, [], 1j, b"1", object()])
def test_a_value_that_is_no_number(Either, value):
    with pytest.raises(TypeError) as raised:
        Either(value)
    assert str(raised.value) == (
        f"'<' not supported between instances of '{type(value).__name__}' and 'int'"
    )


@pytest.mark.parametrize("value", [2.5, 1.0, math.nan])
def test_a_fraction_is_refused(OurEither, value):
    with pytest.raises(TypeError):
        OurEither(value)


async def test_no_limit(Semaphore):
    semaphore = Semaphore(math.inf)
    assert repr(semaphore).endswith(" [unlocked, value:inf]>")
    for _ in range(100):
        assert await semaphore.acquire() is True
        async with semaphore:
            assert semaphore.locked() is False
    semaphore.release()
    assert semaphore._value == math.inf
    assert semaphore._waiters is None
    assert copy.copy(semaphore)._value == math.inf
    assert copy.deepcopy(semaphore)._value == math.inf


async def test_no_limit_on_a_bounded_one(BoundedSemaphore):
    semaphore = BoundedSemaphore(math.inf)
    assert semaphore._bound_value == math.inf
    assert await semaphore.acquire() is True
    assert semaphore.locked() is False
    with pytest.raises(ValueError, match="^BoundedSemaphore released too many times$"):
        semaphore.release()  # as in asyncio: its value is at the bound however many are taken


async def test_the_limit_lifted_while_tasks_wait(Semaphore):
    semaphore = Semaphore(0)
    tasks = await acquiring(semaphore, 3)
    semaphore._value = math.inf
    semaphore.release()
    await asyncio.wait_for(asyncio.gather(*tasks), 1)
    assert semaphore._value == math.inf
    assert not semaphore.locked()
    semaphore._value = 0
    assert semaphore.locked()


@pytest.mark.parametrize(
    ("arguments", "keywords", "text"),
    [
        ((), {"loop": None}, "__init__() got an unexpected keyword argument 'loop'"),
        ((1,), {"loop": None}, "__init__() got an unexpected keyword argument 'loop'"),
        ((1, 2), {}, "__init__() takes from 1 to 2 positional arguments but 3 were given"),
        ((1, 2, 3), {}, "__init__() takes from 1 to 2 positional arguments but 4 were given"),
        ((1,), {"value": 2}, "__init__() got multiple values for argument 'value'"),
    ],
)
def test_arguments(Either, arguments, keywords, text):
    for cls in (Either, type("Sub", (Either,), {})):
        with pytest.raises(TypeError) as raised:
            cls(*arguments, **keywords)
        assert str(raised.value) == f"{Either.__name__}.{text}"


# ---- Acquiring and releasing ----


async def test_acquire_returns_true_and_release_none(Either):
    semaphore = Either(2)
    assert await semaphore.acquire() is True
    assert (semaphore._value, semaphore.locked()) == (1, False)
    assert await semaphore.acquire() is True
    assert (semaphore._value, semaphore.locked()) == (0, True)
    assert semaphore.release() is None
    assert (semaphore._value, semaphore.locked()) == (1, False)


async def test_acquire_does_not_pause_when_there_is_a_permit(Either):
    semaphore, paused = Either(3), []
    asyncio.get_running_loop().call_soon(paused.append, True)
    await semaphore.acquire()
    async with semaphore:
        await semaphore.acquire()
    assert not paused


async def test_async_with_gives_none_and_releases(Either):
    semaphore = Either()
    async with semaphore as given:
        assert given is None
        assert semaphore.locked()
    assert semaphore._value == 1


async def test_async_with_releases_after_an_exception_and_does_not_swallow_it(Either):
    semaphore = Either()
    with pytest.raises(ZeroDivisionError):
        async with semaphore:
            raise ZeroDivisionError
    assert semaphore._value == 1


async def test_on_an_exit_stack(Either):
    semaphore = Either(2)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            assert await stack.enter_async_context(semaphore) is None
        assert semaphore.locked()
    assert semaphore._value == 2


async def test_release_of_more_than_was_acquired(Semaphore):
    semaphore = Semaphore(0)
    for value in range(1, 4):
        semaphore.release()
        assert semaphore._value == value
    for _ in range(3):
        take(semaphore)
    assert semaphore.locked()
    await Semaphore().__aexit__(None, None, None)


async def test_a_bounded_one_is_released_too_often(BoundedSemaphore):
    semaphore = BoundedSemaphore(2)
    assert semaphore._bound_value == 2
    text = "^BoundedSemaphore released too many times$"
    for _ in range(2):
        with pytest.raises(ValueError, match=text):
            semaphore.release()
        assert semaphore._value == 2
    await semaphore.acquire()
    semaphore.release()
    with pytest.raises(ValueError, match=text):
        await semaphore.__aexit__(None, None, None)
    assert (semaphore._value, semaphore._bound_value) == (2, 2)
    async with semaphore:
        assert semaphore._value == 1


async def test_a_bounded_one_without_permits(BoundedSemaphore):
    semaphore = BoundedSemaphore(0)
    assert semaphore.locked()
    with pytest.raises(ValueError, match="^BoundedSemaphore released too many times$"):
        semaphore.release()
    (task,) = await acquiring(semaphore)
    with pytest.raises(ValueError, match="^BoundedSemaphore released too many times$"):
        semaphore.release()
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()


async def test_an_exit_that_is_one_too_many(BoundedSemaphore):
    semaphore = BoundedSemaphore()

    async def release_twice():
        async with semaphore:
            semaphore.release()
            raise ZeroDivisionError

    with pytest.raises(ValueError, match="^BoundedSemaphore released too many times$") as raised:
        await release_twice()
    assert isinstance(raised.value.__context__, ZeroDivisionError)
    assert semaphore._value == 1


async def test_a_bounded_one_at_its_bound_with_tasks_woken(BoundedSemaphore):
    """What is on its way to a task counts as taken."""
    semaphore = await drained(BoundedSemaphore, 2)
    tasks = await acquiring(semaphore, 2)
    for _ in range(4):
        semaphore.release()
    assert semaphore._value == 2
    with pytest.raises(ValueError, match="^BoundedSemaphore released too many times$"):
        semaphore.release()
    await asyncio.gather(*tasks)
    assert semaphore._value == 2


def test_a_bounded_one_is_a_semaphore(Semaphore, BoundedSemaphore):
    assert isinstance(BoundedSemaphore(), Semaphore)
    assert issubclass(BoundedSemaphore, Semaphore)
    assert not isinstance(Semaphore(), BoundedSemaphore)
    assert not hasattr(Semaphore(), "_bound_value")


async def test_waiters_are_served_in_order(Either):
    semaphore, order, inside, most = Either(3), [], 0, 0

    async def take_turn(name):
        nonlocal inside, most
        async with semaphore:
            order.append(name)
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    async with asyncio.TaskGroup() as group:
        for name in range(20):
            group.create_task(take_turn(name))
    assert order == list(range(20))
    assert (most, inside, semaphore._value) == (3, 0, 3)


async def test_a_newcomer_does_not_overtake_although_there_is_a_permit(Either):
    semaphore, order = await drained(Either, 2), []

    async def take_turn(name):
        await semaphore.acquire()
        order.append(name)

    waiter = asyncio.create_task(take_turn("waiter"))
    await asyncio.sleep(0)
    semaphore.release()
    semaphore.release()
    newcomer = asyncio.create_task(take_turn("newcomer"))
    assert semaphore._value == 1
    assert semaphore.locked()
    asyncio.get_running_loop().call_soon(semaphore.release)
    await take_turn("releaser")
    assert order == ["waiter", "releaser"]
    await asyncio.wait_for(newcomer, 1)
    await waiter
    assert order == ["waiter", "releaser", "newcomer"]
    assert semaphore._value == 0


async def test_a_newcomer_passes_those_that_are_all_cancelled(Either):
    semaphore = await drained(Either, 1)
    tasks = await park(semaphore, 3)
    for task in tasks:
        task.cancel()
    semaphore.release()
    assert not semaphore.locked()
    take(semaphore)  # although the three still stand in the queue
    assert len(semaphore._waiters) == 3
    semaphore.release()
    await asyncio.wait(tasks)
    assert semaphore._value == 1


async def test_locked(Either):
    semaphore = await drained(Either, 3)
    first, second = await acquiring(semaphore, 2)
    for value in (0, 0, 1):
        semaphore.release()
        assert semaphore._value == value
        assert semaphore.locked()  # both are on their way
    first.cancel()
    assert semaphore.locked()
    await asyncio.wait([first, second])
    assert semaphore._value == 2
    assert not semaphore.locked()


async def test_not_locked_while_only_cancelled_ones_are_in_the_queue(Either):
    semaphore = await drained(Either, 1)
    first, second = await acquiring(semaphore, 2)
    first.cancel()
    assert semaphore.locked()
    semaphore.release()  # wakes the second
    assert semaphore.locked()
    second.cancel()
    assert semaphore._value == 0
    await asyncio.wait([first, second])
    assert semaphore._value == 1
    tasks = await acquiring(semaphore, 2)
    tasks[1].cancel()
    semaphore.release()
    assert semaphore._value == 1
    assert not semaphore.locked()
    assert len(semaphore._waiters) == 1
    await asyncio.wait(tasks)


async def test_a_task_that_releases_wakes_the_first_of_those_that_wait(Either):
    semaphore = await drained(Either, 2)
    tasks = await acquiring(semaphore, 4)
    for count in (1, 2):
        semaphore.release()
        await asyncio.sleep(0)
        assert [task.done() for task in tasks] == [True] * count + [False] * (4 - count)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert semaphore._value == 0


# ---- Faults that asyncio had ----


async def test_gh_90155_a_task_that_takes_again_goes_to_the_back(Either):
    semaphore, order = Either(1), []

    async def take_turns(name):
        for _ in range(3):
            async with semaphore:
                order.append(name)
                await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(*map(take_turns, "abc")), 1)
    assert "".join(order) == "abcabcabc"


async def test_gh_90155_usable_after_a_woken_task_was_cancelled(Either):
    semaphore = await drained(Either, 1)
    (task,) = await park(semaphore)
    semaphore.release()
    task.cancel()
    await asyncio.wait([task])
    for _ in range(2):
        await asyncio.wait_for(semaphore.acquire(), 0.1)
        semaphore.release()
    assert semaphore._value == 1


async def test_gh_97545_as_many_wake_at_once_as_there_are_permits_for(Either):
    semaphore = await drained(Either, 5)
    tasks = await acquiring(semaphore, 7)
    for _ in range(5):
        semaphore.release()
    assert [future.done() for future in semaphore._waiters] == [True] * 5 + [False] * 2
    await asyncio.sleep(0)
    assert [task.done() for task in tasks] == [True] * 5 + [False] * 2
    assert semaphore._value == 0
    for task in tasks[5:]:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.usefixtures("since_3_13")
@pytest.mark.parametrize("cancelled", [False, True])
async def test_gh_111693_those_who_came_too_late_for_a_release_are_woken_together(
    Either, cancelled
):
    semaphore = await drained(Either, 4)
    (first,) = await acquiring(semaphore)
    for _ in range(4):
        semaphore.release()
    late = [semaphore.acquire() for _ in range(5)]
    futures = [coroutine.send(None) for coroutine in late]
    assert semaphore._value == 3
    assert not any(future.done() for future in futures)  # the first has not run
    if cancelled:
        first.cancel()
    await asyncio.wait([first])
    assert first.cancelled() is cancelled
    woken = 3 + cancelled
    assert [future.done() for future in futures] == [True] * woken + [False] * (5 - woken)
    assert semaphore._value == 0
    for coroutine in late[:woken]:
        finish(coroutine)
    for coroutine in late[woken:]:
        coroutine.close()


@pytest.mark.usefixtures("since_3_13")
async def test_gh_111693_one_cancelled_by_hand_gives_no_permit_that_it_was_not_given(Either):
    semaphore = await drained(Either, 2)
    coroutine = semaphore.acquire()
    coroutine.send(None)
    with pytest.raises(asyncio.CancelledError):
        coroutine.throw(asyncio.CancelledError)
    assert semaphore._value == 0
    assert semaphore.locked()


@pytest.mark.usefixtures("since_3_13")
@pytest.mark.parametrize("how", ["cancel", "throw", "close"])
async def test_gh_111693_one_that_dies_wakes_as_many_as_there_are_permits_for(Either, how):
    semaphore = await drained(Either, 3)
    dying = semaphore.acquire()
    future = dying.send(None)
    tasks = await acquiring(semaphore, 3)
    semaphore._value = 2
    if how == "cancel":
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            dying.send(None)
    elif how == "throw":
        with pytest.raises(KeyError):
            dying.throw(KeyError("dead"))
    else:
        dying.close()
    assert semaphore._value == 0
    await asyncio.sleep(0)
    assert [task.done() for task in tasks] == [True, True, False]
    tasks[2].cancel()
    await asyncio.wait(tasks)


# ---- Nothing happens at the call ----


@pytest.mark.parametrize("method", ["acquire", "__aenter__"])
async def test_nothing_is_taken_before_the_await(Either, method):
    semaphore = Either(2)
    awaitable = getattr(semaphore, method)()
    assert semaphore._value == 2
    await awaitable
    assert semaphore._value == 1


async def test_nothing_is_released_before_the_await(Either):
    semaphore = await drained(Either, 1)
    awaitable = semaphore.__aexit__(None, None, None)
    assert semaphore.locked()
    assert await awaitable is None
    assert semaphore._value == 1


@pytest.mark.parametrize("free", [False, True])
async def test_whether_it_must_wait_is_found_out_at_the_await(Either, free):
    semaphore = Either(1)
    if free:
        take(semaphore)
    coroutine = semaphore.acquire()
    if free:
        semaphore.release()
        finish(coroutine)
    else:
        take(semaphore)
        assert coroutine.send(None) is semaphore._waiters[0]
        coroutine.close()


@pytest.mark.parametrize("method", ["acquire", "__aenter__"])
async def test_a_wait_for_that_never_starts_takes_nothing(Either, method):
    semaphore = Either()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(getattr(semaphore, method)(), 0)
    assert semaphore._value == 1
    assert semaphore._waiters is None


@needs_refcounts
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda semaphore: semaphore.acquire(), r"Semaphore\.acquire"),
        (lambda semaphore: semaphore.__aenter__(), r"\w+\.__aenter__"),
        (lambda semaphore: semaphore.__aexit__(None, None, None), r"\w+\.__aexit__"),
    ],
)
def test_dropped_without_being_awaited(Either, call, name):
    semaphore = Either()
    with pytest.warns(RuntimeWarning, match=rf"^coroutine '{name}' was never awaited$"):
        call(semaphore)
    assert semaphore._value == 1


@needs_refcounts
def test_no_warning_once_closed_or_thrown_into(Either):
    semaphore = Either()
    semaphore.acquire().close()
    with pytest.raises(KeyError):
        semaphore.acquire().throw(KeyError("unstarted"))
    assert semaphore._value == 1


# ---- The awaitable is a coroutine ----


async def test_the_awaitable_is_a_coroutine_to_asyncio(Either):
    semaphore = Either()
    awaitable = semaphore.acquire()
    assert isinstance(awaitable, collections.abc.Coroutine)
    assert isinstance(awaitable, collections.abc.Awaitable)
    assert asyncio.iscoroutine(awaitable)
    assert (awaitable.__name__, awaitable.__qualname__) == ("acquire", "Semaphore.acquire")
    assert repr(awaitable).startswith("<coroutine object Semaphore.acquire at 0x")
    assert await awaitable is True


@pytest.mark.parametrize("held", [False, True])
async def test_tasks_take_it(Either, held):
    semaphore = Either(1)
    for run in (
        asyncio.create_task,
        asyncio.ensure_future,
        asyncio.shield,
        lambda coroutine: asyncio.wait_for(coroutine, 10),
        asyncio.gather,
    ):
        if held:
            await semaphore.acquire()
            asyncio.get_running_loop().call_soon(semaphore.release)
        assert await run(semaphore.acquire()) in (True, [True])
        assert semaphore.locked()
        semaphore.release()


def test_run_until_complete_takes_it(Either):
    semaphore = Either()
    with asyncio.Runner() as runner:
        assert runner.get_loop().run_until_complete(semaphore.acquire()) is True
        assert semaphore.locked()
        runner.get_loop().run_until_complete(semaphore.__aexit__(None, None, None))
    assert semaphore._value == 1


def test_by_hand(Either):
    semaphore = Either()
    coroutine = semaphore.acquire()
    with pytest.raises(TypeError, match="^can't send non-None value to a just-started coroutine$"):
        coroutine.send(1)
    assert semaphore._value == 1
    finish(coroutine)
    assert semaphore._value == 0
    with pytest.raises(StopIteration) as stop:
        semaphore.__aexit__(None, None, None).send(None)
    assert stop.value.value is None
    assert semaphore._value == 1


async def test_parked_by_hand(Either):
    semaphore = await drained(Either, 1)
    coroutine = semaphore.acquire()
    future = coroutine.send(None)
    assert asyncio.isfuture(future)
    assert future.get_loop() is asyncio.get_running_loop()
    assert future._asyncio_future_blocking is True
    assert list(semaphore._waiters) == [future]
    semaphore.release()
    assert future.result() is True
    assert list(semaphore._waiters) == [future]
    with pytest.raises(StopIteration) as stop:
        coroutine.send("ignored")
    assert stop.value.value is True
    assert semaphore._value == 0
    assert not semaphore._waiters


@pytest.mark.parametrize("parks", [False, True])
async def test_reuse(Either, parks):
    semaphore = Either(1)
    if parks:
        take(semaphore)
        asyncio.get_running_loop().call_soon(semaphore.release)
    coroutine = semaphore.acquire()
    await coroutine
    text = "^cannot reuse already awaited coroutine$"
    with pytest.raises(RuntimeError, match=text):
        await coroutine
    with pytest.raises(RuntimeError, match=text):
        coroutine.send(None)
    with pytest.raises(RuntimeError, match=text):
        coroutine.throw(ValueError)
    coroutine.close()
    assert semaphore._value == 0


async def test_awaited_by_two(Either):
    semaphore = await drained(Either, 1)
    coroutine = semaphore.acquire()

    async def wait():
        return await coroutine

    first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="^coroutine is being awaited already$"):
        await second
    semaphore.release()
    assert await first
    assert semaphore._value == 0


async def test_resumed_too_early(Either):
    semaphore = await drained(Either, 1)
    coroutine = semaphore.acquire()
    coroutine.send(None)
    with pytest.raises(RuntimeError, match="^await wasn't used with future$"):
        coroutine.send(None)
    assert not semaphore._waiters
    semaphore.release()
    assert semaphore._value == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((ValueError,), ValueError()),
        ((ValueError("text"),), ValueError("text")),
        ((ValueError, "text"), ValueError("text")),
        ((KeyError, (1, "text")), KeyError(1, "text")),
        ((ValueError("text"), None, None), ValueError("text")),
        pytest.param(
            (5,),
            TypeError("exceptions must be classes deriving BaseException or instances"),
            marks=on_cpython,
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:the .type, exc, tb. signature of throw:DeprecationWarning")
async def test_throw_takes_what_a_coroutine_takes(Either, arguments, expected):
    semaphore = await drained(Either, 1)
    coroutine = semaphore.acquire()
    coroutine.send(None)
    with pytest.raises(type(expected)) as raised:
        coroutine.throw(*arguments)
    assert str(raised.value).startswith(str(expected))
    assert not semaphore._waiters
    assert semaphore._value == 0


# ---- Cancelled ----


async def test_cancelled_before_the_wake_up(Either):
    semaphore = await drained(Either, 1)
    first, second = await acquiring(semaphore, 2)
    first.cancel("message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        await first
    assert len(semaphore._waiters) == 1
    assert semaphore._value == 0
    semaphore.release()
    assert await second is True
    assert semaphore._value == 0


async def test_cancelled_after_the_wake_up(Either):
    semaphore = await drained(Either, 1)
    first, second = await acquiring(semaphore, 2)
    semaphore.release()  # wakes the first
    first.cancel("message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        await first
    assert await asyncio.wait_for(second, 1) is True
    assert semaphore._value == 0


async def test_cancelled_after_the_wake_up_with_nobody_behind(Either):
    semaphore = await drained(Either, 2)
    (task,) = await acquiring(semaphore)
    semaphore.release()
    task.cancel()
    await asyncio.wait([task])
    assert (semaphore._value, semaphore.locked()) == (1, False)
    assert not semaphore._waiters


async def test_cancelled_before_the_release_in_one_iteration(Either):
    semaphore = await drained(Either, 1)
    first, second = await acquiring(semaphore, 2)
    first.cancel()
    semaphore.release()  # passes the first
    assert semaphore._waiters[1].done()
    await asyncio.wait([first])
    assert first.cancelled()
    assert await asyncio.wait_for(second, 1) is True
    assert semaphore._value == 0


async def test_cancelled_twice(Either):
    semaphore = await drained(Either, 1)
    (task,) = await acquiring(semaphore)
    semaphore.release()
    task.cancel("one")
    task.cancel("two")
    with pytest.raises(asyncio.CancelledError) as raised:
        await task
    assert raised.value.args in (("one",), ("two",))
    assert semaphore._value == 1


async def test_several_woken_and_cancelled_at_once(Either):
    semaphore = await drained(Either, 3)
    tasks = await acquiring(semaphore, 6)
    for _ in range(3):
        semaphore.release()
    tasks[0].cancel()
    tasks[2].cancel()
    await settle()
    assert [task.cancelled() for task in tasks] == [True, False, True, False, False, False]
    assert [task.done() for task in tasks] == [True] * 5 + [False]
    assert semaphore._value == 0
    tasks[5].cancel()
    await asyncio.wait(tasks)


async def test_all_woken_and_all_cancelled_in_any_order(Either):
    for order in itertools.permutations(range(4)):
        semaphore = await drained(Either, 3)
        tasks = await acquiring(semaphore, 4)
        for _ in range(3):
            semaphore.release()
        for index in order:
            tasks[index].cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks), order
        assert semaphore._value == 3, order
        assert not semaphore._waiters, order


async def test_a_task_cancelled_inside_gives_its_permit_on(Either):
    semaphore = Either(1)

    async def hold():
        async with semaphore:
            await asyncio.sleep(10)

    first, second = asyncio.create_task(hold()), asyncio.create_task(hold())
    await asyncio.sleep(0)
    for task in (first, second):
        assert semaphore._value == 0
        task.cancel()
        await asyncio.wait([task])
    assert semaphore._value == 1


@pytest.mark.parametrize("woken", [False, True])
async def test_cancelled_by_the_one_that_holds(Either, woken):
    semaphore, entered = Either(1), []

    async def hold():
        async with semaphore:
            await asyncio.sleep(0)
            if not woken:
                waiter.cancel()
        waiter.cancel()

    async def wait():
        async with semaphore:
            entered.append(True)

    holder, waiter = asyncio.create_task(hold()), asyncio.create_task(wait())
    await asyncio.wait([holder, waiter])
    assert waiter.cancelled()
    assert not entered
    assert semaphore._value == 1


async def test_timed_out(Either):
    semaphore = await drained(Either, 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001), semaphore:
            pass
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(semaphore.acquire(), 0.001)
    assert not semaphore._waiters
    assert semaphore._value == 0
    semaphore.release()
    async with asyncio.timeout(0), semaphore:
        assert semaphore.locked()
    assert semaphore._value == 1


async def test_released_in_the_iteration_of_the_timeout(Either):
    semaphore = await drained(Either, 1)
    loop = asyncio.get_running_loop()

    async def wait():
        async with asyncio.timeout_at(deadline):
            await semaphore.acquire()

    for release_at in (-0.001, 0, 0.001):
        deadline = loop.time() + 0.005
        loop.call_at(deadline + release_at, semaphore.release)
        (outcome,) = await asyncio.gather(wait(), return_exceptions=True)
        assert outcome is None or isinstance(outcome, TimeoutError)
        await asyncio.sleep(0.01)
        assert semaphore._value == (0 if outcome is None else 1)
        if outcome is not None:
            take(semaphore)


async def test_a_task_group_that_fails(Either):
    semaphore, entered = Either(3), []

    async def work(number):
        async with semaphore:
            entered.append(number)
            await asyncio.sleep(0)
            if number == 10:
                raise ZeroDivisionError

    async def run():
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(work(number))

    with pytest.raises(ExceptionGroup) as raised:
        await run()
    assert [type(error) for error in raised.value.exceptions] == [ZeroDivisionError]
    assert entered[:11] == list(range(11))
    assert len(entered) < 20
    assert semaphore._value == 3
    assert not semaphore._waiters


async def test_cancelled_waiters_leave_in_any_order(Either):
    semaphore = await drained(Either, 1)
    tasks = await acquiring(semaphore, 7)
    left = list(semaphore._waiters)
    for index in (3, 0, 6, 5, 1):
        tasks[index].cancel()
        left.remove(tasks[index]._fut_waiter)
        await asyncio.wait([tasks[index]])
        assert list(semaphore._waiters) == left
    semaphore.release()
    assert await tasks[2] is True
    semaphore.release()
    assert await tasks[4] is True
    assert not semaphore._waiters


# ---- A woken waiter that dies gives its permit on ----


def die(coroutine, how):
    if how == "close":
        coroutine.close()
    elif how == "throw":
        with pytest.raises(KeyError):
            coroutine.throw(KeyError("dead"))


deaths = pytest.mark.parametrize(
    "how", ["close", "throw", pytest.param("drop", marks=needs_refcounts)]
)


@pytest.mark.usefixtures("mended")
@deaths
async def test_a_woken_waiter_that_dies_gives_its_permit_on(Either, how):
    semaphore = await drained(Either, 1)
    dying = semaphore.acquire()
    dying.send(None)
    tasks = await acquiring(semaphore, 2)
    semaphore.release()  # wakes the one that dies
    die(dying, how)
    del dying
    gc.collect()
    await asyncio.sleep(0)
    assert [task.done() for task in tasks] == [True, False]
    assert semaphore._value == 0
    tasks[1].cancel()
    await asyncio.wait(tasks)


@pytest.mark.usefixtures("mended")
@deaths
async def test_a_woken_waiter_that_dies_with_nobody_behind_it(Either, how):
    semaphore = await drained(Either, 1)
    dying = semaphore.acquire()
    dying.send(None)
    semaphore.release()
    die(dying, how)
    del dying
    gc.collect()
    assert (semaphore._value, semaphore.locked()) == (1, False)
    assert not semaphore._waiters


@pytest.mark.usefixtures("mended")
@deaths
async def test_of_several_woken_some_die(Either, how):
    semaphore = await drained(Either, 3)
    waiting = [semaphore.acquire() for _ in range(6)]
    futures = [coroutine.send(None) for coroutine in waiting]
    for _ in range(3):
        semaphore.release()
    for index in (2, 0):
        die(waiting[index], how)
        waiting[index] = None
        gc.collect()
    assert [future.done() for future in futures] == [True] * 5 + [False]
    for index in (1, 3, 4):
        finish(waiting[index])
    waiting[5].close()
    assert semaphore._value == 0
    assert not semaphore._waiters


@deaths
async def test_a_parked_waiter_that_dies_leaves_the_queue(Either, how):
    semaphore = await drained(Either, 1)
    dying = semaphore.acquire()
    dying.send(None)
    (task,) = await acquiring(semaphore)
    assert len(semaphore._waiters) == 2
    die(dying, how)
    del dying
    gc.collect()
    assert list(semaphore._waiters) == [task._fut_waiter]
    assert semaphore._value == 0
    semaphore.release()
    assert await task is True
    assert semaphore._value == 0


# ---- Permits in, permits out ----


STEPS = ("release", "newcomer", "cancel first", "cancel second", "run")


async def test_every_short_history(Either):
    """No permit is lost or made of nothing, nobody waits for one that is there, or overtakes."""
    for history in itertools.product(STEPS, repeat=5):
        semaphore, released, got = await drained(Either, 5), 0, []

        async def wait(number, semaphore=semaphore, got=got):
            await semaphore.acquire()
            got.append(number)

        tasks = [asyncio.create_task(wait(number)) for number in range(3)]
        await asyncio.sleep(0)
        for step in history:
            if step == "release":
                semaphore.release()
                released += 1
            elif step == "newcomer":
                tasks.append(asyncio.create_task(wait(len(tasks))))
            elif step == "run":
                await asyncio.sleep(0)
            else:
                tasks[step == "cancel second"].cancel()
        await settle()
        assert semaphore._value + len(got) == released, history
        assert got == sorted(got), history
        waiting = [task for task in tasks if not task.done()]
        assert len(semaphore._waiters) == len(waiting), history
        assert semaphore._value == 0 or not waiting, history
        for task in waiting:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.parametrize("seed", range(20))
async def test_permits_in_equal_permits_out(Either, seed):
    choose = random.Random(seed)
    size = choose.randint(1, 4)
    semaphore, inside, tasks = Either(size), 0, []

    async def work():
        nonlocal inside
        async with asyncio.timeout(choose.choice([None, None, 0, 0.0005])), semaphore:
            inside += 1
            assert inside <= size
            try:
                for _ in range(choose.randrange(4)):
                    await asyncio.sleep(0)
                if choose.random() < 0.1:
                    raise ZeroDivisionError
            finally:
                inside -= 1

    for _ in range(150):
        tasks += [asyncio.create_task(work()) for _ in range(choose.randrange(4))]
        recent = tasks[-30:]
        for task in choose.sample(recent, min(len(recent), choose.randrange(4))):
            task.cancel()
        if choose.random() < 0.7:
            await asyncio.sleep(0)
        assert 0 <= semaphore._value <= size - inside
    _, stuck = await asyncio.wait(tasks, timeout=10)
    assert not stuck
    for task in tasks:
        if not task.cancelled():
            assert isinstance(task.exception(), ZeroDivisionError | TimeoutError | None)
    assert (semaphore._value, inside, len(semaphore._waiters)) == (size, 0, 0)


# ---- Loops ----


def test_bound_to_the_first_loop_it_waits_on(Either):
    semaphore = Either(1)

    async def hold():
        await semaphore.acquire()
        assert semaphore._loop is None  # it did not have to wait
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(semaphore.acquire(), 0.001)

    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    first.run_until_complete(hold())
    assert semaphore._loop is first
    with pytest.raises(RuntimeError) as raised:
        second.run_until_complete(semaphore.acquire())
    assert str(raised.value) == f"{semaphore!r} is bound to a different event loop"
    assert semaphore._value == 0
    assert not semaphore._waiters
    semaphore.release()
    assert second.run_until_complete(semaphore.acquire())  # nothing to wait for
    assert semaphore._loop is first
    first.close()
    second.close()


@pytest.mark.usefixtures("mended")
def test_binds_anew_when_its_loop_is_closed(Either):
    semaphore = Either(2)

    async def contend():
        async with semaphore, semaphore:
            tasks = await park(semaphore, 3)
        await asyncio.gather(*tasks)

    asyncio.run(contend())
    asyncio.run(contend())
    assert semaphore._value == 2


@pytest.mark.parametrize("woken", [0, 1, 2])
def test_a_loop_closed_under_waiters(OurEither, woken):
    """What was on its way to a task that will never run is there again."""
    semaphore = OurEither(2)
    loop = asyncio.new_event_loop()

    async def leave_behind():
        await semaphore.acquire()
        await semaphore.acquire()
        return await park(semaphore, 3)

    tasks = loop.run_until_complete(leave_behind())
    for _ in range(woken):
        semaphore.release()
    loop.close()
    assert (semaphore._value, len(semaphore._waiters)) == (0, 3)

    async def use():
        for _ in range(woken):
            await asyncio.wait_for(semaphore.acquire(), 1)
        (task,) = await park(semaphore)
        assert len(semaphore._waiters) == 1
        semaphore.release()
        await asyncio.wait_for(task, 1)
        assert semaphore._value == 1
        take(semaphore)
        (task,) = await acquiring(semaphore)
        semaphore.release()
        assert await asyncio.wait_for(task, 1) is True

    asyncio.run(use())
    assert semaphore._value == 0
    for task in tasks:
        task._log_destroy_pending = False
    del tasks, task
    gc.collect()  # the stale waiters end, and disturb nobody
    assert semaphore._value == 0
    assert not semaphore._waiters


def test_released_when_the_loop_of_its_waiters_is_closed(OurEither):
    """That raises, as in asyncio. The permit is there once, for the next loop."""
    semaphore = OurEither(1)
    loop = asyncio.new_event_loop()
    take(semaphore)
    tasks = loop.run_until_complete(acquiring(semaphore, 2))
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        semaphore.release()

    async def use():
        await asyncio.wait_for(semaphore.acquire(), 1)
        (task,) = await acquiring(semaphore)
        assert not task.done()
        assert semaphore.locked()
        semaphore.release()
        assert await asyncio.wait_for(task, 1) is True
        assert semaphore._value == 0

    asyncio.run(use())
    for task in tasks:
        task._log_destroy_pending = False


def test_waiting_without_a_loop(OurEither):
    semaphore = OurEither()
    take(semaphore)
    with pytest.raises(RuntimeError, match="^no running event loop$"):
        semaphore.acquire().send(None)
    assert semaphore._value == 0
    assert not semaphore._waiters
    semaphore.release()
    take(semaphore)


def test_the_loop_makes_the_future(Either):
    made = []

    class Loop(asyncio.SelectorEventLoop):
        def create_future(self):
            made.append(super().create_future())
            return made[-1]

    async def main():
        semaphore = Either(1)
        made.clear()
        await semaphore.acquire()
        assert not made
        coroutine = semaphore.acquire()
        assert coroutine.send(None) is made[0]
        semaphore.release()
        assert made[0].result() is True
        finish(coroutine)
        assert len(made) == 1

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


def test_a_loop_that_cannot_make_a_future(Either):
    class Loop(asyncio.SelectorEventLoop):
        broken = False

        def create_future(self):
            if self.broken:
                raise MemoryError("no future")
            return super().create_future()

    async def main():
        loop = asyncio.get_running_loop()
        semaphore = await drained(Either, 1)
        loop.broken = True
        with pytest.raises(MemoryError, match="no future"):
            await semaphore.acquire()
        loop.broken = False
        assert semaphore._value == 0
        assert not semaphore._waiters
        (task,) = await park(semaphore)
        semaphore.release()
        await task
        assert semaphore._value == 1

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


# ---- Code that runs in the middle of a step ----


class Future(asyncio.futures._PyFuture):
    """A future in Python, which does what it is told in the middle of done() or set_result()."""

    def __init__(self, **keywords):
        self.in_done = self.in_set_result = self.after_set_result = None
        super().__init__(**keywords)

    def done(self):
        if self.in_done is not None:
            interrupt, self.in_done = self.in_done, None
            interrupt()
        return super().done()

    def set_result(self, result):
        if self.in_set_result is not None:
            interrupt, self.in_set_result = self.in_set_result, None
            interrupt()
        super().set_result(result)
        if self.after_set_result is not None:
            raise self.after_set_result


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


def parked(semaphore):
    coroutine = semaphore.acquire()
    return coroutine, coroutine.send(None)


def test_released_while_the_future_is_made(OurEither):
    """asyncio parks for ever there: what would have woken it has gone by."""

    async def main():
        semaphore = await drained(OurEither, 1)
        asyncio.get_running_loop().in_create_future = semaphore.release
        assert await asyncio.wait_for(semaphore.acquire(), 1)
        assert semaphore._value == 0
        assert not semaphore._waiters

    on(main)


@pytest.mark.parametrize("moment", ["in_done", "in_set_result"])
@pytest.mark.parametrize("leaving", [0, 1, 2])
@pytest.mark.parametrize("index", [0, 1])
def test_a_waiter_closed_while_release_runs(OurEither, moment, index, leaving):
    async def main():
        semaphore = await drained(OurEither, 2)
        waiting = [parked(semaphore) for _ in range(3)]
        setattr(waiting[index][1], moment, waiting[leaving][0].close)
        semaphore.release()
        semaphore.release()
        waiting.pop(leaving)[0].close()  # if it was not, because nobody asked
        for coroutine, future in waiting:
            assert future.done()
            finish(coroutine)
        assert semaphore._value == 0
        assert not semaphore._waiters

    on(main)


def test_all_closed_while_release_runs(OurEither):
    async def main():
        semaphore = await drained(OurEither, 2)
        waiting = [parked(semaphore) for _ in range(3)]

        def leave():
            for coroutine, _ in waiting:
                coroutine.close()

        waiting[0][1].in_set_result = leave
        semaphore.release()
        semaphore.release()
        assert semaphore._value == 2
        assert not semaphore._waiters

    on(main)


def test_released_again_while_release_runs(OurEither):
    async def main():
        semaphore = await drained(OurEither, 3)
        waiting = [parked(semaphore) for _ in range(3)]
        waiting[0][1].in_set_result = semaphore.release
        # The inner release() may find the first not done yet, whose future refuses the second.
        with contextlib.suppress(asyncio.InvalidStateError):
            semaphore.release()
        taken = 0
        for coroutine, future in waiting:
            if future.done():
                finish(coroutine)
                taken += 1
            else:
                coroutine.close()
        assert semaphore._value + taken == 2
        assert not semaphore._waiters

    on(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_set_result_that_fails_loses_nobody(OurEither, error):
    def fail():
        raise error("not now")

    async def main():
        semaphore = await drained(OurEither, 2)
        (first, future), (second, _) = parked(semaphore), parked(semaphore)
        future.in_set_result = fail
        with pytest.raises(error, match="not now"):
            semaphore.release()
        assert not future.done()
        assert semaphore._value == 1  # given, and not taken
        semaphore.release()
        finish(first)
        finish(second)
        assert semaphore._value == 0
        assert not semaphore._waiters

    on(main)


def test_set_result_that_fails_when_it_is_done(Either):
    """Its permit is given, once."""

    async def main():
        semaphore = await drained(Either, 2)
        (first, future), (second, _) = parked(semaphore), parked(semaphore)
        future.after_set_result = KeyboardInterrupt("too late")
        with pytest.raises(KeyboardInterrupt, match="too late"):
            semaphore.release()
        assert future.done()
        assert semaphore._value == 0
        finish(first)
        assert semaphore._value == 0
        second.close()
        assert semaphore._value == 0

    on(main)


# ---- A Python object like any other ----


async def test_overridden_methods_are_used_by_async_with(Either):
    calls = []

    class Recorded(Either):
        async def acquire(self):
            calls.append("acquire")
            return await super().acquire()

        def release(self):
            calls.append("release")
            super().release()

    semaphore = Recorded(1)
    async with semaphore:
        assert semaphore.locked()
        (task,) = await park(semaphore)
    await task
    assert calls == ["acquire", "acquire", "release", "release"]
    assert semaphore._value == 1


async def test_a_release_that_does_not_release(Either):
    class Limited(Either):
        def release(self):
            pass

    semaphore = Limited(2)
    for value in (1, 0):
        async with semaphore:
            pass
        assert semaphore._value == value
    assert semaphore.locked()


async def test_patched_methods_are_used_by_async_with(Either):
    semaphore = Either(2)
    with mock.patch.object(semaphore, "acquire", mock.AsyncMock()) as acquire:
        with mock.patch.object(semaphore, "release") as release:
            async with semaphore:
                acquire.assert_awaited_once_with()
                release.assert_not_called()
            release.assert_called_once_with()
        assert semaphore._value == 2
    async with semaphore:
        assert semaphore._value == 1
    other = Either(1)
    semaphore.acquire, semaphore.release = other.acquire, other.release
    async with semaphore:
        assert (semaphore._value, other._value) == (2, 0)


@pytest.mark.parametrize("slots", [False, True])
async def test_a_subclass_that_overrides_nothing(Either, slots):
    namespace = {"__slots__": ("name",)} if slots else {}
    Named = type("Named", (Either,), namespace)
    semaphore = Named(1)
    semaphore.name = "x"
    async with semaphore:
        (task,) = await park(semaphore)
        assert semaphore.locked()
    await task
    assert (semaphore.name, semaphore._value) == ("x", 1)
    assert repr(semaphore).startswith(f"<{__name__}.Named object at 0x")
    coroutine = semaphore.acquire()
    assert coroutine.__qualname__ == "Semaphore.acquire"
    coroutine.close()


async def test_a_subclass_with_arguments(Either):
    class Pool(Either):
        def __init__(self, name, *, size):
            super().__init__(size)
            self.name = name

    pool = Pool("a", size=2)
    async with pool:
        assert (pool.name, pool._value) == ("a", 1)
    with pytest.raises(ValueError, match="^Semaphore initial value must be >= 0$"):
        Pool("a", size=-1)


async def test_attributes_and_weak_references(Either):
    semaphore = Either()
    assert vars(semaphore) == {} or "_value" in vars(semaphore)
    semaphore.note = "kept"
    assert semaphore.note == "kept"
    assert "note" in vars(semaphore)
    async with semaphore:
        tasks = await park(semaphore)
    await tasks[0]
    del semaphore.note, tasks
    with pytest.raises(AttributeError):
        _ = semaphore.note
    reference = weakref.ref(semaphore)
    assert reference() is semaphore
    assert {semaphore: 1}[semaphore] == 1
    assert semaphore != Either()
    assert bool(semaphore)
    assert bool(Either(0))
    del semaphore
    gc.collect()
    assert reference() is None


async def test_repr(Either):
    semaphore = Either(3)
    plain = object.__repr__(semaphore)[1:-1]
    assert repr(semaphore) == f"<{plain} [unlocked, value:3]>"
    for _ in range(3):
        take(semaphore)
    assert repr(semaphore) == f"<{plain} [locked]>"
    tasks = await acquiring(semaphore, 2)
    assert repr(semaphore) == f"<{plain} [locked, waiters:2]>"
    for _ in range(3):
        semaphore.release()
    assert semaphore._value == 1
    assert repr(semaphore) == f"<{plain} [locked, waiters:2]>"  # they come first
    await asyncio.wait(tasks)
    assert repr(semaphore) == f"<{plain} [unlocked, value:1]>"
    take(semaphore)
    (task,) = await acquiring(semaphore)
    task.cancel()
    assert repr(semaphore) == f"<{plain} [locked, waiters:1]>"
    semaphore.release()
    assert repr(semaphore) == f"<{plain} [unlocked, value:1, waiters:1]>"
    await asyncio.wait([task])
    assert repr(semaphore) == f"<{plain} [unlocked, value:1]>"


@pytest.mark.parametrize("method", ["acquire", "release", "locked", "__aenter__"])
def test_methods_take_no_arguments(Either, method):
    semaphore = Either()
    with pytest.raises(TypeError):
        getattr(semaphore, method)(1)
    with pytest.raises(TypeError):
        getattr(semaphore, method)(blocking=False)
    assert semaphore._value == 1


async def test_a_semaphore_is_no_awaitable_and_no_plain_context_manager(Either):
    semaphore = Either()
    with pytest.raises(TypeError, match=Either.__name__):
        await semaphore
    with pytest.raises(TypeError, match=Either.__name__), semaphore:
        pass
    assert not isinstance(semaphore, collections.abc.Awaitable)
    assert semaphore._value == 1


# ---- Private state ----


async def test_waiters(Either):
    semaphore = Either(1)
    assert semaphore._waiters is None
    await semaphore.acquire()
    semaphore.release()
    take(semaphore)
    assert semaphore._waiters is None
    tasks = await acquiring(semaphore, 3)
    waiters = semaphore._waiters
    assert len(waiters) == 3
    assert waiters
    assert [task._fut_waiter for task in tasks] == list(waiters)
    assert waiters[0] is tasks[0]._fut_waiter
    assert waiters[-1] is tasks[2]._fut_waiter
    assert not any(future.done() for future in waiters)
    tasks[1].cancel()
    assert semaphore._waiters[1].cancelled()
    semaphore.release()
    assert semaphore._waiters[0].done()
    tasks[2].cancel()
    await asyncio.wait(tasks)
    assert len(semaphore._waiters) == 0
    assert not semaphore._waiters


@pytest.mark.parametrize("taken", [False, True])
async def test_a_deque_of_mocks_for_waiters(Either, taken):
    semaphore = Either(1)
    if taken:
        take(semaphore)
    plain = "locked" if taken else "unlocked, value:1"
    assert semaphore._waiters is None
    semaphore._waiters = collections.deque()
    assert len(semaphore._waiters) == 0
    assert repr(semaphore).endswith(f" [{plain}]>")
    for count in (1, 2):
        semaphore._waiters.append(mock.Mock())
        assert len(semaphore._waiters) == count
        assert repr(semaphore).endswith(f" [{plain}, waiters:{count}]>")


async def test_usable_after_a_deque_was_put_in_the_place_of_the_waiters(Either):
    semaphore = Either(1)
    semaphore._waiters = collections.deque()
    async with semaphore:
        tasks = await park(semaphore, 3)
        assert list(semaphore._waiters) == [task._fut_waiter for task in tasks]
    await asyncio.wait_for(asyncio.gather(*tasks), 1)
    assert semaphore._value == 1
    assert not semaphore._waiters


async def test_waiters_appended_by_others(Either):
    semaphore = await drained(Either, 1)
    (task,) = await acquiring(semaphore)
    future = asyncio.get_running_loop().create_future()
    semaphore._waiters.append(future)
    assert (len(semaphore._waiters), semaphore._waiters[1]) == (2, future)
    semaphore.release()
    await task
    assert not future.done()
    semaphore.release()
    assert future.result() is True
    assert (semaphore._value, len(semaphore._waiters)) == (0, 1)
    reference = weakref.ref(semaphore)
    del semaphore, task
    gc.collect()
    assert reference() is None


async def test_a_future_set_by_others(Either):
    """Its task takes no permit: it was given none."""
    semaphore = await drained(Either, 2)
    first, second, third = await acquiring(semaphore, 3)
    semaphore._waiters[0].set_result(True)
    semaphore.release()
    assert await first is True
    assert await second is True
    assert not third.done()
    assert semaphore._value == 0
    semaphore.release()
    assert await third is True


async def test_a_future_failed_by_others(Either):
    """Its task was given no permit, and gives none back."""
    semaphore = await drained(Either, 1)
    first, second = await acquiring(semaphore, 2)
    semaphore._waiters[0].set_exception(KeyError("by other hands"))
    semaphore.release()
    with pytest.raises(KeyError, match="by other hands"):
        await first
    assert await asyncio.wait_for(second, 1) is True
    assert semaphore._value == 0
    assert not semaphore._waiters


def test_a_value_that_is_written(Either):
    semaphore = Either(3)
    semaphore._value = 0
    assert semaphore.locked()
    assert repr(semaphore).endswith(" [locked]>")
    semaphore._value = 2
    assert semaphore._value == 2
    assert not semaphore.locked()
    assert repr(semaphore).endswith(" [unlocked, value:2]>")
    semaphore._value -= 1
    take(semaphore)
    assert semaphore.locked()
    semaphore._value += 1
    take(semaphore)
    assert semaphore._value == 0


async def test_a_value_that_is_written_while_tasks_wait_wakes_nobody_yet(Either):
    semaphore = await drained(Either, 5)
    tasks = await acquiring(semaphore, 2)
    semaphore._value = 3
    assert semaphore.locked()  # nobody overtakes them
    tasks += await acquiring(semaphore)
    await settle()
    assert not any(task.done() for task in tasks)
    semaphore.release()
    assert semaphore._value == 3
    await settle()
    assert all(task.done() for task in tasks)
    assert semaphore._value == 1


@pytest.mark.usefixtures("since_3_13")
async def test_a_value_that_is_written_is_found_by_whoever_leaves(Either):
    semaphore = await drained(Either, 5)
    tasks = await acquiring(semaphore, 4)
    semaphore._value = 2
    tasks[1].cancel()
    await asyncio.wait([tasks[1]])
    await asyncio.sleep(0)
    assert [task.done() for task in tasks] == [True, True, True, False]
    assert semaphore._value == 0
    tasks[3].cancel()
    await asyncio.wait(tasks)


async def test_a_value_that_is_taken_away_from_those_who_wait(Either):
    semaphore = await drained(Either, 3)
    tasks = await acquiring(semaphore, 2)
    for _ in range(3):
        semaphore.release()
    assert semaphore._value == 1
    semaphore._value = 0
    assert await asyncio.gather(*tasks) == [True, True]  # they had theirs already
    assert semaphore._value == 0


def test_a_debt(Semaphore):
    semaphore = Semaphore(0)
    semaphore._value -= 2
    assert semaphore._value == -2
    assert not semaphore.locked()  # as in asyncio: its value is not 0
    take(semaphore)
    assert semaphore._value == -3
    for _ in range(3):
        semaphore.release()
    assert semaphore._value == 0
    assert semaphore.locked()
    semaphore.release()
    take(semaphore)
    assert semaphore.locked()


async def test_a_bound_that_is_written(BoundedSemaphore):
    semaphore = BoundedSemaphore(1)
    semaphore._bound_value = 3
    assert semaphore._bound_value == 3
    semaphore.release()
    semaphore.release()
    assert semaphore._value == 3
    with pytest.raises(ValueError, match="^BoundedSemaphore released too many times$"):
        semaphore.release()
    take(semaphore)
    semaphore._bound_value = 1
    with pytest.raises(ValueError, match="^BoundedSemaphore released too many times$"):
        semaphore.release()
    assert semaphore._value == 2


async def test_the_loop_is_writable(Either):
    semaphore = Either()
    assert semaphore._loop is None
    semaphore._loop = loop = asyncio.get_running_loop()
    assert semaphore._loop is loop
    async with semaphore:
        tasks = await park(semaphore)
    await tasks[0]
    assert semaphore._value == 1


@pytest.mark.parametrize("cancelled", [False, True])
async def test_made_to_forget_its_loop(Either, cancelled):
    """Some set `_loop` to None to use a semaphore on another loop. It loses nobody by that."""
    semaphore = await drained(Either, 1)
    tasks = await park(semaphore, 2)
    semaphore._loop = None
    if cancelled:
        semaphore.release()
        tasks[0].cancel()
    tasks += await park(semaphore)
    if not cancelled:
        semaphore.release()
    await asyncio.wait(tasks, timeout=1)
    assert all(task.done() for task in tasks)
    assert semaphore._value == 1


# ---- Copied and pickled ----


def pickled(semaphore):
    return pickle.loads(pickle.dumps(semaphore))


@pytest.fixture
def importable(Either, monkeypatch):
    """The class under the name by which pickle finds it, whichever half is in use."""
    monkeypatch.setattr(f"{Either.__module__}.{Either.__name__}", Either)


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
@pytest.mark.parametrize("taken", [0, 1, 3])
async def test_a_copy_keeps_the_value_and_the_attributes(Either, duplicate, taken):
    semaphore = Either(3)
    semaphore.note = ["kept"]
    for _ in range(taken):
        take(semaphore)
    other = duplicate(semaphore)
    assert type(other) is Either
    assert other is not semaphore
    assert (other._value, other.note) == (3 - taken, ["kept"])
    assert (other.note is semaphore.note) is (duplicate is copy.copy)
    assert getattr(other, "_bound_value", "none") == getattr(semaphore, "_bound_value", "none")
    for _ in range(3 - taken):
        take(other)
    (task,) = await acquiring(other)
    other.release()
    assert await task is True
    assert (other._value, semaphore._value) == (0, 3 - taken)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
async def test_a_copy_has_a_loop_and_waiters_of_its_own(OurEither, duplicate, monkeypatch):
    monkeypatch.setattr(f"aiofastlock.{OurEither.__name__}", OurEither)
    semaphore = await drained(OurEither, 2)
    tasks = await park(semaphore, 2)
    semaphore.release()
    await asyncio.wait(tasks)
    take(semaphore)
    assert semaphore._loop is asyncio.get_running_loop()
    other = duplicate(semaphore)
    assert (other._value, other._loop, other._waiters) == (0, None, None)
    (task,) = await acquiring(semaphore)
    assert not other._waiters
    other.release()
    await asyncio.sleep(0)
    assert not task.done()
    semaphore.release()
    assert await task is True
    assert (semaphore._value, other._value) == (0, 1)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
async def test_no_copy_while_tasks_wait(OurEither, duplicate):
    semaphore = await drained(OurEither, 1)
    (task,) = await acquiring(semaphore)
    text = f"^cannot copy or pickle a '{OurEither.__name__}' object that tasks wait for$"
    with pytest.raises(TypeError, match=text):
        duplicate(semaphore)
    semaphore.release()
    assert await task is True


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(Either, importable, protocol):
    semaphore = Either(2)
    take(semaphore)
    other = pickle.loads(pickle.dumps(semaphore, protocol))
    assert other._value == 1
    other.release()
    if hasattr(other, "_bound_value"):
        with pytest.raises(ValueError, match="^BoundedSemaphore released too many times$"):
            other.release()


def test_a_copied_subclass_with_slots(Either):
    class Named(Either):
        __slots__ = ("name",)

    semaphore = Named(2)
    semaphore.name, semaphore.note = "x", "y"
    take(semaphore)
    for duplicate in (copy.copy, copy.deepcopy):
        other = duplicate(semaphore)
        assert (type(other), other.name, other.note) == (Named, "x", "y")
        assert other._value == 1


# ---- Collected ----


@needs_refcounts
def test_dropped_with_everybody(OurEither):
    """A semaphore, its waiters and their tasks in one cycle of garbage, and the loop closed."""

    async def leave_behind():
        semaphore = await drained(OurEither, 1)
        semaphore.itself = semaphore
        semaphore.tasks = await park(semaphore, 5)
        for task in semaphore.tasks:
            task._log_destroy_pending = False
        return weakref.ref(semaphore)

    loop = asyncio.new_event_loop()
    reference = loop.run_until_complete(leave_behind())
    gc.collect()
    assert reference() is None
    loop.close()


@needs_refcounts
@pytest.mark.parametrize("kept_by", ["loop", "semaphore"])
def test_dropped_with_the_loop(OurEither, kept_by):
    """The loop, cleared before the waiters are, is no more able to say whether it is closed."""

    async def leave_behind():
        semaphore = await drained(OurEither, 1)
        coroutines = [semaphore.acquire() for _ in range(3)]
        for coroutine in coroutines:
            coroutine.send(None)
        running = asyncio.get_running_loop()
        running.semaphore = semaphore
        (running if kept_by == "loop" else semaphore).coroutines = coroutines
        return weakref.ref(semaphore)

    loop, reports = asyncio.new_event_loop(), []
    reference = loop.run_until_complete(leave_behind())
    loop.close()
    with mock.patch("sys.unraisablehook", lambda report: reports.append(report.exc_type)):
        del loop
        gc.collect()
    assert reference() is None
    assert not reports


@needs_refcounts
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_cycles_through_an_awaitable(OurEither):
    async def cycle(start):
        semaphore = await drained(OurEither, 1)
        semaphore.pending = semaphore.acquire()
        if start:
            semaphore.pending.send(None)
        return weakref.ref(semaphore)

    for start in (False, True):
        reference = asyncio.run(cycle(start))
        gc.collect()
        assert reference() is None


@needs_refcounts
async def test_an_awaitable_holds_its_semaphore_no_longer_than_it_needs(OurEither):
    semaphore = OurEither()
    reference = weakref.ref(semaphore)
    coroutine = semaphore.acquire()
    await coroutine
    del semaphore
    assert reference() is None
    coroutine.close()


@needs_refcounts
def test_a_warning_that_is_an_error_is_reported_and_harmless(OurEither):
    semaphore = OurEither()
    reports = []
    with (
        mock.patch("sys.unraisablehook", reports.append),
        warnings.catch_warnings(action="error"),
    ):
        semaphore.acquire()
    assert [report.exc_type for report in reports] == [RuntimeWarning]
    assert semaphore._value == 1


# ---- On another loop ----


def test_on_uvloop(Either):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        semaphore, order = Either(2), []

        async def take_turn(name):
            async with semaphore:
                order.append(name)
                await asyncio.sleep(0)

        async with semaphore, semaphore:
            tasks = [asyncio.create_task(take_turn(name)) for name in range(10)]
            await asyncio.sleep(0)
            assert len(semaphore._waiters) == 10
            for name in (0, 3, 9):
                tasks[name].cancel()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(semaphore.acquire(), 0.001)
        await asyncio.wait(tasks)
        assert order == [1, 2, 4, 5, 6, 7, 8]
        assert semaphore._value == 2

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
