"""The workloads of `python -m aiofastlock` and of benchmarks/, and the code that measures them.

This module uses the standard library only.
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
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter, perf_counter_ns
from types import CodeType, FunctionType
from typing import Any

import aiofastlock

# A workload takes a primitive's class, a number of passes and possibly other sizes. It returns the
# total cost of all passes, in nanoseconds or bytes.
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
    """Add a row for a workload; `sizes` are the workload's arguments.

    Decorators apply from the bottom up, so the lowest one adds the first row.
    """

    def add(workload: Workload) -> Workload:
        ROWS.append(Row(name, workload, primitive, unit, seconds, sizes))
        return workload

    return add


# ---- Measuring ----


def own_copy(workload: Any, renamed: Mapping[str, str] | None = None) -> Workload:
    """Return a copy of a function that shares no code object with it, nested functions included.

    The interpreter specialises a code object for the types that it has seen. Two implementations
    that share a code object slow each other down. `renamed` maps asyncio's names of methods to
    another library's, so that no adapter is measured.
    """
    names = renamed or {}

    def copy(code: CodeType) -> CodeType:
        constants = (copy(c) if isinstance(c, CodeType) else c for c in code.co_consts)
        called = (names.get(name, name) for name in code.co_names)
        return code.replace(co_consts=tuple(constants), co_names=tuple(called))

    code = copy(workload.__code__)
    return FunctionType(code, workload.__globals__, workload.__name__, workload.__defaults__)


async def watched(workload: Coroutine[Any, Any, int]) -> int:
    """Run a workload, and cancel it if it has not ended after a minute."""
    task: Any = asyncio.current_task()
    loop = asyncio.get_running_loop()
    # A thread, because the loop checks its own timers in every step that is measured.
    message = "not done after a minute: a turn was lost"
    watchdog = threading.Timer(60, loop.call_soon_threadsafe, [task.cancel, message])
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
    """Return the cost of one pass, for each contestant and round; in a round they take turns."""
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


def median_ratio(costs: Iterable[float], others: Iterable[float]) -> float:
    """Return the median of the rounds' ratios: a slow round is slow for both sides."""
    return median(cost / other for cost, other in zip(costs, others, strict=True))


def require(condition: object, failure: str) -> None:
    if not condition:
        raise RuntimeError(failure)


def is_locked(lock: Any, *, unknown: bool) -> bool:
    """Return whether a lock is locked, or `unknown` where the library has no such method."""
    return lock.locked() if hasattr(lock, "locked") else unknown


async def require_exclusion(lock: Any) -> None:
    """Raise RuntimeError unless one task at a time enters the lock, and each task enters it."""
    if not getattr(lock, "excludes", True):  # a floor has a lock's methods only
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
    """Raise RuntimeError unless a semaphore has exactly this number of permits."""
    tasks = [asyncio.create_task(acquire()) for _ in range(permits + 1)]
    for _ in range(3):  # some libraries' acquire() needs more than one step
        await asyncio.sleep(0)
    acquired = sum(task.done() for task in tasks)
    require(acquired == permits, "a semaphore has a wrong number of permits")
    release()
    await asyncio.gather(*tasks)


# ---- The rows ----
# Every workload checks what it has measured, after the clock has stopped.


