"""Measure what aiofastlock.watch costs: operations that it watches, against asyncio's."""

from __future__ import annotations

import argparse
import asyncio
import logging
import tracemalloc
from collections.abc import Awaitable, Callable
from statistics import median
from time import thread_time
from typing import Any

import ratios
import results
from implementations import IMPLEMENTATIONS, UNCONTENDED

import aiofastlock
from aiofastlock import _benchmark, watch
from aiofastlock._benchmark import ROWS, broadcast, hand_off, meet, notify, require

WATCHED = [row for row in ROWS if row.workload in (*UNCONTENDED, hand_off, notify, broadcast, meet)]


def measure_ratios(seconds: float) -> list[dict[str, Any]]:
    implementations = {name: IMPLEMENTATIONS[name]() for name in ("compiled", "asyncio")}
    found = []
    with asyncio.Runner(debug=False) as runner:
        for row in WATCHED:
            for ratio in ratios.compare(runner, row, implementations, seconds):
                found.append({"loop": "asyncio", **ratio})
                print(f"{row.name:36}{ratio['ours']:11,.0f} ns{ratio['ratio']:9.2f}", flush=True)
    return found


async def take_both(one: Any, other: Any, start: Any) -> None:
    async with one:
        await start
        async with other:
            pass


async def with_tasks(
    tasks: list[asyncio.Task[Any]], measure: Callable[[], Awaitable[float]]
) -> float:
    await asyncio.sleep(0)
    try:
        return await measure()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def circle(number: int) -> float:
    """Return how long the task waits that closes a circle of tasks and locks."""
    loop = asyncio.get_running_loop()
    locks = [aiofastlock.Lock() for _ in range(number)]
    starts = [loop.create_future() for _ in range(number)]
    tasks = [
        asyncio.create_task(take_both(one, other, start))
        for one, other, start in zip(locks, [*locks[1:], locks[0]], starts, strict=True)
    ]

    async def close() -> float:
        for start in starts[:-1]:
            start.set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        found.clear()
        starts[-1].set_result(None)
        began = thread_time()
        await asyncio.sleep(0)
        took = thread_time() - began
        require(len(found) == 1, "the circle was not found")
        return took

    return await with_tasks(tasks, close)


async def visit(lock: Any) -> None:
    async with lock:
        pass


async def take_snapshot(number: int) -> float:
    """Return how long a snapshot takes while tasks wait for a lock."""
    lock = aiofastlock.Lock()
    await lock.acquire()
    tasks = [asyncio.create_task(visit(lock)) for _ in range(number)]

    async def look() -> float:
        began = thread_time()
        snapshot = watch.snapshot()
        took = thread_time() - began
        require(len(snapshot.primitives[0].waiters) == number, "the snapshot lacks waiters")
        return took

    return await with_tasks(tasks, look)


async def size_of_a_held_lock(number: int) -> float:
    """Return the bytes that it takes to record a lock that is held."""
    locks = [aiofastlock.Lock() for _ in range(number)]
    watch.stop()
    tracemalloc.start()
    watch.start()
    before = tracemalloc.get_traced_memory()[0]
    for lock in locks:
        await lock.acquire()
    size = (tracemalloc.get_traced_memory()[0] - before) / number
    tracemalloc.stop()
    return size


found: list[logging.LogRecord] = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5, help="for each row (default: 5)")
    parser.add_argument("--tasks", type=int, default=100_000, help="in a snapshot (100,000)")
    arguments = parser.parse_args()
    _benchmark.print_environment()
    handler = logging.Handler()
    handler.emit = found.append  # type: ignore[method-assign]
    logging.getLogger("aiofastlock.watch").addHandler(handler)
    watch.start()
    rows = measure_ratios(arguments.seconds)
    once = {
        "tasks": arguments.tasks,
        "circle": median(asyncio.run(circle(1_000)) for _ in range(9)),
        "snapshot": median(asyncio.run(take_snapshot(arguments.tasks)) for _ in range(3)),
        "bytes": asyncio.run(size_of_a_held_lock(100_000)),
    }
    print(f"a circle of 1,000 tasks: {once['circle'] * 1000:.1f} ms")
    print(f"a snapshot of {arguments.tasks:,} tasks: {once['snapshot']:.2f} s")
    print(f"a held lock: {once['bytes']:.0f} bytes")
    print(f"wrote {results.write('watching', rows, once=once)}")


if __name__ == "__main__":
    main()
