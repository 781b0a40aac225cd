"""The benchmarks run, detect broken locks, and report their results."""

import asyncio
import copy
import dataclasses
import json
import os
import re
import subprocess
import sys
import sysconfig
import time
import types
from pathlib import Path

import pytest
from conftest import OURS

from aiofastlock import _benchmark
from aiofastlock._benchmark import (
    ROWS,
    acquire_and_release,
    cancel,
    enter_and_leave,
    median_ratio,
    own_copy,
)

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch):
    """Make the scripts importable."""
    monkeypatch.syspath_prepend(BENCHMARKS)


# ---- Workloads ----


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.primitive}-{row.name}")
async def test_every_workload_runs(our_name, row):
    if row.unit == "bytes":
        pytest.importorskip("tracemalloc")
    sizes = {**row.sizes, "passes": max(40, row.sizes.get("tasks", 0))}
    assert await row.workload(getattr(OURS[our_name], row.primitive), **sizes) > 0


def test_the_median_of_the_rounds_ratios():
    """Not the ratio of the medians: a round in which the machine was slow counts as any other."""
    assert median_ratio([20, 400, 30], [10, 100, 10]) == 3


async def test_a_waiter_that_waits_again_is_detected():
    class Event(asyncio.Event):
        async def wait(self):
            await super().wait()
            await asyncio.sleep(0)

    pytest.importorskip("tracemalloc")
    with pytest.raises(RuntimeError, match="a turn was lost"):
        await _benchmark.waiter_size(Event, passes=2)


class Open:
    """A lock's methods without mutual exclusion."""

    async def __aenter__(self):
        pass

    async def __aexit__(self, exc_type, exc, tb):
        pass


async def test_a_lock_without_exclusion_is_detected():
    with pytest.raises(RuntimeError, match="entered a lock that another holds"):
        await enter_and_leave(Open, 4)


async def test_a_lock_that_a_cancelled_task_has_entered_is_detected():
    class Ajar(Open):
        async def acquire(self):
            pass

        async def __aexit__(self, exc_type, exc, tb):
            await asyncio.sleep(60)

    with pytest.raises(RuntimeError, match="entered a lock that another holds"):
        await cancel(Ajar, 4)


async def test_a_workload_can_call_methods_by_other_names(OurLock):
    class Renamed:
        def __init__(self):
            lock = OurLock()
            self.take, self.give, self.locked = lock.acquire, lock.release, lock.locked
            self.lock = lock

        async def __aenter__(self):
            await self.take()

        async def __aexit__(self, exc_type, exc, tb):
            self.give()

    workload = own_copy(acquire_and_release, {"acquire": "take", "release": "give"})
    assert await workload(Renamed, 4) > 0


async def test_a_floor_is_not_checked_for_exclusion():
    class Floor(Open):
        excludes = False

    assert await enter_and_leave(Floor, 4) > 0


@pytest.mark.parametrize("order", ["FIFO", "LIFO", "random"])
async def test_waiters_are_cancelled_in_any_order(OurLock, order):
    assert await cancel(OurLock, 10, order) > 0


async def test_an_unknown_order(OurLock):
    with pytest.raises(RuntimeError, match="unknown order: FILO"):
        await cancel(OurLock, 10, "FILO")


# ---- The table ----


def test_the_table(monkeypatch, capsys):
    async def not_here(primitive, passes):
        raise ImportError("not here")

    timed = next(row for row in ROWS if row.name == "async with lock")
    rows = [
        dataclasses.replace(timed, seconds=0, sizes={"passes": 40}),
        dataclasses.replace(timed, name="another", workload=not_here, sizes={"passes": 1}),
    ]
    monkeypatch.setattr(_benchmark, "ROWS", rows)
    _benchmark.print_table()
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("async with lock ") and line.endswith("x") for line in lines)
    assert "another          not measured: not here" in lines


