"""The primitives in Cython and C: fast, and equal to the pure-Python implementation."""

from aiofastlock._compiled._barrier import Barrier
from aiofastlock._compiled._condition import Condition
from aiofastlock._compiled._event import Event
from aiofastlock._compiled._keyed import KeyedLock, KeyedSemaphore
from aiofastlock._compiled._lock import Lock, hide_vtables, import_recorder
from aiofastlock._compiled._queue import LifoQueue, PriorityQueue, Queue
from aiofastlock._compiled._rwlock import ReaderLock, RWLock, WriterLock
from aiofastlock._compiled._semaphore import BoundedSemaphore, Semaphore
from aiofastlock._pure.queues import QueueEmpty, QueueFull, QueueShutDown

hide_vtables(
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    KeyedLock,
    KeyedSemaphore,
    LifoQueue,
    Lock,
    PriorityQueue,
    Queue,
    ReaderLock,
    Semaphore,
    WriterLock,
    type(RWLock()._turns),
)

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
    "import_recorder",
]
