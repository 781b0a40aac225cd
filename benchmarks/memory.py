"""Measure the bytes of an object and of a waiter, and the peak memory of 100,000 parked tasks."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import results
from implementations import IMPLEMENTATIONS

from aiofastlock import _benchmark
from aiofastlock._benchmark import ROWS, measure, require

COMPARED = ("compiled", "pure", "asyncio")
TASKS = 100_000


def measure_sizes() -> list[dict[str, Any]]:
    found = []
    with asyncio.Runner(debug=False) as runner:
        for row in ROWS:
            if row.unit != "bytes":
                continue
            for name in COMPARED:
                primitive = getattr(IMPLEMENTATIONS[name]().primitives, row.primitive)
                [sizes] = measure(runner, [(row.workload, primitive)], row.seconds, **row.sizes)
                found.append({"row": row.name, "implementation": name, "bytes": min(sizes)})
    return found


# ---- The peak ----


def peak() -> int:
    """Return the peak memory of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage() includes the parent process, up to the exec()
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    resource: Any = importlib.import_module("resource")
    unit = 1 if sys.platform == "darwin" else 1024
    most: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * unit


async def park(implementation: str, tasks: int) -> int:
    """Park tasks on one lock or, for the floor, on futures, and return the rise of the peak."""
    loop = asyncio.get_running_loop()
    entered = 0

    async def enter() -> None:
        nonlocal entered
        async with lock:
            entered += 1

    async def wait() -> None:
        await loop.create_future()

    before = peak()
    if implementation == "floor":
        everybody = [asyncio.create_task(wait()) for _ in range(tasks)]
    else:
        lock = IMPLEMENTATIONS[implementation]().primitives.Lock()
        await lock.acquire()
        everybody = [asyncio.create_task(enter()) for _ in range(tasks)]
    await asyncio.sleep(0)
    rise = peak() - before
    require(not entered, "a task entered a lock that another holds")
    for task in everybody:
        task.cancel()
    await asyncio.wait(everybody)
    return rise


def measure_peaks(tasks: int) -> list[dict[str, Any]]:
    """Park many tasks, for each implementation in a separate process."""
    found = []
    for name in (*COMPARED, "floor"):
        command = [sys.executable, __file__, "--child", name, str(tasks)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        found.append({"tasks": tasks, "implementation": name, "bytes": int(output)})
    return found


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(asyncio.run(park(sys.argv[2], int(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=TASKS, help="parked at the same time")
    arguments = parser.parse_args()
    _benchmark.print_environment()
    sizes = measure_sizes()
    for row in sizes:
        print(f"{row['row']:24}{row['implementation']:12}{row['bytes']:12,.0f} bytes", flush=True)
    peaks = measure_peaks(arguments.tasks)
    for row in peaks:
        what = f"{row['tasks']:,} tasks"
        print(f"{what:24}{row['implementation']:12}{row['bytes']:12,} bytes")
    print(f"wrote {results.write('memory', sizes, peaks=peaks)}")


if __name__ == "__main__":
    main()
