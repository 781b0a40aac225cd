"""Random programs on the barriers of both implementations, compared at each step with a model.

asyncio's Barrier cannot be the oracle here: a newcomer passes the blocked tasks while they are let
in, and after a cancelled wait() two parties get the same index. So the model below predicts how
each wait() ends, and in which iteration of the loop. No task waits at the model. Undisturbed
programs are also compared with asyncio.

A program is a list of operations. A driver task runs them one after the other, on tasks and on
awaitables that it drives by hand. It passes each event to the model, and records what happened and
what the model expected. The loop has its own clock, so a trace repeats exactly.

`pytest tests/test_barrier_schedules.py --schedules 100000` runs more programs than the suite does.
"""

import asyncio
import gc
import random
import sys
from functools import partial

import pytest
from conftest import OURS
from schedules import Clockwork

pytest.importorskip("hypothesis", reason="it does not install on free-threaded 3.13")
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

WAITS = ("waits",)
ABORTED = ("BrokenBarrierError", "Barrier aborted")
DISTURBED = ("BrokenBarrierError", "Abort or reset of barrier")
TOO_EARLY = ("RuntimeError", "await wasn't used with future")
REUSED = ("RuntimeError", "cannot reuse already awaited coroutine")


class Waiter:
    """The model's view of a wait() that has begun."""

    def __init__(self, name, is_cancelled, by_hand=False):
        self.name = name
        self.is_cancelled = is_cancelled  # returns whether its future was cancelled
        self.by_hand = by_hand
        self.index = None
        self.woken = None  # in which iteration of the loop


class Model:
    """A model of a barrier: its state, and the waiters in it.

    Each waiter is in one of three lists, in order of arrival, until its task has run and left. A
    waiter that is cancelled while the barrier fills is a party until it runs, or until the barrier
    trips or is broken: it takes an index, and the barrier drains without it.
    """

    def __init__(self, parties, loop):
        self.parties = parties
        self.loop = loop
        self.state = "filling"
        self.inside = []  # parties while it fills, or woken ones that have not left
        self.blocked = []  # waiters that came before the others had left
        self.aborted = []  # waiters that were blocked when abort() woke them
        self.refilling = False  # the next iteration lets in the blocked ones
        self.order = []  # woken waiters that have not left, in order

    def wake(self, waiters):
        """Wake the waiters that are not cancelled, and return them."""
        woken = [waiter for waiter in waiters if not waiter.is_cancelled()]
        for waiter in woken:
            waiter.woken = self.loop.iteration
        self.order += woken
        return woken

    def trip(self):
        self.state = "draining"
        for index, waiter in enumerate(self.inside):
            waiter.index = index
        self.inside = self.wake(self.inside)
        self.empty_if_all_left()

    def arrive(self, waiter):
        """Model a call of wait() that is awaited. Return its outcome, or WAITS."""
        if self.state == "broken":
            return ABORTED
        if self.state != "filling" or self.refilling:
            self.blocked.append(waiter)
            return WAITS
        if len(self.inside) + 1 < self.parties:
            self.inside.append(waiter)
            return WAITS
        self.trip()
        return ("returned", self.parties - 1)

    def resume(self, waiter, thrown=None):
        """Model a wait() that is resumed. Return its outcome."""
        if thrown is not None:
            outcome = thrown
        elif waiter.is_cancelled():
            outcome = ("CancelledError",)
        elif waiter.woken is None:
            outcome = TOO_EARLY
        elif waiter in self.aborted:
            outcome = ABORTED
        elif self.state in ("resetting", "broken"):
            outcome = DISTURBED
        else:
            outcome = ("returned", waiter.index)
        for place in (self.inside, self.blocked, self.aborted, self.order):
            if waiter in place:
                place.remove(waiter)
        self.empty_if_all_left()
        return outcome

    def empty_if_all_left(self):
        if self.state in ("draining", "resetting") and not self.inside and not self.aborted:
            self.state = "filling"
            if self.blocked:
                self.refilling = True
                self.loop.call_soon(self.refill)
        if not self.blocked:
            self.refilling = False

    def refill(self):
        """Let in the blocked waiters that are not cancelled, up to the number of parties."""
        if self.refilling:
            self.refilling = False
            while self.blocked and len(self.inside) < self.parties:
                waiter = self.blocked.pop(0)
                if not waiter.is_cancelled():
                    self.inside.append(waiter)
            if len(self.inside) == self.parties:
                self.trip()

    def reset(self):
        if self.refilling:
            return
        if self.state == "filling":
            self.inside = self.wake(self.inside)
        self.state = "resetting" if self.inside or self.aborted else "filling"

    def abort(self):
        if self.state == "filling":
            self.inside = self.wake(self.inside)
        self.state = "broken"
        self.aborted += self.wake(self.blocked)
        self.blocked = []
        self.refilling = False

    def look(self):
        waiting = len(self.inside) if self.state == "filling" else 0
        extra = self.state if self.state == "broken" else f"{self.state}, waiters:{waiting}/"
        count = len(self.inside) + len(self.aborted)
        return extra, waiting, self.state == "broken", count


