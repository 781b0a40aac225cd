"""What both implementations do alike, and never on a hot path."""

from __future__ import annotations

import math
import operator
import sys
from asyncio.exceptions import CancelledError
from collections.abc import Generator, Sequence
from types import TracebackType

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Iterable, Iterator
    from typing import Any, Literal, NoReturn, Protocol

    class Primitive(Protocol):
        """What a primitive of either implementation shows to this module."""

        _loop: AbstractEventLoop | None

        @property
        def _waiting(self) -> int: ...
        def _futures(self) -> Iterable[Future[Any]]: ...
        def _enqueue(self, future: Future[Any]) -> object: ...


class Waiters(Sequence["Future[Any]"]):
    """The waiters' futures, in order of arrival: a view that replaces asyncio's deque."""

    __slots__ = ("_primitive",)

    def __init__(self, primitive: Primitive) -> None:
        self._primitive = primitive

    def __len__(self) -> int:
        return self._primitive._waiting

    def __iter__(self) -> Iterator[Future[Any]]:
        return iter(tuple(self._primitive._futures()))

    def __getitem__(self, index: Any) -> Any:
        return tuple(self._primitive._futures())[index]

    def append(self, future: Future[Any]) -> None:
        """Add a future that no acquire() or wait() waits on. It stays in the queue."""
        # Other waiters are kept alive by their tasks. This one is kept alive by the primitive.
        vars(self._primitive).setdefault("_appended", []).append(self._primitive._enqueue(future))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"


def waiters_or_none(primitive: Primitive) -> Waiters | None:
    """The queue, or None before the first wait, as in asyncio's Lock and Semaphore."""
    untouched = (
        primitive._loop is None and not primitive._waiting and "_appended" not in vars(primitive)
    )
    return None if untouched else Waiters(primitive)


def set_waiters(primitive: Primitive, futures: Iterable[Future[Any]]) -> None:
    """Set the queue of a primitive that no task waits for."""
    vars(primitive).setdefault("_appended", [])
    view = Waiters(primitive)
    for future in futures:
        view.append(future)


def represent(primitive: Primitive, state: str) -> str:
    if primitive._waiting:
        state = f"{state}, waiters:{primitive._waiting}"
    return f"<{object.__repr__(primitive)[1:-1]} [{state}]>"


def represent_barrier(barrier: Any) -> str:
    state = barrier._state
    if not barrier.broken:
        state = f"{state}, waiters:{barrier.n_waiting}/{barrier.parties}"
    return f"<{object.__repr__(barrier)[1:-1]} [{state}]>"


def hide_overriding(instance: object, cls: type, names: Iterable[str]) -> None:
    """Set methods of `cls` as attributes of an instance whose own class overrides them."""
    for name in names:
        method = getattr(cls, name)
        if getattr(type(instance), name) is not method:
            setattr(instance, name, method.__get__(instance))


async def wait_with_any_lock(condition: Any) -> Literal[True]:
    """The compiled Condition.wait(), if the lock is not a compiled Lock."""
    if not condition.locked():
        raise RuntimeError("cannot wait on un-acquired lock")
    future = condition._future()
    condition.release()
    waiter = condition._enqueue(future)
    try:
        await future
    except BaseException as exception:
        condition._dequeue(waiter)
        await acquire_and_raise(condition, exception)
    condition._dequeue(waiter)
    try:
        await condition.acquire()
    except CancelledError as exception:
        await acquire_and_raise(condition, exception)
    except BaseException:
        condition._notify(1)
        raise
    return True


# The coroutine shows itself as Condition.wait().
wait_with_any_lock.__name__ = "wait"
wait_with_any_lock.__qualname__ = "Condition.wait"


async def acquire_and_raise(condition: Any, raised: BaseException) -> NoReturn:
    """Acquire the lock and raise: `raised`, or the last CancelledError that comes meanwhile."""
    try:
        while True:
            try:
                await condition.acquire()
            except CancelledError as exception:
                raised = exception
            else:
                raise raised
    finally:
        # This waiter may have been notified, and does not act on it: notify another one.
        condition._notify(1)
        del raised  # its traceback refers to this frame


def permits(value: Any) -> Any:
    """Return a semaphore's value as an int, or float("inf") for no limit."""
    if value == math.inf:
        return value
    value = operator.index(value)
    if value > sys.maxsize:  # the compiled implementation counts no further
        raise OverflowError("Semaphore value too large")
    return value


# The pure-Python implementation keeps these in slots, which object.__getstate__() includes.
UNCOPIED = frozenset({"_loop", "_queue", "_refilling", "locked", "acquire", "release"})


def getstate(primitive: Primitive, *own: str) -> dict[str, Any]:
    """An idle primitive's state to copy or pickle: `own`, and the attributes that users set."""
    if primitive._waiting:
        raise TypeError(
            f"cannot copy or pickle a {type(primitive).__name__!r} object that tasks wait for"
        )
    state: Any = object.__getstate__(primitive)  # type: ignore[attr-defined,unused-ignore]
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    return {
        **{name: value for name, value in (attributes or {}).items() if name != "_appended"},
        **{name: value for name, value in (slots or {}).items() if name not in UNCOPIED},
        **{name: getattr(primitive, name) for name in own},
    }


def setstate(primitive: Primitive, state: dict[str, Any]) -> None:
    for name, value in state.items():
        setattr(primitive, name, value)


class CoroutineWrapper(Generator["Any", "Any", "Any"]):
    """What `__await__()` of a compiled awaitable returns to code that calls it."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine

    def __next__(self) -> Any:
        return self._coroutine.send(None)

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *args: Any) -> Any:
        return self._coroutine.throw(*args)

    def close(self) -> None:
        self._coroutine.close()


def await_by_hand(coroutine: Any) -> CoroutineWrapper:
    return CoroutineWrapper(coroutine)


def exception_to_throw(typ: Any, val: Any, tb: Any) -> BaseException:
    """The exception that a suspended coroutine's throw(typ, val, tb) raises."""
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
