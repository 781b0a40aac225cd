"""What Barrier does, on asyncio's and on both of ours."""

import asyncio
import contextlib
import gc
import weakref
from unittest import mock

import pytest
from conftest import needs_refcounts
from helpers import by_hand, copies, deaths, die, park, state, steps

ABORTED = "^Barrier aborted$"
DISTURBED = "^Abort or reset of barrier$"


async def results(tasks):
    """Indices and exceptions, of tasks that must end by themselves."""
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 1)


async def texts(tasks):
    return [str(result) for result in await results(tasks)]


async def keep_draining(barrier):
    """Trip it. It drains until by_hand(), since one of the parties is driven by hand."""
    party = barrier.wait()
    party.send(None)
    tasks = await park(barrier.wait, barrier.parties - 2)
    assert await barrier.wait() == barrier.parties - 1
    assert await results(tasks) == [*range(1, barrier.parties - 1)]
    assert state(barrier) == f"draining, waiters:0/{barrier.parties}"
    return party


# ---- Waiting and tripping ----


async def test_new(Barrier):
    barrier = Barrier(3)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)
    assert state(barrier) == "filling, waiters:0/3"


async def test_the_last_to_come_trips_it(Barrier):
    barrier = Barrier(3)
    tasks = await park(barrier.wait, 2)
    assert not any(task.done() for task in tasks)
    assert await barrier.wait() == 2
    assert await results(tasks) == [0, 1]
    assert (barrier.n_waiting, barrier.broken) == (0, False)


async def test_the_last_to_come_does_not_pause(Barrier):
    barrier = Barrier(2)
    tasks = await park(barrier.wait)
    with pytest.raises(StopIteration) as stop:
        barrier.wait().send(None)
    assert stop.value.value == 1
    assert await results(tasks) == [0]


async def test_of_one_party(Barrier):
    barrier = Barrier(1)
    for _ in range(3):
        with pytest.raises(StopIteration) as stop:
            barrier.wait().send(None)
        assert stop.value.value == 0
        assert state(barrier) == "filling, waiters:0/1"
    assert await asyncio.gather(*(barrier.wait() for _ in range(5))) == [0] * 5


async def test_async_with_gives_the_index(Barrier):
    barrier = Barrier(3)
    indices = []

    async def meet():
        async with barrier as index:
            indices.append(index)

    await asyncio.gather(*(meet() for _ in range(3)))
    assert indices == [2, 0, 1]
    assert state(barrier) == "filling, waiters:0/3"


async def test_leaving_async_with_does_nothing(Barrier):
    barrier = Barrier(2)
    tasks = await park(barrier.wait)
    assert await barrier.__aexit__(None, None, None) is None
    assert await barrier.__aexit__(KeyError, KeyError(), None) is None
    assert barrier.n_waiting == 1
    with pytest.raises(ZeroDivisionError):
        async with barrier:
            raise ZeroDivisionError
    assert await results(tasks) == [0]
    tasks = await park(barrier.wait)
    async with barrier:
        await barrier.abort()
    assert barrier.broken
    assert await texts(tasks) == ["Abort or reset of barrier"]


async def test_waiters_are_counted_and_released_in_order(Barrier):
    barrier, order = Barrier(20), []

    async def meet(name):
        order.append((name, await barrier.wait()))

    tasks = []
    for name in range(19):
        tasks.append(asyncio.create_task(meet(name)))
        await asyncio.sleep(0)
        assert barrier.n_waiting == barrier._count == name + 1
        assert state(barrier) == f"filling, waiters:{name + 1}/20"
    await meet(19)
    await asyncio.gather(*tasks)
    assert order == [(19, 19), *((name, name) for name in range(19))]


async def test_released_within_one_iteration(Barrier):
    barrier = Barrier(5)
    tasks = await park(barrier.wait, 4)
    await barrier.wait()
    assert not any(task.done() for task in tasks)
    await asyncio.sleep(0)
    assert all(task.done() for task in tasks)


async def test_while_it_drains(Barrier):
    barrier = Barrier(3)
    tasks = await park(barrier.wait, 2)
    await barrier.wait()
    assert state(barrier) == "draining, waiters:0/3"
    assert (barrier.n_waiting, barrier._count, barrier.broken) == (0, 2, False)
    await asyncio.wait(tasks)
    assert state(barrier) == "filling, waiters:0/3"
    assert barrier._count == 0


async def test_who_comes_while_it_drains_waits_for_the_next_generation(Barrier):
    barrier = Barrier(3)
    party = await keep_draining(barrier)
    blocked = await park(barrier.wait, 2)
    await steps()
    assert (state(barrier), barrier._count) == ("draining, waiters:0/3", 1)
    assert by_hand(party) == 0
    await steps()
    assert (state(barrier), barrier._count) == ("filling, waiters:2/3", 2)
    assert await barrier.wait() == 2
    assert await results(blocked) == [0, 1]


async def test_blocked_are_parties_an_iteration_after_it_has_drained(OurBarrier):
    barrier = OurBarrier(3)
    party = await keep_draining(barrier)
    blocked = await park(barrier.wait, 2)
    futures = [task._fut_waiter for task in blocked]
    by_hand(party)
    assert (state(barrier), barrier._count) == ("filling, waiters:0/3", 0)
    await asyncio.sleep(0)
    assert (state(barrier), barrier._count) == ("filling, waiters:2/3", 2)
    assert not any(future.done() for future in futures)
    assert [task._fut_waiter for task in blocked] == futures
    assert await barrier.wait() == 2
    assert all(future.done() for future in futures)
    assert await results(blocked) == [0, 1]


