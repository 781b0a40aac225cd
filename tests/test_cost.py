"""What it costs: the size of each primitive, and how the work grows with the number of waiters.

Every scenario below is linear here, and the square of the number of waiters in asyncio. Two figures
show it. The first is the number of calls of the waiters' futures: it is the same on every run, and
whatever searches a queue of asyncio's makes such calls. The second is CPU time, for a search that
no future sees, such as one along the links of a compiled queue.
"""

import asyncio
import contextlib
import functools
import gc
import random
import sys
import time

import pytest
from conftest import IMPLEMENTATIONS, OURS
from helpers import abandon, finish, parked


@pytest.mark.skipif("compiled" not in OURS, reason="needs the compiled implementation")
@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("Lock", 96),
        ("Event", 96),
        ("Semaphore", 96),
        ("BoundedSemaphore", 104),
        ("Condition", 96),  # and a Lock
        ("Barrier", 112),
    ],
)
def test_size(name, most):
    arguments = [10] if name == "Barrier" else []
    assert sys.getsizeof(getattr(OURS["compiled"], name)(*arguments)) <= most


# ---- Meters ----


def counted(name):
    method = getattr(asyncio.Future, name)

    def call(self, *arguments):
        self.get_loop().calls += 1
        return method(self, *arguments)

    return call


# What a queue can call of a future that is in it, comparisons included.
CountedFuture = type(
    "CountedFuture",
    (asyncio.Future,),
    {
        name: counted(name)
        for name in ("__eq__", "__hash__", "cancelled", "done", "exception", "set_result")
    },
)


class CountingLoop(asyncio.SelectorEventLoop):
    calls = 0

    def create_future(self):
        return CountedFuture(loop=self)


class Calls:
    loop = CountingLoop
    spent = 0

    @staticmethod
    def read():
        return asyncio.get_running_loop().calls


class CPUTime:
    """Of this process, in nanoseconds, so that it matters little what else the machine does."""

    loop = asyncio.SelectorEventLoop
    spent = 0
    read = staticmethod(time.process_time_ns)


@contextlib.contextmanager
def measured(meter):
    gc.disable()
    start = meter.read()
    try:
        yield
    finally:
        meter.spent += meter.read() - start
        gc.enable()


def cost(Meter, scenario, count, times=1):
    """The cost of a scenario with `count` waiters, so many times."""
    meter = Meter()
    for _ in range(times):
        with asyncio.Runner(loop_factory=meter.loop) as runner:
            runner.run(scenario(count=count, meter=meter))
    return meter.spent


# ---- Scenarios ----


async def park_many(namespace, name, count):
    """Return a primitive, and `count` awaitables that are parked at it.

    They are driven by hand: the cost of tasks grows with the processor's cache misses.
    """
    arguments = {"Semaphore": [0], "Barrier": [count + 1]}.get(name, [])
    primitive = getattr(namespace, name)(*arguments)
    wait = primitive.acquire if name in ("Lock", "Semaphore") else primitive.wait
    if name == "Lock":
        await primitive.acquire()
    waiters = []
    for _ in range(count):
        if name == "Condition":
            await primitive.acquire()
        waiters.append(wait())
        waiters[-1].send(None)
    if name == "Condition":
        await primitive.acquire()
    return primitive, waiters


async def leave(namespace, name, step, *, count, meter):
    """All waiters leave the queue, the last or every second one first."""
    primitive, waiters = await park_many(namespace, name, count)
    leaving = waiters[::step] + waiters[1::2] * (step == 2)
    with measured(meter):
        for waiter in leaving:
            if name == "Condition":
                primitive.release()  # a waiter that leaves takes the lock back
            waiter.close()
    assert not getattr(primitive, "_cond", primitive)._waiters  # asyncio's Barrier has a _cond


WAKE = {
    "Event": lambda event: (event.set(), event.clear()),
    "Semaphore": lambda semaphore: semaphore.release(),
    "Condition": lambda condition: condition.notify(),
}


async def wake(namespace, name, *, count, meter):
    """There are as many wake-ups as waiters, before any waiter has run."""
    primitive, waiters = await park_many(namespace, name, count)
    with measured(meter):
        for _ in waiters:
            WAKE[name](primitive)
    assert all(future.done() for future in primitive._waiters)
    for waiter in waiters:
        if name == "Condition":
            primitive.release()
        with contextlib.suppress(StopIteration):
            waiter.send(None)
    assert not primitive._waiters


async def meet(namespace, *, count, meter):
    """Pairs meet at a barrier, while all others that have come wait for their turn."""
    barrier = namespace.Barrier(2)
    tasks = [asyncio.create_task(barrier.wait()) for _ in range(count)]
    with measured(meter):
        indices = await asyncio.gather(*tasks)
    assert sum(indices) == count / 2


