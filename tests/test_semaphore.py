"""What Semaphore and BoundedSemaphore do, in asyncio and in both implementations."""

import asyncio
import contextlib
import copy
import enum
import gc
import itertools
import math
import random
import sys
import weakref
from decimal import Decimal
from fractions import Fraction
from unittest import mock

import pytest
from conftest import IMPLEMENTATIONS, OURS, needs_refcounts
from helpers import (
    abandon,
    abandoned,
    abandoned_or_cancelled,
    failing,
    finish,
    on_interrupted_loop,
    park,
    parked,
    queue_up,
    steps,
)

TOO_MANY = "^BoundedSemaphore released too many times$"


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


class Size(enum.IntEnum):
    TWO = 2


@pytest.mark.parametrize("value", [0, 1, 3, True, False, Size.TWO, 2**31, sys.maxsize])
def test_the_initial_value(Either, value):
    assert Either()._value == 1
    for semaphore in (Either(value), Either(value=value)):
        assert semaphore._value == value
        assert semaphore.locked() is (value == 0)
        for taken in range(1, min(value, 5) + 1):
            take(semaphore)
            assert semaphore._value == value - taken
        for _ in range(min(value, 5)):
            semaphore.release()
        assert semaphore._value == value


@pytest.mark.parametrize(
    "value",
    [2.5, 1.0, 0.0, True, Fraction(5, 2), Decimal("1.5"), sys.maxsize, sys.maxsize + 1, 2**70],
)
async def test_any_number(Either, value):
    """Whatever can be compared with 0 and counted, with the results that it gives."""
    semaphore = Either(value)
    assert semaphore._value is value or semaphore._value == value
    assert type(semaphore._value) is type(value)
    expected = "locked" if value == 0 else f"unlocked, value:{value}"
    assert repr(semaphore).endswith(f" [{expected}]>")
    if value:
        assert await semaphore.acquire() is True
        assert semaphore._value == value - 1
        assert type(semaphore._value) is type(value - 1)
        semaphore.release()
    if isinstance(semaphore, asyncio.BoundedSemaphore):
        with pytest.raises(ValueError, match=TOO_MANY):
            semaphore.release()
    else:
        semaphore.release()
        assert semaphore._value == value + 1
        assert copy.copy(semaphore)._value == value + 1


async def test_fractions_of_a_permit(Semaphore):
    """The last half is a permit, after which none is left: only 0 is locked."""
    semaphore = Semaphore(1.5)
    for left in (0.5, -0.5, -1.5):
        assert not semaphore.locked()
        async with semaphore:
            assert semaphore._value == left
        assert await semaphore.acquire()
    semaphore._value = 0.0
    tasks = await park(semaphore.acquire, 3)
    semaphore.release()
    semaphore.release()
    await asyncio.wait_for(asyncio.gather(*tasks[:2]), 10)
    assert (semaphore._value, tasks[2].done()) == (0, False)
    assert type(semaphore._value) is float
    tasks[2].cancel()
    await asyncio.wait(tasks)


@pytest.mark.parametrize("value", [-sys.maxsize - 1, -sys.maxsize - 2, sys.maxsize, 2**64])
async def test_values_where_c_ends(Semaphore, value):
    semaphore = Semaphore()
    semaphore._value = value
    assert semaphore._value == value
    assert await semaphore.acquire()
    assert semaphore._value == value - 1
    semaphore.release()
    semaphore.release()
    assert semaphore._value == value + 1


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
    with pytest.raises(ValueError, match=TOO_MANY):
        semaphore.release()  # as in asyncio: the value stays at the bound


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


async def test_release_of_more_than_was_acquired(Semaphore):
    semaphore = Semaphore(0)
    for value in range(1, 4):
        semaphore.release()
        assert semaphore._value == value
    for _ in range(3):
        take(semaphore)
    assert semaphore.locked()
    await Semaphore().__aexit__(None, None, None)


