"""Checked by mypy --strict: ours go wherever asyncio's are annotated."""

import asyncio
from typing import Literal, assert_type

import aiofastlock
from aiofastlock import Barrier, BoundedSemaphore, Condition, Event, Lock, Semaphore

assert_type(aiofastlock.__version__, str)
assert_type(aiofastlock.IMPLEMENTATION, Literal["compiled", "pure"])


async def takes_asyncios(lock: asyncio.Lock) -> None:
    async with lock as nothing:
        assert_type(nothing, None)


class Named(Lock):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


async def main() -> None:
    lock = Lock()
    assert_type(await lock.acquire(), Literal[True])
    assert_type(lock.locked(), bool)
    lock.release()
    await takes_asyncios(lock)
    await takes_asyncios(Named("x"))
    condition = asyncio.Condition(lock)
    async with condition:
        condition.notify_all()
    task = asyncio.create_task(lock.acquire())
    assert_type(await task, Literal[True])


async def takes_all_of_asyncios(
    event: asyncio.Event,
    condition: asyncio.Condition,
    semaphore: asyncio.Semaphore,
    bounded: asyncio.BoundedSemaphore,
    barrier: asyncio.Barrier,
) -> None:
    assert_type(await event.wait(), Literal[True])
    async with semaphore, bounded, condition:
        assert_type(await condition.wait_for(lambda: 5), int)
    assert_type(await barrier.wait(), int)
    async with barrier:
        pass


async def others() -> None:
    bounded = BoundedSemaphore(2)
    await takes_all_of_asyncios(Event(), Condition(Lock()), Semaphore(), bounded, Barrier(3))
    await takes_all_of_asyncios(Event(), Condition(), bounded, bounded, Barrier(parties=3))
    ours: Semaphore = bounded
    assert_type(await ours.acquire(), Literal[True])
