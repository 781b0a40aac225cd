"""asyncio's locks, in C.

`from aiofastlock import Lock` in place of `from asyncio import Lock`, and nothing else changes. So
with Event, Condition, Semaphore, BoundedSemaphore and Barrier. install() puts them into asyncio,
uninstall() puts back what was there, and `with installed():` does both.

IMPLEMENTATION says which half is in use, "compiled" or "pure". The environment variable
AIOFASTLOCK_EXTENSIONS chooses when this is imported: unset, the compiled half if there is one; 0,
the pure half; 1, the compiled half or an ImportError that says why not.
"""

import os

from aiofastlock._install import install, installed, uninstall

__version__ = "0.1.0"
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

_switch = os.environ.get("AIOFASTLOCK_EXTENSIONS", "")
if _switch not in ("", "0", "1"):
    raise ValueError(f"AIOFASTLOCK_EXTENSIONS must be unset, 0 or 1, not {_switch!r}")

IMPLEMENTATION = "pure"
if _switch != "0":
    try:
        from aiofastlock._barrier import Barrier
        from aiofastlock._condition import Condition
        from aiofastlock._event import Event
        from aiofastlock._lock import Lock
        from aiofastlock._semaphore import BoundedSemaphore, Semaphore
    except ImportError as error:
        if _switch == "1":
            raise ImportError(
                "AIOFASTLOCK_EXTENSIONS=1 asks for the compiled half of aiofastlock, which cannot "
                f"be imported: {error}. Install it where there is a C compiler and Python's "
                "headers, or unset AIOFASTLOCK_EXTENSIONS to use the pure half.",
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
        Lock,
        Semaphore,
    )

del os
