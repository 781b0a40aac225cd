"""Chooses between the compiled and the pure-Python implementation, by AIOFASTLOCK_EXTENSIONS."""

from __future__ import annotations

import os
import sys
from importlib import import_module

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from typing import Any

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
        from aiofastlock import _compiled as _chosen
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
    from aiofastlock import _pure as _chosen  # type: ignore[no-redef]


def __getattr__(name: str) -> Any:
    """A class, or the module `recorder`, which aiofastlock.watch uses."""
    return _chosen.load(name) if name == "recorder" else getattr(_chosen, name)