async def test_blocked_enough_to_trip_it_at_once(OurBarrier):
    barrier = OurBarrier(2)
    party = await keep_draining(barrier)
    blocked = [barrier.wait() for _ in range(5)]
    futures = [coroutine.send(None) for coroutine in blocked]
    by_hand(party)
    for first in (0, 2):
        await asyncio.sleep(0)
        assert (state(barrier), barrier._count) == ("draining, waiters:0/2", 2)
        assert [future.done() for future in futures] == [True] * (first + 2) + [False] * (3 - first)
        assert by_hand(blocked[first + 1]) == 1  # in whichever order they run
        assert by_hand(blocked[first]) == 0
    await asyncio.sleep(0)
    assert state(barrier) == "filling, waiters:1/2"
    assert await barrier.wait() == 1
    assert by_hand(blocked[4]) == 0


async def test_a_newcomer_does_not_pass_the_blocked(OurBarrier):
    """Passes them with asyncio's, if it comes when all have left and the blocked have not run."""
    barrier = OurBarrier(3)
    party = await keep_draining(barrier)
    blocked = await park(barrier.wait)
    by_hand(party)
    newcomers = [barrier.wait(), barrier.wait()]
    for newcomer in newcomers:
        newcomer.send(None)
    assert state(barrier) == "filling, waiters:0/3"
    assert await results(blocked) == [0]
    assert [by_hand(newcomer) for newcomer in newcomers] == [1, 2]
    assert state(barrier) == "filling, waiters:0/3"


@pytest.mark.parametrize("count", [7, 9, 10])
async def test_more_tasks_than_parties(Barrier, count):
    barrier = Barrier(3)
    order = []

    async def meet(name):
        order.append((await barrier.wait(), name))

    tasks = [asyncio.create_task(meet(name)) for name in range(count)]
    await steps()
    groups = [sorted(order[start : start + 3]) for start in range(0, len(order), 3)]
    assert groups == [[(i, start + i) for i in range(3)] for start in range(0, count - 2, 3)]
    assert barrier.n_waiting == count % 3
    for task in tasks:
        task.cancel()


async def test_many_generations(Barrier):
    barrier, generations = Barrier(7), []

    async def work(name):
        for generation in range(100):
            if name == generation % 7:
                await asyncio.sleep(0)
            index = await barrier.wait()
            if index == 0:
                generations.append([])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            generations[-1].append(index)

    await asyncio.gather(*(work(name) for name in range(7)))
    assert len(generations) == 100
    assert all(sorted(indices) == list(range(7)) for indices in generations)
    assert state(barrier) == "filling, waiters:0/7"


@pytest.mark.parametrize("parties", [1, 2, 3, 8])
async def test_parties_that_come_again_at_once(Barrier, parties):
    """Nobody gets ahead of the others by more than one generation."""
    barrier, passed, indices = Barrier(parties), [0] * parties, []

    async def work(name):
        for _ in range(50):
            indices.append(await barrier.wait())
            passed[name] += 1
            assert max(passed) - min(passed) <= 1

    await asyncio.wait_for(asyncio.gather(*map(work, range(parties))), 10)
    assert passed == [50] * parties
    for start in range(0, len(indices), parties):
        assert sorted(indices[start : start + parties]) == list(range(parties))


async def test_more_that_come_again_at_once_than_parties(Barrier):
    barrier, indices, left = Barrier(3), [], 300

    async def work():
        nonlocal left
        while left:
            left -= 1
            indices.append(await barrier.wait())

    tasks = [asyncio.create_task(work()) for _ in range(8)]
    await asyncio.wait(tasks, timeout=30)
    assert len(indices) == 300
    for start in range(0, 300, 3):
        assert sorted(indices[start : start + 3]) == [0, 1, 2]


async def test_ours_serves_the_blocked_before_who_comes_again(OurBarrier):
    """asyncio's lets the last to leave, if it comes again at once, pass all that are blocked."""
    barrier, order = OurBarrier(2), []

    async def work(name):
        while len(order) < 12:
            order.append((name, await barrier.wait()))

    tasks = [asyncio.create_task(work(name)) for name in range(3)]
    await steps()
    assert order[:2] == [(1, 1), (0, 0)]  # task 1 came again, and then task 2: both blocked
    assert order[2:8] == [(1, 0), (2, 1), (0, 0), (1, 1), (2, 0), (0, 1)]
    for task in tasks:
        task.cancel()


# ---- Nothing happens at the call ----


@pytest.mark.parametrize("method", ["wait", "__aenter__"])
async def test_nobody_waits_before_the_await(Barrier, method):
    barrier = Barrier(2)
    awaitable = getattr(barrier, method)()
    assert barrier.n_waiting == 0
    tasks = await park(barrier.wait)
    assert barrier.n_waiting == 1
    assert await awaitable == 1
    assert await results(tasks) == [0]


async def test_nothing_is_reset_or_aborted_before_the_await(Barrier):
    barrier = Barrier(2)
    (task,) = await park(barrier.wait)
    reset, abort = barrier.reset(), barrier.abort()
    assert state(barrier) == "filling, waiters:1/2"
    assert await abort is None
    assert state(barrier) == "broken"
    assert await reset is None
    assert state(barrier) == "resetting, waiters:0/2"
    assert await texts([task]) == ["Abort or reset of barrier"]


async def test_a_wait_for_that_never_starts_is_no_party(Barrier):
    barrier = Barrier(2)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(barrier.__aenter__(), 0)
    assert barrier.n_waiting == 0
    (task,) = await park(barrier.wait)
    assert barrier.n_waiting == 1
    task.cancel()