async def pass_cancelled(namespace, *, count, meter):
    """Newcomers pass a queue of cancelled waiters, again and again, within one iteration."""
    lock = namespace.Lock()
    await lock.acquire()
    tasks = [asyncio.create_task(lock.acquire()) for _ in range(count)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    lock.release()
    with measured(meter):
        for _ in range(count):
            await lock.acquire()
            lock.release()
    await asyncio.wait(tasks)


SCENARIOS = [
    *[
        (leave, name, step)
        for name in ("Lock", "Event", "Semaphore", "Condition", "Barrier")
        for step in (-1, 2)
    ],
    *[(wake, name) for name in WAKE],
    (meet,),
    (pass_cancelled,),
]


def scenario_of(namespace, function, *arguments):
    return functools.partial(function, namespace, *arguments)


def title(scenario):
    function, *arguments = scenario
    return "-".join([function.__name__, *map(str, arguments)])


# ---- Growth ----


@pytest.mark.parametrize("scenario", SCENARIOS, ids=title)
def test_calls_grow_in_proportion_but_for_asyncios(implementation, scenario):
    scenario = scenario_of(IMPLEMENTATIONS[implementation], *scenario)
    few, many = cost(Calls, scenario, 50) / 50, cost(Calls, scenario, 400) / 400
    in_proportion = many <= 2 * few  # the square makes it 8 times
    message = f"calls per waiter: {few:.2f} of 50, {many:.2f} of 400"
    assert in_proportion is (implementation != "asyncio"), message


# As many waiters at once as 64 times a few. The square takes up to 64 times as long; what is in
# proportion takes less than twice as long, cache misses included.
FEW, MANY, LIMIT = 128, 8_192, 16


def times_of(scenario, tries):
    """CPU times, in nanoseconds per waiter. What spoils a measurement makes it longer."""
    few = cost(CPUTime, scenario, FEW, MANY // FEW) / MANY
    many = min(cost(CPUTime, scenario, MANY) for _ in range(tries)) / MANY
    return few, many, f"CPU time per waiter: {few:.0f} ns of {FEW}, {many:.0f} ns of {MANY}"


fine_clock = pytest.mark.skipif(sys.platform == "win32", reason="CPU time is counted in 1/64 s")


@fine_clock
@pytest.mark.parametrize("scenario", SCENARIOS, ids=title)
def test_cpu_time_grows_in_proportion(our_name, scenario):
    few, many, message = times_of(scenario_of(OURS[our_name], *scenario), tries=3)
    assert many < LIMIT * few, message


@fine_clock
@pytest.mark.skipif(
    sys.implementation.name != "cpython", reason="PyPy spends more time on compiling than on this"
)
def test_cpu_time_tells_of_a_search():
    few, many, message = times_of(scenario_of(asyncio, leave, "Lock", -1), tries=1)
    assert many > LIMIT * few, message


# ---- RWLock ----


async def let_in_at_once(lock, count):
    finish(lock.writer_lock.acquire())
    readers = [parked(lock.reader_lock.acquire())[0] for _ in range(count)]
    lock.writer_lock.release()
    for reader in readers:
        finish(reader)
    for _ in readers:
        lock.reader_lock.release()


async def cancelled_at_random(lock, count):
    finish(lock.writer_lock.acquire())
    sides = [lock.reader_lock, lock.writer_lock] * (count // 2)
    waiters = [parked(side.acquire())[0] for side in sides]
    random.Random(1).shuffle(waiters)
    for waiter in waiters:
        abandon(waiter, "cancel")
    lock.writer_lock.release()


async def released_past_cancelled_ones(lock, count):
    """Each cancelled writer is looked at once, whoever comes."""
    finish(lock.reader_lock.acquire())
    writers = [parked(lock.writer_lock.acquire()) for _ in range(count)]
    for _, future in writers:
        future.cancel()
    for _ in writers:
        assert lock.reader_lock.try_acquire()
    for writer, _ in writers:
        abandon(writer, "cancel")
        lock.reader_lock.release()
    lock.reader_lock.release()


@pytest.mark.parametrize(
    "scenario", [let_in_at_once, cancelled_at_random, released_past_cancelled_ones]
)
def test_the_cost_of_an_rwlock_is_linear(OurRWLock, scenario):
    def calls(count):
        async def main():
            lock = OurRWLock()
            await scenario(lock, count)
            assert lock.writer_lock.try_acquire()
            return asyncio.get_running_loop().calls

        with asyncio.Runner(loop_factory=CountingLoop) as runner:
            return runner.run(main())

    assert calls(2000) < 2.2 * calls(1000)
