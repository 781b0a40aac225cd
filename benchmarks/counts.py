"""Count the instructions of one pass with callgrind. The counts repeat, so small changes show.

    counts.py            count, and write results
    counts.py --renew    count, and write the baseline counts.json, too
    counts.py --check    count, compare with the baseline, and fail if a count is 3 % higher

Each workload runs with N and with 2 N passes. The difference, divided by N, is the cost of one pass
without set-up and clean-up. `total` includes the interpreter. `own` is what aiofastlock's shared
objects execute. Totals are comparable on one build of Python only, `own` with one compiler only.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import floors
import results
from implementations import IMPLEMENTATIONS, UNCONTENDED, LacksError

from aiofastlock._benchmark import ROWS, Row, create, hand_off, meet, notify

BASELINE = Path(__file__).resolve().with_name("counts.json")
TOLERANCE = 0.03
WORKLOADS = (*UNCONTENDED, hand_off, notify, meet, create)
COUNTED = [row for row in ROWS if row.workload in WORKLOADS]
COMPARED = ("compiled", "asyncio", "floor")
TIMES = (1, 1, 1, 2)  # the first two warm up; without them the counts do not repeat
PASSES = 1_200  # a multiple of every row's number of tasks


# ---- Counting ----


def rows_of(implementation: str) -> list[tuple[Row, Any]]:
    """Return the rows that an implementation has, with its workload and primitive for each."""
    rows = []
    for row in COUNTED:
        try:
            rows.append((row, IMPLEMENTATIONS[implementation]().contestant(row)))
        except LacksError:
            continue
    return rows


def run_passes(implementation: str) -> None:
    """Run the workloads, and mark where each of the TIMES ends.

    There is no watchdog, because with a thread the counts do not repeat.
    """
    mark = floors.load_floor().mark
    gc.disable()
    with asyncio.Runner(debug=False) as runner:
        for row, (workload, primitive) in rows_of(implementation):
            for times in TIMES:
                sizes = {**row.sizes, "passes": times * PASSES}
                runner.run(workload(primitive, **sizes))
                mark()


def callgrind(implementation: str) -> list[tuple[int, int]]:
    """Return the instructions between each mark and the one before: total, own."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "out")
        options = [f"--callgrind-out-file={out}", "--dump-before=floor_mark"]
        options += ["--compress-strings=no", "--compress-pos=no"]
        child = [sys.executable, __file__, "--child", implementation]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        command = ["valgrind", "--tool=callgrind", "-q", *options, *child]
        subprocess.run(command, check=True, env=environment, stderr=subprocess.PIPE)
        dumps = len(TIMES) * len(rows_of(implementation))
        files = [Path(f"{out}.{number}") for number in range(1, dumps + 1)]
        return [read_callgrind(file.read_text().splitlines()) for file in files]


def read_callgrind(lines: Iterable[str]) -> tuple[int, int]:
    """Add up the costs of a callgrind file: all, and those in aiofastlock's shared objects."""
    total = own = 0
    ours = called = False
    for line in lines:
        if line.startswith("ob="):
            ours = "/aiofastlock/_compiled/" in line
        elif line.startswith("calls="):
            called = True  # the next line is the callee's cost, which its own lines have, too
        elif line[:1].isdigit():
            if not called:
                cost = int(line.split()[1])
                total += cost
                own += cost * ours
            called = False
    return total, own


def count(implementation: str) -> dict[str, dict[str, float]]:
    """Return the cost of one pass of each row."""
    found = {}
    counted = callgrind(implementation)
    for number, (row, _) in enumerate(rows_of(implementation)):
        *_, once, twice = counted[: len(TIMES) * (number + 1)]
        total, own = ((more - less) / PASSES for more, less in zip(twice, once, strict=True))
        found[row.name] = {"total": round(total, 1), "own": round(own, 1)}
    return found


