"""The primitives in Cython and C: fast, and equal to the pure-Python implementation."""

import sys
from importlib import import_module

interpreters = import_module(
    "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
)
# The modules keep objects of the first interpreter that imports them, and can't outlive it.
if interpreters.get_current() != interpreters.get_main():
    raise ImportError("it is for the main interpreter only")

from aiofastlock._compiled._barrier import Barrier
from aiofastlock._compiled._condition import Condition
from aiofastlock._compiled._event import Event
from aiofastlock._compiled._lock import Lock, hide_vtables
from aiofastlock._compiled._semaphore import BoundedSemaphore, Semaphore

hide_vtables(Barrier, BoundedSemaphore, Condition, Event, Lock, Semaphore)

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "Semaphore"]
