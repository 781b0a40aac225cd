"""The primitives in plain Python: the specification of the compiled ones, and their fallback."""

from aiofastlock._pure.barrier import Barrier
from aiofastlock._pure.condition import Condition
from aiofastlock._pure.event import Event
from aiofastlock._pure.keyed import KeyedLock, KeyedSemaphore
from aiofastlock._pure.lock import Lock
from aiofastlock._pure.queues import (
    LifoQueue,
    PriorityQueue,
    Queue,
    QueueEmpty,
    QueueFull,
    QueueShutDown,
)
from aiofastlock._pure.rwlock import RWLock
from aiofastlock._pure.semaphore import BoundedSemaphore, Semaphore

__all__ = [
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
]
