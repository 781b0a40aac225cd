"""What Semaphore and BoundedSemaphore do, on asyncio's and on both of ours."""

import asyncio
import collections
import contextlib
import copy
import enum
import gc
import itertools
import math
import random
import sys
import weakref
from unittest import mock

import pytest
from conftest import IMPLEMENTATIONS, OURS, needs_refcounts
from helpers import deaths, die, finish, on_interrupted_loop, park, parked, queue_up, steps


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


def take(semaphore):
    """Take a permit without a pause."""
    finish(semaphore.acquire())


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
        type("Sub", (Either,), {})(value=value)


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
    tasks = await park(semaphore.acquire, 3)
    semaphore._value = math.inf
    semaphore.release()
    await asyncio.wait_for(asyncio.gather(*tasks), 1)
    assert semaphore._value == math.inf
    assert not semaphore.locked()
    semaphore._value = 0
    assert semaphore.locked()


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
    (task,) = await park(semaphore.acquire)
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
    tasks = await park(semaphore.acquire, 2)
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
    tasks = await queue_up(semaphore, 3)
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
    first, second = await park(semaphore.acquire, 2)
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
    first, second = await park(semaphore.acquire, 2)
    first.cancel()
    assert semaphore.locked()
    semaphore.release()  # wakes the second
    assert semaphore.locked()
    second.cancel()
    assert semaphore._value == 0
    await asyncio.wait([first, second])
    assert semaphore._value == 1
    tasks = await park(semaphore.acquire, 2)
    tasks[1].cancel()
    semaphore.release()
    assert semaphore._value == 1
    assert not semaphore.locked()
    assert len(semaphore._waiters) == 1
    await asyncio.wait(tasks)


async def test_a_task_that_releases_wakes_the_first_of_those_that_wait(Either):
    semaphore = await drained(Either, 2)
    tasks = await park(semaphore.acquire, 4)
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
    (task,) = await queue_up(semaphore)
    semaphore.release()
    task.cancel()
    await asyncio.wait([task])
    for _ in range(2):
        await asyncio.wait_for(semaphore.acquire(), 0.1)
        semaphore.release()
    assert semaphore._value == 1


async def test_gh_97545_as_many_wake_at_once_as_there_are_permits_for(Either):
    semaphore = await drained(Either, 5)
    tasks = await park(semaphore.acquire, 7)
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
    (first,) = await park(semaphore.acquire)
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
    tasks = await park(semaphore.acquire, 3)
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


# ---- Cancelled ----


async def test_cancelled_after_the_wake_up_with_nobody_behind(Either):
    semaphore = await drained(Either, 2)
    (task,) = await park(semaphore.acquire)
    semaphore.release()
    task.cancel()
    await asyncio.wait([task])
    assert (semaphore._value, semaphore.locked()) == (1, False)
    assert not semaphore._waiters


async def test_cancelled_before_the_release_in_one_iteration(Either):
    semaphore = await drained(Either, 1)
    first, second = await park(semaphore.acquire, 2)
    first.cancel()
    semaphore.release()  # passes the first
    assert semaphore._waiters[1].done()
    await asyncio.wait([first])
    assert first.cancelled()
    assert await asyncio.wait_for(second, 1) is True
    assert semaphore._value == 0


async def test_several_woken_and_cancelled_at_once(Either):
    semaphore = await drained(Either, 3)
    tasks = await park(semaphore.acquire, 6)
    for _ in range(3):
        semaphore.release()
    tasks[0].cancel()
    tasks[2].cancel()
    await steps()
    assert [task.cancelled() for task in tasks] == [True, False, True, False, False, False]
    assert [task.done() for task in tasks] == [True] * 5 + [False]
    assert semaphore._value == 0
    tasks[5].cancel()
    await asyncio.wait(tasks)


async def test_all_woken_and_all_cancelled_in_any_order(Either):
    for order in itertools.permutations(range(4)):
        semaphore = await drained(Either, 3)
        tasks = await park(semaphore.acquire, 4)
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


# ---- A woken waiter that dies gives its permit on ----


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
        await steps()
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


@pytest.mark.parametrize("woken", [0, 1, 2])
def test_a_loop_closed_under_waiters(OurEither, woken):
    """What was on its way to a task that will never run is there again."""
    semaphore = OurEither(2)
    loop = asyncio.new_event_loop()

    async def leave_behind():
        await semaphore.acquire()
        await semaphore.acquire()
        return await queue_up(semaphore, 3)

    tasks = loop.run_until_complete(leave_behind())
    for _ in range(woken):
        semaphore.release()
    loop.close()
    assert (semaphore._value, len(semaphore._waiters)) == (0, 3)

    async def use():
        for _ in range(woken):
            await asyncio.wait_for(semaphore.acquire(), 1)
        (task,) = await queue_up(semaphore)
        assert len(semaphore._waiters) == 1
        semaphore.release()
        await asyncio.wait_for(task, 1)
        assert semaphore._value == 1
        take(semaphore)
        (task,) = await park(semaphore.acquire)
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
    tasks = loop.run_until_complete(park(semaphore.acquire, 2))
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        semaphore.release()

    async def use():
        await asyncio.wait_for(semaphore.acquire(), 1)
        (task,) = await park(semaphore.acquire)
        assert not task.done()
        assert semaphore.locked()
        semaphore.release()
        assert await asyncio.wait_for(task, 1) is True
        assert semaphore._value == 0

    asyncio.run(use())
    for task in tasks:
        task._log_destroy_pending = False


