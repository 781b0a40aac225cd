"""What one waiter costs when there are many: 1,000 to 100,000 of them.

asyncio searches its queues, so that it takes the square of their number; its curve ends where one
measurement would take too long.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
from dataclasses import dataclass, field
from statistics import median
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
    notify_in_a_row,
    own_copy,
    release_in_a_row,
    watched,
)

WAITERS = (1_000, 3_000, 10_000, 30_000, 100_000)


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
    """What one waiter costs by the number of waiters, for one implementation."""

    def __init__(self, work: Work, workload: Workload, primitive: Any, sizes: list[int]) -> None:
        self.work = work
        self.workload = own_copy(workload)
        self.primitive = primitive
        self.costs: dict[int, list[float]] = {waiters: [] for waiters in sizes}

    def measure(self, runner: asyncio.Runner, waiters: int, least: int) -> None:
        """Measure one point; of few waiters again and again, so that it weighs as those of many."""
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
        """Leave out the points that would take too long if the cost went on growing as it did."""
        measured = [costs[0] for costs in self.costs.values() if costs]
        left = list(self.costs)[len(measured) :]
        if len(measured) > 1 and left:
            expected = measured[-1] ** 2 / measured[-2] * left[0] / 1e9
            if expected > longest:
                for waiters in left:
                    del self.costs[waiters]

    def rows(self, implementation: str) -> list[dict[str, Any]]:
        """Return its points: what one waiter costs, and by how much more than one of the fewest."""
        fewest = next(iter(self.costs.values()))
        return [
            {
                "work": self.work.name,
                "implementation": implementation,
                "waiters": waiters,
                "ns": round(median(costs), 1),
                "growth": round(
                    median(many / few for many, few in zip(costs, fewest, strict=True)), 3
                ),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--longest", type=float, default=4, help="seconds, of a point (default: 4)")
    parser.add_argument("--most", type=int, default=WAITERS[-1], help="waiters (default: all)")
    arguments = parser.parse_args()
    _benchmark.print_environment()
    found = []
    sizes = [waiters for waiters in WAITERS if waiters <= arguments.most]
    gc.disable()
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
    print(f"wrote {results.write('growth', found).name}")


if __name__ == "__main__":
    main()
