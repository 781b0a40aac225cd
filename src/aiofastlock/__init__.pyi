import asyncio
import sys
from asyncio import QueueEmpty, QueueFull
from collections.abc import Hashable, Iterator
from types import TracebackType
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, type_check_only

from _typeshed import SupportsRichComparisonT

from aiofastlock._install import install, installed, uninstall

__all__ = [
    "IMPLEMENTATION",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "KeyedLock",
    "KeyedSemaphore",
    "LifoQueue",
    "Lock",
    "PriorityQueue",
    "Queue",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "RWLock",
    "Semaphore",
    "install",
    "installed",
    "uninstall",
]

__version__: Final[str]
IMPLEMENTATION: Final[Literal["compiled", "pure"]]

# These are subclasses of asyncio's classes, at run time too. Only what differs from typeshed's
# classes is declared.

class _Number(Protocol):
    def __lt__(self, other: int, /) -> Any: ...
    def __add__(self, other: int, /) -> Any: ...
    def __sub__(self, other: int, /) -> Any: ...

_T = TypeVar("_T")

class Lock(asyncio.Lock):
    def try_acquire(self) -> bool: ...

class Event(asyncio.Event): ...

class Condition(asyncio.Condition):
    def try_acquire(self) -> bool: ...

class Semaphore(asyncio.Semaphore):
    def __init__(self, value: _Number = 1) -> None: ...
    def try_acquire(self) -> bool: ...

class BoundedSemaphore(Semaphore, asyncio.BoundedSemaphore): ...

class Barrier(asyncio.Barrier):
    # asyncio's returns the index; typeshed declares that it returns the barrier.
    async def __aenter__(self) -> int: ...  # type: ignore[override]

class Queue(asyncio.Queue[_T]):
    if sys.version_info < (3, 13):
        def shutdown(self, immediate: bool = False) -> None: ...

class LifoQueue(Queue[_T], asyncio.LifoQueue[_T]): ...
class PriorityQueue(
    Queue[SupportsRichComparisonT], asyncio.PriorityQueue[SupportsRichComparisonT]
): ...

_Key = TypeVar("_Key", bound=Hashable)

class _Keyed(Generic[_Key]):
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_Key]: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __bool__(self) -> Literal[True]: ...

class KeyedLock(_Keyed[_Key]):
    def __getitem__(self, key: _Key, /) -> Lock: ...

class KeyedSemaphore(_Keyed[_Key]):
    def __init__(self, value: int) -> None: ...
    def __getitem__(self, key: _Key, /) -> BoundedSemaphore: ...

if sys.version_info >= (3, 13):
    from asyncio import QueueShutDown
else:
    class QueueShutDown(Exception): ...  # noqa: N818

# asyncio does not have what follows.

@type_check_only
class _LockOfRWLock:
    async def acquire(self) -> Literal[True]: ...
    def try_acquire(self) -> bool: ...
    def release(self) -> None: ...
    def locked(self) -> bool: ...
    async def __aenter__(self) -> None: ...
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None: ...

class RWLock:
    reader_lock: _LockOfRWLock
    writer_lock: _LockOfRWLock
