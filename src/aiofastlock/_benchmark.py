"""Workloads, and how they are measured: for `python -m aiofastlock` and for benchmarks/.

It needs nothing but Python.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import platform
import random
import sysconfig
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter, perf_counter_ns
from types import CodeType, FunctionType
from typing import Any

import aiofastlock

# A workload gets a primitive's class, a number of passes, and perhaps other sizes. It returns what
# all the passes cost together: nanoseconds or bytes.
Workload = Callable[..., Coroutine[Any, Any, int]]


@dataclass(frozen=True)
class Row:
    name: str
    workload: Workload
    primitive: str
    unit: str
    seconds: float
    sizes: dict[str, int]


ROWS: list[Row] = []


def row(
    name: str, primitive: str, *, unit: str = "ns", seconds: float = 1.5, **sizes: int
) -> Callable[[Workload], Workload]:
    """Put a workload into the table; of several rows, the lowest comes first.

    `sizes` are its arguments: passes, and what else it takes.
    """

    def add(workload: Workload) -> Workload:
        ROWS.append(Row(name, workload, primitive, unit, seconds, sizes))
        return workload

    return add


# ---- Measuring ----


def own_copy(workload: Any, renamed: Mapping[str, str] | None = None) -> Workload:
    """Return the same function with code objects of its own, nested functions' included.

    The interpreter specialises a code object for what has run through it: two implementations that
    share one slow each other down. Methods that a library calls by another name can be renamed in
    the copy, which costs nothing when it runs.
    """
    names = renamed or {}

    def copy(code: CodeType) -> CodeType:
        constants = (copy(c) if isinstance(c, CodeType) else c for c in code.co_consts)
        called = (names.get(name, name) for name in code.co_names)
        return code.replace(co_consts=tuple(constants), co_names=tuple(called))

    code = copy(workload.__code__)
    return FunctionType(code, workload.__globals__, workload.__name__, workload.__defaults__)


async def watched(workload: Coroutine[Any, Any, int]) -> int:
    """Run a workload; if it never ends, since a lock lost a turn, raise CancelledError in it."""
    task: Any = asyncio.current_task()
    loop = asyncio.get_running_loop()
    # A thread, since a timer of the loop's would be looked at in every step that is measured.
    because = "not done after a minute: a turn was lost"
    watchdog = threading.Timer(60, loop.call_soon_threadsafe, [task.cancel, because])
    watchdog.daemon = True
    watchdog.start()
    try:
        return await workload
    finally:
        watchdog.cancel()


def measure(
    runner: asyncio.Runner,
    contestants: Sequence[tuple[Workload, Any]],
    seconds: float,
    **sizes: Any,
) -> list[list[float]]:
    """Return what one pass cost each contestant in each of many short rounds, taken in turn."""
    contestants = [(own_copy(workload), primitive) for workload, primitive in contestants]
    costs: list[list[float]] = [[] for _ in contestants]
    end = perf_counter() + seconds
    gc.disable()
    try:
        while len(costs[0]) < 3 or perf_counter() < end:
            for (workload, primitive), cost in zip(contestants, costs, strict=True):
                gc.collect()
                total = runner.run(watched(workload(primitive, **sizes)))
                cost.append(total / sizes["passes"])
    finally:
        gc.enable()
    return costs


def require(condition: object, failure: str) -> None:
    if not condition:
        raise RuntimeError(failure)


def is_locked(lock: Any, *, unknown: bool) -> bool:
    """Ask a lock whether it is locked. Not every library's semaphore can tell."""
    return lock.locked() if hasattr(lock, "locked") else unknown


async def require_exclusion(lock: Any) -> None:
    """Raise unless the lock keeps the others out while it is held, and then lets each one in."""
    if not getattr(lock, "excludes", True):  # a floor, which only looks like a lock
        return
    inside = entered = 0

    async def enter() -> None:
        nonlocal inside, entered
        async with lock:
            inside += 1
            entered += 1
            require(inside == 1 and is_locked(lock, unknown=True), "two tasks are inside a lock")
            await asyncio.sleep(0)
            inside -= 1

    async with lock:
        tasks = [asyncio.create_task(enter()) for _ in range(3)]
        await asyncio.sleep(0)
        require(not entered, "a task entered a lock that another holds")
    await asyncio.gather(*tasks)
    require(entered == 3 and not is_locked(lock, unknown=False), "a lock was not released")


async def require_permits(
    acquire: Callable[[], Coroutine[Any, Any, Any]], release: Callable[[], None], permits: int
) -> None:
    """Raise unless a semaphore lets in so many and no more."""
    tasks = [asyncio.create_task(acquire()) for _ in range(permits + 1)]
    for _ in range(3):  # some libraries' acquire() takes more than one step
        await asyncio.sleep(0)
    acquired = sum(task.done() for task in tasks)
    require(acquired == permits, "a permit was lost or made")
    release()
    await asyncio.gather(*tasks)


