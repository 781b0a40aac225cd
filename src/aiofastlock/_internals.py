"""What the compiled implementation assumes of asyncio's internals, all in one place.

_loop.h creates futures, schedules callbacks and runs them as the functions below do, without
calling them. It does so only while each function found is the one that CPython's source has: a
function of the right module and name, whose code uses no other names and no other kinds of
constants. A function that was overridden, wrapped, patched or rewritten, or that a new Python has
changed, is called.
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType, SimpleNamespace

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from typing import Any

# From here, since attributes of the package may be mocked while aiofastlock is imported.
base_events, events, format_helpers, futures = (
    sys.modules[f"asyncio.{name}"]
    for name in ("base_events", "events", "format_helpers", "futures")
)


def asyncios(name: str, module: str = "asyncio.locks") -> type:
    """One of asyncio's own classes, also if another class has replaced it."""
    found = getattr(vars(sys.modules[module])[name], "__mro__", ())
    for cls in found:
        if (cls.__module__, cls.__qualname__) == (module, name):
            return cls  # type: ignore[no-any-return]
    return type(name, (), {})  # it is mocked


# The base classes of aiofastlock's, which are subclasses of asyncio's.
locks = SimpleNamespace(
    **{
        name: asyncios(name)
        for name in ("Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "Semaphore")
    },
    _BarrierState=asyncios("_BarrierState"),
)
queues = SimpleNamespace(
    **{
        name: asyncios(name, "asyncio.queues")
        for name in (
            "LifoQueue",
            "PriorityQueue",
            "Queue",
            "QueueEmpty",
            "QueueFull",
            "QueueShutDown",
        )
        if name in vars(sys.modules["asyncio.queues"])  # the last one is new in Python 3.13
    }
)

# The names that the code of each function uses, on Python 3.11 to 3.15.
LOOP = {
    "call_soon": "_call_soon _check_callback _check_closed _check_thread _debug _source_traceback",
    "_call_soon": "Handle _ready _source_traceback append events",
    "_check_closed": "RuntimeError _closed",
    "_run_once": "MAXIMUM_SELECT_TIMEOUT _MIN_CANCELLED_TIMER_HANDLES_FRACTION "
    "_MIN_SCHEDULED_TIMER_HANDLES _cancelled _clock_resolution _current_handle _debug "
    "_format_handle _process_events _ready _run _scheduled _selector _stopping "
    "_timer_cancelled_count _when append heapify heappop heapq len logger math max min popleft "
    "range select slow_callback_duration time ulp warning",
    "create_future": "Future futures",
    "get_debug": "_debug",
}
HANDLE = {
    "__init__": "_args _callback _cancelled _context _getframe _loop _repr _source_traceback "
    "contextvars copy_context extract_stack format_helpers get_debug sys",
    "_run": "BaseException KeyboardInterrupt SystemExit _args _callback _context "
    "_format_callback_source _loop _source_traceback call_exception_handler format_helpers "
    "get_debug run",
}
# Attributes that a loop's class must not have, since those of the loop itself are read.
HIDING = ("_closed", "_debug", "_ready", "__getattr__")

PLAIN_CONSTANTS = (bool, int, str, tuple, type(None))


def functions_of(loop: Any) -> tuple[FunctionType, ...] | None:
    """The functions that loops of a class use, if all of them are CPython's own."""
    found = [original(base_events, "BaseEventLoop", loop, name, LOOP[name]) for name in LOOP]
    found += [original(events, "Handle", events.Handle, name, HANDLE[name]) for name in HANDLE]
    if None in found or any(hasattr(loop, name) for name in HIDING):
        return None
    if loop.__getattribute__ is not object.__getattribute__:
        return None
    return tuple(found)


def original(module: ModuleType, of: str, owner: Any, name: str, names: str) -> Any:
    """The function `name` of a class, if it is the one that CPython's source has there."""
    function = getattr(owner, name, None)
    if type(function) is not FunctionType or function.__globals__ is not vars(module):
        return None
    code = function.__code__
    unchanged = (
        code.co_qualname == f"{of}.{name}"
        and not code.co_freevars
        and set(code.co_names) <= set(names.split())
        and all(type(constant) in PLAIN_CONSTANTS for constant in code.co_consts)
    )
    return function if unchanged else None


def report(handle: Any, error: BaseException) -> None:
    """Pass what a callback raised to the loop's exception handler, as Handle._run() does."""
    loop = handle._loop
    debug = {"debug": loop.get_debug()} if sys.version_info >= (3, 13) else {}
    source = format_helpers._format_callback_source(handle._callback, handle._args, **debug)
    message = f"Exception in callback {source}"
    loop.call_exception_handler({"message": message, "exception": error, "handle": handle})
