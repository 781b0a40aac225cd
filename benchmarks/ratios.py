"""Compare aiofastlock with asyncio and with the floors, which take turns in one process.

A ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from typing import Any

import results
from implementations import IMPLEMENTATIONS, Implementation, LacksError
from timed import LOOPS, new_loop, rows_on

from aiofastlock import _benchmark
from aiofastlock._benchmark import ROWS, Row, measure, median_ratio, meet

BARRIER_OF_100 = Row(
    "barrier of 100: wait()", meet, "Barrier", "ns", 1.5, {"passes": 3_000, "parties": 100}
)


def compare(
    runner: asyncio.Runner, row: Row, implementations: dict[str, Implementation], seconds: float
) -> Iterator[dict[str, Any]]:
    """Yield the ratio of the first implementation to each of the others."""
    contestants = {}
    for name, implementation in implementations.items():
        try:
            contestants[name] = implementation.contestant(row)
        except LacksError:
            continue
    costs = measure(runner, list(contestants.values()), seconds, **row.sizes)
    ours = costs[0]
    for name, theirs in list(zip(contestants, costs, strict=True))[1:]:
        # asyncio's time divided by aiofastlock's, but aiofastlock's divided by the floor's.
        pair = (ours, theirs) if name == "floor" else (theirs, ours)
        yield {
            "row": row.name,
            "against": name,
            "ratio": round(median_ratio(*pair), 3),
            "ours": round(min(ours), 1),
            "other": round(min(theirs), 1),
            "rounds": len(ours),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--impl", choices=("compiled", "pure"), default="compiled")
    parser.add_argument("--seconds", type=float, default=5, help="for each row (default: 5)")
    parser.add_argument(
        "--loop", choices=LOOPS, action="append", help="(default: all that are installed)"
    )
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
        print(
            f"\non {loop}'s loop\n{'':50}{'aiofastlock':>14}{'the other':>11}{'ratio':>9}",
            flush=True,
        )
        with asyncio.Runner(debug=False, loop_factory=factory) as runner:
            for row in rows_on(loop, [*ROWS, BARRIER_OF_100]):
                for ratio in compare(runner, row, implementations, arguments.seconds):
                    found.append({"loop": loop, **ratio})
                    name = f"{row.name} / {ratio['against']}"
                    figures = f"{ratio['ours']:11,.0f} ns{ratio['other']:8,.0f} ns"
                    print(f"{name:50}{figures}{ratio['ratio']:9.2f}", flush=True)
    part = "ratios" if arguments.impl == "compiled" else "ratios-pure"
    print(f"\nwrote {results.write(part, found)}")


if __name__ == "__main__":
    main()
