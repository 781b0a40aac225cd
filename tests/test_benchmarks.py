"""The benchmarks: that they run, see what is wrong, and report what they found."""

import asyncio
import copy
import dataclasses
import json
import os
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import OURS

from aiofastlock import _benchmark
from aiofastlock._benchmark import ROWS, acquire_and_release, cancel, enter_and_leave, own_copy

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


class Open:
    """What has a lock's methods and keeps nobody out."""

    async def __aenter__(self):
        pass

    async def __aexit__(self, exc_type, exc, tb):
        pass


async def test_a_lock_that_excludes_nobody_is_found_out():
    with pytest.raises(RuntimeError, match="entered a lock that another holds"):
        await enter_and_leave(Open, 4)


async def test_a_lock_that_lets_in_who_is_cancelled_later_is_found_out():
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


async def test_a_floor_is_not_asked_to_keep_anybody_out():
    class Floor(Open):
        excludes = False

    assert await enter_and_leave(Floor, 4) > 0


@pytest.mark.parametrize("order", ["FIFO", "LIFO", "random"])
async def test_waiters_are_cancelled_in_any_order(OurLock, order):
    assert await cancel(OurLock, 10, order) > 0


async def test_an_order_that_there_is_not(OurLock):
    with pytest.raises(RuntimeError, match="no such order: FILO"):
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


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, ""),
        ({"Py_GIL_DISABLED": 1}, ", free-threaded"),
        (
            {"CONFIG_ARGS": "--with-pydebug", "Py_DEBUG": 1},
            ", a debug build, which says little about speed",
        ),
        ({"CONFIG_ARGS": "'--enable-optimizations'"}, ", an optimised build"),
        (
            {"CONFIG_ARGS": "''", "PGO_PROF_USE_FLAG": "-fprofile-use"},
            ", built without --enable-optimizations, which flatters a C extension",
        ),
    ],
)
def test_a_python_is_described(monkeypatch, variables, words):
    monkeypatch.setattr(sysconfig, "get_config_var", variables.get)
    name, comma, rest = _benchmark.describe_python().partition(",")
    assert comma + rest == words
    assert name.split()[0] in ("CPython", "PyPy")


@pytest.mark.parametrize("asked", [False, True])
def test_why_the_half_is_pure(monkeypatch, capsys, asked):
    monkeypatch.setattr(_benchmark.aiofastlock, "IMPLEMENTATION", "pure")
    monkeypatch.setitem(sys.modules, "aiofastlock._compiled._lock", None)
    monkeypatch.setenv("AIOFASTLOCK_EXTENSIONS", "0" if asked else "")
    _benchmark.print_environment()
    out = capsys.readouterr().out
    assert "the pure half, on " in out
    assert ("*** THE COMPILED HALF IS NOT IN USE: " in out) is not asked


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
ob=/env/aiofastlock/_lock.so
fn=b
5 30
6 3
totals: 133""".splitlines()
    assert counts.read_callgrind(lines) == (133, 33)


# ---- The report ----


def test_the_report_says_what_is_missed(benchmarks, monkeypatch, tmp_path):
    import report
    import results

    monkeypatch.setattr(results, "RESULTS", tmp_path)
    for readme in report.READMES:
        assert report.NOTHING in report.fill(readme.read_text(encoding="utf-8"))
    build = "CPython 3.14.0, built without --enable-optimizations"
    environment = {"build": build, "processor": "a processor", "versions": {}}
    to_asyncio = {"loop": "asyncio", "row": "async with lock", "against": "asyncio", "rounds": 3}
    row = {**to_asyncio, "ratio": 3.5, "ours": 100.0, "other": 350.0}
    for python in ("3.14", "3.9"):
        found = {"environment": environment, "rows": [row]}
        (tmp_path / f"ratios-{python}.json").write_text(json.dumps(found))
    text = "before\n<!-- benchmark: {} -->\nold\n<!-- end -->\nafter"
    filled = report.fill(text.format("marks"))
    assert "| `async with lock` | 3.50 | - | 3.50 | \u2265 3.7, **missed** |" in filled
    assert filled.startswith("before\n<!--")
    assert filled.endswith("<!-- end -->\nafter")
    assert "old" not in filled
    assert build in report.fill(text.format("ratios"))
    assert report.fill(filled) == filled


def test_results_do_not_tell_whose_machine_it_is(benchmarks):
    import results

    text = json.dumps(results.environment())
    assert str(Path.home()) not in text
    assert os.sep + "usr" not in text
