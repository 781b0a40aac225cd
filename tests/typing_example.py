"""Checked by mypy --strict: our Lock goes wherever asyncio's is annotated."""

import asyncio
from typing import Literal, assert_type

import aiofastlock
from aiofastlock import Lock

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
