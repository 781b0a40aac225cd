"""Measures aiofastlock against asyncio, floors and targets: see README.md."""

from __future__ import annotations

import asyncio
import importlib
import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from types import ModuleType
from typing import Any

from Cython.Build import cythonize
from setuptools import Distribution, Extension

import aiofastlock
from aiofastlock.__main__ import (
    ROWS,
    Workload,
    cancel,
    enter_and_leave,
    fail,
    hand_off,
    measure,
    notify_in_a_row,
    print_environment,
    release_in_a_row,
)

COMPILED = aiofastlock.IMPLEMENTATION == "compiled"
SECONDS = 3.0  # for each measurement

# How many times as fast as asyncio the compiled half should be, on 3.15 and on 3.14, by row of
# `python -m aiofastlock`. The pure half should nowhere be slower.
RATIOS: dict[str, tuple[float, float]] = {
    "async with lock": (3.4, 3.4),
    "async with semaphore": (5.5, 5.5),
    "async with bounded semaphore": (6, 6),
    "async with condition": (3.5, 3.5),
    "lock: acquire(), release()": (2.5, 1.6),
    "semaphore: acquire(), release()": (4, 2.5),
    "event: wait() when set": (2, 2),
    "lock: hand-off between 2 tasks": (1.35, 1.35),
    "condition: notify, 2 tasks": (1.35, 1.35),
    "event: broadcast to 1,000 tasks, each": (1.25, 1.25),
    "barrier of 10: a wait": (4, 4),
    "Event()": (4, 4),
    "Condition()": (5, 5),
}
BYTES = {"Lock": 96, "Event": 112, "Semaphore": 112, "Condition": 192, "Barrier": 192}

# asyncio takes the square of their number.
WAITERS_OF_ASYNCIO = 4_000
WAITERS = (4_000, 40_000)


def build_floor() -> ModuleType:
    """Compile _floor.pyx into build/benchmarks, unless that is done for this Python; import it."""
    here = Path(__file__).resolve().parent
    build = here.parent / "build" / "benchmarks"
    flags = ["/O2"] if os.name == "nt" else ["-O3"]
    extension = Extension("_floor", [str(here / "_floor.pyx")], extra_compile_args=flags)
    modules: Any = cythonize([extension], build_dir=str(build), quiet=True)
    command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(build)
    command.ensure_finalized()
    command.run()
    sys.path.insert(0, str(build))
    return importlib.import_module("_floor")


# ---- Floors ----


async def enter_nothing(primitive: Any, passes: int) -> int:
    """Do what enter_and_leave() does, with nothing to exclude anybody."""
    nothing = primitive()
    counted = 0
    start = perf_counter_ns()
    for _ in range(passes // 4):
        async with nothing:
            pass
        async with nothing:
            pass
        async with nothing:
            pass
        async with nothing:
            counted += 4
    return perf_counter_ns() - start


async def ping_pong(_primitive: Any, passes: int, tasks: int) -> int:
    """Do what hand_off() does, with no lock: a future made, another one set, the first awaited."""
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(tasks)]

    async def take_turns(number: int) -> None:
        following = (number + 1) % tasks
        for _ in range(passes // tasks):
            await futures[number]
            futures[number] = loop.create_future()
            futures[following].set_result(None)

    everybody = asyncio.gather(*[take_turns(number) for number in range(tasks)])
    await asyncio.sleep(0)
    start = perf_counter_ns()
    futures[0].set_result(None)
    await everybody
    return perf_counter_ns() - start


async def cancel_bare(_primitive: Any, passes: int) -> int:
    """Do what cancel() does, with no lock: each task waits on a future of its own."""
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        await loop.create_future()

    tasks = [asyncio.create_task(wait()) for _ in range(passes)]
    await asyncio.sleep(0)
    random.Random(passes).shuffle(tasks)
    start = perf_counter_ns()
    for task in tasks:
        task.cancel()
    while not task.done():  # noqa: ASYNC110 (they end in the order of cancelling)
        await asyncio.sleep(0)
    return perf_counter_ns() - start


# ---- The table ----


@dataclass
class Target:
    """What a figure should be: at least, or at most, so much. None: no target is set."""

    at_least: float | None = None
    at_most: float | None = None

    def verdict(self, figure: float) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:<4g}  {'reached' if figure >= self.at_least else 'missed'}"
        if self.at_most is not None:
            return f"<= {self.at_most:<4g}  {'reached' if figure <= self.at_most else 'missed'}"
        return ""


NONE = Target()


def at_least(compiled: float | None) -> Target:
    """Return the target for a ratio to asyncio. The pure half should nowhere be slower than it."""
    return Target(at_least=compiled if COMPILED else 1.0)


def ratio_of(row: str) -> float | None:
    """Return the compiled half's target on this Python."""
    of_3_15, of_3_14 = RATIOS.get(row, (None, None))
    version = sys.version_info[:2]
    return of_3_15 if version >= (3, 15) else of_3_14 if version == (3, 14) else None


def at_most(compiled: float) -> Target:
    """Return the target for what is compared with a floor, or counted: the compiled half's only."""
    return Target(at_most=compiled) if COMPILED else NONE


def show(name: str, others: str, ours: str, figure: str, verdict: str = "") -> None:
    line = f"{name:<46}  {others:>11}  {ours:>11}  {figure:>7}  {verdict}"
    print(line.rstrip(), flush=True)


