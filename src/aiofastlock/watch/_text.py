"""What people read: the names of primitives, and texts."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from types import MemberDescriptorType

import aiofastlock
from aiofastlock import _internals
from aiofastlock._pure import keyed
from aiofastlock._pure.recorder import kind_of, variables
from aiofastlock.watch import _tasks
from aiofastlock.watch._types import MOST, Deadlock, Place, Primitive, count, label, seconds

TYPE_CHECKING = False  # as typing says it
if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Iterable, Iterator
    from types import FrameType
    from typing import Any

    from aiofastlock.watch._deadlocks import Found

# ---- Names ----

# Of both implementations.
KEYED = (keyed.Keyed, aiofastlock.KeyedLock, aiofastlock.KeyedSemaphore)


def name_of(primitive: Any, tasks: Iterable[Task[Any]]) -> str:
    """Return what the code of these tasks calls a primitive, else where it was made or its repr."""
    for task in list(tasks)[:MOST]:
        for frame in reversed(_tasks.frames(task)):
            if _tasks.of_program(frame) and (name := name_in(frame, primitive)):
                return name
    place = made_at(primitive)
    return f"made at {place}" if place else object.__repr__(primitive)


def made_at(primitive: Any) -> Place | None:
    place = _tasks.recorder.made_at(primitive)
    return None if place is None else Place(*place)


def name_in(frame: FrameType, primitive: Any) -> str | None:
    local = variables(frame)
    for name, value in local.items():
        if _tasks.is_it(value, primitive):
            return name
    for name, value in local.items():
        if (key := key_in(value, primitive)) is not None:
            return name + key
        for attribute, part in attributes(value):
            if _tasks.is_it(part, primitive):
                return f"{type(value).__name__}.{attribute}"
            if (key := key_in(part, primitive)) is not None:
                return f"{type(value).__name__}.{attribute}{key}"
    for name, value in list(frame.f_globals.items()):
        if _tasks.is_it(value, primitive):
            return name
        if (key := key_in(value, primitive)) is not None:
            return name + key
    return None


def key_in(container: Any, primitive: Any) -> str | None:
    """Return `[key]` if a dict, a list or a KeyedLock has the primitive."""
    if issubclass(type(container), KEYED):
        return shown(primitive.key) if getattr(primitive, "_owner", None) is container else None
    if issubclass(type(container), dict):
        for key, value in list(dict.items(container)):
            if _tasks.is_it(value, primitive):
                return shown(key)
    elif type(container) in (list, tuple):
        for index, value in enumerate(container):
            if _tasks.is_it(value, primitive):
                return f"[{index}]"
    return None


def shown(key: Any) -> str:
    return f"[{key!r}]" if type(key) in (str, bytes, int) else "[...]"


def attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of an object that have no code."""
    with contextlib.suppress(AttributeError):
        yield from list(object.__getattribute__(value, "__dict__").items())
    for cls in type(value).__mro__:
        for name, descriptor in list(vars(cls).items()) if "__slots__" in vars(cls) else ():
            if type(descriptor) is MemberDescriptorType:
                with contextlib.suppress(AttributeError):  # it has no value
                    yield name, descriptor.__get__(value)


# ---- Texts ----


def indented(lines: str) -> str:
    return "\n".join("  " + line for line in lines.splitlines())


def of_deadlock(found: Found, now: float, parking: Task[Any] | None = None) -> Deadlock:
    """`parking` is a task that is about to wait."""
    needs = found.needs
    tasks, primitives = found.tasks, found.primitives
    names: dict[int, str] = {}
    waiters: dict[int, list[Task[Any]]] = {id(primitive): [] for primitive in primitives[:MOST]}
    for task in tasks:
        for thing in needs.get(id(task), ()):
            if id(thing) in waiters:
                waiters[id(thing)].append(task)
    for primitive in primitives[:MOST]:
        around = waiters[id(primitive)]
        around += [hold.task for hold in _tasks.recorder.holders(primitive) if hold.task]
        around += [parking] if parking is not None else _tasks.waiter_tasks(primitive)[:1]
        names[id(primitive)] = f"{kind_of(primitive)} {name_of(primitive, around)}"
    for primitive in primitives[MOST:]:
        names[id(primitive)] = f"{kind_of(primitive)} {object.__repr__(primitive)}"
    waiting = {task for task in (*tasks, parking) if task is not None and not task.done()}
    ends = _tasks.will_time_out(waiting)
    lines = [headline(found, tasks, primitives, names)]
    if found.kind == "ended":
        lines += held(primitives[0], now)
    else:
        lines += [line_of(task, needs, names, now) for task in tasks[:MOST]]
        if len(tasks) > MOST:
            lines.append(f"and {count(len(tasks) - MOST, 'more task')}")
        if found.kind == "permits":
            lines += [line for primitive in primitives for line in held(primitive, now)]
    if found.kind == "self" and _tasks.is_rwlock(primitives[0]) and primitives[0]._readers:
        lines.append(
            "It reads already. To read again, it waits behind a writer, who waits for it; to "
            "write, it waits for itself. An RWLock works so by design: no writer waits forever."
        )
    text = "\n  ".join(lines)
    if ends:
        text += "\n  One of these tasks will be cancelled, which ends this."
    return Deadlock(found.kind, tuple(tasks), tuple(primitives), tuple(names.values()), ends, text)


