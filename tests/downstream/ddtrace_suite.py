"""ddtrace's profiler wraps asyncio's locks, as install() replaces them: both orders work.

The package's own tests of its profiler need DataDog's test agent.
"""

import asyncio

import pytest
from ddtrace.internal.datadog.profiling import ddup
from ddtrace.profiling.collector.asyncio import (
    AsyncioBoundedSemaphoreCollector,
    AsyncioConditionCollector,
    AsyncioLockCollector,
    AsyncioSemaphoreCollector,
)

import aiofastlock
from aiofastlock import watch

COLLECTORS = (
    AsyncioBoundedSemaphoreCollector,
    AsyncioConditionCollector,
    AsyncioLockCollector,
    AsyncioSemaphoreCollector,
)
INSTALLED = asyncio.Lock is aiofastlock.Lock


@pytest.fixture(params=["before", "after"])
def profiled(request, tmp_path):
    """The profiler is started before or after install()."""
    ddup.config(service="suite", output_filename=str(tmp_path / "profile"))
    ddup.start()
    if INSTALLED and request.param == "before":
        aiofastlock.uninstall()
    collectors = [collector(capture_pct=100) for collector in COLLECTORS]
    for collector in collectors:
        collector.start()
    if INSTALLED and request.param == "before":
        aiofastlock.install()
    yield
    for collector in collectors:
        collector.stop()
    if INSTALLED:
        aiofastlock.install()


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "BoundedSemaphore", "Condition"])
def test_one_task_at_a_time(profiled, kind):
    inside = []

    async def enter(thing):
        async with thing:
            inside.append(1)
            assert len(inside) == 1
            await asyncio.sleep(0)
            inside.pop()

    async def main():
        thing = getattr(asyncio, kind)()
        await asyncio.gather(*(enter(thing) for _ in range(5)))

    asyncio.run(main())


def test_a_deadlock(profiled):
    async def main():
        lock = asyncio.Lock()
        async with lock:
            if INSTALLED:  # the watch sees aiofastlock's locks only
                with pytest.raises(watch.DeadlockError, match="which it holds itself"):
                    await lock.acquire()
        assert [found.acquired for found in watch.statistics()] == [1] * INSTALLED

    on = watch.is_watching()
    watch.stop()  # what was counted before
    watch.start(on_deadlock="raise")
    try:
        asyncio.run(main())
    finally:
        watch.stop()
        if on:
            watch.start()
