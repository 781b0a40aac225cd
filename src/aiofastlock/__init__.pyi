import asyncio
from typing import Final, Literal

from typing_extensions import disjoint_base

from aiofastlock._install import install, installed, uninstall

__all__ = [
    "IMPLEMENTATION",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "Lock",
    "Semaphore",
    "install",
    "installed",
    "uninstall",
]

__version__: Final[str]
IMPLEMENTATION: Final[Literal["compiled", "pure"]]

# To type checkers, and to them alone, these are asyncio's subclasses: code annotated with asyncio's
# takes ours, and asyncio's are not mistaken for ours. The price: isinstance(lock, asyncio.Lock) is
# False when it runs, and they believe that it is True. Written out is what differs from typeshed.

@disjoint_base
class Lock(asyncio.Lock): ...

@disjoint_base
class Event(asyncio.Event): ...

@disjoint_base
class Condition(asyncio.Condition): ...

@disjoint_base
class Semaphore(asyncio.Semaphore): ...

@disjoint_base
class BoundedSemaphore(Semaphore, asyncio.BoundedSemaphore): ...

@disjoint_base
class Barrier(asyncio.Barrier):
    # The index, as asyncio's: typeshed has the barrier.
    async def __aenter__(self) -> int: ...  # type: ignore[override]
