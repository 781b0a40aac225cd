"""KeyedLock, try_acquire() and RWLock, against what they replace and against Lock.

    python benchmarks/keys.py [--seconds SECONDS]

Prints the nanoseconds of each, the best of many rounds in which all take turns, and how many times
the first of its table it takes. asyncio-keyed-lock and aiorwlock are compared if they are
installed. At the end, many different keys are locked one after the other, and the memory of the
process is printed before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiofastlock
from aiofastlock import _benchmark

Work = Callable[[int], Awaitable[None]]


async def enter_a_lock(times: int) -> None:
    lock = aiofastlock.Lock()
    for _ in range(times):
        async with lock:
            pass


async def enter_a_key(times: int) -> None:
    locks = aiofastlock.KeyedLock[str]()
    for _ in range(times):
        async with locks["key"]:
            pass


async def enter_a_key_by_hand(times: int) -> None:
    """A dictionary that is cleaned as soon as nobody holds the lock or waits for it."""
    locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
    for _ in range(times):
        lock = locks["key"]
        try:
            async with lock:
                pass
        finally:
            if not lock.locked() and not lock._waiters:  # type: ignore[attr-defined]
                del locks["key"]


async def enter_a_key_of_asyncio_keyed_lock(times: int) -> None:
    locks = importlib.import_module("asyncio_keyed_lock").AsyncioKeyedLock()
    for _ in range(times):
        async with locks("key"):
            pass


async def hand_over(lock_of: Callable[[], Any], times: int) -> None:
    async def work() -> None:
        for _ in range(times // 2):
            async with lock_of():
                await asyncio.sleep(0)

    await asyncio.gather(work(), work())


async def hand_over_a_lock(times: int) -> None:
    lock = aiofastlock.Lock()
    await hand_over(lambda: lock, times)


async def hand_over_a_key(times: int) -> None:
    locks = aiofastlock.KeyedLock[str]()
    await hand_over(lambda: locks["key"], times)


async def acquire_and_release(times: int) -> None:
    lock = aiofastlock.Lock()
    for _ in range(times):
        await lock.acquire()
        lock.release()


async def try_and_release(times: int) -> None:
    lock = aiofastlock.Lock()
    for _ in range(times):
        lock.try_acquire()
        lock.release()


async def read(times: int) -> None:
    lock = aiofastlock.RWLock()
    for _ in range(times):
        async with lock.reader_lock:
            pass


async def write(times: int) -> None:
    lock = aiofastlock.RWLock()
    for _ in range(times):
        async with lock.writer_lock:
            pass


async def read_of_aiorwlock(times: int) -> None:
    lock = importlib.import_module("aiorwlock").RWLock()
    for _ in range(times):
        async with lock.reader_lock:
            pass


async def write_of_aiorwlock(times: int) -> None:
    lock = importlib.import_module("aiorwlock").RWLock()
    for _ in range(times):
        async with lock.writer_lock:
            pass


def let_in(readers: int) -> Work:
    """So many readers are let in at once by a writer; the cost of one."""

    async def work(times: int) -> None:
        for _ in range(max(1, times // readers)):
            lock = aiofastlock.RWLock()
            await lock.writer_lock.acquire()
            tasks = [asyncio.create_task(lock.reader_lock.acquire()) for _ in range(readers)]
            await asyncio.sleep(0)
            lock.writer_lock.release()
            await asyncio.gather(*tasks)

    return work


TABLES: list[dict[str, Work]] = [
    {
        "async with lock": enter_a_lock,
        "async with locks[key]": enter_a_key,
        "async with locks[key], of a defaultdict cleaned by hand": enter_a_key_by_hand,
        "async with locks(key), of asyncio-keyed-lock": enter_a_key_of_asyncio_keyed_lock,
        "async with lock.reader_lock": read,
        "async with lock.writer_lock": write,
        "async with lock.reader_lock, of aiorwlock": read_of_aiorwlock,
        "async with lock.writer_lock, of aiorwlock": write_of_aiorwlock,
    },
    {
        "lock: acquire(), release()": acquire_and_release,
        "lock: try_acquire(), release()": try_and_release,
    },
    {
        "lock: hand-off between 2 tasks": hand_over_a_lock,
        "lock of a key: hand-off between 2 tasks": hand_over_a_key,
    },
    {f"{count:,} readers let in, each": let_in(count) for count in (100, 1_000, 10_000)},
]


async def compare(table: dict[str, Work], seconds: float) -> None:
    missing = {}
    best = dict.fromkeys(table, float("inf"))
    end = time.perf_counter() + seconds * len(table)
    rounds = 0
    while time.perf_counter() < end or rounds < 3:
        rounds += 1
        for name, work in table.items():
            if name in missing:
                continue
            times = 10_000
            gc.collect()
            begin = time.perf_counter()
            try:
                await work(times)
            except ImportError as error:
                missing[name] = error
                continue
            best[name] = min(best[name], (time.perf_counter() - begin) / times * 1e9)
    first = next(iter(best.values()))
    for name, cost in best.items():
        if name in missing:
            print(f"{name:57} not measured: {missing[name]}")
        else:
            print(f"{name:57}{cost:9,.0f} ns{cost / first:8.2f}")
    print(flush=True)


def resident() -> int:
    """The memory of the process in KiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


async def lock_many(keys: int) -> None:
    locks = aiofastlock.KeyedLock[int]()
    for key in range(100_000):
        async with locks[key]:
            pass
    before = resident()
    for key in range(keys):
        async with locks[key]:
            pass
    print(f"{keys:,} keys, one after the other: {before:,} KiB, then {resident():,} KiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2, help="for each row (default: 2)")
    parser.add_argument("--keys", type=int, default=10_000_000)
    arguments = parser.parse_args()
    _benchmark.print_environment()
    with asyncio.Runner() as runner:
        for table in TABLES:
            runner.run(compare(table, arguments.seconds))
        runner.run(lock_many(arguments.keys))


if __name__ == "__main__":
    main()
