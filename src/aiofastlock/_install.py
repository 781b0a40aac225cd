"""Our classes in asyncio's place, for programs that are not to be edited."""

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

NAMES = ("Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "Semaphore")
Place = tuple[ModuleType, str]

# It makes each change of asyncio one step for other threads, and guards what follows.
_changing = threading.RLock()
_replaced: dict[Place, tuple[Any, type]] = {}  # what stood there, and what we have put there
_wanted_by: set[object] = set()  # install, and each open block of installed()
_warned_of: set[str] = set()


def install() -> dict[str, Any]:
    """Put the six classes into asyncio, for all that looks them up there from now on.

    Returns what is replaced: names, such as "asyncio.Lock" and "asyncio.locks.Lock", and what stood
    there before. Calling it again is harmless, and replaces what others have put there meanwhile.

    Modules that hold one of asyncio's classes already (by `from asyncio import Lock`), or a
    subclass, keep it: a RuntimeWarning names them, once. (Where warnings are errors, that is raised
    before anything is replaced.)
    """
    with _changing:
        _replace(stacklevel=3)
        _wanted_by.add(install)
        return {f"{module.__name__}.{name}": was for (module, name), (was, _) in _replaced.items()}


def uninstall() -> None:
    """Put back into asyncio what was there before, but for what others have put there meanwhile.

    Returns None. Whoever has got hold of our classes keeps them.
    """
    with _changing:
        _wanted_by.discard(install)
        _put_back()


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Return a context manager that does as install() does, and at its end as uninstall().

    At its end the classes stay if install() was called, or while another such block is open.
    """
    block = object()
    with _changing:
        _replace(stacklevel=4)  # one more, since contextlib's __enter__() is in between
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
    public = (asyncio, asyncio.locks)
    # What asyncio's modules have under the six names: it may have these under others elsewhere.
    theirs = {
        was: cls
        for module in public
        for name, cls in ours.items()
        if _is_class(was := vars(module)[name]) and was is not cls
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
            elif _is_class(value) and issubclass(value, tuple(theirs)):
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


# What looks through other people's modules runs no code of theirs: no property, no module's
# __getattr__, nor what loads a lazy module at the first use of one of its attributes.


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
