"""install(): aiofastlock's classes in asyncio, for programs that are not to be edited."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import warnings
from collections.abc import Iterator
from types import ModuleType

from aiofastlock import _implementation

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from typing import Any

NAMES = (
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "LifoQueue",
    "Lock",
    "PriorityQueue",
    "Queue",
    "Semaphore",
)
Place = tuple[ModuleType, str]

# Makes each change of asyncio one step for other threads, and guards the three below.
_changing = threading.RLock()
_replaced: dict[Place, tuple[Any, type]] = {}  # the old value, and the new one
_wanted_by: set[object] = set()  # install itself, and each open block of installed()
_warned_of: set[str] = set()


def install() -> dict[str, Any]:
    """Replace asyncio's nine classes by aiofastlock's.

    Code that looks them up in asyncio from now on finds aiofastlock's classes. Returns a dict that
    maps each replaced name, such as "asyncio.Lock" and "asyncio.locks.Lock", to its former value.
    Calling install() again is harmless; it replaces the names that other code has changed since.

    A module that already holds one of asyncio's classes (by `from asyncio import Lock`) or a
    subclass keeps it. A RuntimeWarning names each such module once. If warnings are errors, it is
    raised before anything is replaced.
    """
    with _changing:
        _replace(stacklevel=3)
        _wanted_by.add(install)
        return {f"{module.__name__}.{name}": was for (module, name), (was, _) in _replaced.items()}


def uninstall() -> None:
    """Restore the classes in asyncio that install() replaced.

    A name that other code has changed since install() is left alone. Code that already holds
    aiofastlock's classes keeps them. There is no return value.
    """
    with _changing:
        _wanted_by.discard(install)
        _put_back()


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Return a context manager that calls install(), and uninstall() when it exits.

    When it exits, the classes stay if install() was called separately, or if another such block is
    still open.
    """
    block = object()
    with _changing:
        _replace(stacklevel=4)  # one more: contextlib's __enter__() is in between
        _wanted_by.add(block)
    try:
        yield
    finally:
        with _changing:
            _wanted_by.remove(block)
            if not _wanted_by:
                _put_back()


def _replace(stacklevel: int) -> None:
    ours = {name: getattr(_implementation, name) for name in NAMES}
    public = (asyncio, asyncio.locks, asyncio.queues)
    # The classes to replace: asyncio's other modules may hold them under other names.
    theirs = {
        was: cls
        for module in public
        for name, cls in ours.items()
        if name in vars(module) and _is_class(was := vars(module)[name]) and was is not cls
    }
    changes: dict[Place, tuple[Any, type]] = {}
    holders = set()
    for module_name, module in _modules().items():
        is_asyncios = module_name.partition(".")[0] == "asyncio"
        for name, value in _attributes(module):
            if is_asyncios:
                cls = theirs.get(value) if _is_class(value) else None
                if module in public:
                    cls = ours.get(name, cls)
                if cls is not None and value is not cls:
                    changes[module, name] = value, cls
            elif (
                _is_class(value)
                and issubclass(value, tuple(theirs))
                and not issubclass(value, tuple(ours.values()))  # which are subclasses too
                and module_name.partition(".")[0] != "aiofastlock"
            ):
                holders.add(module_name)
    if unheard_of := sorted(holders - _warned_of):
        _warned_of.update(unheard_of)
        warnings.warn(
            "aiofastlock is installed too late for modules that already hold a class which it "
            f"replaces, or a subclass: {', '.join(unheard_of)}",
            RuntimeWarning,
            stacklevel=stacklevel,
        )
    for (module, name), (was, cls) in changes.items():
        setattr(module, name, cls)
        _replaced[module, name] = was, cls


def _put_back() -> None:
    for (module, name), (was, ours) in list(_replaced.items()):
        if vars(module).get(name) is ours:
            setattr(module, name, was)
            del _replaced[module, name]


# Looking through modules must not run their code: no property, no module's __getattr__, and nothing
# that loads a lazy module when one of its attributes is used.


def _modules() -> dict[str, ModuleType]:
    return {
        name: module
        for name, module in list(sys.modules.items())
        if issubclass(type(module), ModuleType)
    }


def _attributes(module: ModuleType) -> list[tuple[str, Any]]:
    return list(object.__getattribute__(module, "__dict__").items())


def _is_class(value: Any) -> bool:
    return issubclass(type(value), type)