# ---- The awaitables are coroutines ----


async def test_a_task_waits_on_the_future(Barrier):
    barrier = Barrier(2)
    (task,) = await park(barrier.wait)
    assert asyncio.isfuture(task._fut_waiter)
    assert not task._fut_waiter.done()
    await barrier.wait()
    assert task._fut_waiter.done()
    assert await task == 0


async def test_resumed_too_early_while_blocked(Barrier):
    barrier = Barrier(2)
    tasks = await park(barrier.wait)
    await barrier.wait()
    coroutine = barrier.wait()
    coroutine.send(None)
    with pytest.raises(RuntimeError, match="^await wasn't used with future$"):
        coroutine.send(None)
    assert await results(tasks) == [0]
    assert state(barrier) == "filling, waiters:0/2"


# ---- Cancelled ----


async def test_a_cancelled_party_leaves(Barrier):
    barrier = Barrier(3)
    first, second = await park(barrier.wait, 2)
    second.cancel("message")
    assert barrier.n_waiting == barrier._count == 2  # it counts until it has run
    with pytest.raises(asyncio.CancelledError, match="message"):
        await second
    assert barrier.n_waiting == barrier._count == 1
    assert await asyncio.gather(barrier.wait(), barrier.wait(), first) == [1, 2, 0]


async def test_all_cancelled(Barrier):
    barrier = Barrier(3)
    for _ in range(3):
        tasks = await park(barrier.wait, 2)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert state(barrier) == "filling, waiters:0/3"
    assert await asyncio.gather(*(barrier.wait() for _ in range(3))) == [0, 1, 2]


async def test_a_cancelled_party_that_has_not_run_makes_up_the_number(Barrier):
    """As in asyncio: it takes an index, and the others get theirs."""
    barrier = Barrier(3)
    tasks = await park(barrier.wait, 2)
    tasks[0].cancel()
    assert await barrier.wait() == 2
    assert state(barrier) == "draining, waiters:0/3"
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert await tasks[1] == 1
    assert state(barrier) == "filling, waiters:0/3"


@pytest.mark.usefixtures("mended")
async def test_no_index_is_given_twice_after_a_cancelled_party(Barrier):
    barrier = Barrier(4)
    tasks = await park(barrier.wait, 3)
    tasks[0].cancel()
    await asyncio.wait(tasks[:1])
    tasks += await park(barrier.wait)
    tasks.append(asyncio.create_task(barrier.wait()))
    assert await results(tasks[1:]) == [0, 1, 2, 3]


async def test_nobody_waits_for_the_cancelled_to_leave(OurBarrier):
    """asyncio's counts them until they have run."""
    barrier = OurBarrier(3)
    cancelled = [barrier.wait() for _ in range(2)]
    for coroutine in cancelled:
        coroutine.send(None).cancel()
    assert barrier.n_waiting == 2
    assert await barrier.wait() == 2
    assert (state(barrier), barrier._count) == ("filling, waiters:0/3", 0)
    cancelled += [barrier.wait()]
    cancelled[2].send(None).cancel()
    await barrier.reset()
    assert (state(barrier), barrier._count) == ("filling, waiters:0/3", 0)
    tasks = await park(barrier.wait)
    for coroutine in cancelled:
        with pytest.raises(asyncio.CancelledError):
            coroutine.send(None)
        assert barrier.n_waiting == 1
    assert await asyncio.gather(barrier.wait(), barrier.wait(), *tasks) == [1, 2, 0]


@pytest.mark.usefixtures("mended")
async def test_no_index_is_given_twice_when_others_come_at_once(Barrier):
    barrier = Barrier(3)
    tasks = await park(barrier.wait, 2)
    tasks[0].cancel()
    await asyncio.wait(tasks[:1])
    tasks += await park(barrier.wait, 2)
    assert sorted(await results(tasks[1:])) == [0, 1, 2]


async def test_cancelled_after_the_release(Barrier):
    barrier = Barrier(3)
    tasks = await park(barrier.wait, 2)
    await barrier.wait()
    tasks[0].cancel("message")
    assert barrier._count == 2
    with pytest.raises(asyncio.CancelledError, match="message"):
        await tasks[0]
    assert await tasks[1] == 1
    assert state(barrier) == "filling, waiters:0/3"


async def test_a_released_one_that_is_cancelled_ends_the_draining(Barrier):
    barrier = Barrier(2)
    (task,) = await park(barrier.wait)
    blocked = asyncio.create_task(barrier.wait())
    await barrier.wait()
    task.cancel()
    await steps()
    assert task.cancelled()
    assert state(barrier) == "filling, waiters:1/2"
    assert await barrier.wait() == 1
    assert await blocked == 0


