"""Measure the cost of one waiter among many, 1,000 to 100,000.

    growth.py               all curves
    growth.py --freeze N    how long the event loop is blocked while a TaskGroup of N tasks fails

asyncio searches its queues, so the total time grows with the square of the number of waiters. A
curve ends before a measurement that would take too long.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

import floors
import results
from implementations import IMPLEMENTATIONS

from aiofastlock import _benchmark
from aiofastlock._benchmark import (
    Workload,
    broadcast,
    cancel,
    fail,
    median_ratio,
    notify_in_a_row,
    own_copy,
    release_in_a_row,
    require,
    watched,
)

WAITERS = (1_000, 3_000, 10_000, 30_000, 100_000)


# ---- The curves ----


@dataclass(frozen=True)
class Work:
    name: str
    workload: Workload
    primitive: str
    floor: Workload | None = None
    more: dict[str, str] = field(default_factory=dict)


WORKS = [
    *(
        Work(f"cancelling, {order}", cancel, "Lock", floors.cancel_bare, {"order": order})
        for order in ("FIFO", "LIFO", "random")
    ),
    Work("a failing TaskGroup behind a Semaphore(10)", fail, "Semaphore"),
    Work("release() in a row", release_in_a_row, "Semaphore"),
    Work("notify() in a row", notify_in_a_row, "Condition"),
    Work("broadcast", broadcast, "Event"),
]


class Curve:
    """The cost of one waiter by the number of waiters, for one implementation."""

    def __init__(self, work: Work, workload: Workload, primitive: Any, sizes: list[int]) -> None:
        self.work = work
        self.workload = own_copy(workload)
        self.primitive = primitive
        self.costs: dict[int, list[float]] = {waiters: [] for waiters in sizes}

    def measure(self, runner: asyncio.Runner, waiters: int, least: int) -> None:
        """Measure one point; repeat it until it has had `least` waiters in total."""
        sizes = {"passes": waiters, **self.work.more}
        if self.work.workload is broadcast:
            sizes["tasks"] = waiters
        times = math.ceil(least / waiters)
        total = 0
        for _ in range(times):
            gc.collect()
            total += runner.run(watched(self.workload(self.primitive, **sizes)))
        self.costs[waiters].append(total / (times * waiters))

    def end_before(self, longest: float) -> None:
        """Drop the points that would take too long if the cost grows on as before."""
        measured = [costs[0] for costs in self.costs.values() if costs]
        left = list(self.costs)[len(measured) :]
        if len(measured) > 1 and left:
            expected = measured[-1] ** 2 / measured[-2] * left[0] / 1e9
            if expected > longest:
                for waiters in left:
                    del self.costs[waiters]

    def rows(self, implementation: str) -> list[dict[str, Any]]:
        """Return the points: the cost of one waiter, and its ratio to that among the fewest."""
        fewest = next(iter(self.costs.values()))
        return [
            {
                "work": self.work.name,
                "implementation": implementation,
                "waiters": waiters,
                "ns": round(median(costs), 1),
                "growth": round(median_ratio(costs, fewest), 3),
                "rounds": len(costs),
            }
            for waiters, costs in self.costs.items()
        ]


def curves(work: Work, sizes: list[int]) -> dict[str, Curve]:
    found = {}
    for name, implementation in (("aiofastlock", "compiled"), ("asyncio", "asyncio")):
        primitive = getattr(IMPLEMENTATIONS[implementation]().primitives, work.primitive)
        found[name] = Curve(work, work.workload, primitive, sizes)
    if work.floor:
        found["floor"] = Curve(work, work.floor, None, sizes)
    return found


# ---- The freeze ----


async def longest_block(semaphore: Callable[[int], Any], tasks: int) -> float:
    """Return for how long no other task runs, in seconds, while a TaskGroup fails.

    Its tasks wait for a semaphore of 10 permits, and the group cancels them.
    """
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        last = perf_counter()
        while True:
            await asyncio.sleep(0)
            now = perf_counter()
            longest = max(longest, now - last)
            last = now

    async def work(permits: Any) -> None:
        async with permits:
            await asyncio.sleep(3600)

    permits = semaphore(10)
    heart = None
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(work(permits))
            await asyncio.sleep(0)
            heart = asyncio.create_task(beat())
            await asyncio.sleep(0)
            raise ZeroDivisionError
    except* ZeroDivisionError:
        require(heart and heart.cancel(), "the event loop has not been watched")
    return longest


def measure_freeze(tasks: int, rounds: int) -> list[dict[str, Any]]:
    """Return the median of the rounds for each implementation; in a round they take turns."""
    semaphores = {
        "asyncio": asyncio.Semaphore,
        "aiofastlock": IMPLEMENTATIONS["compiled"]().primitives.Semaphore,
    }
    seconds: dict[str, list[float]] = {name: [] for name in semaphores}
    for number in range(rounds):
        for name, semaphore in semaphores.items():
            gc.collect()
            block = asyncio.run(longest_block(semaphore, tasks), debug=False)
            seconds[name].append(block)
            print(f"round {number + 1} of {rounds}: {name}: {block:.3f} s", flush=True)
    return [
        {
            "implementation": name,
            "tasks": tasks,
            "seconds": round(median(blocks), 4),
            "rounds": rounds,
        }
        for name, blocks in seconds.items()
    ]


# ---- The report ----


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--longest", type=float, default=4, help="seconds for a point (default: 4)")
    parser.add_argument("--most", type=int, default=WAITERS[-1], help="waiters (default: all)")
    parser.add_argument("--freeze", type=int, metavar="TASKS", help="of a failing TaskGroup")
    arguments = parser.parse_args()
    _benchmark.print_environment()
    gc.disable()
    if arguments.freeze:
        rows = measure_freeze(arguments.freeze, arguments.rounds)
        for row in rows:
            what = f"{row['implementation']} blocks the event loop for {row['seconds']:.2g} s"
            print(f"a TaskGroup of {row['tasks']:,} tasks fails: {what}")
        print(f"wrote {results.write('freeze', rows)}")
        return
    found = []
    sizes = [waiters for waiters in WAITERS if waiters <= arguments.most]
    with asyncio.Runner(debug=False) as runner:
        for work in WORKS:
            drawn = curves(work, sizes)
            for number in range(arguments.rounds):
                print(f"{work.name}: round {number + 1} of {arguments.rounds}", flush=True)
                for waiters in sizes:
                    for curve in drawn.values():
                        if waiters in curve.costs:
                            curve.measure(runner, waiters, least=min(20_000, sizes[-1]))
                            curve.end_before(arguments.longest)
            for name, curve in drawn.items():
                rows = curve.rows(name)
                found += rows
                points = "".join(f"{row['waiters']:>9,}: {row['ns']:,.0f} ns" for row in rows)
                print(f"  {name:12}{points}", flush=True)
    print(f"wrote {results.write('growth', found)}")


if __name__ == "__main__":
    main()