@pytest.mark.parametrize("value", [0, 2])
async def test_a_bounded_one_is_released_too_often(BoundedSemaphore, value):
    semaphore = BoundedSemaphore(value)
    for _ in range(2):
        with pytest.raises(ValueError, match=TOO_MANY):
            semaphore.release()
        assert (semaphore._value, semaphore._bound_value) == (value, value)
    for _ in range(value):
        async with semaphore:
            assert semaphore._value == value - 1
    with pytest.raises(ValueError, match=TOO_MANY):
        await semaphore.__aexit__(None, None, None)
    assert (semaphore._value, semaphore._bound_value) == (value, value)


async def test_an_exit_that_is_one_too_many(BoundedSemaphore):
    semaphore = BoundedSemaphore()

    async def release_twice():
        async with semaphore:
            semaphore.release()
            raise ZeroDivisionError

    with pytest.raises(ValueError, match=TOO_MANY) as raised:
        await release_twice()
    assert isinstance(raised.value.__context__, ZeroDivisionError)
    assert semaphore._value == 1


async def test_a_bounded_one_at_its_bound_with_tasks_woken(BoundedSemaphore):
    """A permit that is on its way to a task counts as taken."""
    semaphore = await drained(BoundedSemaphore, 2)
    tasks = await park(semaphore.acquire, 2)
    for _ in range(4):
        semaphore.release()
    assert semaphore._value == 2
    with pytest.raises(ValueError, match=TOO_MANY):
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
async def test_gh_111693_tasks_that_come_after_the_releases_are_woken_together(Either, cancelled):
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
async def test_gh_111693_one_cancelled_by_hand_adds_no_permit(Either):
    semaphore = await drained(Either, 2)
    coroutine = semaphore.acquire()
    coroutine.send(None)
    abandon(coroutine, "cancel")
    assert semaphore._value == 0
    assert semaphore.locked()


@pytest.mark.usefixtures("since_3_13")
@abandoned_or_cancelled
async def test_gh_111693_one_that_leaves_wakes_as_many_as_there_are_permits_for(Either, how):
    semaphore = await drained(Either, 3)
    coroutine = semaphore.acquire()
    coroutine.send(None)
    tasks = await park(semaphore.acquire, 3)
    semaphore._value = 2
    abandon(coroutine, how)
    del coroutine
    assert semaphore._value == 0
    await asyncio.sleep(0)
    assert [task.done() for task in tasks] == [True, True, False]
    tasks[2].cancel()
    await asyncio.wait(tasks)


# ---- Cancelled ----


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


@pytest.mark.parametrize("released_first", [False, True])
async def test_released_in_the_iteration_of_the_timeout(Either, released_first):
    semaphore, timeout = await drained(Either, 1), asyncio.timeout(None)
    loop = asyncio.get_running_loop()

    async def wait():
        async with timeout:
            await semaphore.acquire()

    (task,) = await park(wait)
    if released_first:
        loop.call_soon(semaphore.release)
    timeout.reschedule(loop.time())
    if not released_first:
        loop.call_soon(semaphore.release)
    with pytest.raises(TimeoutError):
        await task
    assert semaphore._value == 1


@pytest.mark.usefixtures("mended")
@abandoned
async def test_permits_of_abandoned_tasks_go_to_the_next_ones(Either, how):
    semaphore = await drained(Either, 3)
    waiting = [semaphore.acquire() for _ in range(6)]
    futures = [coroutine.send(None) for coroutine in waiting]
    for _ in range(3):
        semaphore.release()
    for index in (2, 0):
        abandon(waiting[index], how)
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
    """No permit is lost or added, no task waits for one that is there, and none overtakes."""
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
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            assert isinstance(task.exception(), ZeroDivisionError | TimeoutError | None)
    assert (semaphore._value, inside, len(semaphore._waiters)) == (size, 0, 0)


# ---- Loops ----