async def test_cancelled_while_blocked(Barrier):
    barrier = Barrier(2)
    party = await keep_draining(barrier)
    blocked = await park(barrier.wait, 2)
    blocked[0].cancel("message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        await blocked[0]
    assert by_hand(party) == 0
    await steps()
    assert state(barrier) == "filling, waiters:1/2"
    assert await barrier.wait() == 1
    assert await blocked[1] == 0


@pytest.mark.parametrize("when", ["draining", "drained"])
async def test_a_cancelled_blocked_one_that_has_not_run_is_no_party(OurBarrier, when):
    barrier = OurBarrier(2)
    party = await keep_draining(barrier)
    cancelled = [barrier.wait() for _ in range(2)]
    futures = [coroutine.send(None) for coroutine in cancelled]
    blocked = await park(barrier.wait, 3)
    if when == "drained":
        by_hand(party)
    for future in futures:
        future.cancel()
    if when == "draining":
        by_hand(party)
    assert await results(blocked[:2]) == [0, 1]
    await steps()
    assert state(barrier) == "filling, waiters:1/2"
    for coroutine in cancelled:
        with pytest.raises(asyncio.CancelledError):
            coroutine.send(None)
    assert state(barrier) == "filling, waiters:1/2"
    assert await barrier.wait() == 1
    assert await blocked[2] == 0


async def test_all_that_are_blocked_are_cancelled(OurBarrier):
    barrier = OurBarrier(2)
    party = await keep_draining(barrier)
    blocked = await park(barrier.wait, 3)
    for task in blocked:
        task.cancel()
    by_hand(party)
    await asyncio.wait(blocked)
    assert all(task.cancelled() for task in blocked)
    tasks = await park(barrier.wait)
    assert state(barrier) == "filling, waiters:1/2"
    assert await barrier.wait() == 1
    assert await results(tasks) == [0]


async def test_all_that_are_blocked_die_before_they_are_let_in(OurBarrier):
    barrier = OurBarrier(2)
    party = await keep_draining(barrier)
    blocked = barrier.wait()
    blocked.send(None)
    by_hand(party)
    blocked.close()
    newcomer = barrier.wait()
    newcomer.send(None).cancel()
    assert barrier.n_waiting == 1
    await steps()
    assert barrier.n_waiting == 1  # cancelled, but it has not run
    newcomer.close()
    assert barrier.n_waiting == 0


async def test_timed_out(Barrier):
    barrier = Barrier(3)
    for _ in range(2):
        (task,) = await park(barrier.wait)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001), barrier:
                pass
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(barrier.wait(), 0.001)
        assert barrier.n_waiting == 1
        assert await asyncio.gather(barrier.wait(), barrier.wait(), task) == [1, 2, 0]


async def test_timed_out_while_blocked(Barrier):
    barrier = Barrier(2)
    party = await keep_draining(barrier)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001), barrier:
            pass
    assert state(barrier) == "draining, waiters:0/2"
    assert by_hand(party) == 0
    assert state(barrier) == "filling, waiters:0/2"


async def test_cancelled_parties_leave_in_any_order(OurBarrier):
    barrier = OurBarrier(8)
    tasks = await park(barrier.wait, 7)
    for index in (3, 0, 6, 5, 1):
        tasks[index].cancel()
        await asyncio.wait([tasks[index]])
    assert barrier.n_waiting == 2
    tasks += await park(barrier.wait, 6)
    assert await results([tasks[index] for index in (2, 4, *range(7, 13))]) == [*range(8)]


# ---- Dead of something else ----


@deaths
async def test_a_party_that_dies_leaves(Barrier, how):
    barrier = Barrier(3)
    (task,) = await park(barrier.wait)
    dying = barrier.wait()
    dying.send(None)
    assert barrier.n_waiting == 2
    die(dying, how)
    del dying
    assert barrier.n_waiting == 1
    assert await asyncio.gather(barrier.wait(), barrier.wait(), task) == [1, 2, 0]


@deaths
async def test_a_released_one_that_dies_ends_the_draining(Barrier, how):
    barrier = Barrier(2)
    dying = await keep_draining(barrier)
    (blocked,) = await park(barrier.wait)
    die(dying, how)
    del dying
    await steps()
    assert state(barrier) == "filling, waiters:1/2"
    assert await barrier.wait() == 1
    assert await blocked == 0


@deaths
async def test_a_blocked_one_that_dies_is_no_party(Barrier, how):
    barrier = Barrier(2)
    party = await keep_draining(barrier)
    dying = barrier.wait()
    dying.send(None)
    (blocked,) = await park(barrier.wait)
    die(dying, how)
    del dying
    assert by_hand(party) == 0
    await steps()
    assert state(barrier) == "filling, waiters:1/2"
    assert await barrier.wait() == 1
    assert await blocked == 0


@deaths
async def test_who_dies_last_ends_the_resetting(Barrier, how):
    barrier = Barrier(2)
    dying = barrier.wait()
    dying.send(None)
    await barrier.reset()
    assert state(barrier) == "resetting, waiters:0/2"
    die(dying, how)
    del dying
    assert state(barrier) == "filling, waiters:0/2"


# ---- reset() ----


async def test_reset_of_an_idle_one(Barrier):
    barrier = Barrier(2)
    for _ in range(2):
        assert await barrier.reset() is None
        assert state(barrier) == "filling, waiters:0/2"
    assert await asyncio.gather(barrier.wait(), barrier.wait()) == [0, 1]


async def test_reset_breaks_what_parties_wait_for(Barrier):
    barrier = Barrier(4)
    tasks = await park(barrier.wait, 3)
    await barrier.reset()
    assert not any(task.done() for task in tasks)  # it did not pause
    assert (barrier.n_waiting, barrier._count, barrier.broken) == (0, 3, False)
    assert state(barrier) == "resetting, waiters:0/4"
    await asyncio.sleep(0)
    assert all(task.done() for task in tasks)
    for task in tasks:
        with pytest.raises(asyncio.BrokenBarrierError, match=DISTURBED):
            task.result()
    assert state(barrier) == "filling, waiters:0/4"
    assert await asyncio.gather(*(barrier.wait() for _ in range(4))) == [0, 1, 2, 3]


