"""What both implementations do alike, and never on a hot path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from operator import index
from types import CellType, CoroutineType, FunctionType, TracebackType
from weakref import WeakKeyDictionary

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any, NoReturn, Protocol, TypeVar

    Class = TypeVar("Class", bound=type)

    class Primitive(Protocol):
        """What a primitive of either implementation shows to this module."""

        @property
        def _waiting(self) -> int: ...
        def _futures(self, most: int = ...) -> list[Future[Any]]: ...
        def _enqueue(self, future: Future[Any], first: bool) -> object: ...
        def _dequeue(self, future: Future[Any], waiter: object) -> bool: ...


# ---- Classes are imported when they are first asked for: most programs use few of them ----

# The module of each class in both implementations.
MODULES = {
    "Barrier": "barrier",
    "BoundedSemaphore": "semaphore",
    "Condition": "condition",
    "Event": "event",
    "KeyedLock": "keyed",
    "KeyedSemaphore": "keyed",
    "LifoQueue": "queue",
    "Lock": "lock",
    "PriorityQueue": "queue",
    "Queue": "queue",
    "QueueEmpty": "queue",
    "QueueFull": "queue",
    "QueueShutDown": "queue",
    "RWLock": "rwlock",
    "Semaphore": "semaphore",
}


def when_asked_for(module: dict[str, Any], find: Callable[[str], Any]) -> tuple[Any, Any]:
    """Return the __getattr__() and __dir__() of a module that finds its classes then."""

    def attribute(name: str) -> Any:
        if name not in MODULES:
            message = f"module {module['__name__']!r} has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=sys.modules[module["__name__"]])
        # What a patch has set meanwhile stays.
        return module.setdefault(name, find(name))

    def attributes() -> list[str]:
        return sorted({*module, *MODULES})

    return attribute, attributes


# While aiofastlock.watch is on: what the primitives tell who acquires and releases them.
recorder: ModuleType | None = None


class Waiters(Sequence["Future[Any]"]):
    """The waiters' futures, in order of arrival: what `_waiters` has of asyncio's deque."""

    __slots__ = ()

    if TYPE_CHECKING:  # subclasses have these

        def _futures(self) -> list[Future[Any]]: ...
        def _discard(self, future: Future[Any]) -> bool: ...
        def append(self, future: Future[Any]) -> None: ...
        def appendleft(self, future: Future[Any]) -> None: ...

    def __iter__(self) -> Iterator[Future[Any]]:
        return iter(self._futures())

    def __getitem__(self, index: Any) -> Any:
        return self._futures()[index]

    def remove(self, future: Future[Any]) -> None:
        if not self._discard(future):
            raise ValueError("remove(future): future not in the queue")

    def popleft(self) -> Future[Any]:
        if not self:
            raise IndexError("pop from an empty queue")
        first = next(iter(self))
        self._discard(first)
        return first

    def clear(self) -> None:
        for future in self._futures():
            self._discard(future)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._futures()!r})"


class View(Waiters):
    """`_waiters` of a compiled primitive."""

    __slots__ = ("_primitive",)

    def __init__(self, primitive: Primitive) -> None:
        self._primitive = primitive

    def __len__(self) -> int:
        return self._primitive._waiting

    def _futures(self) -> list[Future[Any]]:
        return self._primitive._futures()

    def __iter__(self) -> Iterator[Future[Any]]:
        """Not all at once: those who wake somebody look at the first."""
        seen, most = 0, 1
        while len(futures := self._primitive._futures(most)) == most:
            yield from futures[seen:]
            seen, most = most, most * 8
        yield from futures[seen:]

    # Other waiters are kept alive by their tasks. One that is appended here, which no compiled
    # acquire() or wait() waits on, is kept alive by the primitive.

    def append(self, future: Future[Any], first: bool = False) -> None:
        appended = vars(self._primitive).setdefault("_appended", {})
        appended[future] = self._primitive._enqueue(future, first)

    def appendleft(self, future: Future[Any]) -> None:
        self.append(future, first=True)

    def _discard(self, future: Future[Any]) -> bool:
        appended = vars(self._primitive).get("_appended", {})
        return self._primitive._dequeue(future, appended.pop(future, None))


def was_woken(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def empty(waiters: Any) -> int:
    """Empty a queue; return how many of the waiters in it were woken."""
    futures = list(waiters)
    for future in futures:
        waiters.remove(future)
    return sum(map(was_woken, futures))


# Attributes that are not copied and pickled: the event loop, and those who wait for it.
UNCOPIED = frozenset(
    {
        "_appended",
        "_getters",
        "_loop",
        "_putters",
        "_refilling",
        "_waiters",
        "acquire",
        "locked",
        "release",
    }
)


def getstate(primitive: Any, *own: str, queues: tuple[str, ...] = ("_waiters",)) -> dict[str, Any]:
    """An idle primitive's state to copy or pickle: `own`, and the attributes that users set."""
    for name in queues:  # a generator that cannot be allocated is a crash on Python 3.12 and 3.13
        if getattr(primitive, name):
            raise TypeError(
                f"cannot copy or pickle a {type(primitive).__name__!r} object that tasks wait for"
            )
    state: Any = object.__getstate__(primitive)  # type: ignore[attr-defined,unused-ignore]
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    return {
        **{name: value for name, value in (attributes or {}).items() if name not in UNCOPIED},
        **(slots or {}),
        **{name: getattr(primitive, name) for name in own},
    }


FIELDS = (
    "_bound_value",
    "_finished",
    "_is_shutdown",
    "_lock",
    "_locked",
    "_maxsize",
    "_parties",
    "_queue",
    "_state",
    "_unfinished_tasks",
    "_value",
)