@pytest.mark.parametrize("released", [1, 2])
def test_permits_on_their_way_when_the_loop_is_closed(OurEither, released):
    """They can be taken again."""

    async def leave_behind():
        semaphore = await drained(OurEither, 2)
        return semaphore, await park(semaphore.acquire, 3)

    loop = asyncio.new_event_loop()
    semaphore, tasks = loop.run_until_complete(leave_behind())
    for _ in range(released):
        semaphore.release()
    loop.close()
    assert (semaphore._value, len(semaphore._waiters)) == (0, 3)

    async def use():
        (task,) = await park(semaphore.acquire)  # binds the semaphore to this loop
        assert task.done()
        assert (semaphore._value, len(semaphore._waiters)) == (released - 1, 0)

    asyncio.run(use())
    for task in tasks:
        task._log_destroy_pending = False
    del tasks, task
    gc.collect()  # the waiters of the closed loop end, and change nothing
    assert semaphore._value == released - 1
    assert not semaphore._waiters


def test_released_when_the_loop_of_its_waiters_is_closed(OurEither):
    """It raises an exception, as in asyncio. The next loop finds one permit."""
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
        waiting.pop(leaving)[0].close()  # done() may not have been called
        for coroutine, future in waiting:
            assert future.done()
            finish(coroutine)
        assert semaphore._value == 0
        assert not semaphore._waiters

    on_interrupted_loop(main)


def test_released_again_while_release_runs(OurEither):
    async def main():
        semaphore = await drained(OurEither, 3)
        waiting = [parked(semaphore.acquire()) for _ in range(3)]
        waiting[0][1].in_set_result = semaphore.release
        # The inner release() may set the first future, which then refuses a second result.
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
def test_a_failing_set_result_loses_no_waiter(OurEither, error):
    async def main():
        semaphore = await drained(OurEither, 2)
        (first, future), (second, _) = parked(semaphore.acquire()), parked(semaphore.acquire())
        future.in_set_result = failing(error)
        with pytest.raises(error, match="not now"):
            semaphore.release()
        assert not future.done()
        assert semaphore._value == 1  # released, and not taken
        semaphore.release()
        finish(first)
        finish(second)
        assert semaphore._value == 0
        assert not semaphore._waiters

    on_interrupted_loop(main)


def test_set_result_that_fails_when_the_future_is_done(Either):
    """The permit is handed over, once."""

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
    assert repr(semaphore) == f"<{plain} [locked, waiters:2]>"  # a newcomer would wait
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


async def test_a_future_set_by_others(Either):
    """Its task takes no permit, since it was granted none."""
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
    assert semaphore.locked()  # a newcomer would wait
    tasks += await park(semaphore.acquire)
    await steps()
    assert not any(task.done() for task in tasks)
    semaphore.release()
    assert semaphore._value == 3
    await steps()
    assert all(task.done() for task in tasks)
    assert semaphore._value == 1


async def test_a_value_that_is_written_when_tasks_are_woken(Either):
    semaphore = await drained(Either, 3)
    tasks = await park(semaphore.acquire, 2)
    for _ in range(3):
        semaphore.release()
    assert semaphore._value == 1
    semaphore._value = 0
    assert await asyncio.gather(*tasks) == [True, True]  # their permits were not in the value
    assert semaphore._value == 0


def test_a_negative_value_that_is_written(Semaphore):
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
    with pytest.raises(ValueError, match=TOO_MANY):
        semaphore.release()
    take(semaphore)
    semaphore._bound_value = 1
    with pytest.raises(ValueError, match=TOO_MANY):
        semaphore.release()
    assert semaphore._value == 2


# ---- Collected ----


@needs_refcounts
@pytest.mark.parametrize("kept_by", ["loop", "semaphore"])
def test_dropped_with_the_loop(OurEither, kept_by):
    """The collector may clear the loop before the waiters: then its is_closed() fails."""

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