# ---- Code that runs in the middle of a step ----


def test_released_while_the_future_is_made(OurEither):
    """asyncio parks for ever there: what would have woken it has gone by."""

    async def main():
        semaphore = await drained(OurEither, 1)
        asyncio.get_running_loop().in_create_future = semaphore.release
        assert await asyncio.wait_for(semaphore.acquire(), 1)
        assert semaphore._value == 0
        assert not semaphore._waiters

    on_interrupted_loop(main)


@pytest.mark.parametrize("moment", ["in_done", "in_set_result"])
@pytest.mark.parametrize("leaving", [0, 1, 2])
@pytest.mark.parametrize("index", [0, 1])
def test_a_waiter_closed_while_release_runs(OurEither, moment, index, leaving):
    async def main():
        semaphore = await drained(OurEither, 2)
        waiting = [parked(semaphore.acquire()) for _ in range(3)]
        setattr(waiting[index][1], moment, waiting[leaving][0].close)
        semaphore.release()
        semaphore.release()
        waiting.pop(leaving)[0].close()  # if it was not, because nobody asked
        for coroutine, future in waiting:
            assert future.done()
            finish(coroutine)
        assert semaphore._value == 0
        assert not semaphore._waiters

    on_interrupted_loop(main)


def test_all_closed_while_release_runs(OurEither):
    async def main():
        semaphore = await drained(OurEither, 2)
        waiting = [parked(semaphore.acquire()) for _ in range(3)]

        def leave():
            for coroutine, _ in waiting:
                coroutine.close()

        waiting[0][1].in_set_result = leave
        semaphore.release()
        semaphore.release()
        assert semaphore._value == 2
        assert not semaphore._waiters

    on_interrupted_loop(main)


def test_released_again_while_release_runs(OurEither):
    async def main():
        semaphore = await drained(OurEither, 3)
        waiting = [parked(semaphore.acquire()) for _ in range(3)]
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

    on_interrupted_loop(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_set_result_that_fails_loses_nobody(OurEither, error):
    def fail():
        raise error("not now")

    async def main():
        semaphore = await drained(OurEither, 2)
        (first, future), (second, _) = parked(semaphore.acquire()), parked(semaphore.acquire())
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

    on_interrupted_loop(main)


def test_set_result_that_fails_when_it_is_done(Either):
    """Its permit is given, once."""

    async def main():
        semaphore = await drained(Either, 2)
        (first, future), (second, _) = parked(semaphore.acquire()), parked(semaphore.acquire())
        future.after_set_result = KeyboardInterrupt("too late")
        with pytest.raises(KeyboardInterrupt, match="too late"):
            semaphore.release()
        assert future.done()
        assert semaphore._value == 0
        finish(first)
        assert semaphore._value == 0
        second.close()
        assert semaphore._value == 0

    on_interrupted_loop(main)


# ---- A Python object like any other ----


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


async def test_repr(Either):
    semaphore = Either(3)
    plain = object.__repr__(semaphore)[1:-1]
    assert repr(semaphore) == f"<{plain} [unlocked, value:3]>"
    for _ in range(3):
        take(semaphore)
    assert repr(semaphore) == f"<{plain} [locked]>"
    tasks = await park(semaphore.acquire, 2)
    assert repr(semaphore) == f"<{plain} [locked, waiters:2]>"
    for _ in range(3):
        semaphore.release()
    assert semaphore._value == 1
    assert repr(semaphore) == f"<{plain} [locked, waiters:2]>"  # they come first
    await asyncio.wait(tasks)
    assert repr(semaphore) == f"<{plain} [unlocked, value:1]>"
    take(semaphore)
    (task,) = await park(semaphore.acquire)
    task.cancel()
    assert repr(semaphore) == f"<{plain} [locked, waiters:1]>"
    semaphore.release()
    assert repr(semaphore) == f"<{plain} [unlocked, value:1, waiters:1]>"
    await asyncio.wait([task])
    assert repr(semaphore) == f"<{plain} [unlocked, value:1]>"


# ---- Private state ----


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
        tasks = await queue_up(semaphore, 3)
        assert list(semaphore._waiters) == [task._fut_waiter for task in tasks]
    await asyncio.wait_for(asyncio.gather(*tasks), 1)
    assert semaphore._value == 1
    assert not semaphore._waiters


async def test_a_future_set_by_others(Either):
    """Its task takes no permit: it was given none."""
    semaphore = await drained(Either, 2)
    first, second, third = await park(semaphore.acquire, 3)
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
    first, second = await park(semaphore.acquire, 2)
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
    tasks = await park(semaphore.acquire, 2)
    semaphore._value = 3
    assert semaphore.locked()  # nobody overtakes them
    tasks += await park(semaphore.acquire)
    await steps()
    assert not any(task.done() for task in tasks)
    semaphore.release()
    assert semaphore._value == 3
    await steps()
    assert all(task.done() for task in tasks)
    assert semaphore._value == 1


@pytest.mark.usefixtures("since_3_13")
async def test_a_value_that_is_written_is_found_by_whoever_leaves(Either):
    semaphore = await drained(Either, 5)
    tasks = await park(semaphore.acquire, 4)
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
    tasks = await park(semaphore.acquire, 2)
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


# ---- Collected ----


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
