"""CPython's tests of its locks, on the event loops with which trio-asyncio replaces asyncio's.

The package's own tests include all of CPython's, but collect them in a way that pytest 9 refuses.
"""

import asyncio

import trio_asyncio
from test.test_asyncio.test_locks import (  # noqa: F401
    BarrierTests,
    ConditionTests,
    EventTests,
    LockTests,
    SemaphoreTests,
)


def test_the_loop_is_trio_asyncios():
    with asyncio.Runner() as runner:
        assert isinstance(runner.get_loop(), trio_asyncio.BaseTrioEventLoop)
