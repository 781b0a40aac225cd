"""Random programs on both our barriers, compared at every step with a model of what they promise.

asyncio's Barrier cannot be the oracle of these: who comes while it lets in those that were blocked
passes them, and after a cancelled wait() it gives an index twice. So the model below says how each
wait() ends, and in which iteration of the loop. It is no barrier: nobody waits at it. Where nothing
disturbs the tasks, ours are also compared with asyncio's.

A program is a list of operations. A driver task carries them out one after the other, on tasks
and on awaitables that it drives by hand. What happens is told to the model, and written down beside
what the model expected. Time is the loop's own, so that a trace repeats exactly.

`pytest tests/test_barrier_schedules.py --schedules 100000` runs more than the suite does.
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
    """A wait() that has begun, as the model knows it."""

    def __init__(self, name, is_cancelled, by_hand=False):
        self.name = name
        self.is_cancelled = is_cancelled  # whether somebody cancelled what it waits on
        self.by_hand = by_hand
        self.index = None
        self.woken = None  # in which iteration of the loop


class Model:
    """What a barrier must do: a state, and who stands where. It is told what happens.

    Whoever waits is in one of three lists, in order of arrival, until the task has run and is gone.
    Who is cancelled while the barrier fills is a party until it has run, or until the barrier trips
    or is broken: it takes up an index, and nobody waits for it to leave.
    """

    def __init__(self, parties, loop):
        self.parties = parties
        self.loop = loop
        self.state = "filling"
        self.inside = []  # parties of the filling, or woken and not gone
        self.blocked = []  # those who came before the others had left
        self.aborted = []  # those whom abort() found blocked
        self.refilling = False  # those blocked are to be let in in the next iteration
        self.order = []  # those woken, in order, who are not gone

    def wake(self, waiters):
        """Wake those that aren't cancelled, and return them."""
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
        """wait() is called and awaited. Returns the outcome, or WAITS."""
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
        """What a wait() does whose task runs again. Returns its outcome."""
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
        """Let in those that are blocked and not cancelled, as many as make it trip."""
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
    """An awaitable of the barrier's that the driver drives."""

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
        # Those woken by hand run when the driver says; a task, in the next iteration.
        before = self.loop.iteration - 1
        late = [w.name for w in self.model.order if not w.by_hand and w.woken < before]
        self.note("late", late, [])
        for hand in self.hands:
            if hand.state == "parked":
                expected = hand.waiter.woken is not None or hand.waiter.is_cancelled()
                self.note((hand.waiter.name, "done"), hand.parked_on[0].done(), expected)

    # What a task does.

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

    # What the driver does.

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
            outcome = None  # whatever the barrier does
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
        """All leave, and the barrier does its work as if new."""
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
kills = [
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
    kills.append(st.tuples(st.just("drop"), indices))
resets, aborts, sleeps = st.just(("reset",)), st.just(("abort",)), st.just(("sleep",))


def lists(*operations):
    # Left to itself, hypothesis makes short lists, in which little can happen.
    return st.integers(1, 40).flatmap(
        lambda size: st.lists(st.one_of(*operations), min_size=size, max_size=size)
    )


by_tasks = [spawns(waits), spawns(waits, others), ticks, cancels, cancels]
by_hand = [begins, begins, begins, hands, sends, sends, st.one_of(kills), st.one_of(kills)]
programs = st.one_of(
    lists(*by_tasks, sleeps),
    lists(*by_tasks, resets, aborts),
    lists(*by_hand, spawns(waits), ticks, cancels, resets),
    lists(*by_tasks, *by_hand, resets, aborts, resets, sleeps),
)
parties = st.sampled_from([2, 3, 4, 1])


@pytest.fixture(scope="module", autouse=True)
def frozen():
    """Nothing is here: hypothesis asks the collector what refers to its own objects."""
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


@pytest.mark.timeout(0)  # it takes as long as --schedules asks
def test_ours_do_what_the_model_says(request):
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


class DeafToReset(asyncio.Barrier):
    async def reset(self):
        pass


class DeafToAbort(asyncio.Barrier):
    async def abort(self):
        pass


class ActsAtTheCall(asyncio.Barrier):
    def reset(self):
        super().reset().close()
        self._state = type(self._state).FILLING
        return asyncio.sleep(0)


class TakesAStepMore(asyncio.Barrier):
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
def test_the_model_accepts_what_is_right(Barrier, program):
    """asyncio's too, as long as neither a cancelled nor a blocked wait() comes into it."""
    seen = trace(Barrier, 3, program)
    assert seen == trace(Barrier, 3, program)
    assert (("task 0, step 0", "ran", ()), ("returned", 0)) in seen or program is DISTURBANCES


@pytest.mark.parametrize(
    ("wrong", "program"),
    [
        (DeafToReset, DISTURBANCES),
        (DeafToAbort, DISTURBANCES),
        (ActsAtTheCall, DISTURBANCES),
        (TakesAStepMore, GENERATION),
        (CountsDown, GENERATION),
        (WakesTheLastFirst, GENERATION),
        (ForgetsTheCancelled, DISTURBANCES),
        (asyncio.Barrier, INDEX_GIVEN_TWICE),
    ],
)
def test_the_model_tells_a_wrong_barrier(wrong, program):
    with pytest.raises(AssertionError, match="expected"):
        trace(wrong, 3, program)


# ---- Undisturbed: asyncio's own ----


def undisturbed(barrier_class, parties, bursts):
    """Who is released together, with which index, and what is left in between.

    Each burst is a number of tasks that come at once, and pass the barrier so many times, each at
    a time of its own. The next burst comes when nobody can run any more.
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


@pytest.mark.timeout(0)  # it takes as long as --schedules asks
def test_undisturbed_ours_do_what_asyncios_does(request):
    @checked(request, 0.1)
    @given(parties, bursts)
    def check(parties, bursts):
        expected = undisturbed(asyncio.Barrier, parties, bursts)
        for name, implementation in OURS.items():
            assert undisturbed(implementation.Barrier, parties, bursts) == expected, name

    check()