def show_ratio(name: str, others: float, ours: float, target: Target) -> None:
    ratio = others / ours
    show(name, f"{others:,.0f} ns", f"{ours:,.0f} ns", f"{ratio:.2f}x", target.verdict(ratio))


def show_excess(name: str, floor: float, ours: float, target: Target) -> None:
    """Show ours as a multiple of a floor."""
    excess = ours / floor
    show(name, f"{floor:,.0f} ns", f"{ours:,.0f} ns", f"{excess:.2f}", target.verdict(excess))


def show_growth(
    runner: asyncio.Runner, name: str, workload: Workload, primitive: str, target: Target
) -> dict[int, float]:
    """Show what one of many costs, as a multiple of one of few."""
    cost: dict[int, float] = {}
    for waiters in WAITERS:
        contestants = [(workload, getattr(aiofastlock, primitive))]
        if waiters <= WAITERS_OF_ASYNCIO:
            contestants.append((workload, getattr(asyncio, primitive)))
        seconds = SECONDS * max(1, waiters / 20_000)
        ours, *asyncios = measure(runner, contestants, seconds, passes=waiters)
        for theirs in asyncios:
            show_ratio(f"{name} {waiters:,} / asyncio", theirs, ours, at_least(None))
        cost[waiters] = ours
    few, many = cost.values()
    growth = many / few
    figures = f"{few:,.0f} ns", f"{many:,.0f} ns", f"{growth:.2f}"
    show(f"{name} {WAITERS[1]:,} / of {WAITERS[0]:,}", *figures, target.verdict(growth))
    return cost


def show_floors(runner: asyncio.Runner, floor: ModuleType, hand_off_target: float) -> None:
    """Compare with what does nothing, and with bare futures, on this loop."""
    contestants: list[tuple[Workload, Any]] = [
        (enter_and_leave, asyncio.Lock),
        (enter_nothing, floor.Lock),
        (enter_and_leave, aiofastlock.Lock),
    ]
    theirs, least, ours = measure(runner, contestants, SECONDS, passes=8_000)
    show_ratio("async with lock / asyncio", theirs, ours, at_least(ratio_of("async with lock")))
    show_excess("async with lock / no-op", least, ours, at_most(1.15))

    contestants = [(hand_off, asyncio.Lock), (ping_pong, None), (hand_off, aiofastlock.Lock)]
    theirs, least, ours = measure(runner, contestants, SECONDS, passes=3_000, tasks=2)
    show_ratio("lock: hand-off / asyncio", theirs, ours, at_least(hand_off_target))
    show_excess("lock: hand-off / bare futures", least, ours, NONE)


def show_rows(runner: asyncio.Runner) -> None:
    for row in ROWS:
        if row.unit == "ns" and row.name in RATIOS:
            both = [(row.workload, getattr(lib, row.primitive)) for lib in (asyncio, aiofastlock)]
            theirs, ours = measure(runner, both, SECONDS, **row.sizes)
            show_ratio(row.name, theirs, ours, at_least(ratio_of(row.name)))


def show_many(runner: asyncio.Runner) -> None:
    """What grows with the number of those that wait."""
    show_growth(runner, "release(), one of", release_in_a_row, "Semaphore", at_most(1.5))
    show_growth(runner, "notify(), one of", notify_in_a_row, "Condition", at_most(1.5))
    show_growth(runner, "a task in a TaskGroup that fails, of", fail, "Semaphore", NONE)
    show_growth(runner, "cancelling one of", cancel, "Lock", at_most(1.5))
    few, many = (
        measure(runner, [(cancel_bare, None)], SECONDS, passes=waiters)[0] for waiters in WAITERS
    )
    show_excess("the same on bare futures, with no lock", few, many, NONE)
    both = [(fail, asyncio.Semaphore), (fail, aiofastlock.Semaphore)]
    theirs, ours = measure(runner, both, SECONDS, passes=16_000)
    show_ratio("a failing TaskGroup of 16,000 / asyncio", theirs, ours, at_least(20))


def show_sizes() -> None:
    for name, most in BYTES.items():
        arguments = [10] if name == "Barrier" else []
        theirs, ours = (
            sys.getsizeof(getattr(library, name)(*arguments)) for library in (asyncio, aiofastlock)
        )
        verdict = at_most(most).verdict(ours)
        show(f"sys.getsizeof({name}) *", f"{theirs} bytes", f"{ours} bytes", "", verdict)


def loops() -> Iterator[tuple[str, Callable[[], asyncio.AbstractEventLoop], float]]:
    """Yield the loops there are, each with the compiled half's target for a hand-off on it."""
    yield "asyncio", asyncio.new_event_loop, 1.35
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError as error:
        print(f"\nno figures for uvloop: {error}")
    else:
        yield f"uvloop {uvloop.__version__}", uvloop.new_event_loop, 1.5


def main() -> None:
    floor = build_floor()
    print_environment()
    for name, new_loop, hand_off_target in loops():
        print()
        show(f"on {name}", "the other", "aiofastlock", "figure", "target")
        with asyncio.Runner(debug=False, loop_factory=new_loop) as runner:
            show_floors(runner, floor, hand_off_target)
            if name == "asyncio":
                show_rows(runner)
                show_many(runner)
    print()
    show_sizes()
    print("\n* asyncio's also have attributes, a deque and a lock, which are not counted here")


if __name__ == "__main__":
    main()