async def test_no_byte_of_an_object_comes_from_a_free_list(OurLock):
    pytest.importorskip("tracemalloc")
    spares = [OurLock() for _ in range(100)]
    spares.clear()
    assert await _benchmark.size(OurLock, 200) / 200 >= sys.getsizeof(OurLock())


TABLE = """
import dataclasses
from aiofastlock import _benchmark

_benchmark.ROWS[:] = [
    dataclasses.replace(row, seconds=0)
    for row in _benchmark.ROWS
    if row.unit == "bytes" or row.workload is _benchmark.hand_off
]
_benchmark.print_table()
"""
MEMORY = """
import sys
sys.path.insert(0, sys.argv[1])
import memory
from aiofastlock import IMPLEMENTATION
memory.COMPARED = ("asyncio", IMPLEMENTATION)
for row in memory.measure_sizes():
    print(row["row"], row["implementation"], f"{row['bytes']:,.0f} bytes", sep="  ")
"""


def test_the_bytes_of_the_table_are_those_of_memory():
    pytest.importorskip("tracemalloc")

    def lines(code):
        command = [sys.executable, "-c", code, str(BENCHMARKS)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return [re.split("  +", line) for line in output.splitlines() if " bytes" in line]

    found = {}
    for row, _, figure in lines(MEMORY):
        found.setdefault(row, []).append(figure)
    assert {row: figures for row, *figures, _ in lines(TABLE)} == found


def test_a_round_of_each_in_turn():
    async def workload(primitive, passes):
        number, made = primitive
        made.append(number)
        return passes * number

    made = []
    contestants = [(workload, (number, made)) for number in (1, 2)]
    with asyncio.Runner() as runner:
        costs = _benchmark.measure(runner, contestants, 0, passes=5)
    assert costs == [[1, 1, 1], [2, 2, 2]]
    assert made == [1, 2, 1, 2, 1, 2]


# sysconfig's variables, as these builds have them.
PYENV = {
    "CONFIG_ARGS": "'--enable-shared'",
    "PGO_PROF_GEN_FLAG": "-fprofile-generate",
    "PGO_PROF_USE_FLAG": "-fprofile-use -fprofile-correction",
}
PYENV_OPTIMISED = {**PYENV, "CONFIG_ARGS": "'--enable-shared' '--enable-optimizations'"}
DEBIAN = {**PYENV, "PGO_PROF_USE_FLAG": ""}
UNKNOWN_COMPILER = {**DEBIAN, "PGO_PROF_GEN_FLAG": ""}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, ""),
        ({"Py_GIL_DISABLED": 1}, ", free-threaded"),
        ({**PYENV, "Py_DEBUG": 1}, ", a debug build"),
        (PYENV, ", built without --enable-optimizations"),
        (
            {**PYENV, "Py_GIL_DISABLED": 1},
            ", free-threaded, built without --enable-optimizations",
        ),
        (PYENV_OPTIMISED, ", an optimised build"),
        (DEBIAN, ", an optimised build"),
        (UNKNOWN_COMPILER, ", built without --enable-optimizations"),
    ],
)
def test_a_python_is_described(monkeypatch, variables, words):
    monkeypatch.setattr(sysconfig, "get_config_var", variables.get)
    name, comma, rest = _benchmark.describe_python().partition(",")
    assert comma + rest == words
    assert name.split()[0] in ("CPython", "PyPy")


@pytest.mark.parametrize("chosen", [False, True])
def test_the_environment_says_why_the_implementation_is_pure(monkeypatch, capsys, chosen):
    monkeypatch.setattr(_benchmark.aiofastlock, "IMPLEMENTATION", "pure")
    monkeypatch.setitem(sys.modules, "aiofastlock._compiled._lock", None)
    monkeypatch.setenv("AIOFASTLOCK_EXTENSIONS", "0" if chosen else "")
    _benchmark.print_environment()
    out = capsys.readouterr().out
    assert "the pure-Python implementation, on " in out
    why = "IS NOT IN USE: import of aiofastlock._compiled._lock halted"
    assert (why in out) is not chosen