def is_cancelled(futures):
    return any(future.cancelled() for future in futures)


class ByHand:
    """An awaitable that the driver drives by hand."""

    def __init__(self, coroutine, method, name):
        self.coroutine = coroutine
        self.method = method
        self.state = "unstarted"
        self.parked_on = []
        self.waiter = Waiter(name, partial(is_cancelled, self.parked_on), by_hand=True)


class Driver:
    def __init__(self, barrier):
        self.barrier = barrier
        self.loop = asyncio.get_running_loop()
        self.model = Model(barrier.parties, self.loop)
        self.trace = []
        self.fault = None
        self.tasks = []
        self.hands = []

    def note(self, event, seen, expected):
        self.trace.append((event, seen))
        if seen != expected and self.fault is None:
            self.fault = f"{event}: {seen}, expected {expected}, after {self.trace[:-1]}"

    def look(self):
        extra = repr(self.barrier).rpartition(" [")[2].partition("]")[0]
        if not self.barrier.broken:
            extra = extra.removesuffix(f"{self.barrier.parties}")
        seen = extra, self.barrier.n_waiting, self.barrier.broken, self.barrier._count
        self.note("look", seen, self.model.look())
        # A task runs in the next iteration. An awaitable driven by hand runs at any time.
        before = self.loop.iteration - 1
        late = [w.name for w in self.model.order if not w.by_hand and w.woken < before]
        self.note("late", late, [])
        for hand in self.hands:
            if hand.state == "parked":
                expected = hand.waiter.woken is not None or hand.waiter.is_cancelled()
                self.note((hand.waiter.name, "done"), hand.parked_on[0].done(), expected)

    # Run by the tasks.

    async def play(self, name, steps, timeout):
        for number, step in enumerate(steps):
            try:
                await self.play_step(f"{name}, step {number}", step, timeout)
            except asyncio.BrokenBarrierError:
                pass
            except TimeoutError:
                self.note((name, number), "timed out", "timed out")

    async def play_step(self, name, step, timeout):
        if step == "pause":
            await asyncio.sleep(0)
        elif step == "timeout":
            async with asyncio.timeout(timeout):
                await self.wait(name, step)
        elif step == "wait_for":
            await asyncio.wait_for(self.wait(name, step), timeout)
        elif step == "task":
            await asyncio.create_task(self.wait(name, step))
        elif step in ("reset", "abort"):
            iteration = self.loop.iteration
            getattr(self.model, step)()
            await getattr(self.barrier, step)()
            self.note((name, step), self.loop.iteration, iteration)
            self.look()
        else:
            await self.wait(name, step)

    async def wait(self, name, step):
        task = asyncio.current_task()
        cancels = task.cancelling()
        waiter = Waiter(name, lambda: task.cancelling() > cancels)
        iteration = self.loop.iteration
        expected = self.model.arrive(waiter)
        self.note((name, step), expected, expected)
        try:
            if step == "with":
                async with self.barrier as index:
                    self.ran(waiter, iteration, expected, "returned", index)
            else:
                index = await self.barrier.wait()
                self.ran(waiter, iteration, expected, "returned", index)
        except asyncio.CancelledError as error:
            self.ran(waiter, iteration, expected, "CancelledError", message=error.args)
            raise
        except BaseException as error:
            self.ran(waiter, iteration, expected, type(error).__name__, str(error))
            raise

    def ran(self, waiter, iteration, expected, *seen, message=()):
        if expected == WAITS:
            if waiter.woken is not None:
                of_tasks = [other for other in self.model.order if not other.by_hand]
                self.note((waiter.name, "order"), of_tasks.index(waiter), 0)
                iteration = waiter.woken + 1
            elif waiter.is_cancelled():
                iteration = self.loop.iteration
            expected = self.model.resume(waiter)
        self.note((waiter.name, "ran", message), seen, expected)
        self.note((waiter.name, "iteration"), self.loop.iteration, iteration)
        self.look()

    # Run by the driver.

    def spawn(self, count, steps, timeout=0):
        for _ in range(count):
            name = f"task {len(self.tasks)}"
            self.tasks.append(asyncio.create_task(self.play(name, steps, timeout)))

    def cancel(self, index, message):
        if self.tasks:
            self.tasks[index % len(self.tasks)].cancel(message)

    def reset(self):
        self.disturb("reset")

    def abort(self):
        self.disturb("abort")

    def disturb(self, method):
        self.by_hand(method, True)
        self.hands.pop()

    def by_hand(self, method, start):
        arguments = (None, None, None) if method == "__aexit__" else ()
        coroutine = getattr(self.barrier, method)(*arguments)
        self.hands.append(ByHand(coroutine, method, f"by hand {len(self.trace)}"))
        if start:
            self.drive(-1, "send")

    def drive(self, index, how, argument=None):
        if not self.hands:
            return
        hand = self.hands[index % len(self.hands)]
        thrown = argument("thrown") if how == "throw" else None
        expected = self.expect(hand, how, thrown)
        try:
            if how == "send":
                hand.parked_on.append(hand.coroutine.send(None))
                seen = WAITS
            elif how == "throw":
                hand.coroutine.throw(thrown)
                seen = ("swallowed",)
            else:
                hand.coroutine.close()
                seen = ("closed",)
        except StopIteration as stop:
            seen = ("returned", stop.value)
        except asyncio.CancelledError:
            seen = ("CancelledError",)
        except BaseException as error:
            seen = (type(error).__name__, str(error))
        hand.state = "parked" if seen == WAITS else "done"
        self.note((hand.waiter.name, hand.method, how), seen, expected)

    def expect(self, hand, how, thrown=None):
        if how == "close":
            outcome = ("closed",)
        elif isinstance(thrown, asyncio.CancelledError):
            outcome = ("CancelledError",)
        elif thrown is not None:
            outcome = (type(thrown).__name__, str(thrown))
        else:
            outcome = None  # the barrier decides
        if hand.state == "parked":
            return self.model.resume(hand.waiter, outcome)
        if hand.state == "done":
            return outcome if how == "close" else REUSED
        if outcome is not None:
            return outcome
        if hand.method in ("wait", "__aenter__"):
            return self.model.arrive(hand.waiter)
        if hand.method != "__aexit__":
            getattr(self.model, hand.method)()
        return ("returned", None)

    def cancel_by_hand(self, index):
        if self.hands:
            hand = self.hands[index % len(self.hands)]
            if hand.state == "parked":
                hand.parked_on[0].cancel()

    def drop(self, index):
        if self.hands:
            hand = self.hands.pop(index % len(self.hands))
            self.expect(hand, "close")
            if hand.state == "unstarted":
                hand.coroutine.close()

    async def tick(self, count):
        for _ in range(count):
            await asyncio.sleep(0)
            self.look()

    async def sleep(self):
        await asyncio.sleep(1)

    async def run(self, program):
        for operation, *arguments in [*program, ("sleep",)]:
            result = getattr(self, operation)(*arguments)
            if result is not None:
                await result
            self.look()
            assert self.fault is None, self.fault
        await self.finish()
        assert self.fault is None, self.fault

    async def finish(self):
        """End all waiters. Then the barrier must work like a new one."""
        for index in range(len(self.hands)):
            self.drive(index, "close")
            self.look()
        for _ in range(10):
            if all(task.done() for task in self.tasks):
                break
            for task in self.tasks:
                task.cancel()
            await asyncio.sleep(10)
            self.look()
        self.reset()
        self.look()
        for _ in range(2):
            self.spawn(self.barrier.parties, ["wait"])
            await asyncio.sleep(10)
            self.look()
        self.note("unfinished", [task for task in self.tasks if not task.done()], [])
        for task in self.tasks:
            if task.done() and not task.cancelled():
                task.exception()
        self.note("left", (self.model.inside, self.model.blocked, self.model.aborted), ([], [], []))


