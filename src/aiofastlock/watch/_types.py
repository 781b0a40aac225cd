"""What a snapshot is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

TYPE_CHECKING = False  # as typing says it
if TYPE_CHECKING:
    from asyncio import Task


MOST = 10  # lines of one kind, in texts


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a program."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {short(self.function)}"

    def as_dict(self) -> dict[str, Any]:
        return {"file": self.file, "line": self.line, "function": self.function}


def short(qualname: str) -> str:
    return qualname.rpartition("<locals>.")[2]


def get_coro(future: Any) -> Any:
    """Return the coroutine of a task; None of one that ended when it was made, and of a future."""
    method = getattr(type(future), "get_coro", None)
    if method is None or getattr(future, "_coro", method) is None:  # then Python 3.12.1 crashes
        return None
    return method(future)


def label(task: Task[Any]) -> str:
    """What a task is called in texts: its name and the function that it runs."""
    function = getattr(get_coro(task), "__qualname__", None)
    return f"{task.get_name()} ({short(function)})" if function else task.get_name()


def seconds(time: float) -> str:
    return f"{max(time, 0):,.1f} s"  # the clock of C is coarse


def count(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


@dataclass(frozen=True, slots=True)
class Holder:
    """A task that holds a primitive, or one of its permits.

    `task` is None if it was acquired outside of a task, or if the task was collected. `held_for` is
    in seconds; it is None if nothing was recorded at that time. `where` is where the code is now
    that is inside the primitive. `operation` is "read" or "write" if this is an RWLock.
    """

    task: Task[Any] | None
    held_for: float | None
    where: Place | None
    ended: bool = False
    generator: bool = False  # an asynchronous generator is inside, and is suspended
    operation: Literal["read", "write"] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "task": None if self.task is None else label(self.task),
            "held_for": self.held_for,
            "where": None if self.where is None else self.where.as_dict(),
            "ended": self.ended,
            "generator": self.generator,
            "operation": self.operation,
        }


@dataclass(frozen=True, slots=True)
class Waiter:
    """A task that waits for a primitive.

    `waited` is in seconds; it is None if the task came when nothing was recorded. `operation` is
    "get" or "put" if it waits for a queue, "read" or "write" if for an RWLock.
    """

    task: Task[Any]
    waited: float | None
    where: Place | None
    operation: Literal["get", "put", "read", "write"] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "task": label(self.task),
            "waited": self.waited,
            "where": None if self.where is None else self.where.as_dict(),
            "operation": self.operation,
        }


@dataclass(frozen=True, slots=True)
class Primitive:
    """A primitive that is held or waited for.

    `kind` is the name of its class, such as "Lock". `name` is what code calls it that uses it. The
    waiters are in the order of the queue. `unknown` is True if it was acquired when nothing was
    recorded: its holders may not be all.
    """

    kind: str
    name: str
    holders: tuple[Holder, ...]
    waiters: tuple[Waiter, ...]
    unknown: bool
    made_at: Place | None
    primitive: Any = field(repr=False)

    def __str__(self) -> str:
        lines = [f"{self.kind} {self.name}"]
        if self.made_at is not None and not self.name.startswith("made at "):
            lines[0] += f", made at {self.made_at}"
        for holder in self.holders[:MOST]:
            line = "held" if holder.operation is None else f"held to {holder.operation}"
            if holder.held_for is not None:
                line += f" for {seconds(holder.held_for)}"
            if holder.task is not None:
                line += f" by {label(holder.task)}"
            elif not holder.ended:
                line += ", acquired outside of a task"
            if holder.generator:
                line += ", by an asynchronous generator that is suspended"
            elif holder.ended:
                line += ", by a task that has ended"
            if holder.where is not None:
                line += f", at {holder.where}"
            lines.append(line)
        if len(self.holders) > MOST:
            lines.append(f"and by {count(len(self.holders) - MOST, 'other')}")
        if self.unknown and not self.holders:
            lines.append("held since before the watch, by an unknown task")
        for number, waiter in enumerate(self.waiters[:MOST], 1):
            line = f"{number}. {label(waiter.task)} waits"
            if waiter.waited is not None:
                line += f" for {seconds(waiter.waited)}"
            if waiter.operation is not None:
                line += f" to {waiter.operation}"
                line += " an item" if waiter.operation in ("get", "put") else ""
            if waiter.where is not None:
                line += f", at {waiter.where}"
            lines.append(line)
        if len(self.waiters) > MOST:
            lines.append(f"and {count(len(self.waiters) - MOST, 'more task')} wait")
        return "\n  ".join(lines)

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "holders": [holder.as_dict() for holder in self.holders],
            "waiters": [waiter.as_dict() for waiter in self.waiters],
            "unknown": self.unknown,
            "made_at": None if self.made_at is None else self.made_at.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Deadlock:
    """Tasks that wait for each other, or for nobody.

    `kind` is "self", "circle", "permits" or "ended". `ends_by_timeout` is True if a timeout, or
    a cancellation that the loop is to call, will cancel one of the tasks. str() is the text.
    """

    kind: Literal["self", "circle", "permits", "ended"]
    tasks: tuple[Task[Any], ...]
    primitives: tuple[Any, ...]
    names: tuple[str, ...]  # of the primitives
    ends_by_timeout: bool
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.text

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "tasks": [label(task) for task in self.tasks],
            "primitives": list(self.names),
            "ends_by_timeout": self.ends_by_timeout,
            "text": self.text,
        }


class DeadlockError(RuntimeError):
    """A task was about to wait forever. `deadlock` says with which others."""

    __module__ = "aiofastlock.watch"

    def __init__(self, deadlock: Deadlock) -> None:
        super().__init__(deadlock.text)
        self.deadlock = deadlock

    def __reduce__(self) -> Any:  # tasks and locks in use cannot be pickled
        return RuntimeError, (self.deadlock.text,)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is held and waited for. str() is a text for people, as_dict() is plain JSON.

    `recorded` is False if nothing is recorded: then holders are only known inside `async with`, and
    deadlocks are not found.
    """

    primitives: tuple[Primitive, ...]
    deadlocks: tuple[Deadlock, ...]
    recorded: bool

    def __str__(self) -> str:
        parts = []
        if not self.recorded:
            parts.append(
                "Who holds what is not recorded: aiofastlock.watch was not started. Holders are "
                "only known inside `async with`."
            )
        parts += map(str, self.deadlocks)
        parts += map(str, self.primitives)
        if not self.primitives:
            parts.append("Nothing is held, and nobody waits.")
        return "\n\n".join(parts) + "\n"

    def as_dict(self) -> dict[str, Any]:
        return {
            "recorded": self.recorded,
            "primitives": [primitive.as_dict() for primitive in self.primitives],
            "deadlocks": [deadlock.as_dict() for deadlock in self.deadlocks],
        }


@dataclass(frozen=True, slots=True)
class Statistics:
    """What was counted while watching, of a primitive or of all that were made at one place.

    `place` is where they were made, or None if this is one primitive that was made before. Times
    are in seconds.
    """

    kind: str
    name: str
    place: Place | None
    made: int
    acquired: int
    waited: int
    total_wait: float
    longest_wait: float
    total_hold: float
    longest_hold: float

    def as_dict(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "place": None if self.place is None else self.place.as_dict(),
        }
