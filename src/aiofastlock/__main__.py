"""python -m aiofastlock: which half is in use on this Python, and how it compares with asyncio."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import math
import os
import platform
import random
import sysconfig
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from time import perf_counter, perf_counter_ns
from types import CodeType, FunctionType, ModuleType
from typing import Any

import aiofastlock

# A workload gets asyncio or aiofastlock, a number of passes, and perhaps other sizes. It returns
# what all the passes cost together: nanoseconds or bytes.
Workload = Callable[..., Coroutine[Any, Any, int]]


@dataclass(frozen=True)
class Row:
    name: str
    workload: Workload
    unit: str
    seconds: float
    sizes: dict[str, int]


ROWS: list[Row] = []


def row(
    name: str, *, unit: str = "ns", seconds: float = 1.5, **sizes: int
) -> Callable[[Workload], Workload]:
    """Put a workload into the table. `sizes` are its arguments: passes, and what else it takes."""

    def add(workload: Workload) -> Workload:
        ROWS.append(Row(name, workload, unit, seconds, sizes))
        return workload

    return add


# ---- Measuring ----


def own_copy(workload: Any) -> Workload:
    """Return the same function with code objects of its own, nested functions' included.

    The interpreter specialises a code object for what has run through it: two implementations that
    share one slow each other down.
    """

    def copy(code: CodeType) -> CodeType:
        constants = (copy(c) if isinstance(c, CodeType) else c for c in code.co_consts)
        return code.replace(co_consts=tuple(constants))

    return FunctionType(copy(workload.__code__), workload.__globals__, workload.__name__)


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
    contestants: Sequence[tuple[Workload, ModuleType]],
    seconds: float,
    **sizes: int,
) -> list[float]:
    """Return what one pass costs each contestant: the best of many short runs, taken in turn."""
    contestants = [(own_copy(workload), library) for workload, library in contestants]
    best = [math.inf] * len(contestants)
    end = perf_counter() + seconds
    rounds = 0
    gc.disable()
    try:
        while rounds < 3 or perf_counter() < end:
            for number, (workload, library) in enumerate(contestants):
                gc.collect()
                total = runner.run(watched(workload(library, **sizes)))
                best[number] = min(best[number], total / sizes["passes"])
            rounds += 1
    finally:
        gc.enable()
    return best


def require(condition: object, failure: str) -> None:
    if not condition:
        raise RuntimeError(failure)


async def require_exclusion(lock: Any) -> None:
    """Raise unless the lock keeps the others out while it is held, and then lets each one in."""
    inside = entered = 0

    async def enter() -> None:
        nonlocal inside, entered
        async with lock:
            inside += 1
            entered += 1
            require(inside == 1 and lock.locked(), "two tasks are inside a lock at once")
            await asyncio.sleep(0)
            inside -= 1

    async with lock:
        tasks = [asyncio.create_task(enter()) for _ in range(3)]
        await asyncio.sleep(0)
        require(lock.locked() and not entered, "a task entered a lock that another holds")
    await asyncio.gather(*tasks)
    require(entered == 3 and not lock.locked(), "a lock was not released")


# ---- The rows ----
# Each one's lock is put to require_exclusion() when the clock has stopped.


@row("async with lock", passes=8_000)
async def enter_and_leave(library: ModuleType, passes: int) -> int:
    lock = library.Lock()
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
    require(counted == passes and not lock.locked(), "a lock was not released")
    await require_exclusion(lock)
    return elapsed


@row("await acquire(), release()", passes=16_000)
async def acquire_and_release(library: ModuleType, passes: int) -> int:
    lock = library.Lock()
    acquired = 0
    start = perf_counter_ns()
    for _ in range(passes // 4):
        await lock.acquire()
        lock.release()
        await lock.acquire()
        lock.release()
        await lock.acquire()
        lock.release()
        if await lock.acquire() is True:
            acquired += 4
        lock.release()
    elapsed = perf_counter_ns() - start
    require(acquired == passes and not lock.locked(), "a lock was not acquired or not released")
    await require_exclusion(lock)
    return elapsed


@row("hand-off among 100 tasks", passes=3_000, tasks=100)
@row("hand-off between 2 tasks", passes=3_000, tasks=2)
async def hand_off(library: ModuleType, passes: int, tasks: int) -> int:
    """All the tasks are parked when the clock starts, so every acquire is a hand-off."""
    lock = library.Lock()
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


@row("Lock()", seconds=0.6, passes=10_000)
async def create(library: ModuleType, passes: int) -> int:
    new = library.Lock
    start = perf_counter_ns()
    for _ in range(passes):
        lock = new()
    elapsed = perf_counter_ns() - start
    await require_exclusion(lock)
    return elapsed


@row("cancelling one of 5,000 waiters", seconds=2, passes=5_000)
async def cancel(library: ModuleType, passes: int) -> int:
    lock = library.Lock()
    entered = 0

    async def enter() -> None:
        nonlocal entered
        async with lock:
            entered += 1

    await lock.acquire()
    tasks = [asyncio.create_task(enter()) for _ in range(passes)]
    await asyncio.sleep(0)
    random.Random(passes).shuffle(tasks)
    start = perf_counter_ns()
    for task in tasks:
        task.cancel()
    while not task.done():  # they end in the order in which they were cancelled
        await asyncio.sleep(0)
    elapsed = perf_counter_ns() - start
    require(all(task.cancelled() for task in tasks), "a waiter was not cancelled")
    require(lock.locked() and not entered, "a task entered a lock that another holds")
    lock.release()
    await require_exclusion(lock)
    return elapsed


@row("bytes of a lock", unit="bytes", seconds=0, passes=1_000)
async def lock_size(library: ModuleType, passes: int) -> int:
    tracemalloc = importlib.import_module("tracemalloc")  # which PyPy does not have
    locks = [None] * passes
    tracemalloc.start()
    for number in range(passes):
        locks[number] = library.Lock()
    size: int = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    await require_exclusion(locks[0])
    return size


@row("bytes of a waiter *", unit="bytes", seconds=0, passes=1_000)
async def waiter_size(library: ModuleType, passes: int) -> int:
    tracemalloc = importlib.import_module("tracemalloc")
    lock = library.Lock()
    entered = 0

    async def wait_on_lock() -> None:
        nonlocal entered
        async with lock:
            entered += 1

    async def wait_on_future() -> None:
        await asyncio.get_running_loop().create_future()

    async def park(wait: Callable[[], Coroutine[Any, Any, None]]) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(wait()) for _ in range(passes)]
        await asyncio.sleep(0)
        return tasks

    await lock.acquire()
    bare = await park(wait_on_future)  # takes what free lists of tasks and futures hold
    tracemalloc.start()
    bare += await park(wait_on_future)
    of_futures: int = tracemalloc.get_traced_memory()[0]
    waiters = await park(wait_on_lock)
    of_both: int = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    require(not entered, "a task entered a lock that another holds")
    lock.release()
    await asyncio.gather(*waiters)
    require(entered == passes, "a turn was lost")
    for task in bare:
        task.cancel()
    await asyncio.wait(bare)
    await require_exclusion(lock)
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


def main() -> None:
    description = "Say which half of aiofastlock is in use, and compare it with asyncio (10 s)."
    argparse.ArgumentParser("python -m aiofastlock", description=description).parse_args()
    print_environment()
    width = max(len(row.name) for row in ROWS)
    print(f"\n{'':{width}}  {'asyncio':>12}  {'aiofastlock':>12}  {'ratio':>7}", flush=True)
    libraries = (asyncio, aiofastlock)
    with asyncio.Runner(debug=False) as runner:
        for row in ROWS:
            contestants = [(row.workload, library) for library in libraries]
            try:
                theirs, ours = measure(runner, contestants, row.seconds, **row.sizes)
            except ImportError as error:
                print(f"{row.name:{width}}  not measured: {error}")
                continue
            figures = "  ".join(f"{f'{x:,.0f} {row.unit}':>12}" for x in (theirs, ours))
            print(f"{row.name:{width}}  {figures}  {theirs / ours:6.1f}x", flush=True)
    print("\n* what a task waiting in `async with lock` takes beyond one waiting on a bare future")


if __name__ == "__main__":
    main()
