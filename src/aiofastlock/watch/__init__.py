"""Tells who holds what, and why a program is stuck.

start() begins to watch all primitives of aiofastlock; what is found goes to the logger
`aiofastlock.watch`, or is raised. snapshot() and dump() show what is held and waited for now.
`python -m aiofastlock --watch` and AIOFASTLOCK_WATCH=1 in the environment watch a program that is
not edited, and `pytest -p aiofastlock.watch` a test suite.
"""

from __future__ import annotations

from aiofastlock.watch._types import (
    Deadlock,
    DeadlockError,
    Holder,
    Place,
    Primitive,
    Snapshot,
    Statistics,
    Waiter,
)
from aiofastlock.watch._watching import (
    dump,
    is_watching,
    register,
    snapshot,
    start,
    statistics,
    stop,
    unregister,
)

__all__ = [
    "Deadlock",
    "DeadlockError",
    "Holder",
    "Place",
    "Primitive",
    "Snapshot",
    "Statistics",
    "Waiter",
    "dump",
    "is_watching",
    "register",
    "snapshot",
    "start",
    "statistics",
    "stop",
    "unregister",
]

# `pytest -p aiofastlock.watch` finds its plugin by this.
pytest_plugins: list[str] = ["aiofastlock.watch._pytest"]
