"""Time one implementation's rows with pyperf, in processes that import no other library.

    timed.py [--impl NAME] [--loop asyncio|uvloop] [--primitive NAME] [pyperf's own options]

With pyperf's -o FILE, `pyperf compare_to` and `pyperf stats` read FILE.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyperf
from implementations import IMPLEMENTATIONS, UNCONTENDED, LacksError

from aiofastlock._benchmark import ROWS, Row, broadcast, create, hand_off, meet, notify, watched

LOOPS = ("asyncio", "uvloop")
OF_THE_LOOP = (hand_off, notify, broadcast, meet)
LASTING = (*UNCONTENDED, *OF_THE_LOOP, create)  # more passes do not change the cost of one
PRIMITIVES = sorted({row.primitive for row in ROWS})


def rows_on(loop: str, rows: Iterable[Row] = ROWS) -> Iterator[Row]:
    """Yield the rows to time on a loop: on uvloop, only those that depend on the loop."""
    for row in rows:
        if row.unit == "ns" and (loop == "asyncio" or row.workload in OF_THE_LOOP):
            yield row


def new_loop(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the function that makes a loop; raise ImportError if it is not installed."""
    module: Any = asyncio if name == "asyncio" else importlib.import_module(name)
    function: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return function


def time_passes(times: int, row: Row, contestant: tuple[Any, Any], loop: str) -> float:
    """Return how many seconds the row's passes take, repeated this many times."""
    workload, primitive = contestant
    sizes = dict(row.sizes)
    if row.workload in LASTING:
        sizes["passes"] *= times
        times = 1
    total = 0
    gc.disable()
    with asyncio.Runner(debug=False, loop_factory=new_loop(loop)) as runner:
        for _ in range(times):
            gc.collect()
            total += runner.run(watched(workload(primitive, **sizes)))
    return total / 1e9


def pass_on(command: list[str], arguments: argparse.Namespace) -> None:
    """Pass the arguments that pyperf does not know to its worker processes."""
    command += ["--impl", arguments.impl, "--loop", arguments.loop]
    if arguments.primitive:
        command += ["--primitive", arguments.primitive]


def main() -> None:
    runner = pyperf.Runner(add_cmdline_args=pass_on)
    runner.argparser.add_argument("--impl", choices=IMPLEMENTATIONS, default="compiled")
    runner.argparser.add_argument("--loop", choices=LOOPS, default="asyncio")
    runner.argparser.add_argument("--primitive", choices=PRIMITIVES)
    arguments = runner.parse_args()
    try:
        new_loop(arguments.loop)
        implementation = IMPLEMENTATIONS[arguments.impl]()
    except ImportError as error:
        print(f"{arguments.impl} on {arguments.loop}: not measured: {error}", flush=True)
        return
    for row in rows_on(arguments.loop):
        if arguments.primitive not in (None, row.primitive):
            continue
        try:
            contestant = implementation.contestant(row)
        except LacksError as lacks:
            if not arguments.worker:
                print(f"{row.name}: not measured, {arguments.impl} {lacks}", flush=True)
            continue
        what = row, contestant, arguments.loop
        runner.bench_time_func(row.name, time_passes, *what, inner_loops=row.sizes["passes"])


if __name__ == "__main__":
    main()
