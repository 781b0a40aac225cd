"""Compare ours with asyncio and with the floor: alternately in one process, round by round.

A ratio is the median of the rounds' ratios, so that what slows the machine for a while slows both.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from statistics import median
from typing import Any

import results
from implementations import IMPLEMENTATIONS, Implementation, LacksError
from timed import LOOPS, new_loop, rows_on

from aiofastlock import _benchmark
from aiofastlock._benchmark import ROWS, Row, measure, meet

BARRIER_OF_100 = Row(
    "barrier of 100: wait()", meet, "Barrier", "ns", 1.5, {"passes": 3_000, "parties": 100}
)


def compare(
    runner: asyncio.Runner, row: Row, implementations: dict[str, Implementation], seconds: float
) -> Iterator[dict[str, Any]]:
    """Yield a row's ratio to each of the others. The first implementation is ours."""
    contestants = {}
    for name, implementation in implementations.items():
        try:
            contestants[name] = implementation.contestant(row)
        except LacksError:
            continue
    costs = measure(runner, list(contestants.values()), seconds, **row.sizes)
    ours = costs[0]
    for name, theirs in list(zip(contestants, costs, strict=True))[1:]:
        # How many times as fast as asyncio, but how many times what the floor takes.
        pairs = zip(ours, theirs, strict=True)
        each = [mine / its if name == "floor" else its / mine for mine, its in pairs]
        yield {
            "row": row.name,
            "against": name,
            "ratio": round(median(each), 3),
            "ours": round(min(ours), 1),
            "other": round(min(theirs), 1),
            "rounds": len(each),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--impl", choices=("compiled", "pure"), default="compiled")
    parser.add_argument("--seconds", type=float, default=5, help="for each row (default: 5)")
    parser.add_argument("--loop", choices=LOOPS, action="append", help="(default: each there is)")
    arguments = parser.parse_args()
    names = (arguments.impl, "asyncio", "floor")
    implementations = {name: IMPLEMENTATIONS[name]() for name in names}
    _benchmark.print_environment()
    found = []
    for loop in arguments.loop or LOOPS:
        try:
            factory = new_loop(loop)
        except ImportError as error:
            print(f"\nnot measured on {loop}: {error}")
            continue
        print(f"\non {loop}'s loop\n{'':50}{'ours':>11}{'the other':>11}{'ratio':>9}", flush=True)
        with asyncio.Runner(debug=False, loop_factory=factory) as runner:
            for row in rows_on(loop, [*ROWS, BARRIER_OF_100]):
                for ratio in compare(runner, row, implementations, arguments.seconds):
                    found.append({"loop": loop, **ratio})
                    name = f"{row.name} / {ratio['against']}"
                    figures = f"{ratio['ours']:8,.0f} ns{ratio['other']:8,.0f} ns"
                    print(f"{name:50}{figures}{ratio['ratio']:9.2f}", flush=True)
    part = "ratios" if arguments.impl == "compiled" else "ratios-pure"
    print(f"\nwrote {results.write(part, found).name}")


if __name__ == "__main__":
    main()