def trace(barrier_class, parties, program):
    async def main():
        driver = Driver(barrier_class(parties))
        try:
            await driver.run(program)
        finally:
            for hand in driver.hands:
                hand.coroutine.close()
        return driver.trace

    with asyncio.Runner(loop_factory=Clockwork) as runner:
        return runner.run(main())


# ---- The programs ----

indices = st.integers(0, 7)
timeouts = st.sampled_from([0, 1, 2])
waits = st.sampled_from(["wait", "with", "timeout", "wait_for", "task"])
others = st.sampled_from(["pause", "pause", "reset", "abort"])


def spawns(*steps):
    many = st.lists(st.one_of(*steps), min_size=1, max_size=4)
    return st.tuples(st.just("spawn"), st.integers(1, 5), many, timeouts)


cancels = st.tuples(st.just("cancel"), indices, st.sampled_from([None, "message"]))
ticks = st.tuples(st.just("tick"), st.sampled_from([1, 1, 2]))
begins = st.tuples(st.just("by_hand"), st.sampled_from(["wait", "__aenter__"]), st.just(True))
hands = st.tuples(
    st.just("by_hand"),
    st.sampled_from(["wait", "__aenter__", "__aexit__", "reset", "abort"]),
    st.just(False),
)
sends = st.tuples(st.just("drive"), indices, st.just("send"))
endings = [
    st.tuples(
        st.just("drive"),
        indices,
        st.just("throw"),
        st.sampled_from([KeyError, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt]),
    ),
    st.tuples(st.just("drive"), indices, st.just("close")),
    st.tuples(st.just("cancel_by_hand"), indices),
]
if sys.implementation.name == "cpython":
    endings.append(st.tuples(st.just("drop"), indices))
