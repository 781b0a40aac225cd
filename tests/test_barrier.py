"""What Barrier does, in asyncio and in both implementations."""

import asyncio
import contextlib
import gc
import math
import weakref
from fractions import Fraction
from unittest import mock

import pytest
from conftest import needs_refcounts
from helpers import abandon, abandoned_or_cancelled, by_hand, copies, park, state, steps

ABORTED = "^Barrier aborted$"
DISTURBED = "^Abort or reset of barrier$"


async def results(tasks):
    """Return the indices and exceptions of tasks that must end without help."""
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 1)


async def texts(tasks):
    return [str(result) for result in await results(tasks)]


async def keep_draining(barrier):
    """Trip the barrier, and return a party that has not left. Until by_hand(), it drains."""
    party = barrier.wait()
    party.send(None)
    tasks = await park(barrier.wait, barrier.parties - 2)
    assert await barrier.wait() == barrier.parties - 1
    assert await results(tasks) == [*range(1, barrier.parties - 1)]
    assert state(barrier) == f"draining, waiters:0/{barrier.parties}"
    return party


# ---- Waiting and tripping ----


async def test_the_last_to_come_trips_it(Barrier):
    barrier = Barrier(3)
    tasks = await park(barrier.wait, 2)
    assert not any(task.done() for task in tasks)
    assert await barrier.wait() == 2
    assert await results(tasks) == [0, 1]
    assert (barrier.n_waiting, barrier.broken) == (0, False)


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


async def test_while_it_drains(Barrier):
    barrier = Barrier(3)
    tasks = await park(barrier.wait, 2)
    assert by_hand(barrier.wait()) == 2
    assert state(barrier) == "draining, waiters:0/3"
    assert (barrier.n_waiting, barrier._count, barrier.broken) == (0, 2, False)
    assert not any(task.done() for task in tasks)
    await asyncio.sleep(0)
    assert all(task.done() for task in tasks)
    assert state(barrier) == "filling, waiters:0/3"
    assert barrier._count == 0


async def test_tasks_that_come_while_it_drains_wait_for_the_next_generation(Barrier):
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
        assert by_hand(blocked[first + 1]) == 1  # in any order
        assert by_hand(blocked[first]) == 0
    await asyncio.sleep(0)
    assert state(barrier) == "filling, waiters:1/2"
    assert await barrier.wait() == 1
    assert by_hand(blocked[4]) == 0


async def test_a_newcomer_does_not_pass_the_blocked(OurBarrier):
    """With asyncio, it does if it comes when all have left and the blocked have not run."""
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


@pytest.mark.parametrize("parties", [1, 2, 3, 8])
async def test_parties_that_come_again_at_once(Barrier, parties):
    """No party gets ahead of the others by more than one generation."""
    barrier, passed, indices = Barrier(parties), [0] * parties, []

    async def work(name):
        for _ in range(50):
            indices.append(await barrier.wait())
            passed[name] += 1
            assert max(passed) - min(passed) <= 1

    await asyncio.gather(*map(work, range(parties)))
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
    await asyncio.wait(tasks)
    assert len(indices) == 300
    for start in range(0, 300, 3):
        assert sorted(indices[start : start + 3]) == [0, 1, 2]


async def test_the_blocked_are_served_before_a_task_that_comes_again(OurBarrier):
    """asyncio lets the last to leave, if it comes again at once, pass all that are blocked."""
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


# ---- Driven by hand ----


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


async def test_a_cancelled_party_that_has_not_run_makes_up_the_number(Barrier):
    """As in asyncio: the party takes an index, and the others get theirs."""
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


async def test_it_does_not_drain_until_the_cancelled_leave(OurBarrier):
    """asyncio counts them until they have run."""
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


