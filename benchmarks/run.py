"""Measure all parts on this Python, then write the tables and the plots.

    run.py               about 30 minutes
    run.py --quick       a smoke test of two minutes; writes to build/benchmarks only
    run.py PART...       some of: counts memory ratios growth freeze timed programs watching report

Each part runs in a process of its own, one at a time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import results
from implementations import IMPLEMENTATIONS
from timed import LOOPS

HERE = Path(__file__).resolve().parent
PARTS = (
    "counts",
    "memory",
    "ratios",
    "growth",
    "freeze",
    "timed",
    "programs",
    "watching",
    "report",
)
FREEZE = ["--freeze", "50000", "--rounds", "3"]
QUICK = {
    "memory": ["--tasks", "10000"],
    "ratios": ["--seconds", "0.1"],
    "growth": ["--rounds", "1", "--most", "10000"],
    "freeze": ["--freeze", "2000", "--rounds", "1"],
    "programs": ["--quick"],
    "watching": ["--seconds", "0.1", "--tasks", "1000"],
}
PYPERF = ["--processes", "2", "--values", "5"]
QUICK_PYPERF = ["--debug-single-value", "--primitive", "Lock"]


def run(script: str, *arguments: str) -> bool:
    """Run a script of this directory, and return whether it succeeded."""
    command = [sys.executable, str(HERE / f"{script}.py"), *arguments]
    return subprocess.run(command, check=False).returncode == 0


def run_timed(*options: str) -> bool:
    """Time every implementation on every loop, and write all values to one file."""
    import pyperf

    rows: list[dict[str, Any]] = []
    well = True
    for loop in LOOPS:
        for name in IMPLEMENTATIONS:
            print(f"-- timed: {name} on {loop}", flush=True)
            with tempfile.TemporaryDirectory() as directory:
                output = Path(directory, "timed.json")
                where = ["--impl", name, "--loop", loop, "-o", str(output), "--quiet"]
                well &= run("timed", *where, *options)
                if not output.exists():  # not installed, or no row for this loop
                    continue
                for benchmark in pyperf.BenchmarkSuite.load(str(output)):
                    values = [round(value * 1e9, 2) for value in benchmark.get_values()]
                    what = {"row": benchmark.get_name(), "implementation": name, "loop": loop}
                    rows.append({**what, "ns": median(values), "values": values})
    print(f"wrote {results.write('timed', rows)}")
    return well


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="a smoke test of two minutes")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    if arguments.quick:
        results.RESULTS = HERE.parent / "build" / "benchmarks" / "results"
        os.environ["BENCHMARK_RESULTS"] = str(results.RESULTS)
        QUICK["report"] = ["--into", str(results.RESULTS.parent / "report")]
    failed = []
    parts = [part for part in PARTS if part in (arguments.parts or PARTS)]
    start = monotonic()
    for number, part in enumerate(parts, 1):
        minutes, seconds = divmod(int(monotonic() - start), 60)
        print(f"\n==== {part}: {number} of {len(parts)}, after {minutes}:{seconds:02}", flush=True)
        options = QUICK.get(part, []) if arguments.quick else []
        if part == "timed":
            well = run_timed(*(QUICK_PYPERF if arguments.quick else PYPERF))
        elif part == "counts" and not shutil.which("valgrind"):
            print("skipped: valgrind is not installed")
            continue
        elif part == "freeze":
            well = run("growth", *(options or FREEZE))
        else:
            well = run(part, *options)
        if not well:
            failed.append(part)
    for part in failed:
        print(f"FAILED: {part}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
