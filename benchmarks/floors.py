"""The floors: the same work without any synchronisation."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import sysconfig
from pathlib import Path
from time import perf_counter_ns
from types import ModuleType
from typing import Any

from aiofastlock._benchmark import cancel_all


def load_floor() -> ModuleType:
    """Import _floor, and compile it into build/benchmarks first if it is missing or outdated."""
    source = Path(__file__).resolve().with_name("_floor.pyx")
    build = source.parent.parent / "build" / "benchmarks"
    compiled = build / f"_floor{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not compiled.exists() or compiled.stat().st_mtime < source.stat().st_mtime:
        compile_extension(source, build)
    if str(build) not in sys.path:
        sys.path.append(str(build))
    return importlib.import_module("_floor")


def compile_extension(source: Path, build: Path) -> None:
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    flags = ["/O2"] if os.name == "nt" else ["-O3"]
    extension = Extension(source.stem, [str(source)], extra_compile_args=flags)
    modules: Any = cythonize([extension], build_dir=str(build), quiet=True)
    command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
    command.build_lib = command.build_temp = str(build)
    command.ensure_finalized()
    command.run()


async def ping_pong(_primitive: Any, passes: int, tasks: int) -> int:
    """Do what hand_off() does, without a lock: the tasks wake each other through futures."""
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


async def cancel_bare(_primitive: Any, passes: int, order: str = "random") -> int:
    """Do what cancel() does, without a lock: each task waits for a future."""
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        await loop.create_future()

    tasks = [asyncio.create_task(wait()) for _ in range(passes)]
    await asyncio.sleep(0)
    return await cancel_all(tasks, order)