@row("async with condition", "Condition", passes=8_000)
@row("async with bounded semaphore", "BoundedSemaphore", passes=8_000)
@row("async with semaphore", "Semaphore", passes=8_000)
@row("async with lock", "Lock", passes=8_000)
async def enter_and_leave(primitive: Any, passes: int) -> int:
    lock = primitive()
    counted = 0
    start = perf_counter_ns()
    for _ in range(passes // 4):  # four in a row, so that the loop and the counter cost little
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
        if await lock.acquire() is not False:  # anyio's returns None
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
    """Park all tasks before the clock starts, so that every acquire is a hand-off."""
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
    require(entered == in_turn, "the tasks did not take turns in order")
    await require_exclusion(lock)
    return elapsed


@row("condition: notify() between 2 tasks", "Condition", passes=3_000)
async def notify(primitive: Any, passes: int) -> int:
    """Let two tasks notify each other in turn."""
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


@row("event: wake each of 1,000 tasks", "Event", seconds=1.5, passes=5_000, tasks=1_000)
async def broadcast(primitive: Any, passes: int, tasks: int) -> int:
    event = primitive()
    woken = 0

    async def wait_repeatedly() -> None:
        nonlocal woken
        for _ in range(passes // tasks):
            await event.wait()
            woken += 1

    everybody = [asyncio.create_task(wait_repeatedly()) for _ in range(tasks)]
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


@row("barrier of 10: wait()", "Barrier", passes=3_000, parties=10)
async def meet(primitive: Any, passes: int, parties: int) -> int:
    barrier = primitive(parties)
    indices = 0

    async def meet_repeatedly() -> None:
        nonlocal indices
        for _ in range(passes // parties):
            index = await barrier.wait()
            indices += index

    start = perf_counter_ns()
    await asyncio.gather(*[meet_repeatedly() for _ in range(parties)])
    elapsed = perf_counter_ns() - start
    require(indices == passes // parties * sum(range(parties)), "a barrier returned an index twice")
    return elapsed


@row("queue: put_nowait(), get_nowait()", "Queue", passes=16_000)
async def put_and_get_nowait(primitive: Any, passes: int) -> int:
    queue = primitive()
    start = perf_counter_ns()
    for _ in range(passes // 4):
        queue.put_nowait(1)
        queue.get_nowait()
        queue.put_nowait(1)
        queue.get_nowait()
        queue.put_nowait(1)
        queue.get_nowait()
        queue.put_nowait(1)
        item = queue.get_nowait()
    elapsed = perf_counter_ns() - start
    require(item == 1 and queue.empty(), "an item was lost")
    return elapsed


@row("queue: await put(), await get()", "Queue", passes=16_000)
async def put_and_get(primitive: Any, passes: int) -> int:
    queue = primitive()
    start = perf_counter_ns()
    for _ in range(passes // 4):
        await queue.put(1)
        await queue.get()
        await queue.put(1)
        await queue.get()
        await queue.put(1)
        await queue.get()
        await queue.put(1)
        item = await queue.get()
    elapsed = perf_counter_ns() - start
    require(item == 1, "an item was lost")
    return elapsed


@row("queue: one item at a time between 2 tasks", "Queue", passes=3_000)
async def pass_items(primitive: Any, passes: int) -> int:
    """Each item is waited for, and so is each free slot."""
    queue = primitive(1)

    async def put_all() -> None:
        for number in range(passes):
            await queue.put(number)

    putter = asyncio.create_task(put_all())
    start = perf_counter_ns()
    got = [await queue.get() for _ in range(passes)]
    elapsed = perf_counter_ns() - start
    await putter
    require(got == list(range(passes)), "an item was lost, or out of order")
    return elapsed


@row("queue: a getter that always waits", "Queue", passes=3_000)
async def answer(primitive: Any, passes: int) -> int:
    """Two tasks send each other items through two queues."""
    questions, answers = primitive(), primitive()

    async def answer_all() -> None:
        for _ in range(passes // 2):
            answers.put_nowait(await questions.get())

    answering = asyncio.create_task(answer_all())
    await asyncio.sleep(0)
    start = perf_counter_ns()
    for number in range(passes // 2):
        questions.put_nowait(number)
        require(await answers.get() == number, "an item was lost, or out of order")
    elapsed = perf_counter_ns() - start
    await answering
    return elapsed


@row("queue: wake each of 1,000 getters", "Queue", seconds=1.5, passes=1_000)
async def wake_getters(primitive: Any, passes: int) -> int:
    queue = primitive()
    getters = [asyncio.create_task(queue.get()) for _ in range(passes)]
    await asyncio.sleep(0)
    start = perf_counter_ns()
    for number in range(passes):
        queue.put_nowait(number)
    await getters[-1]
    elapsed = perf_counter_ns() - start
    got = [getter.result() for getter in getters]
    require(got == list(range(passes)), "an item was lost, or out of order")
    return elapsed


@row("queue: wake each of 1,000 putters", "Queue", seconds=1.5, passes=1_000)
async def wake_putters(primitive: Any, passes: int) -> int:
    queue = primitive(1)
    putters = [asyncio.create_task(queue.put(number)) for number in range(passes)]
    await asyncio.sleep(0)
    start = perf_counter_ns()
    got = [await queue.get() for _ in range(passes)]
    elapsed = perf_counter_ns() - start
    await asyncio.gather(*putters)
    require(got == list(range(passes)), "an item was lost, or out of order")
    return elapsed


@row("queue: cancel one of 5,000 getters", "Queue", seconds=1.5, passes=5_000)
async def cancel_getters(primitive: Any, passes: int, order: str = "random") -> int:
    queue = primitive()
    getters = [asyncio.create_task(queue.get()) for _ in range(passes)]
    await asyncio.sleep(0)
    elapsed = await cancel_all(getters, order)
    require(all(getter.cancelled() for getter in getters), "a getter was not cancelled")
    return elapsed


@row("priority queue of 10,000: put_nowait(), get_nowait()", "PriorityQueue", passes=10_000)
async def sort(primitive: Any, passes: int) -> int:
    queue = primitive()
    numbers = random.Random(passes).sample(range(passes), passes)
    start = perf_counter_ns()
    for number in numbers:
        queue.put_nowait(number)
    for _ in range(passes):
        number = queue.get_nowait()
    elapsed = perf_counter_ns() - start
    require(number == passes - 1 and queue.empty(), "an item was lost, or out of order")
    return elapsed


@row("queue: a pipeline of 3 stages with 8 workers each", "Queue", seconds=1.5, passes=4_000)
async def pipeline(primitive: Any, passes: int) -> int:
    queues = [primitive(100) for _ in range(4)]

    async def work(before: Any, after: Any) -> None:
        while True:
            item = await before.get()
            await after.put(item + 1)
            before.task_done()

    async def get_all() -> list[int]:
        return [await queues[3].get() for _ in range(passes)]

    pairs = [(queues[stage], queues[stage + 1]) for stage in range(3)]
    workers = [asyncio.create_task(work(*pair)) for pair in pairs for _ in range(8)]
    getter = asyncio.create_task(get_all())
    start = perf_counter_ns()
    for number in range(passes):
        await queues[0].put(number)
    got = await getter
    elapsed = perf_counter_ns() - start
    for worker in workers:
        worker.cancel()
    require(sorted(got) == list(range(3, passes + 3)), "an item was lost")
    return elapsed


@row("Queue()", "Queue", seconds=0.4, passes=10_000)
@row("Condition()", "Condition", seconds=0.4, passes=10_000)
@row("Event()", "Event", seconds=0.4, passes=10_000)
@row("Lock()", "Lock", seconds=0.4, passes=10_000)
async def create(primitive: Any, passes: int) -> int:
    start = perf_counter_ns()
    for _ in range(passes):
        primitive()
    return perf_counter_ns() - start


def rearrange(tasks: list[asyncio.Task[None]], order: str) -> None:
    """Sort tasks, which are in order of arrival, into the order in which to cancel them."""
    if order == "LIFO":
        tasks.reverse()
    elif order == "random":
        random.Random(len(tasks)).shuffle(tasks)
    else:
        require(order == "FIFO", f"unknown order: {order}")


async def cancel_all(tasks: list[asyncio.Task[None]], order: str) -> int:
    """Cancel tasks in an order, and return the nanoseconds until all have ended."""
    rearrange(tasks, order)
    start = perf_counter_ns()
    for task in tasks:
        task.cancel()
    while not task.done():  # tasks end in the order in which they were cancelled
        await asyncio.sleep(0)
    return perf_counter_ns() - start


@row("lock: cancel one of 5,000 waiters", "Lock", seconds=1.5, passes=5_000)
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


@row("semaphore: release() with 5,000 waiters", "Semaphore", seconds=1.5, passes=5_000)
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


@row("condition: notify() with 5,000 waiters", "Condition", seconds=1.5, passes=5_000)
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


@row("semaphore: cancel each of 5,000 tasks of a TaskGroup", "Semaphore", seconds=1.5, passes=5_000)
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
    require(entered <= 10, "a semaphore has a wrong number of permits")
    await require_permits(semaphore.acquire, semaphore.release, 10)
    return elapsed


# tracemalloc, which PyPy does not have, counts the bytes that are allocated when the free lists are
# empty. asyncio sets the attribute `_loop` at the first wait. If that happens among the first few
# dozen instances of a class, the interpreter makes all later ones larger. So sizes come first.


async def wait_for(primitive: Any) -> None:
    if hasattr(primitive, "notify"):
        async with primitive:
            await primitive.wait()
    elif hasattr(primitive, "wait"):
        await primitive.wait()
    else:
        async with primitive:
            pass


def park(coroutines: Sequence[Coroutine[Any, Any, None]]) -> int:
    """Run coroutines until they wait, and return the bytes that this allocates.

    The bytes of the first 50 % do not count, because these use up the free lists. There are no
    tasks, because asyncio's tables of tasks grow in steps.
    """
    tracemalloc = importlib.import_module("tracemalloc")
    middle = len(coroutines) // 2
    for coroutine in coroutines[:middle]:
        coroutine.send(None)
    tracemalloc.start()
    for coroutine in coroutines[middle:]:
        coroutine.send(None)
    allocated: int = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return allocated


@row("a queue", "Queue", unit="bytes", seconds=0, passes=1_000)
@row("a barrier", "Barrier", unit="bytes", seconds=0, passes=1_000, parties=10)
@row("a condition", "Condition", unit="bytes", seconds=0, passes=1_000)
@row("a semaphore", "Semaphore", unit="bytes", seconds=0, passes=1_000)
@row("an event", "Event", unit="bytes", seconds=0, passes=1_000)
@row("a lock", "Lock", unit="bytes", seconds=0, passes=1_000)
async def size(primitive: Any, passes: int, **arguments: int) -> int:
    """Return how many bytes objects take that nobody has waited for yet."""
    tracemalloc = importlib.import_module("tracemalloc")

    def make() -> Any:
        one = primitive(*arguments.values())
        if hasattr(one, "notify"):
            one.locked()  # aiofastlock makes a condition's lock when it is needed
        return one

    kept = [make() for _ in range(passes)]  # empties the free lists
    made = [None] * passes
    tracemalloc.start()
    for number in range(passes):
        made[number] = make()
    total: int = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return total


@row("a barrier's waiter", "Barrier", unit="bytes", seconds=0, passes=1_000)
@row("a condition's waiter", "Condition", unit="bytes", seconds=0, passes=1_000)
@row("a semaphore's waiter", "Semaphore", unit="bytes", seconds=0, passes=1_000)
@row("an event's waiter", "Event", unit="bytes", seconds=0, passes=1_000)
@row("a lock's waiter", "Lock", unit="bytes", seconds=0, passes=1_000)
async def waiter_size(primitive: Any, passes: int) -> int:
    """Return how many bytes more than on a bare future it takes to wait on a primitive."""
    loop = asyncio.get_running_loop()

    async def wait_on_future() -> None:
        await loop.create_future()

    kind = primitive.__name__
    one = primitive(*{"Semaphore": [0], "Barrier": [2 * passes + 1]}.get(kind, []))
    if kind == "Lock":
        await one.acquire()
    bare = [wait_on_future() for _ in range(2 * passes)]
    waiters = [wait_for(one) for _ in range(2 * passes)]
    of_futures, of_waiters = park(bare), park(waiters)
    if kind in ("Lock", "Semaphore"):
        one.release()
    elif kind == "Event":
        one.set()
    elif kind == "Condition":
        async with one:
            one.notify_all()
    else:
        await one.wait()
    for waiter in waiters:
        require(ends(waiter), "a turn was lost")
    for waiter in bare:
        waiter.close()
    if kind == "Lock":
        await require_exclusion(one)
    return of_waiters - of_futures


def ends(coroutine: Coroutine[Any, Any, None]) -> bool:
    """Resume a coroutine, and return whether it has ended."""
    try:
        coroutine.send(None)
    except StopIteration:
        return True
    return False


# ---- The report ----


def describe_python() -> str:
    """Name this Python and, where sysconfig has it, how it was built."""
    name = f"{platform.python_implementation()} {platform.python_version()}"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        name += ", free-threaded"
    configured = sysconfig.get_config_var("CONFIG_ARGS")
    if not configured:  # PyPy, Windows
        return name
    if sysconfig.get_config_var("Py_DEBUG"):
        return f"{name}, a debug build"
    # Debian builds with a profile by `make profile-opt`, without the option, and then removes the
    # flag that uses the profile from sysconfig. configure sets both flags, or neither.
    makes, uses = map(sysconfig.get_config_var, ("PGO_PROF_GEN_FLAG", "PGO_PROF_USE_FLAG"))
    if "--enable-optimizations" in configured or (makes and not uses):
        return f"{name}, an optimised build"
    return f"{name}, built without --enable-optimizations"


def print_environment() -> None:
    """Print what is measured and on what, and why it is the pure-Python implementation."""
    implementation = {"pure": "pure-Python"}.get(aiofastlock.IMPLEMENTATION, "compiled")
    what = f"aiofastlock {aiofastlock.__version__}, the {implementation} implementation"
    print(f"{what}, on {describe_python()}")
    if implementation == "pure-Python" and os.environ.get("AIOFASTLOCK_EXTENSIONS") != "0":
        try:
            importlib.import_module("aiofastlock._compiled._lock")
        except ImportError as error:
            print(f"\n*** THE COMPILED IMPLEMENTATION IS NOT IN USE: {error} ***")


TIMES = """
Time of one operation, the best of many short rounds. A ratio of 3.0x means that asyncio takes
three times as long as aiofastlock.
"""
SIZES = """
Memory of one object that nobody waits for, with its attributes, queue and lock; and what one waiter
needs beyond a task that waits for a future.
"""


def print_table() -> None:
    """Compare with asyncio, row by row."""
    width = max(len(row.name) for row in ROWS)
    head = f"{'':{width}}  {'asyncio':>12}  {'aiofastlock':>12}  {'ratio':>7}"

    def compare(row: Row) -> str:
        libraries = (asyncio, aiofastlock)
        contestants = [(row.workload, getattr(lib, row.primitive)) for lib in libraries]
        try:
            theirs, ours = map(min, measure(runner, contestants, row.seconds, **row.sizes))
        except ImportError as error:
            return f"{row.name:{width}}  not measured: {error}"
        figures = "  ".join(f"{f'{x:,.0f} {row.unit}':>12}" for x in (theirs, ours))
        return f"{row.name:{width}}  {figures}  {theirs / ours:6.1f}x"

    with asyncio.Runner(debug=False) as runner:
        sizes = [compare(row) for row in ROWS if row.unit == "bytes"]
        print(f"{TIMES}\n{head}", flush=True)
        for row in ROWS:
            if row.unit == "ns":
                print(compare(row), flush=True)
    print(f"{SIZES}\n{head}", *sizes, sep="\n")