async def test_every_other_blocked_one_is_cancelled(OurBarrier):
    barrier = OurBarrier(2)
    party = await keep_draining(barrier)
    blocked = await park(barrier.wait, 400)
    for task in blocked[::2]:
        task.cancel()
    by_hand(party)
    await asyncio.wait(blocked)
    assert [task.result() for task in blocked[1::2]] == [0, 1] * 100
    assert state(barrier) == "filling, waiters:0/2"


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


async def test_all_that_are_blocked_end_before_they_are_let_in(OurBarrier):
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
    assert barrier.n_waiting == 1  # it is cancelled, but it has not run
    newcomer.close()
    assert barrier.n_waiting == 0


async def test_cancelled_parties_leave_in_any_order(OurBarrier):
    barrier = OurBarrier(8)
    tasks = await park(barrier.wait, 7)
    for index in (3, 0, 6, 5, 1):
        tasks[index].cancel()
        await asyncio.wait([tasks[index]])
    assert barrier.n_waiting == 2
    tasks += await park(barrier.wait, 6)
    assert await results([tasks[index] for index in (2, 4, *range(7, 13))]) == [*range(8)]


# ---- Cancelled, or ended by something else ----


@abandoned_or_cancelled
async def test_an_abandoned_party_leaves(Barrier, how):
    barrier = Barrier(3)
    (task,) = await park(barrier.wait)
    party = barrier.wait()
    party.send(None)
    assert barrier.n_waiting == 2
    abandon(party, how)
    del party
    assert barrier.n_waiting == 1
    assert await asyncio.gather(barrier.wait(), barrier.wait(), task) == [1, 2, 0]


@abandoned_or_cancelled
async def test_an_abandoned_party_ends_the_draining(Barrier, how):
    barrier = Barrier(2)
    party = await keep_draining(barrier)
    (blocked,) = await park(barrier.wait)
    abandon(party, how)
    del party
    await steps()
    assert state(barrier) == "filling, waiters:1/2"
    assert await barrier.wait() == 1
    assert await blocked == 0


@abandoned_or_cancelled
async def test_an_abandoned_party_ends_the_resetting(Barrier, how):
    barrier = Barrier(2)
    party = barrier.wait()
    party.send(None)
    await barrier.reset()
    assert state(barrier) == "resetting, waiters:0/2"
    abandon(party, how)
    del party
    assert state(barrier) == "filling, waiters:0/2"


@abandoned_or_cancelled
async def test_an_abandoned_blocked_one_is_no_party(Barrier, how):
    barrier = Barrier(2)
    party = await keep_draining(barrier)
    coroutine = barrier.wait()
    coroutine.send(None)
    (blocked,) = await park(barrier.wait)
    abandon(coroutine, how)
    del coroutine
    assert by_hand(party) == 0
    await steps()
    assert state(barrier) == "filling, waiters:1/2"
    assert await barrier.wait() == 1
    assert await blocked == 0


# ---- reset() and abort() ----


@pytest.mark.parametrize("draining", [False, True])
@pytest.mark.parametrize(
    "calls", ["reset", "abort", "reset, reset", "reset, abort", "abort, reset", "abort, abort"]
)
async def test_reset_and_abort_break_what_parties_wait_for(Barrier, calls, draining):
    barrier = Barrier(3)
    tasks = await park(barrier.wait, 2)
    if draining:
        await barrier.wait()
    for method in calls.split(", "):
        assert by_hand(getattr(barrier, method)()) is None
    broken = calls.endswith("abort")
    assert state(barrier) == ("broken" if broken else "resetting, waiters:0/3")
    assert (barrier.n_waiting, barrier._count, barrier.broken) == (0, 2, broken)
    assert not any(task.done() for task in tasks)
    await asyncio.sleep(0)
    assert all(task.done() for task in tasks)
    assert await texts(tasks) == ["Abort or reset of barrier"] * 2
    assert state(barrier) == ("broken" if broken else "filling, waiters:0/3")
    assert barrier._count == 0