def headline(
    found: Found, tasks: list[Task[Any]], primitives: list[Any], names: dict[int, str]
) -> str:
    first = names[id(primitives[0])]
    if found.kind == "self":
        return f"Deadlock: {label(tasks[0])} waits for {first}, which it holds itself."
    if found.kind == "ended":
        return f"Deadlock: {first} is held by a task that has ended. Nobody will release it."
    if found.kind == "permits":
        semaphores = [p for p in primitives if issubclass(type(p), _internals.locks.Semaphore)]
        semaphore = names[id(semaphores[0])]
        return f"Deadlock: all permits of {semaphore} are held by tasks that wait for one."
    return (
        f"Deadlock: {count(len(tasks), 'task')} wait for each other in a circle, with "
        f"{count(len(primitives), 'lock')}."
    )


def line_of(task: Task[Any], needs: dict[int, list[Any]], names: dict[int, str], now: float) -> str:
    line = label(task)
    if (place := _tasks.where(task)) is not None:
        line += f", at {place},"
    for thing in needs.get(id(task), ()):
        if id(thing) in names:
            line += f" waits for {names[id(thing)]}"
            holders = [h for h in _tasks.recorder.holders(thing) if h.task]
            if len(holders) == 1:
                since = f"for {seconds(now - holders[0].since)}"
                line += f", held {since} by {label(holders[0].task)}"
            return line
    awaited: list[Any] = [thing for thing in needs.get(id(task), ()) if asyncio.isfuture(thing)]
    while awaited and not _tasks.is_task(awaited[0]):
        awaited = needs.get(id(awaited[0]), [])
    return line + (f" awaits {label(awaited[0])}" if awaited else " waits")


def held(primitive: Any, now: float) -> list[str]:
    """A line for each of the first holders."""
    lines = []
    holds = _tasks.recorder.holders(primitive)
    for hold in holds[:MOST]:
        line = f"held for {seconds(now - hold.since)}"
        if hold.task is not None:
            ended = hold.task.done()
            line += f" by {label(hold.task)}"
            if not ended and (place := _tasks.where_inside(hold.task, primitive)):
                line += f", at {place}"
            line += f", which {how_ended(hold.task)}" if ended else ""
        else:  # what is acquired outside of a task is in no deadlock
            line += " by a task that has ended and is forgotten"
        lines.append(line)
    if len(holds) > MOST:
        lines.append(f"and {count(len(holds) - MOST, 'more time')}")
    return lines


def how_ended(task: Task[Any]) -> str:
    if task.cancelled():
        return "was cancelled"
    exception = task._exception if hasattr(task, "_exception") else None
    return f"failed with {type(exception).__name__}" if exception is not None else "has ended"


def of_stuck(primitive: Primitive) -> str:
    """What has not moved for long: who waits, and what the holders do now."""
    longest = max(waiter.waited or 0 for waiter in primitive.waiters)
    tasks = count(len(primitive.waiters), "task")
    lines = [
        f"Stuck: {primitive.kind} {primitive.name}, which has not moved while {tasks} waited up to "
        f"{seconds(longest)} for it."
    ]
    lines += str(primitive).splitlines()[1:]
    text = "\n  ".join(line.strip() for line in lines)
    for holder in primitive.holders[:MOST]:
        if holder.task is not None and not holder.ended:
            frames = _tasks.frames(holder.task)
            text += f"\n  {label(holder.task)} is at\n{indented(stack(frames))}"
            if _tasks.future_of(holder.task) is None:
                blocking = _tasks.thread_stack(holder.task.get_loop())
                if blocking:
                    text += f"\n  The thread of its event loop is at\n{indented(stack(blocking))}"
    return text


def stack(frames: list[FrameType]) -> str:
    """As in a traceback. Frames of asyncio and aiofastlock are left out at the end."""
    shown = [frame for frame in frames if _tasks.of_program(frame)] or frames
    summary = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in shown[-MOST:])
    return "".join(summary.format()).rstrip()
