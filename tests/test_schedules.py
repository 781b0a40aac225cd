"""Random programs, whose traces on both of ours must equal asyncio's, step by step.

A program is a list of operations. A driver task carries them out one after the other, on tasks
and on awaitables that it drives by hand, and writes down what it sees; the tasks write down what
happens to them. Time is the loop's own and does not pass by itself, so a trace repeats exactly.

`pytest tests/test_schedules.py --schedules 100000` runs more than the suite does.
"""

import asyncio
import contextlib
import sys

import pytest
from conftest import OURS
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st


class Clockwork(asyncio.SelectorEventLoop):
    """A loop whose time stands still while anything can run, and then jumps to the next timer."""

    now = 0.0

    def time(self):
        return self.now

    def _run_once(self):
        timers = [handle.when() for handle in self._scheduled if not handle.cancelled()]
        if timers and not self._ready:
            self.now = max(self.now, min(timers))
        super()._run_once()


class Oracle(asyncio.Lock):
    """asyncio's, with the one fault mended: a woken waiter that dies of anything hands on."""

    async def acquire(self):
        try:
            return await super().acquire()
        except asyncio.CancelledError:
            raise
        except BaseException:
            if not self._locked:
                self._wake_up_first()
            raise


class Driver:
    def __init__(self, lock):
        self.lock = lock
        self.trace = []
        self.tasks = []
        self.coroutines = []

    def note(self, *event):
        self.trace.append(event)

    def look(self):
        extra = repr(self.lock).rpartition(" [")[2]
        waiters = self.lock._waiters
        states = None if waiters is None else [(w.done(), w.cancelled()) for w in waiters]
        self.note("look", self.lock.locked(), extra, states)

    # What a task does.

    async def hold(self, name, how, sleeps, timeout):
        try:
            if how == "with":
                async with self.lock:
                    await self.sleep_inside(name, sleeps)
            elif how == "timeout":
                async with asyncio.timeout(timeout), self.lock:
                    await self.sleep_inside(name, sleeps)
            else:
                if how == "acquire":
                    self.note(name, await self.lock.acquire())
                elif how == "wait_for":
                    self.note(name, await asyncio.wait_for(self.lock.acquire(), timeout))
                else:
                    self.note(name, await asyncio.create_task(self.lock.acquire()))
                try:
                    await self.sleep_inside(name, sleeps)
                finally:
                    self.lock.release()
        except BaseException as error:
            self.note(name, type(error).__name__, str(error))
            raise
        finally:
            self.note(name, "ends", self.lock.locked())

    async def sleep_inside(self, name, sleeps):
        self.note(name, "holds", self.lock.locked())
        for _ in range(sleeps):
            await asyncio.sleep(0)
        self.note(name, "lets go")

    # What the driver does.

    def spawn(self, how, sleeps, timeout):
        name = f"task {len(self.tasks)}"
        self.tasks.append(asyncio.create_task(self.hold(name, how, sleeps, timeout)))

    def cancel(self, index, message):
        if self.tasks:
            index %= len(self.tasks)
            self.note("cancel", index, self.tasks[index].cancel(message))

    def by_hand(self, method):
        arguments = (None, None, None) if method == "__aexit__" else ()
        self.coroutines.append([getattr(self.lock, method)(*arguments), False])

    def drive(self, index, how, argument=None):
        if not self.coroutines:
            return
        coroutine, started = entry = self.coroutines[index % len(self.coroutines)]
        try:
            if how == "send":
                entry[1] = True
                outcome = "parked", coroutine.send(argument if started else None).done()
            elif how == "throw":
                coroutine.throw(argument("thrown"))
                outcome = ("swallowed",)
            else:
                outcome = "closed", coroutine.close()
        except BaseException as error:
            outcome = type(error).__name__, str(error), getattr(error, "value", None)
        self.note(how, index, *outcome)

    def drop(self, index):
        if self.coroutines:
            coroutine, started = self.coroutines.pop(index % len(self.coroutines))
            if not started:
                coroutine.close()

    def release(self):
        try:
            self.lock.release()
        except RuntimeError as error:
            self.note("release", str(error))

    async def tick(self, count):
        for _ in range(count):
            await asyncio.sleep(0)
        self.look()

    async def run(self, program):
        for operation, *arguments in program:
            result = getattr(self, operation)(*arguments)
            if result is not None:
                await result
            self.look()
        for coroutine, _ in self.coroutines:
            coroutine.close()
        self.look()
        with contextlib.suppress(RuntimeError):
            self.lock.release()
        await asyncio.sleep(100)
        self.look()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.look()


def trace(lock_class, program):
    async def main():
        driver = Driver(lock_class())
        await driver.run(program)
        return driver.trace

    with asyncio.Runner(loop_factory=Clockwork) as runner:
        return runner.run(main())


indices = st.integers(0, 6)
spawns = st.tuples(
    st.just("spawn"),
    st.sampled_from(["with", "acquire", "wait_for", "timeout", "task"]),
    st.integers(0, 2),
    st.sampled_from([0, 1, 2]),
)
cancels = st.tuples(st.just("cancel"), indices, st.sampled_from([None, "message"]))
ticks = st.tuples(st.just("tick"), st.integers(1, 3))
hands = st.tuples(st.just("by_hand"), st.sampled_from(["acquire", "__aenter__", "__aexit__"]))
drives = st.one_of(
    st.tuples(st.just("drive"), indices, st.just("send"), st.sampled_from([None, 5])),
    st.tuples(
        st.just("drive"),
        indices,
        st.just("throw"),
        st.sampled_from([KeyError, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt]),
    ),
    st.tuples(st.just("drive"), indices, st.just("close")),
)
kills = [drives, drives, hands]
if sys.implementation.name == "cpython":
    kills.append(st.tuples(st.just("drop"), indices))
programs = st.lists(
    st.one_of(spawns, spawns, cancels, cancels, ticks, st.just(("release",)), *kills),
    min_size=1,
    max_size=40,
)


def test_a_program_by_hand_shows_something():
    """The traces say enough to tell a wrong lock from a right one."""

    class Overtaking(asyncio.Lock):
        async def acquire(self):
            if not self._locked:
                self._locked = True
                return True
            return await super().acquire()

    program = [
        ("spawn", "with", 1, 0),
        ("spawn", "with", 0, 0),
        ("tick", 2),
        ("by_hand", "acquire"),
        ("drive", 0, "send"),
        ("tick", 1),
    ]
    assert ("task 0", "holds", True) in trace(asyncio.Lock, program)
    assert trace(asyncio.Lock, program) == trace(Oracle, program)
    assert trace(asyncio.Lock, program) != trace(Overtaking, program)


@pytest.mark.timeout(0)  # it takes as long as --schedules asks
def test_traces_equal_asyncios(request):
    @settings(
        max_examples=request.config.getoption("schedules"),
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(programs)
    def check(program):
        expected = trace(Oracle, program)
        for name, implementation in OURS.items():
            assert trace(implementation.Lock, program) == expected, name

    check()