# ---- Counts ----

BUILD = {"python": "3.15.1", "machine": "x86_64", "compiler": "GCC 15", "cython": "3.3.1"}
COUNTS = {"async with lock": {"compiled": {"total": 1_000.0, "own": 300.0}}}
BASELINE = {"build": BUILD, "counts": COUNTS}


def counted(total=1.0, own=1.0):
    found = copy.deepcopy(COUNTS)
    figures = found["async with lock"]["compiled"]
    figures["total"] *= total
    figures["own"] *= own
    return found


def test_counts_fail_beyond_three_per_cent_more(benchmarks, capsys):
    import counts

    assert counts.check(BASELINE, BUILD, counted(1.029, 1.029)) == 0
    assert counts.check(BASELINE, BUILD, counted(own=0.9)) == 0
    assert "renew the baseline" in capsys.readouterr().out
    assert counts.check(BASELINE, BUILD, counted(total=1.031)) == 1
    assert counts.check(BASELINE, BUILD, counted(own=1.05)) == 1
    assert "MORE: async with lock, own: 300.0 -> 315.0 (+5.0%)" in capsys.readouterr().out


def test_counts_of_another_build_are_compared_as_far_as_they_can_be(benchmarks, capsys):
    import counts

    another = {**BUILD, "python": "3.15.2"}
    assert counts.check(BASELINE, another, counted(total=2)) == 0
    assert "only aiofastlock's own" in capsys.readouterr().out
    assert counts.check(BASELINE, another, counted(own=1.05)) == 1
    another = {**BUILD, "compiler": "GCC 16"}
    assert counts.check(BASELINE, another, counted(2, 2)) == 0
    assert "NOTHING CAN BE compared" in capsys.readouterr().out


def test_a_callgrind_file_is_added_up(benchmarks):
    import counts

    lines = """ob=/usr/bin/python
fn=a
10 100
calls=1 5
11 9999
ob=/env/aiofastlock/_compiled/_lock.so
fn=b
5 30
6 3
totals: 133""".splitlines()
    assert counts.read_callgrind(lines) == (133, 33)


# ---- The report ----


@pytest.fixture
def kept(benchmarks, monkeypatch, tmp_path):
    """Return a function that writes a part's results to an empty directory."""
    import results

    monkeypatch.setattr(results, "RESULTS", tmp_path)

    def write(part, python, rows, build="a build"):
        environment = {
            "build": build,
            "date": "2026-11-23",
            "processor": "a processor",
            "platform": "a platform",
            "versions": {},
        }
        found = {"environment": environment, "rows": rows}
        (tmp_path / f"{part}-{python}.json").write_text(json.dumps(found))

    return write


TEXT = "before\n<!-- benchmark: {} -->\nold\n<!-- end -->\nafter"


def test_the_report_fills_the_space_between_the_markers(kept):
    import report

    for readme in report.READMES:
        assert report.NOTHING in report.fill(readme.read_text(encoding="utf-8"))
    to_asyncio = {"loop": "asyncio", "row": "async with lock", "against": "asyncio", "rounds": 3}
    row = {**to_asyncio, "ratio": 3.5, "ours": 100.0, "other": 350.0}
    floor = {**row, "against": "floor", "ratio": 1.04, "other": 96.0}
    kept("ratios", "3.9", [row], "CPython 3.9.1")
    kept("ratios", "3.14", [row, floor], "CPython 3.14.0")
    filled = report.fill(TEXT.format("asyncio"))
    assert "|  | 3.9 | 3.14 |" in filled
    assert "| async with lock | 3.50x | 3.50x |" in filled
    assert filled.startswith("before\n<!--")
    assert filled.endswith("<!-- end -->\nafter")
    assert "old" not in filled
    assert "| async with lock | - | 1.04 |" in report.fill(TEXT.format("floor"))
    assert "CPython 3.9.1; CPython 3.14.0." in report.fill(TEXT.format("builds"))
    assert report.fill(TEXT.format("ratios")).index("3.14.0") > 0
    assert report.fill(filled) == filled