# ---- The rows ----
# What excludes is put to require_exclusion() when the clock has stopped.


@row("async with condition", "Condition", passes=8_000)
@row("async with bounded semaphore", "BoundedSemaphore", passes=8_000)
@row("async with semaphore", "Semaphore", passes=8_000)
@row("async with lock", "Lock", passes=8_000)
async def enter_and_leave(primitive: Any, passes: int) -> int:
    lock = primitive()
    counted = 0
    start = perf_counter_ns()
    for _ in range(passes // 4):  # four in a row, so that the loop and the count weigh little
        async with lock:
            pass
        async with lock:
            pass
        async with lock:
            pass
        async with lock:
            counted += 4
    elapsed = perf_counter_ns() - start
    require(counted == passes and not is_locked(lock, unknown=False), "a lock was not released")
    await require_exclusion(lock)
    return elapsed


@row("semaphore: acquire(), release()", "Semaphore", passes=16_000)
@row("lock: acquire(), release()", "Lock", passes=16_000)
async def acquire_and_release(primitive: Any, passes: int) -> int:
    lock = primitive()
    acquired = 0
    start = perf_counter_ns()
    for _ in range(passes // 4):
        await lock.acquire()
        lock.release()
        await lock.acquire()
        lock.release()
        await lock.acquire()
        lock.release()
        if await lock.acquire() is not False:  # anyio's give None
            acquired += 4
        lock.release()
    elapsed = perf_counter_ns() - start
    require(acquired == passes, "a lock was not acquired")
    require(not is_locked(lock, unknown=False), "a lock was not released")
    await require_exclusion(lock)
    return elapsed


@row("event: wait() when set", "Event", passes=16_000)
async def wait_when_set(primitive: Any, passes: int) -> int:
    event = primitive()
    event.set()
    waited = 0
    start = perf_counter_ns()
    for _ in range(passes // 4):
        await event.wait()
        await event.wait()
        await event.wait()
        if await event.wait() is not False:
            waited += 4
    elapsed = perf_counter_ns() - start
    require(waited == passes, "an event that is set was not waited for")
    return elapsed


@row("lock: hand-off among 100 tasks", "Lock", passes=3_000, tasks=100)
@row("lock: hand-off between 2 tasks", "Lock", passes=3_000, tasks=2)
async def hand_off(primitive: Any, passes: int, tasks: int) -> int:
    """All the tasks are parked when the clock starts, so every acquire is a hand-off."""
    lock = primitive()
    entered: list[int] = []

    async def take_turns(number: int) -> None:
        for _ in range(passes // tasks):
            async with lock:
                entered.append(number)

    await lock.acquire()
    everybody = asyncio.gather(*[take_turns(number) for number in range(tasks)])
    await asyncio.sleep(0)
    require(not entered, "a task entered a lock that another holds")
    start = perf_counter_ns()
    lock.release()
    await everybody
    elapsed = perf_counter_ns() - start
    in_turn = list(range(tasks)) * (passes // tasks)
    require(entered == in_turn, "a task took a turn that was not its own, or lost one")
    await require_exclusion(lock)
    return elapsed


@row("condition: notify, 2 tasks", "Condition", passes=3_000)
async def notify(primitive: Any, passes: int) -> int:
    """Each pass, a task notifies the other and waits for it in turn."""
    condition = primitive()
    notified: list[int] = []

    async def take_turns(number: int) -> None:
        async with condition:
            for _ in range(passes // 2):
                await condition.wait()
                notified.append(number)
                condition.notify()

    both = asyncio.gather(take_turns(0), take_turns(1))
    await asyncio.sleep(0)
    start = perf_counter_ns()
    async with condition:
        condition.notify()
    await both
    elapsed = perf_counter_ns() - start
    require(notified == [0, 1] * (passes // 2), "a notification was lost")
    await require_exclusion(condition)
    return elapsed


@row("event: broadcast to 1,000 tasks, each", "Event", seconds=1.5, passes=5_000, tasks=1_000)
async def broadcast(primitive: Any, passes: int, tasks: int) -> int:
    event = primitive()
    woken = 0

    async def wait_again_and_again() -> None:
        nonlocal woken
        for _ in range(passes // tasks):
            await event.wait()
            woken += 1

    everybody = [asyncio.create_task(wait_again_and_again()) for _ in range(tasks)]
    await asyncio.sleep(0)
    start = perf_counter_ns()
    for _ in range(passes // tasks):
        event.set()
        event.clear()
        await asyncio.sleep(0)
    elapsed = perf_counter_ns() - start
    await asyncio.gather(*everybody)
    require(woken == passes, "a task was not woken, or more than once")
    return elapsed


@row("barrier of 10: a wait", "Barrier", passes=3_000, parties=10)
async def meet(primitive: Any, passes: int, parties: int) -> int:
    barrier = primitive(parties)
    indices = 0

    async def meet_again_and_again() -> None:
        nonlocal indices
        for _ in range(passes // parties):
            index = await barrier.wait()
            indices += index

    start = perf_counter_ns()
    await asyncio.gather(*[meet_again_and_again() for _ in range(parties)])
    elapsed = perf_counter_ns() - start
    require(indices == passes // parties * sum(range(parties)), "an index was given twice")
    return elapsed


@row("Condition()", "Condition", seconds=0.4, passes=10_000)
@row("Event()", "Event", seconds=0.4, passes=10_000)
@row("Lock()", "Lock", seconds=0.4, passes=10_000)
async def create(primitive: Any, passes: int) -> int:
    start = perf_counter_ns()
    for _ in range(passes):
        primitive()
    return perf_counter_ns() - start


def rearrange(tasks: list[asyncio.Task[None]], order: str) -> None:
    """Put them, which stand as they came, into the order in which they are cancelled."""
    if order == "LIFO":
        tasks.reverse()
    elif order == "random":
        random.Random(len(tasks)).shuffle(tasks)
    else:
        require(order == "FIFO", f"no such order: {order}")


async def cancel_all(tasks: list[asyncio.Task[None]], order: str) -> int:
    """Cancel tasks in an order, and return the nanoseconds until the last one has ended."""
    rearrange(tasks, order)
    start = perf_counter_ns()
    for task in tasks:
        task.cancel()
    while not task.done():  # they end in the order in which they were cancelled
        await asyncio.sleep(0)
    return perf_counter_ns() - start


@row("lock: cancelling one of 5,000 waiters", "Lock", seconds=1.5, passes=5_000)
async def cancel(primitive: Any, passes: int, order: str = "random") -> int:
    lock = primitive()
    entered = 0

    async def enter() -> None:
        nonlocal entered
        async with lock:
            entered += 1

    await lock.acquire()
    tasks = [asyncio.create_task(enter()) for _ in range(passes)]
    await asyncio.sleep(0)
    elapsed = await cancel_all(tasks, order)
    require(all(task.cancelled() for task in tasks), "a waiter was not cancelled")
    require(not entered, "a task entered a lock that another holds")
    lock.release()
    await require_exclusion(lock)
    return elapsed


@row("semaphore: one of 5,000 release() in a row", "Semaphore", seconds=1.5, passes=5_000)
async def release_in_a_row(primitive: Any, passes: int) -> int:
    semaphore = primitive(0)
    everybody = [asyncio.create_task(semaphore.acquire()) for _ in range(passes)]
    await asyncio.sleep(0)
    start = perf_counter_ns()
    for _ in range(passes):
        semaphore.release()
    elapsed = perf_counter_ns() - start
    await asyncio.gather(*everybody)
    await require_permits(semaphore.acquire, semaphore.release, 0)
    return elapsed


@row("condition: one of 5,000 notify() in a row", "Condition", seconds=1.5, passes=5_000)
async def notify_in_a_row(primitive: Any, passes: int) -> int:
    condition = primitive()
    notified = 0

    async def wait() -> None:
        nonlocal notified
        async with condition:
            await condition.wait()
            notified += 1

    everybody = [asyncio.create_task(wait()) for _ in range(passes)]
    await asyncio.sleep(0)
    async with condition:
        start = perf_counter_ns()
        for _ in range(passes):
            condition.notify()
        elapsed = perf_counter_ns() - start
    await asyncio.gather(*everybody)
    require(notified == passes, "a notification was lost")
    return elapsed


@row("semaphore: a task of 5,000 in a TaskGroup that fails", "Semaphore", seconds=1.5, passes=5_000)
async def fail(primitive: Any, passes: int) -> int:
    semaphore = primitive(10)
    entered = 0

    async def enter() -> None:
        nonlocal entered
        async with semaphore:
            entered += 1
            await asyncio.sleep(60)

    start = 0
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(passes):
                group.create_task(enter())
            await asyncio.sleep(0)
            start = perf_counter_ns()
            raise ZeroDivisionError
    except* ZeroDivisionError:
        elapsed = perf_counter_ns() - start
    require(entered <= 10, "a task was let in by a permit that there is not")
    await require_permits(semaphore.acquire, semaphore.release, 10)
    return elapsed


@row("a barrier", "Barrier", unit="bytes", seconds=0, passes=1_000, parties=10)
@row("a condition", "Condition", unit="bytes", seconds=0, passes=1_000)
@row("a semaphore", "Semaphore", unit="bytes", seconds=0, passes=1_000)
@row("an event", "Event", unit="bytes", seconds=0, passes=1_000)
@row("a lock", "Lock", unit="bytes", seconds=0, passes=1_000)
async def size(primitive: Any, passes: int, **arguments: int) -> int:
    tracemalloc = importlib.import_module("tracemalloc")  # which PyPy does not have
    made: list[Any] = [None] * passes
    tracemalloc.start()
    for number in range(passes):
        made[number] = primitive(*arguments.values())
        if primitive.__name__ == "Condition":
            made[number].locked()  # has its lock, which ours makes when it is needed
    total: int = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return total


@row("a barrier's waiter *", "Barrier", unit="bytes", seconds=0, passes=1_000)
@row("a condition's waiter *", "Condition", unit="bytes", seconds=0, passes=1_000)
@row("a semaphore's waiter *", "Semaphore", unit="bytes", seconds=0, passes=1_000)
@row("an event's waiter *", "Event", unit="bytes", seconds=0, passes=1_000)
@row("a lock's waiter *", "Lock", unit="bytes", seconds=0, passes=1_000)
async def waiter_size(primitive: Any, passes: int) -> int:
    tracemalloc = importlib.import_module("tracemalloc")
    kind = primitive.__name__
    one = primitive(*{"Semaphore": [0], "Barrier": [passes + 1]}.get(kind, []))
    gone_on = 0

    async def wait_on_one() -> None:
        nonlocal gone_on
        if kind in ("Lock", "Semaphore"):
            async with one:
                pass
        elif kind == "Condition":
            async with one:
                await one.wait()
        else:
            await one.wait()
        gone_on += 1

    async def wait_on_future() -> None:
        await asyncio.get_running_loop().create_future()

    async def park(wait: Callable[[], Coroutine[Any, Any, None]]) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(wait()) for _ in range(passes)]
        await asyncio.sleep(0)
        return tasks

    if kind == "Lock":
        await one.acquire()
    bare = await park(wait_on_future)  # takes what free lists of tasks and futures hold
    tracemalloc.start()
    bare += await park(wait_on_future)
    of_futures: int = tracemalloc.get_traced_memory()[0]
    waiters = await park(wait_on_one)
    of_both: int = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    require(not gone_on, "a task went on that has to wait")
    if kind in ("Lock", "Semaphore"):
        one.release()
    elif kind == "Event":
        one.set()
    elif kind == "Condition":
        async with one:
            one.notify_all()
    else:
        await one.wait()
    await asyncio.gather(*waiters)
    require(gone_on == passes, "a turn was lost")
    for task in bare:
        task.cancel()
    await asyncio.wait(bare)
    if kind == "Lock":
        await require_exclusion(one)
    return of_both - 2 * of_futures


# ---- The report ----


def describe_python() -> str:
    """Name this Python and, where sysconfig tells, how it was built."""
    name = f"{platform.python_implementation()} {platform.python_version()}"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        name += ", free-threaded"
    configured = sysconfig.get_config_var("CONFIG_ARGS")
    if not configured:  # PyPy, Windows
        return name
    # Debian does not configure the optimisation but asks make for it, and then removes these flags.
    stripped = not sysconfig.get_config_var("PGO_PROF_USE_FLAG")
    if sysconfig.get_config_var("Py_DEBUG"):
        return f"{name}, a debug build, which says little about speed"
    if "--enable-optimizations" in configured or stripped:
        return f"{name}, an optimised build"
    return f"{name}, built without --enable-optimizations, which flatters a C extension"


def print_environment() -> None:
    """Print what is measured and where, and why the half is pure if that was not asked for."""
    half = aiofastlock.IMPLEMENTATION
    print(f"aiofastlock {aiofastlock.__version__}, the {half} half, on {describe_python()}")
    if half == "pure" and os.environ.get("AIOFASTLOCK_EXTENSIONS") != "0":
        try:
            importlib.import_module("aiofastlock._lock")
        except ImportError as error:
            print(f"\n*** THE COMPILED HALF IS NOT IN USE: {error} ***")


def print_table() -> None:
    """Compare with asyncio, row by row: the best of each."""
    width = max(len(row.name) for row in ROWS)
    print(f"\n{'':{width}}  {'asyncio':>12}  {'aiofastlock':>12}  {'ratio':>7}", flush=True)
    libraries = (asyncio, aiofastlock)
    with asyncio.Runner(debug=False) as runner:
        for row in ROWS:
            contestants = [(row.workload, getattr(lib, row.primitive)) for lib in libraries]
            try:
                theirs, ours = map(min, measure(runner, contestants, row.seconds, **row.sizes))
            except ImportError as error:
                print(f"{row.name:{width}}  not measured: {error}")
                continue
            figures = "  ".join(f"{f'{x:,.0f} {row.unit}':>12}" for x in (theirs, ours))
            print(f"{row.name:{width}}  {figures}  {theirs / ours:6.1f}x", flush=True)
    print("\n* what a task that waits takes, beyond one that waits on a bare future")