def count_all(names: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Count each implementation in a separate process, two at a time."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    floors.load_floor()  # compiles it before two processes need it
    with ThreadPoolExecutor(2) as pool:
        for name, counts in zip(names, pool.map(count, names), strict=True):
            for row, figures in counts.items():
                found.setdefault(row, {})[name] = figures
                total, own = figures.values()
                print(f"{name:10}{row:36}{total:12,.1f} total{own:10,.1f} own", flush=True)
    return found


# ---- Comparing ----


def built_with() -> dict[str, str]:
    """Return what the counts depend on: this Python, and what compiled the extension."""
    compiled = Path(
        importlib.import_module("aiofastlock._compiled._lock").__file__ or ""
    ).read_bytes()
    compiler = re.search(rb"GCC: \([^\0]*|clang version [^\0]*", compiled)
    cython = re.search(rb"_cython_(\d+_\d+_\d+\w*)", compiled)
    return {
        "python": sys.version,
        "machine": platform.machine(),
        "compiler": compiler[0].decode() if compiler else "unknown",
        "cython": cython[1].decode().replace("_", ".") if cython else "unknown",
    }


def comparable(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return which of total and own are comparable between two builds."""
    if any(old[name] != new[name] for name in ("machine", "compiler")):
        return []
    return ["total", "own"] if old["python"] == new["python"] else ["own"]


def compare(
    old: Mapping[str, Any], new: Mapping[str, Any], figures: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Return the counts that are higher than the tolerance allows, and those that are lower."""
    more, less = [], []
    for row, before in old.items():
        for figure in figures:
            was, now = before["compiled"][figure], new[row]["compiled"][figure]
            change = now / was - 1 if was else 0
            said = f"{row}, {figure}: {was:,.1f} -> {now:,.1f} ({change:+.1%})"
            if change > TOLERANCE:
                more.append(said)
            elif change < -TOLERANCE:
                less.append(said)
    return more, less


def check(baseline: Mapping[str, Any], build: Mapping[str, str], counts: Mapping[str, Any]) -> int:
    """Compare with the baseline, print the differences, and return the exit status."""
    figures = comparable(baseline["build"], build)
    if figures != ["total", "own"]:
        print("\n*** THE BASELINE WAS COUNTED ON ANOTHER BUILD ***")
        for name, was in baseline["build"].items():
            if was != build[name]:
                print(f"*** {name}: {was}; here: {build[name]}")
        what = "only aiofastlock's own instructions are" if figures else "NOTHING CAN BE"
        print(f"*** {what} compared ***")
    more, less = compare(baseline["counts"], counts, figures)
    for said in less:
        print(f"less: {said}; renew the baseline")
    for said in more:
        print(f"MORE: {said}")
    compared = (
        f"{' and '.join(figures)} of {len(baseline['counts'])} rows" if figures else "nothing"
    )
    print(f"compared: {compared}; more than {TOLERANCE:.0%} up: {len(more)}")
    return 1 if more else 0


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        run_passes(sys.argv[2])
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--renew", action="store_true", help="write the baseline")
    parser.add_argument("--check", action="store_true", help="compare with the baseline")
    arguments = parser.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("counts.py requires valgrind")
    baselines = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    baseline = baselines.get(results.python_name())
    # The baseline's other columns are for readers.
    build, counts = built_with(), count_all(COMPARED[:1] if arguments.check else COMPARED)
    if arguments.renew:
        baselines[results.python_name()] = {"build": build, "passes": PASSES, "counts": counts}
        BASELINE.write_text(json.dumps(dict(sorted(baselines.items())), indent=1) + "\n")
    if not arguments.check:
        rows = [
            {"row": row, "implementation": name, **figures}
            for row, of_row in counts.items()
            for name, figures in of_row.items()
        ]
        print(f"wrote {results.write('counts', rows, build=build)}")
        return 0
    if baseline is None:
        print(f"\n*** NO BASELINE FOR {results.python_name()}: NOTHING CAN BE COMPARED ***")
        return 0
    return check(baseline, build, counts)


if __name__ == "__main__":
    sys.exit(main())
