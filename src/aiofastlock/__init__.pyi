import asyncio
from contextlib import AbstractContextManager
from typing import Any, Final, Literal

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

# Not asyncio's subclasses when they run: to type checkers they are, so that code annotated with
# asyncio's takes ours.

class Lock(asyncio.Lock): ...
class Event(asyncio.Event): ...
class Condition(asyncio.Condition): ...
class Semaphore(asyncio.Semaphore): ...
class BoundedSemaphore(asyncio.BoundedSemaphore, Semaphore): ...
class Barrier(asyncio.Barrier): ...

def install() -> dict[str, Any]: ...
def uninstall() -> None: ...
def installed() -> AbstractContextManager[None]: ...
