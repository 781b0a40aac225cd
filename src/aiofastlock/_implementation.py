"""Chooses between the compiled and the pure-Python implementation, by AIOFASTLOCK_EXTENSIONS."""

import os
import sys
from importlib import import_module

IMPLEMENTATION = "pure"


def require_main_interpreter() -> None:
    """Raise ImportError in another one: the compiled modules keep objects of the first."""
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    try:
        interpreters = import_module(name)
    except ImportError:
        return  # this Python has no others
    if interpreters.get_current() != interpreters.get_main():
        raise ImportError("it is for the main interpreter only")


_switch = os.environ.get("AIOFASTLOCK_EXTENSIONS", "")
if _switch not in ("", "0", "1"):
    raise ValueError(f"AIOFASTLOCK_EXTENSIONS must be unset, 0 or 1, not {_switch!r}")
if _switch != "0":
    try:
        require_main_interpreter()
        from aiofastlock._compiled import (
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
            QueueEmpty,
            QueueFull,
            QueueShutDown,
            RWLock,
            Semaphore,
        )
    except ImportError as error:
        if _switch == "1":
            raise ImportError(
                "AIOFASTLOCK_EXTENSIONS=1 asks for the compiled implementation of aiofastlock, "
                f"which cannot be imported: {error}. Install aiofastlock where there is a C "
                "compiler and Python's headers, or unset AIOFASTLOCK_EXTENSIONS to use the "
                "pure-Python implementation.",
                name=error.name,
                path=error.path,
            ) from error
    else:
        IMPLEMENTATION = "compiled"
if IMPLEMENTATION == "pure":
    from aiofastlock._pure import (
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
        QueueEmpty,
        QueueFull,
        QueueShutDown,
        RWLock,
        Semaphore,
    )


def __getattr__(name: str) -> object:
    if name != "recorder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported when aiofastlock.watch is.
    if IMPLEMENTATION == "pure":
        return import_module("aiofastlock._pure.recorder")
    return import_module("aiofastlock._compiled").import_recorder()


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
]
