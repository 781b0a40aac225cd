"""What both halves do alike, and never on a hot path."""

from __future__ import annotations

import math
import operator
import sys
from asyncio import CancelledError, Future, Handle, base_events, events, format_helpers, futures
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType, TracebackType

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from contextvars import Context
    from typing import Any, Literal, NoReturn, Protocol

    class Lot(Protocol):
        """What a primitive of either implementation shows to this module."""

        _loop: AbstractEventLoop | None

        @property
        def _waiting(self) -> int: ...
        def _futures(self) -> Iterable[Future[Any]]: ...
        def _enqueue(self, future: Future[Any]) -> object: ...


class Waiters(Sequence["Future[Any]"]):
    """The futures of those who wait, in order of arrival: a view, in place of asyncio's deque."""

    __slots__ = ("_lot",)

    def __init__(self, lot: Lot) -> None:
        self._lot = lot

    def __len__(self) -> int:
        return self._lot._waiting

    def __iter__(self) -> Iterator[Future[Any]]:
        return iter(tuple(self._lot._futures()))

    def __getitem__(self, index: Any) -> Any:
        return tuple(self._lot._futures())[index]

    def append(self, future: Future[Any]) -> None:
        """Put a future into the queue that no task of ours waits on. It stays there."""
        # Whoever else waits is kept by the task that waits. This one is kept by the lot.
        vars(self._lot).setdefault("_appended", []).append(self._lot._enqueue(future))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"


def waiters_or_none(lot: Lot) -> Waiters | None:
    """None before the first wait, or before a queue was set: as asyncio's Lock and Semaphore."""
    untouched = lot._loop is None and not lot._waiting and "_appended" not in vars(lot)
    return None if untouched else Waiters(lot)


def set_waiters(lot: Lot, futures: Iterable[Future[Any]]) -> None:
    """Give a primitive a queue before anybody waits for it."""
    vars(lot).setdefault("_appended", [])
    view = Waiters(lot)
    for future in futures:
        view.append(future)


def represent(lot: Lot, state: str) -> str:
    if lot._waiting:
        state = f"{state}, waiters:{lot._waiting}"
    return f"<{object.__repr__(lot)[1:-1]} [{state}]>"


def represent_barrier(barrier: Any) -> str:
    state = barrier._state
    if not barrier.broken:
        state = f"{state}, waiters:{barrier.n_waiting}/{barrier.parties}"
    return f"<{object.__repr__(barrier)[1:-1]} [{state}]>"


def hide_overriding(instance: object, cls: type, names: Iterable[str]) -> None:
    """Give an instance of a subclass the methods of the class, as attributes of its own."""
    for name in names:
        method = getattr(cls, name)
        if getattr(type(instance), name) is not method:
            setattr(instance, name, method.__get__(instance))


async def wait_with_any_lock(condition: Any) -> Literal[True]:
    """Condition.wait() of the compiled half, where the lock is not of the compiled half."""
    if not condition.locked():
        raise RuntimeError("cannot wait on un-acquired lock")
    future = condition._future()
    condition.release()
    waiter = condition._enqueue(future)
    try:
        await future
    except BaseException as exception:
        condition._dequeue(waiter)
        await take_lock_and_raise(condition, exception)
    condition._dequeue(waiter)
    try:
        await condition.acquire()
    except CancelledError as exception:
        await take_lock_and_raise(condition, exception)
    except BaseException:
        condition._notify(1)
        raise
    return True


# Its coroutine is a Condition.wait() to whoever looks at it.
wait_with_any_lock.__name__ = "wait"
wait_with_any_lock.__qualname__ = "Condition.wait"


async def take_lock_and_raise(condition: Any, raised: BaseException) -> NoReturn:
    """Take the lock back, and raise: the last CancelledError that comes meanwhile, if one does."""
    try:
        while True:
            try:
                await condition.acquire()
            except CancelledError as exception:
                raised = exception
            else:
                raise raised
    finally:
        # It may have been notified, and will do nothing about it: let another one.
        condition._notify(1)
        del raised  # which has this frame in its traceback


def permits(value: Any) -> Any:
    """Return the value of a semaphore: an int, or float("inf") for one that has no limit."""
    if value == math.inf:
        return value
    value = operator.index(value)
    if value > sys.maxsize:  # what the compiled half can count
        raise OverflowError("Semaphore value too large")
    return value


# The pure half keeps these in slots, where copying would find them.
UNCOPIED = frozenset({"_loop", "_queue", "_refilling", "locked", "acquire", "release"})


def getstate(lot: Lot, *own: str) -> dict[str, Any]:
    """What a copy or a pickle of an idle primitive keeps: the attributes `own`, and its user's."""
    if lot._waiting:
        raise TypeError(
            f"cannot copy or pickle a {type(lot).__name__!r} object that tasks wait for"
        )
    state: Any = object.__getstate__(lot)  # type: ignore[attr-defined,unused-ignore]
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    return {
        **{name: value for name, value in (attributes or {}).items() if name != "_appended"},
        **{name: value for name, value in (slots or {}).items() if name not in UNCOPIED},
        **{name: getattr(lot, name) for name in own},
    }


def setstate(lot: Lot, state: dict[str, Any]) -> None:
    for name, value in state.items():
        setattr(lot, name, value)


def exception_to_throw(typ: Any, val: Any, tb: Any) -> BaseException:
    """The exception that throw(typ, val, tb) raises in a coroutine that waits for a future."""
    if tb is not None and not isinstance(tb, TracebackType):
        return TypeError("throw() third argument must be a traceback")
    if isinstance(typ, BaseException):
        if val is not None:
            return TypeError("instance exception may not have a separate value")
        exception = typ
    elif not (isinstance(typ, type) and issubclass(typ, BaseException)):
        return TypeError(
            "exceptions must be classes deriving BaseException or instances of such a class"
        )
    elif isinstance(val, typ):
        exception = val
    elif val is None:
        exception = typ()
    else:
        exception = typ(*val) if isinstance(val, tuple) else typ(val)
    return exception if tb is None else exception.with_traceback(tb)


def is_asyncios_loop(loop: Any) -> bool:
    """Whether such loops do as asyncio's own do to make a future, and to call something soon."""
    methods = (
        "call_soon",
        "_call_soon",
        "_check_closed",
        "_run_once",
        "create_future",
        "get_debug",
    )
    attributes = ("_ready", "_debug", "_closed", "__getattr__")
    return (
        is_written_in(base_events, loop, methods)
        and not any(hasattr(loop, name) for name in attributes)
        and loop.__getattribute__ is object.__getattribute__
        and is_written_in(events, Handle, ("__init__", "_run"))
        and futures.Future is Future
    )


def is_written_in(module: ModuleType, owner: type, names: Iterable[str]) -> bool:
    """Whether these methods are functions of that module, neither overridden nor patched."""
    methods = (getattr(owner, name, None) for name in names)
    return all(getattr(method, "__globals__", None) is vars(module) for method in methods)


def report(
    callback: Callable[[Any], object], argument: Any, context: Context, error: BaseException
) -> None:
    """Tell a loop's exception handler what a callback raised, as an asyncio.Handle does."""
    loop = argument._loop
    handle = Handle(callback, (argument,), loop, context)
    source = format_helpers._format_callback_source(callback, (argument,))
    message = f"Exception in callback {source}"
    loop.call_exception_handler({"message": message, "exception": error, "handle": handle})
