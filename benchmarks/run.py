"""Make everything: figures of all parts on this Python, then the tables and the plots.

    run.py               about 25 minutes
    run.py --quick       a smoke run of two minutes, whose results go to build/benchmarks
    run.py PART...       some of: counts memory ratios growth timed programs report

Each part runs in a process of its own, and the timed ones with no other at the same time.
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
PARTS = ("counts", "memory", "ratios", "growth", "timed", "programs", "report")
QUICK = {
    "memory": ["--tasks", "10000"],
    "ratios": ["--seconds", "0.1"],
    "growth": ["--rounds", "1", "--most", "10000"],
    "programs": ["--quick"],
}
PYPERF = ["--processes", "2", "--values", "5"]
QUICK_PYPERF = ["--debug-single-value", "--primitive", "Lock"]


def run(script: str, *arguments: str) -> bool:
    """Run one script of this directory to its end; say whether it went well."""
    command = [sys.executable, str(HERE / f"{script}.py"), *arguments]
    return subprocess.run(command, check=False).returncode == 0


def run_timed(*options: str) -> bool:
    """Time every implementation on every loop, and keep the values of all in one file."""
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
                if not output.exists():  # not installed, or nothing that is timed on this loop
                    continue
                for benchmark in pyperf.BenchmarkSuite.load(str(output)):
                    values = [round(value * 1e9, 2) for value in benchmark.get_values()]
                    what = {"row": benchmark.get_name(), "implementation": name, "loop": loop}
                    rows.append({**what, "ns": median(values), "values": values})
    print(f"wrote {results.write('timed', rows).name}")
    return well


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="a smoke run of two minutes")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
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
            print("left out: there is no valgrind")
            continue
        else:
            well = run(part, *options)
        if not well:
            failed.append(part)
    for part in failed:
        print(f"FAILED: {part}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