async def test_reset_while_it_drains(Barrier):
    barrier = Barrier(3)
    tasks = await park(barrier.wait, 2)
    await barrier.wait()
    await barrier.reset()
    assert (state(barrier), barrier._count) == ("resetting, waiters:0/3", 2)
    assert await texts(tasks) == ["Abort or reset of barrier"] * 2
    assert state(barrier) == "filling, waiters:0/3"


async def test_reset_after_it_drained_breaks_nothing(Barrier):
    barrier = Barrier(2)
    tasks = await park(barrier.wait)
    await barrier.wait()
    assert await results(tasks) == [0]
    await barrier.reset()
    assert state(barrier) == "filling, waiters:0/2"


async def test_reset_twice(Barrier):
    barrier = Barrier(3)
    tasks = await park(barrier.wait, 2)
    await barrier.reset()
    await barrier.reset()
    assert state(barrier) == "resetting, waiters:0/3"
    assert await texts(tasks) == ["Abort or reset of barrier"] * 2
    assert state(barrier) == "filling, waiters:0/3"


@pytest.mark.parametrize("draining", [False, True])
async def test_who_is_blocked_stays_so_through_a_reset(Barrier, draining):
    barrier = Barrier(2)
    if draining:
        party = await keep_draining(barrier)
        blocked = await park(barrier.wait)
        await barrier.reset()
    else:
        party = barrier.wait()
        party.send(None)
        await barrier.reset()
        blocked = await park(barrier.wait)
    await steps()
    assert state(barrier) == "resetting, waiters:0/2"
    assert not blocked[0].done()
    with pytest.raises(asyncio.BrokenBarrierError, match=DISTURBED):
        party.send(None)
    await steps()
    assert state(barrier) == "filling, waiters:1/2"
    assert await barrier.wait() == 1
    assert await results(blocked) == [0]


async def test_parties_that_come_again_after_a_reset(Barrier):
    barrier = Barrier(3)

    async def insist():
        while True:
            with contextlib.suppress(asyncio.BrokenBarrierError):
                return await barrier.wait()

    tasks = [asyncio.create_task(insist()) for _ in range(2)]
    for _ in range(3):
        await steps()
        assert state(barrier) == "filling, waiters:2/3"
        await barrier.reset()
    await steps()
    assert await barrier.wait() == 2
    assert sorted(await results(tasks)) == [0, 1]


async def test_a_party_cancelled_and_reset(Barrier):
    barrier = Barrier(3)
    tasks = await park(barrier.wait, 2)
    tasks[0].cancel()
    await barrier.reset()
    assert state(barrier) == "resetting, waiters:0/3"
    await asyncio.wait(tasks)
    assert tasks[0].cancelled()
    with pytest.raises(asyncio.BrokenBarrierError, match=DISTURBED):
        await tasks[1]
    assert state(barrier) == "filling, waiters:0/3"


