"""asyncio's locks and queues, in C.

Write `from aiofastlock import Lock` in place of `from asyncio import Lock`; nothing else in the
program changes. The same is true of Event, Condition, Semaphore, BoundedSemaphore, Barrier, Queue,
LifoQueue and PriorityQueue. install() puts the nine classes into asyncio, uninstall() restores what
was there, and `with installed():` does both.

KeyedLock and KeyedSemaphore have a lock, or permits, for each key. RWLock is a lock that many
readers or one writer can hold. asyncio has no such classes.

QueueEmpty and QueueFull are asyncio's exceptions. So is QueueShutDown, which asyncio has from
Python 3.13 on; before that, it is aiofastlock's own.

IMPLEMENTATION is "compiled" or "pure", the implementation in use. The environment variable
AIOFASTLOCK_EXTENSIONS chooses it when aiofastlock is imported: if unset, the compiled one, or the
pure-Python one where that cannot be imported; if 0, the pure-Python one; if 1, the compiled one,
or an ImportError that says why it cannot be imported.

aiofastlock.watch tells who holds what, and why a program is stuck. AIOFASTLOCK_WATCH=1 starts it
when aiofastlock is imported.
"""

import os as _os

from aiofastlock import _implementation
from aiofastlock._implementation import IMPLEMENTATION
from aiofastlock._install import install, installed, uninstall
from aiofastlock._shared import when_asked_for as _when_asked_for

__version__ = "0.1.0"
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

__getattr__, __dir__ = _when_asked_for(globals(), lambda name: getattr(_implementation, name))

_watch_setting = _os.environ.get("AIOFASTLOCK_WATCH", "")
if _watch_setting not in ("", "0"):
    from aiofastlock.watch import _watching

    _watching.start_by_environment(_watch_setting)