def with_fields(primitive: Any, reduced: Any) -> Any:
    """Add the fields of C to a state that a subclass has made of the __dict__."""
    function, arguments, state, *rest = reduced
    if isinstance(state, dict):
        has = type(primitive)
        fields = {name: getattr(primitive, name) for name in FIELDS if hasattr(has, name)}
        state = {**fields, **state}
    return (function, arguments, state, *rest)


def setstate(primitive: Any, state: dict[str, Any]) -> None:
    for name, value in state.items():
        setattr(primitive, name, value)


# ---- Primitives of keys ----


def permits_for_keys(value: Any) -> int:
    permits = index(value)
    if permits < 1:
        raise ValueError("KeyedSemaphore value must be >= 1")
    return min(permits, sys.maxsize)


def keyed_getstate(keyed: Any) -> dict[str, Any]:
    """The attributes that users set, to copy or pickle; not the primitives of keys."""
    if len(keyed):
        raise TypeError(
            f"cannot copy or pickle a {type(keyed).__name__!r} object with keys that are held or "
            "waited for"
        )
    return {name: value for name, value in vars(keyed).items() if name not in ("_table", "_held")}


def repr_of_key(primitive: Any, text: str) -> str:
    return f"{text.removesuffix(']>')}, key:{primitive.key!r}]>"


def refuse_copy_of_key(primitive: Any) -> NoReturn:
    raise TypeError(
        f"cannot copy or pickle a {type(primitive).__name__!r} object: it belongs to its key"
    )


# ---- Classes of two implementations ----


def unannotated(cls: Class) -> Class:
    """Hide the annotations of a class's methods: asyncio's have none, and these are for mypy."""
    for attribute in vars(cls).values():
        function = attribute.fget if isinstance(attribute, property) else attribute
        if isinstance(function, FunctionType):
            function.__annotations__ = {}
    return cls


def copy_for(cls: type, attribute: Any) -> Any:
    """A class attribute for another class: what uses super() has to know that one."""
    if getattr(attribute, "__closure__", None) is None:
        return attribute
    copy = FunctionType(
        attribute.__code__,
        attribute.__globals__,
        attribute.__name__,
        attribute.__defaults__,
        (CellType(cls),),
    )
    copy.__qualname__ = attribute.__qualname__
    return copy


class CoroutineWrapper:
    """What `__await__()` of a compiled awaitable returns to code that calls it."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine

    def __iter__(self) -> CoroutineWrapper:
        return self

    def __next__(self) -> Any:
        return self._coroutine.send(None)

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *args: Any) -> Any:
        return self._coroutine.throw(*args)

    def close(self) -> None:
        self._coroutine.close()


# In messages and reprs:
CoroutineWrapper.__name__ = CoroutineWrapper.__qualname__ = "coroutine_wrapper"
CoroutineWrapper.__module__ = "builtins"


# ---- What a coroutine tells about itself, for a compiled awaitable of the same function ----

# The pure-Python functions, by their qualified names: nothing can be imported when Python ends.
FUNCTIONS: dict[str, FunctionType] = {}


def _function(coroutine: Any) -> Any:
    return FUNCTIONS[coroutine._qualname]


class Likeness:
    """A coroutine that is never run, of the same function. Its frame lives as long as it."""

    __slots__ = ("coroutine",)

    def __init__(self, function: Any) -> None:
        self.coroutine = function(*[None] * function.__code__.co_argcount)

    def __del__(self) -> None:
        self.coroutine.close()  # else it warns that it was never awaited


_likenesses: WeakKeyDictionary[Any, Likeness] = WeakKeyDictionary()


def _frame(coroutine: Any) -> Any:
    """A frame that shows which function it is of. It has no variables."""
    if coroutine._stage == "closed":
        return None
    likeness = _likenesses.get(coroutine)
    if likeness is None:
        likeness = _likenesses.setdefault(coroutine, Likeness(_function(coroutine)))
    return likeness.coroutine.cr_frame


def _await(coroutine: Any) -> CoroutineWrapper:
    return CoroutineWrapper(coroutine)


def _name(attribute: str, default: Callable[[Any], str]) -> property:
    names: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    def get(coroutine: Any) -> str:
        return names.get(coroutine) or default(coroutine)

    def set_(coroutine: Any, name: Any) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{attribute} must be set to a string object")
        names[coroutine] = name

    def delete(coroutine: Any) -> None:
        set_(coroutine, None)

    return property(get, set_, delete)


COROUTINE_ATTRIBUTES = {
    "__class__": property(lambda coroutine: CoroutineType),  # which inspect.iscoroutine() asks
    "__await__": _await,
    "__name__": _name("__name__", lambda coroutine: coroutine._qualname.rpartition(".")[2]),
    "__qualname__": _name("__qualname__", lambda coroutine: coroutine._qualname),
    "cr_await": property(
        lambda coroutine: coroutine._awaited.__await__() if coroutine.cr_suspended else None
    ),
    "cr_code": property(lambda coroutine: _function(coroutine).__code__),
    "cr_frame": property(_frame),
    "cr_origin": property(lambda coroutine: None),
    "cr_running": property(lambda coroutine: coroutine._stage == "running"),
    "cr_suspended": property(lambda coroutine: coroutine._stage == "suspended"),
}
if hasattr(CoroutineType, "cr_state"):  # pragma: no cover - from Python 3.15 on; inspect asks it
    COROUTINE_ATTRIBUTES["cr_state"] = property(
        lambda coroutine: f"CORO_{coroutine._stage.upper()}"
    )


def as_raised(exception: BaseException) -> BaseException:
    """What a coroutine raises in which this exception is raised."""
    if not isinstance(exception, StopIteration):
        return exception
    error = RuntimeError("coroutine raised StopIteration")
    error.__cause__ = error.__context__ = exception
    return error


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
