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

# These are subclasses of asyncio's classes, at run time too. Only what differs from typeshed's
# classes is declared.

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
    # asyncio's returns the index; typeshed declares that it returns the barrier.
    async def __aenter__(self) -> int: ...  # type: ignore[override]