resets, aborts, sleeps = st.just(("reset",)), st.just(("abort",)), st.just(("sleep",))


def lists(*operations):
    # By default hypothesis makes short lists, in which little happens.
    return st.integers(1, 40).flatmap(
        lambda size: st.lists(st.one_of(*operations), min_size=size, max_size=size)
    )


by_tasks = [spawns(waits), spawns(waits, others), ticks, cancels, cancels]
by_hand = [begins, begins, begins, hands, sends, sends, st.one_of(endings), st.one_of(endings)]
programs = st.one_of(
    lists(*by_tasks, sleeps),
    lists(*by_tasks, resets, aborts),
    lists(*by_hand, spawns(waits), ticks, cancels, resets),
    lists(*by_tasks, *by_hand, resets, aborts, resets, sleeps),
)
parties = st.sampled_from([2, 3, 4, 1])


@pytest.fixture(scope="module", autouse=True)
def frozen():
    """Undo conftest's freeze: hypothesis uses the collector to find referrers of its objects."""
    if hasattr(gc, "unfreeze"):
        gc.unfreeze()


def checked(request, share=1):
    return settings(
        max_examples=max(1, int(request.config.getoption("schedules") * share)),
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.timeout(0)  # the time depends on --schedules
def test_the_barriers_do_what_the_model_predicts(request):
    @checked(request)
    @given(parties, programs)
    def check(parties, program):
        for implementation in OURS.values():
            trace(implementation.Barrier, parties, program)

    check()


# ---- The model and its driver can fail ----

GENERATION = [("spawn", 1, ["wait"]), ("spawn", 1, ["with"]), ("spawn", 1, ["task"]), ("tick", 4)]
DISTURBANCES = [
    *GENERATION[:2],
    ("tick", 2),
    ("cancel", 0, "message"),
    ("tick", 1),
    ("by_hand", "wait", False),
    ("drive", 0, "send"),
    ("reset",),
    ("drive", 0, "send"),
    ("tick", 2),
    ("abort",),
    *GENERATION,
    ("reset",),
    ("spawn", 1, ["timeout"]),
    ("tick", 4),
    *GENERATION,
]
INDEX_GIVEN_TWICE = [
    *GENERATION[:2],
    ("tick", 1),
    ("cancel", 0, None),
    ("tick", 1),
    *GENERATION[:2],
    ("tick", 2),
]


class IgnoresReset(asyncio.Barrier):
    async def reset(self):
        pass


class IgnoresAbort(asyncio.Barrier):
    async def abort(self):
        pass


class ActsAtTheCall(asyncio.Barrier):
    def reset(self):
        super().reset().close()
        self._state = type(self._state).FILLING
        return asyncio.sleep(0)


class TakesAnotherStep(asyncio.Barrier):
    async def wait(self):
        try:
            return await super().wait()
        finally:
            await asyncio.sleep(0)


class CountsDown(asyncio.Barrier):
    async def wait(self):
        return self.parties - 1 - await super().wait()


class WakesTheLastFirst(asyncio.Barrier):
    async def _release(self):
        self._cond._waiters.reverse()
        await super()._release()


class ForgetsTheCancelled(asyncio.Barrier):
    async def wait(self):
        try:
            return await super().wait()
        except asyncio.CancelledError:
            self._count += 1
            raise


@pytest.mark.parametrize("program", [GENERATION, DISTURBANCES])
def test_the_model_accepts_a_correct_barrier(Barrier, program):
    """asyncio's is correct too, as long as no wait() is cancelled or blocked."""
    seen = trace(Barrier, 3, program)
    assert seen == trace(Barrier, 3, program)
    assert (("task 0, step 0", "ran", ()), ("returned", 0)) in seen or program is DISTURBANCES


@pytest.mark.parametrize(
    ("wrong", "program"),
    [
        (IgnoresReset, DISTURBANCES),
        (IgnoresAbort, DISTURBANCES),
        (ActsAtTheCall, DISTURBANCES),
        (TakesAnotherStep, GENERATION),
        (CountsDown, GENERATION),
        (WakesTheLastFirst, GENERATION),
        (ForgetsTheCancelled, DISTURBANCES),
        (asyncio.Barrier, INDEX_GIVEN_TWICE),
    ],
)
def test_the_model_rejects_a_wrong_barrier(wrong, program):
    with pytest.raises(AssertionError, match="expected"):
        trace(wrong, 3, program)


# ---- Undisturbed: compared with asyncio ----


def undisturbed(barrier_class, parties, bursts):
    """Return the groups that were released together, with indices, and the state after each burst.

    A burst is a number of tasks that start together, and how often each passes the barrier, after
    random pauses. The next burst starts when no task can run any more.
    """
    groups, left = [[]], []

    async def main():
        barrier = barrier_class(parties)

        async def come(name, how, times):
            for time in range(times):
                if how == "with":
                    async with barrier as index:
                        released(name, index)
                else:
                    released(name, await barrier.wait())
                await asyncio.sleep(1 + random.Random(f"{name}, {time}").random())

        def released(name, index):
            groups[-1].append((index, name))
            if len(groups[-1]) == parties:
                groups.append([])

        tasks = []
        for count, times in bursts:
            for _ in range(count):
                how = ("with", "wait")[len(tasks) % 2]
                tasks.append(asyncio.create_task(come(len(tasks), how, times)))
            await asyncio.sleep(100)
            left.append((len(groups), barrier.n_waiting, repr(barrier).rpartition(" [")[2]))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with asyncio.Runner(loop_factory=Clockwork) as runner:
        runner.run(main())
    assert groups[-1] == []
    return [sorted(group) for group in groups], left


bursts = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3)), min_size=1, max_size=8)


@pytest.mark.timeout(0)  # the time depends on --schedules
def test_undisturbed_they_do_what_asyncio_does(request):
    @checked(request, 0.1)
    @given(parties, bursts)
    def check(parties, bursts):
        expected = undisturbed(asyncio.Barrier, parties, bursts)
        for name, implementation in OURS.items():
            assert undisturbed(implementation.Barrier, parties, bursts) == expected, name

    check()
