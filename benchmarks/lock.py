"""Measures aiofastlock.Lock against asyncio's, floors and targets: see README.md."""

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
    acquire_and_release,
    cancel,
    enter_and_leave,
    hand_off,
    measure,
    print_environment,
)

COMPILED = aiofastlock.IMPLEMENTATION == "compiled"
SECONDS = 3.0  # for each measurement
WAITERS = (1_000, 4_000, 10_000, 40_000)
WAITERS_OF_ASYNCIO = WAITERS[:3]  # it takes the square of their number


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


async def enter_nothing(library: ModuleType, passes: int) -> int:
    """Do what enter_and_leave() does, with nothing to exclude anybody."""
    nothing = library.Lock()
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


async def ping_pong(_library: ModuleType, passes: int, tasks: int) -> int:
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


async def cancel_bare(_library: ModuleType, passes: int) -> int:
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


def show_growth(name: str, cost: dict[int, float], target: Target) -> None:
    few, many = cost[4_000], cost[40_000]
    growth = many / few
    show(name, f"{few:,.0f} ns", f"{many:,.0f} ns", f"{growth:.2f}", target.verdict(growth))


def show_loop(runner: asyncio.Runner, floor: ModuleType, hand_off_target: float) -> None:
    """Measure everything that needs a loop on this one."""
    contestants = [
        (enter_and_leave, asyncio),
        (enter_nothing, floor),
        (enter_and_leave, aiofastlock),
    ]
    theirs, least, ours = measure(runner, contestants, SECONDS, passes=8_000)
    show_ratio("async with / asyncio", theirs, ours, at_least(3.4))
    show_excess("async with / no-op", least, ours, at_most(1.15))

    both = [(acquire_and_release, asyncio), (acquire_and_release, aiofastlock)]
    theirs, ours = measure(runner, both, SECONDS, passes=16_000)
    version = sys.version_info[:2]
    compiled = 2.5 if version >= (3, 15) else 1.6 if version == (3, 14) else None
    show_ratio("acquire(), release() / asyncio", theirs, ours, at_least(compiled))

    contestants = [(hand_off, asyncio), (ping_pong, asyncio), (hand_off, aiofastlock)]
    theirs, least, ours = measure(runner, contestants, SECONDS, passes=3_000, tasks=2)
    show_ratio("hand-off between 2 tasks / asyncio", theirs, ours, at_least(hand_off_target))
    show_excess("hand-off between 2 tasks / bare futures", least, ours, NONE)

    ours_of: dict[int, float] = {}
    bare_of: dict[int, float] = {}
    for waiters in WAITERS:
        name = f"cancelling one of {waiters:,}"
        contestants = [(cancel_bare, asyncio), (cancel, aiofastlock)]
        if waiters in WAITERS_OF_ASYNCIO:
            contestants.append((cancel, asyncio))
        seconds = SECONDS * max(1, waiters / 20_000)
        bare, ours, *asyncios = measure(runner, contestants, seconds, passes=waiters)
        for theirs in asyncios:
            show_ratio(f"{name} / asyncio", theirs, ours, at_least(None))
        show_excess(f"{name} / bare futures", bare, ours, NONE)
        ours_of[waiters], bare_of[waiters] = ours, bare
    show_growth("cancelling one of 40,000 / of 4,000", ours_of, at_most(1.5))
    show_growth("the same on bare futures", bare_of, NONE)


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
            show_loop(runner, floor, hand_off_target)
    print()
    theirs, ours = (sys.getsizeof(library.Lock()) for library in (asyncio, aiofastlock))
    verdict = at_most(96).verdict(ours)
    show("sys.getsizeof(Lock()) *", f"{theirs} bytes", f"{ours} bytes", "", verdict)
    print("\n* asyncio's also has attributes, which are kept elsewhere and not counted here")


if __name__ == "__main__":
    main()
