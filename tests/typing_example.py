"""mypy --strict and pyright check that aiofastlock's classes fit annotations of asyncio's.

A line that they must reject has a comment that ignores the error. They report unused comments.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from fractions import Fraction
from typing import Any, Literal, assert_type

import aiofastlock
from aiofastlock import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    LifoQueue,
    Lock,
    PriorityQueue,
    Queue,
    QueueEmpty,
    QueueFull,
    QueueShutDown,
    RWLock,
    Semaphore,
    watch,
)

assert_type(aiofastlock.__version__, str)
assert_type(aiofastlock.IMPLEMENTATION, Literal["compiled", "pure"])


async def takes_asyncios(lock: asyncio.Lock) -> None:
    async with lock as nothing:
        assert_type(nothing, None)


class Named(Lock):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    async def acquire(self) -> Literal[True]:
        return await super().acquire()


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
    assert_type(await asyncio.wait_for(lock.acquire(), 1), Literal[True])
    async with asyncio.TaskGroup() as group:
        group.create_task(Event().wait())


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
    Semaphore(2.5)
    BoundedSemaphore(value=Fraction(5, 2))
    async with Condition(asyncio.Lock()) as nothing:
        assert_type(nothing, None)
    barrier = Barrier(3)
    async with barrier as index:
        assert_type(index, int)
    await barrier.reset()
    await barrier.abort()
    assert_type((barrier.parties, barrier.n_waiting, barrier.broken), tuple[int, int, bool])


async def as_context_managers(managers: list[AbstractAsyncContextManager[object]]) -> None:
    async with AsyncExitStack() as stack:
        for manager in [*managers, Lock(), Semaphore(), Condition()]:
            await stack.enter_async_context(manager)
        assert_type(await stack.enter_async_context(Barrier(1)), int)


class Pool:
    def __init__(self, make: type[asyncio.Lock] = Lock) -> None:
        self.lock = make()
        self.ready: Callable[[], Awaitable[bool]] = Event().wait


def narrowed(lock: asyncio.Lock) -> None:
    if isinstance(lock, Lock):
        assert_type(lock, Lock)
    else:
        assert_type(lock, asyncio.Lock)


def in_asyncios_place() -> int:
    assert_type(aiofastlock.install(), dict[str, Any])
    aiofastlock.uninstall()
    with aiofastlock.installed() as nothing:
        assert_type(nothing, None)
        return 5


# aiofastlock's classes are accepted as asyncio's, as subclasses are. The reverse is rejected.
asyncios: list[asyncio.Lock] = [Lock(), asyncio.Lock()]
ours: Lock = asyncio.Lock()  # type: ignore[assignment]
other: asyncio.Lock = Semaphore()  # type: ignore[assignment]

Condition(Semaphore())  # type: ignore[arg-type]
Semaphore("2")  # type: ignore[arg-type]
Barrier()  # type: ignore[call-arg]
Lock(loop=None)  # type: ignore[call-arg]


async def takes_asyncios_queue(queue: asyncio.Queue[int]) -> int:
    await queue.put(1)
    return await queue.get()


async def items() -> None:
    queue = Queue[int](maxsize=2)
    await takes_asyncios_queue(queue)
    assert_type(queue.get_nowait(), int)
    assert_type(await asyncio.wait_for(queue.get(), 1), int)
    queue.put_nowait("1")  # type: ignore[arg-type]
    queue.task_done()
    await queue.join()
    queue.shutdown(immediate=True)
    numbers: asyncio.PriorityQueue[tuple[int, str]] = PriorityQueue[tuple[int, str]]()
    assert_type(await numbers.get(), tuple[int, str])
    texts: Queue[str] = LifoQueue()
    with suppress(QueueEmpty, QueueFull, QueueShutDown):
        assert_type(texts.get_nowait(), str)


class UpperCase(Queue[str]):
    def _put(self, item: str) -> None:
        super()._put(item.upper())


async def readers_and_writers() -> None:
    lock = RWLock()
    async with lock.reader_lock as nothing:
        assert_type(nothing, None)
    assert_type(await lock.writer_lock.acquire(), Literal[True])
    assert_type(lock.writer_lock.locked(), bool)
    lock.writer_lock.release()
    if lock.reader_lock.try_acquire():
        lock.reader_lock.release()
    await as_context_managers([lock.reader_lock, lock.writer_lock])


async def by_key(host: str) -> None:
    locks = aiofastlock.KeyedLock[str]()
    async with locks[host] as nothing:
        assert_type(nothing, None)
    assert_type(locks[host], aiofastlock.Lock)
    assert_type(locks[host].try_acquire(), bool)
    locks[1]  # type: ignore[index]
    assert_type(list(locks), list[str])
    semaphores: aiofastlock.KeyedSemaphore[tuple[str, int]] = aiofastlock.KeyedSemaphore(4)
    assert_type(semaphores[host, 80], aiofastlock.BoundedSemaphore)
    assert_type(host in locks, bool)


def watched() -> None:
    watch.start(stuck_after=5, on_deadlock="raise", order="each")
    watch.start(on_deadlock="panic")  # type: ignore[arg-type]
    assert_type(watch.is_watching(), bool)
    snapshot = watch.snapshot()
    assert_type(snapshot.primitives, tuple[watch.Primitive, ...])
    for primitive in snapshot.primitives:
        for holder in primitive.holders:
            assert_type(holder.task, asyncio.Task[Any] | None)
            assert_type(holder.held_for, float | None)
            assert_type(holder.where, watch.Place | None)
        for waiter in primitive.waiters:
            assert_type(waiter.task, asyncio.Task[Any])
    for deadlock in snapshot.deadlocks:
        assert_type(deadlock.kind, Literal["self", "circle", "permits", "ended"])
    assert_type(snapshot.as_dict(), dict[str, Any])
    assert_type([found.total_wait for found in watch.statistics()], list[float])
    try:
        watch.stop()
    except watch.DeadlockError as error:
        assert_type(error.deadlock, watch.Deadlock)