async def test_a_party_reset_and_cancelled(Barrier):
    barrier = Barrier(3)
    tasks = await park(barrier.wait, 2)
    await barrier.reset()
    tasks[0].cancel("message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        await tasks[0]
    with pytest.raises(asyncio.BrokenBarrierError, match=DISTURBED):
        await tasks[1]
    assert state(barrier) == "filling, waiters:0/3"


async def test_a_reset_by_a_party_that_has_just_left(Barrier):
    """The others, released by the same trip, had not run yet."""
    barrier = Barrier(3)

    async def meet():
        async with barrier:
            await barrier.reset()

    tasks = [asyncio.create_task(meet()) for _ in range(3)]
    assert await texts(tasks) == ["Abort or reset of barrier"] * 2 + ["None"]
    assert state(barrier) == "filling, waiters:0/3"


@pytest.mark.parametrize("method", ["reset", "abort"])
async def test_a_reset_by_the_last_to_leave_spares_the_blocked(Barrier, method):
    """An abort does not."""
    barrier = Barrier(3)

    async def meet():
        index = await barrier.wait()
        if index == 1:
            await getattr(barrier, method)()
        return index

    tasks = [asyncio.create_task(meet()) for _ in range(5)]
    await steps()
    assert await results(tasks[:3]) == [0, 1, 2]
    if method == "abort":
        assert await texts(tasks[3:]) == ["Barrier aborted"] * 2
        assert barrier.broken
    else:
        assert state(barrier) == "filling, waiters:2/3"
        assert await barrier.wait() == 2
        assert (await results(tasks[3:]))[0] == 0


# ---- abort() ----


async def test_abort_of_an_idle_one(Barrier):
    barrier = Barrier(2)
    for _ in range(2):
        assert await barrier.abort() is None
        assert (barrier.broken, barrier.n_waiting, barrier._count) == (True, 0, 0)
        assert state(barrier) == "broken"
        for coroutine in (barrier.wait(), barrier.__aenter__()):
            with pytest.raises(asyncio.BrokenBarrierError, match=ABORTED):
                coroutine.send(None)
        assert barrier._count == 0


async def test_broken_barrier_error_is_a_runtime_error(Barrier):
    barrier = Barrier(1)
    await barrier.abort()
    with pytest.raises(RuntimeError) as raised:
        await barrier.wait()
    assert type(raised.value) is asyncio.BrokenBarrierError


async def test_abort_breaks_what_parties_wait_for(Barrier):
    barrier = Barrier(4)
    tasks = await park(barrier.wait, 3)
    await barrier.abort()
    assert not any(task.done() for task in tasks)
    assert (state(barrier), barrier.n_waiting, barrier._count) == ("broken", 0, 3)
    await asyncio.sleep(0)
    assert all(task.done() for task in tasks)
    for task in tasks:
        with pytest.raises(asyncio.BrokenBarrierError, match=DISTURBED):
            task.result()
    assert (state(barrier), barrier._count) == ("broken", 0)


async def test_abort_while_it_drains(Barrier):
    barrier = Barrier(3)
    tasks = await park(barrier.wait, 2)
    await barrier.wait()
    await barrier.abort()
    assert (state(barrier), barrier._count) == ("broken", 2)
    assert await texts(tasks) == ["Abort or reset of barrier"] * 2
    assert (state(barrier), barrier._count) == ("broken", 0)


@pytest.mark.parametrize("resetting", [False, True])
async def test_abort_wakes_the_blocked(Barrier, resetting):
    barrier = Barrier(2)
    party = await keep_draining(barrier)
    if resetting:
        await barrier.reset()
    blocked = await park(barrier.wait, 3)
    await barrier.abort()
    assert await texts(blocked) == ["Barrier aborted"] * 3
    assert (state(barrier), barrier._count) == ("broken", 1)
    with pytest.raises(asyncio.BrokenBarrierError, match=DISTURBED):
        party.send(None)
    assert (state(barrier), barrier._count) == ("broken", 0)


async def test_abort_of_one_that_resets(Barrier):
    barrier = Barrier(3)
    tasks = await park(barrier.wait, 2)
    await barrier.reset()
    await barrier.abort()
    assert state(barrier) == "broken"
    assert await texts(tasks) == ["Abort or reset of barrier"] * 2
    assert state(barrier) == "broken"


async def test_reset_of_a_broken_one(Barrier):
    barrier = Barrier(2)
    for _ in range(2):
        await barrier.abort()
        await barrier.reset()
        assert state(barrier) == "filling, waiters:0/2"
        assert await asyncio.gather(barrier.wait(), barrier.wait()) == [0, 1]


async def test_reset_of_a_broken_one_with_parties_inside(Barrier):
    barrier = Barrier(3)
    tasks = await park(barrier.wait, 2)
    await barrier.abort()
    await barrier.reset()
    assert (state(barrier), barrier._count) == ("resetting, waiters:0/3", 2)
    blocked = await park(barrier.wait)  # comes behind the two that have been woken
    assert await texts(tasks) == ["Abort or reset of barrier"] * 2
    assert state(barrier) == "filling, waiters:1/3"
    assert await asyncio.gather(barrier.wait(), barrier.wait(), *blocked) == [1, 2, 0]


async def test_the_aborted_stay_so_whatever_happens_before_they_run(OurBarrier):
    """asyncio's look again when they run, find it reset, and wait on."""
    barrier = OurBarrier(2)
    party = await keep_draining(barrier)
    blocked = await park(barrier.wait, 2)
    await barrier.abort()
    assert barrier._count == 3
    await barrier.reset()
    with pytest.raises(asyncio.BrokenBarrierError, match=DISTURBED):
        party.send(None)
    assert (state(barrier), barrier._count) == ("resetting, waiters:0/2", 2)
    newcomer = barrier.wait()
    newcomer.send(None)
    assert await texts(blocked) == ["Barrier aborted"] * 2
    assert state(barrier) == "filling, waiters:1/2"
    assert await barrier.wait() == 1
    assert by_hand(newcomer) == 0


async def test_only_the_aborted_are_left_to_leave(OurBarrier):
    barrier = OurBarrier(2)
    party = await keep_draining(barrier)
    blocked = barrier.wait()
    blocked.send(None)
    cancelled = barrier.wait()
    future = cancelled.send(None)
    future.cancel()
    await barrier.abort()
    party.close()
    assert (state(barrier), barrier._count) == ("broken", 1)
    await barrier.reset()
    assert (state(barrier), barrier._count) == ("resetting, waiters:0/2", 1)
    tasks = await park(barrier.wait)
    with pytest.raises(asyncio.BrokenBarrierError, match=ABORTED):
        blocked.send(None)
    with pytest.raises(asyncio.CancelledError):
        cancelled.send(None)
    await asyncio.sleep(0)
    assert state(barrier) == "filling, waiters:1/2"
    assert await barrier.wait() == 1
    assert await results(tasks) == [0]


async def test_aborted_while_blocked_and_cancelled(Barrier):
    barrier = Barrier(2)
    party = await keep_draining(barrier)
    blocked = await park(barrier.wait, 2)
    await barrier.abort()
    blocked[0].cancel("message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        await blocked[0]
    with pytest.raises(asyncio.BrokenBarrierError, match=ABORTED):
        await blocked[1]
    with pytest.raises(asyncio.BrokenBarrierError, match=DISTURBED):
        party.send(None)
    await barrier.reset()
    assert state(barrier) == "filling, waiters:0/2"


async def test_an_abort_by_a_party_that_has_just_left(Barrier):
    barrier = Barrier(3)

    async def meet():
        async with barrier as index:
            if index == 2:
                await barrier.abort()
            return index

    tasks = [asyncio.create_task(meet()) for _ in range(4)]
    await asyncio.wait(tasks, timeout=1)
    assert tasks[2].result() == 2
    assert await texts(tasks[:2]) == ["Abort or reset of barrier"] * 2
    assert await texts(tasks[3:]) == ["Barrier aborted"]


@pytest.mark.parametrize("method", ["reset", "abort"])
async def test_reset_and_abort_do_not_pause(Barrier, method):
    barrier = Barrier(3)
    party = await keep_draining(barrier)
    blocked = await park(barrier.wait, 2)
    with pytest.raises(StopIteration) as stop:
        getattr(barrier, method)().send(None)
    assert stop.value.value is None
    with pytest.raises(asyncio.BrokenBarrierError, match=DISTURBED):
        party.send(None)
    for task in blocked:
        task.cancel()


# ---- Loops ----


def test_blocked_on_another_loop(Barrier):
    barrier = Barrier(2)
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    party = first.run_until_complete(keep_draining(barrier))
    with pytest.raises(RuntimeError, match="> is bound to a different event loop$"):
        second.run_until_complete(barrier.wait())
    assert (state(barrier), barrier._count) == ("draining, waiters:0/2", 1)
    assert by_hand(party) == 0
    first.close()
    second.close()


SITUATIONS = ["filling", "draining", "refilling", "resetting", "blocked"]


def leave_behind(barrier, situation):
    """Those that were left at a barrier of three parties when their loop was closed."""
    loop = asyncio.new_event_loop()

    async def main():
        if situation in ("draining", "refilling"):
            party = await keep_draining(barrier)
            tasks = await park(barrier.wait)
        else:
            party = barrier.wait()
            party.send(None)
            tasks = await park(barrier.wait)
            if situation == "aborted":
                await barrier.abort()
            elif situation != "filling":
                await barrier.reset()
            if situation == "blocked":
                tasks += await park(barrier.wait)
        for task in tasks:
            task._log_destroy_pending = False
        return [party, tasks]

    party, tasks = loop.run_until_complete(main())
    if situation == "refilling":
        by_hand(party)
    for task in tasks:
        if task.done():
            task.exception()
    loop.close()
    return [party, tasks]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_who_is_left_on_a_closed_loop_no_longer_counts(OurBarrier, situation):
    barrier = OurBarrier(3)
    left = leave_behind(barrier, situation)

    async def meet():
        for _ in range(2):
            tasks = await park(barrier.wait)
            assert (state(barrier), barrier._count) == ("filling, waiters:1/3", 1)
            tasks += await park(barrier.wait)
            assert await barrier.wait() == 2
            assert await results(tasks) == [0, 1]

    async def end_those_left():
        tasks = await park(barrier.wait, 2)
        left.clear()
        gc.collect()
        assert state(barrier) == "filling, waiters:2/3"
        assert await barrier.wait() == 2
        assert await results(tasks) == [0, 1]

    with asyncio.Runner() as runner:
        runner.run(meet())
        runner.run(end_those_left())


@pytest.mark.parametrize("situation", SITUATIONS)
def test_of_the_number_that_is_left_on_a_closed_loop(OurBarrier, situation):
    """One comes, and does not make up the number with those that are left."""
    barrier = OurBarrier(3)
    left = leave_behind(barrier, situation)

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(barrier.wait(), 0.001)
        assert state(barrier) == "filling, waiters:0/3"

    asyncio.run(main())
    left.clear()
    gc.collect()
    assert state(barrier) == "filling, waiters:0/3"


@pytest.mark.parametrize("method", ["reset", "abort"])
@pytest.mark.parametrize("situation", [*SITUATIONS, "aborted"])
def test_reset_and_abort_after_its_loop_is_closed(OurBarrier, situation, method):
    barrier = OurBarrier(3)
    left = leave_behind(barrier, situation)

    async def main():
        await getattr(barrier, method)()
        assert barrier.broken is (method == "abort")
        await barrier.reset()
        assert state(barrier) == "filling, waiters:0/3"
        for _ in range(2):
            assert await asyncio.gather(*(barrier.wait() for _ in range(3))) == [0, 1, 2]

    asyncio.run(main())
    left.clear()
    gc.collect()
    assert state(barrier) == "filling, waiters:0/3"
    asyncio.run(main())


def test_a_broken_one_is_broken_on_the_next_loop(Barrier):
    barrier = Barrier(2)

    async def main():
        tasks = await park(barrier.wait)
        await barrier.abort()
        assert await texts(tasks) == ["Abort or reset of barrier"]

    async def fail():
        with pytest.raises(asyncio.BrokenBarrierError, match=ABORTED):
            await barrier.wait()

    asyncio.run(main())
    asyncio.run(fail())
    assert barrier.broken


def test_a_loop_that_cannot_make_a_future(Barrier):
    class Loop(asyncio.SelectorEventLoop):
        broken = False

        def create_future(self):
            if self.broken:
                raise MemoryError("no future")
            return super().create_future()

    async def main():
        loop = asyncio.get_running_loop()
        barrier = Barrier(3)
        party = await keep_draining(barrier)
        for before, after in (("draining", 0), ("filling", 0)):
            loop.broken = True
            with pytest.raises(MemoryError, match="no future"):
                await barrier.wait()
            loop.broken = False
            assert state(barrier) == f"{before}, waiters:{after}/3"
            if before == "draining":
                assert by_hand(party) == 0
        tasks = await park(barrier.wait, 2)
        assert await barrier.wait() == 2
        assert await results(tasks) == [0, 1]

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


# ---- A Python object like any other ----


async def test_an_overridden_wait_is_used_by_async_with(Barrier):
    class Tens(Barrier):
        async def wait(self):
            return 10 * await super().wait()

    barrier, indices = Tens(3), []

    async def meet():
        async with barrier as index:
            indices.append(index)

    await asyncio.gather(meet(), meet(), meet())
    assert indices == [20, 0, 10]


async def test_a_patched_wait_is_used_by_async_with(Barrier):
    barrier = Barrier(2)
    with mock.patch.object(barrier, "wait", mock.AsyncMock(return_value="index")) as wait:
        async with barrier as index:
            wait.assert_awaited_once_with()
            assert index == "index"
    other = Barrier(1)
    barrier.wait = other.wait
    async with barrier as index:
        assert index == 0
    assert (barrier.n_waiting, other.n_waiting) == (0, 0)


@pytest.mark.parametrize("name", ["parties", "n_waiting", "broken"])
def test_properties_cannot_be_set(Barrier, name):
    barrier = Barrier(2)
    with pytest.raises(AttributeError):
        setattr(barrier, name, 1)
    assert getattr(barrier, name) == {"parties": 2, "n_waiting": 0, "broken": False}[name]


def test_repr(Barrier):
    async def main():
        barrier = Barrier(3)
        plain = object.__repr__(barrier)[1:-1]
        assert repr(barrier) == f"<{plain} [filling, waiters:0/3]>"
        tasks = await park(barrier.wait, 2)
        assert repr(barrier) == f"<{plain} [filling, waiters:2/3]>"
        await barrier.wait()
        assert repr(barrier) == f"<{plain} [draining, waiters:0/3]>"
        await barrier.reset()
        assert repr(barrier) == f"<{plain} [resetting, waiters:0/3]>"
        await barrier.abort()
        assert repr(barrier) == f"<{plain} [broken]>"
        await asyncio.gather(*tasks, return_exceptions=True)
        assert repr(barrier) == f"<{plain} [broken]>"

    asyncio.run(main())


@pytest.mark.parametrize("parties", [0, -1, -(10**30), False])
def test_too_few_parties(OurBarrier, parties):
    with pytest.raises(ValueError, match="^parties must be >= 1$"):
        OurBarrier(parties)


@pytest.mark.parametrize("parties", [0, -1])
def test_too_few_parties_for_asyncio_too(Barrier, parties):
    with pytest.raises(ValueError, match="^parties must be (>= 1|> 0)$"):  # by version
        Barrier(parties)


@pytest.mark.parametrize("parties", [1, 2, 10**6])
def test_parties(Barrier, parties):
    assert Barrier(parties).parties == parties
    assert Barrier(parties=parties).parties == parties


@pytest.mark.parametrize("parties", ["2", None])
def test_parties_that_are_no_number(Barrier, parties):
    for cls in (Barrier, type("Sub", (Barrier,), {})):
        with pytest.raises(TypeError) as raised:
            cls(parties)
        text = f"'<' not supported between instances of '{type(parties).__name__}' and 'int'"
        assert str(raised.value) == text


# ---- Copied ----


@copies
@pytest.mark.usefixtures("importable")
async def test_no_copy_while_tasks_wait(OurBarrier, duplicate):
    barrier = OurBarrier(3)
    text = "^cannot (copy or pickle|pickle|copy) .*that tasks wait for$"
    tasks = await park(barrier.wait, 2)
    with pytest.raises(TypeError, match=text):  # filling
        duplicate(barrier)
    await barrier.wait()
    with pytest.raises(TypeError, match=text):  # draining
        duplicate(barrier)
    await barrier.reset()
    with pytest.raises(TypeError, match=text):  # resetting
        duplicate(barrier)
    await barrier.abort()
    with pytest.raises(TypeError, match=text):  # broken
        duplicate(barrier)
    await asyncio.wait(tasks)
    assert duplicate(barrier).broken


# ---- Collected ----


@needs_refcounts
def test_dropped_with_everybody(OurBarrier):
    """A barrier, its waiters and their tasks in one cycle of garbage, and the loop closed."""

    async def leave_them():
        barrier = OurBarrier(3)
        barrier.itself = barrier
        party = await keep_draining(barrier)
        barrier.tasks = await park(barrier.wait, 5)
        by_hand(party)
        barrier.tasks += await park(barrier.wait)
        for task in barrier.tasks:
            task._log_destroy_pending = False
        return weakref.ref(barrier)

    loop = asyncio.new_event_loop()
    reference = loop.run_until_complete(leave_them())
    loop.run_until_complete(steps())
    gc.collect()
    assert reference() is None
    loop.close()


# ---- Many, and on another loop ----


async def test_many_parties(OurBarrier):
    """In time that grows as their number, cancelled or released."""
    barrier = OurBarrier(10_000)
    for _ in range(2):
        tasks = await park(barrier.wait, 9_999)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert barrier.n_waiting == 0
    tasks = await park(barrier.wait, 9_999)
    assert await barrier.wait() == 9_999
    assert await asyncio.gather(*tasks) == [*range(9_999)]


async def test_many_blocked(OurBarrier):
    barrier = OurBarrier(2)
    party = await keep_draining(barrier)
    blocked = await park(barrier.wait, 10_000)
    for task in blocked[::2]:
        task.cancel()
    by_hand(party)
    await asyncio.wait(blocked)
    assert [task.result() for task in blocked[1::2]] == [0, 1] * 2_500
    assert state(barrier) == "filling, waiters:0/2"


def test_on_uvloop(Barrier):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        barrier, order = Barrier(3), []

        async def meet(name):
            async with barrier as index:
                order.append((index, name))

        tasks = [asyncio.create_task(meet(name)) for name in range(8)]
        await steps()
        groups = [sorted(order[:3]), sorted(order[3:])]
        assert groups == [[(0, 0), (1, 1), (2, 2)], [(0, 3), (1, 4), (2, 5)]]
        assert barrier.n_waiting == 2
        await barrier.abort()
        await barrier.reset()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001), barrier:
                pass
        assert await texts(tasks[6:]) == ["Abort or reset of barrier"] * 2
        assert state(barrier) == "filling, waiters:0/3"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