def test_a_freeze_is_measured_and_reported(kept, monkeypatch):
    import growth
    import report

    in_use = growth.IMPLEMENTATIONS[_benchmark.aiofastlock.IMPLEMENTATION]
    monkeypatch.setitem(growth.IMPLEMENTATIONS, "compiled", in_use)
    rows = growth.measure_freeze(200, 1)
    assert [row["implementation"] for row in rows] == ["asyncio", "aiofastlock"]
    for row, seconds in zip(rows, (38.04, 0.6), strict=True):
        assert row["tasks"] == 200
        assert 0 < row["seconds"] < 60
        row["seconds"] = seconds
    kept("freeze", "3.14", rows)
    said = report.fill(TEXT.format("freeze"))
    assert "A `TaskGroup` of 200 tasks" in said
    assert "asyncio blocks the event loop for 38 s, aiofastlock for 0.6 s" in said


async def test_the_longest_block_is_found(benchmarks):
    import growth

    class Slow(asyncio.Semaphore):
        async def __aenter__(self):
            try:
                await super().__aenter__()
            except asyncio.CancelledError:
                self.block()
                raise

        def block(self):
            time.sleep(0.02)

    # The 5 tasks without a permit block the loop in one iteration.
    assert await growth.longest_block(Slow, 15) >= 0.1


def test_a_program_has_no_time_that_contradicts_its_ratio(kept):
    import report

    itself = {"change": 1.0, "spread": [0.98, 1.02]}
    row = {"program": "a program", "unit": "us", "asyncio": 40.0, "uses": {"Lock()": 3}}
    kept("programs", "3.14", [{**row, "change": 1.01, "spread": [0.99, 1.03], "itself": itself}])
    line = "| a program | 40.0 | 1.010 (0.990 to 1.030) | 1.000 (0.980 to 1.020) | 3 Lock() |"
    assert line in report.fill(TEXT.format("programs"))


def test_the_report_names_the_files_that_it_writes(kept, monkeypatch, capsys, tmp_path):
    import plots
    import report

    def draw(directory):
        yield directory / "plot.svg"

    before = [readme.read_bytes() for readme in report.READMES]
    monkeypatch.setattr(plots, "draw", draw)
    monkeypatch.setattr(sys, "argv", ["report.py", "--into", str(tmp_path)])
    report.main()
    written = {line.removeprefix("wrote ") for line in capsys.readouterr().out.splitlines()}
    names = ("README.md", "benchmarks/README.md", "benchmarks/plots/plot.svg")
    assert written == {str(tmp_path / name) for name in names}
    assert [readme.read_bytes() for readme in report.READMES] == before
    assert (tmp_path / "benchmarks" / "README.md").exists()


def test_a_quick_run_writes_a_report_of_its_own_only(benchmarks, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyperf", types.ModuleType("pyperf"))  # no test requirement
    import results
    import run

    ran = []
    monkeypatch.setattr(run, "run", lambda *command: ran.append(command) or True)
    monkeypatch.setattr(results, "RESULTS", results.RESULTS)
    monkeypatch.setenv("BENCHMARK_RESULTS", "")
    monkeypatch.setattr(run, "QUICK", dict(run.QUICK))
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick", "freeze", "report"])
    assert run.main() == 0
    build = BENCHMARKS.parent / "build" / "benchmarks"
    assert build / "results" == results.RESULTS
    assert ran == [
        ("growth", "--freeze", "2000", "--rounds", "1"),
        ("report", "--into", str(build / "report")),
    ]


def test_results_do_not_name_the_owner_of_the_machine(benchmarks):
    import results

    text = json.dumps(results.environment())
    assert str(Path.home()) not in text
    assert os.sep + "usr" not in text
