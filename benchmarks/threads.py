"""Measure the throughput of 1 to 8 threads, each of which has an event loop and a lock.

With the GIL it stays that of one thread; without the GIL it should grow with the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import threading
from statistics import median
from time import perf_counter_ns
from typing import Any

import results
from implementations import IMPLEMENTATIONS

from aiofastlock import _benchmark
from aiofastlock._benchmark import ROWS, Row, median_ratio, own_copy, require

THREADS = (1, 2, 4, 8)
COMPARED = ("compiled", "pure", "asyncio")
NAMES = ("async with lock", "lock: hand-off between 2 tasks")


def throughput(row: Row, implementation: str, threads: int, times: int) -> float:
    """Return how many passes per second all threads make together."""
    primitive = getattr(IMPLEMENTATIONS[implementation]().primitives, row.primitive)
    workload = own_copy(row.workload)
    start = threading.Barrier(threads)
    spans: list[tuple[int, int]] = []

    def work() -> None:
        with asyncio.Runner(debug=False) as runner:
            runner.run(workload(primitive, **row.sizes))  # warms up, and makes the loop
            start.wait()
            began = perf_counter_ns()
            for _ in range(times):
                runner.run(workload(primitive, **row.sizes))
            spans.append((began, perf_counter_ns()))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    gc.collect()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    require(len(spans) == threads, "a thread failed")
    elapsed = max(end for _, end in spans) - min(began for began, _ in spans)
    return threads * times * row.sizes["passes"] / elapsed * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="(default: 7)")
    parser.add_argument("--times", type=int, default=40, help="a workload runs in a round")
    arguments = parser.parse_args()
    _benchmark.print_environment()
    print(f"{os.cpu_count()} cores\n\n{'passes per second, by threads':42}", end="")
    print("".join(f"{threads:>11}{'':7}" for threads in THREADS))
    found: list[dict[str, Any]] = []
    gc.disable()
    for row in ROWS:
        if row.name not in NAMES:
            continue
        # They take turns, so that a slow phase of the machine is slow for all.
        rates: dict[tuple[str, int], list[float]] = {}
        for _ in range(arguments.rounds):
            for name in COMPARED:
                for threads in THREADS:
                    rate = throughput(row, name, threads, arguments.times)
                    rates.setdefault((name, threads), []).append(rate)
        for name in COMPARED:
            line = f"{f'{row.name}, {name}':42}"
            one = rates[name, 1]
            for threads in THREADS:
                each = rates[name, threads]
                growth = median_ratio(each, one)
                what = {"row": row.name, "implementation": name, "threads": threads}
                found.append({**what, "rate": round(median(each)), "growth": round(growth, 3)})
                line += f"{median(each):>11,.0f} {growth:5.2f}x"
            print(line, flush=True)
    print(f"wrote {results.write('threads', found, cores=os.cpu_count())}")


if __name__ == "__main__":
    main()