async def test_reset_of_an_idle_one(Barrier):
    barrier = Barrier(2)
    for _ in range(2):
        assert await barrier.reset() is None
        assert state(barrier) == "filling, waiters:0/2"
    assert await asyncio.gather(barrier.wait(), barrier.wait()) == [0, 1]


async def test_reset_after_it_drained_breaks_nothing(Barrier):
    barrier = Barrier(2)
    tasks = await park(barrier.wait)
    await barrier.wait()
    assert await results(tasks) == [0]
    await barrier.reset()
    assert state(barrier) == "filling, waiters:0/2"


@pytest.mark.parametrize("draining", [False, True])
async def test_the_blocked_stay_blocked_through_a_reset(Barrier, draining):
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


async def test_a_reset_by_a_party_that_has_just_left(Barrier):
    """The other parties have not run yet."""
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


async def test_reset_of_a_broken_one(Barrier):
    barrier = Barrier(2)
    for _ in range(2):
        await barrier.abort()
        await barrier.reset()
        assert state(barrier) == "filling, waiters:0/2"
        assert await asyncio.gather(barrier.wait(), barrier.wait()) == [0, 1]


async def test_the_aborted_fail_even_if_it_is_reset_before_they_run(OurBarrier):
    """In asyncio they look again when they run, find the barrier reset, and wait on."""
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
    """Leave parties at a barrier of three when their loop is closed, and return them."""
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
def test_parties_on_a_closed_loop_no_longer_count(OurBarrier, situation):
    barrier = OurBarrier(3)
    left = leave_behind(barrier, situation)

    async def meet():
        for _ in range(2):
            tasks = await park(barrier.wait)
            assert (state(barrier), barrier._count) == ("filling, waiters:1/3", 1)
            tasks += await park(barrier.wait)
            assert await barrier.wait() == 2
            assert await results(tasks) == [0, 1]

    async def drop_those_left():
        tasks = await park(barrier.wait, 2)
        left.clear()
        gc.collect()
        assert state(barrier) == "filling, waiters:2/3"
        assert await barrier.wait() == 2
        assert await results(tasks) == [0, 1]

    with asyncio.Runner() as runner:
        runner.run(meet())
        runner.run(drop_those_left())


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_newcomer_does_not_trip_it_with_parties_on_a_closed_loop(OurBarrier, situation):
    barrier = OurBarrier(3)
    left = leave_behind(barrier, situation)

    async def main():
        (task,) = await park(barrier.wait)
        assert state(barrier) == "filling, waiters:1/3"
        task.cancel()
        await asyncio.wait([task])
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
def test_too_few_parties(Barrier, parties):
    with pytest.raises(ValueError, match="^parties must be (>= 1|> 0)$"):  # by version of asyncio
        Barrier(parties)


@pytest.mark.parametrize("parties", [1, 2, 10**6])
def test_parties(Barrier, parties):
    barrier = Barrier(parties)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (parties, 0, False)
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
    """A barrier, its waiters and their tasks are one cycle of garbage, on a closed loop."""

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


@pytest.mark.parametrize("parties", [2.0, True + True, Fraction(2)])
async def test_parties_of_any_number(Barrier, parties):
    barrier = Barrier(parties)
    assert repr(barrier).endswith(f" [filling, waiters:0/{parties}]>")
    for _ in range(2):
        indices = await asyncio.gather(barrier.wait(), barrier.wait())
        assert sorted(indices) == [0, 1]
        assert {type(index) for index in indices} == {int}
    assert barrier.parties == parties


@pytest.mark.parametrize("parties", [1.5, 2**70, math.inf])
async def test_parties_that_no_number_of_tasks_reaches(Barrier, parties):
    barrier = Barrier(parties)
    tasks = [asyncio.create_task(barrier.wait()) for _ in range(4)]
    await asyncio.sleep(0)
    assert barrier.n_waiting == 4
    await barrier.abort()
    await asyncio.wait(tasks)
    assert {type(task.exception()) for task in tasks} == {asyncio.BrokenBarrierError}
