"""What tasks do: where their code is, what they wait for, and who waits for them.

All of this only looks. It runs no code of the program: no property, no __getattr__ and no
comparison of objects that it finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import sys
import threading
from asyncio import base_events, runners
from collections import deque
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodDescriptorType,
    MethodType,
    WrapperDescriptorType,
)

from aiofastlock import _implementation, _internals
from aiofastlock._pure.condition import Condition, acquire_and_raise
from aiofastlock._pure.recorder import variables
from aiofastlock._pure.rwlock import RWLock, Side, Turns
from aiofastlock.watch._types import Place, get_coro

TYPE_CHECKING = False  # as typing says it
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task
    from collections.abc import Iterable, Iterator, Sequence
    from types import CodeType
    from typing import Any

recorder: Any = _implementation.recorder

# ---- The coroutines of a task, from the outermost to the innermost ----


class _Loop:
    """Enough of an event loop to make a future."""

    def get_debug(self) -> bool:
        return False


def _future_iterator() -> type | None:
    """The type of what a coroutine awaits that awaits a future of asyncio in C."""
    loop: Any = _Loop()
    found = type(asyncio.Future[None](loop=loop).__await__())
    return None if found is GeneratorType else found


FUTURE_ITERATOR = _future_iterator()


def _wrappers() -> frozenset[type]:
    """The types of awaitables that run a coroutine or generator, and do not tell which."""

    async def generator() -> AsyncGeneratorType[None, None]:  # type: ignore[misc]
        yield  # pragma: no cover - it is closed before

    running = generator()
    found: list[Any] = [
        *(running.asend(None), running.athrow(ValueError)),
        asyncio.sleep(0).__await__(),
    ]
    for wrapper in found:
        wrapper.close()
    return frozenset(map(type, found))


WRAPPERS = _wrappers()
SUSPENDED: tuple[type, ...] = (CoroutineType, GeneratorType, AsyncGeneratorType)


def inside(awaitable: Any) -> Any:
    """Return what a generator or another awaitable that is no coroutine awaits, or None."""
    kind = type(awaitable)
    if kind is GeneratorType:
        return None if awaitable.gi_running else awaitable.gi_yieldfrom
    if kind is AsyncGeneratorType:
        # ag_running is also true while it awaits.
        runs = awaitable.ag_frame is not None and awaitable.ag_frame.f_back is not None
        return None if runs else awaitable.ag_await
    if kind in WRAPPERS:
        return next((x for x in gc.get_referents(awaitable) if type(x) in SUSPENDED), None)
    if kind.__name__ in ("coroutine", "generator"):  # Cython's
        return awaitable.cr_await if hasattr(kind, "cr_await") else awaitable.gi_yieldfrom
    return None


def chain(outermost: Any) -> list[Any]:
    """Return a coroutine, what it awaits, what that awaits, and so on.

    One that runs is not asked: Python 3.12 crashes.
    """
    found = []
    while outermost is not None:
        found.append(outermost)
        kind = type(outermost)
        if kind is CoroutineType:
            outermost = None if outermost.cr_running else outermost.cr_await
        elif kind is FUTURE_ITERATOR or kind in recorder.AWAITABLES:
            break
        else:
            outermost = inside(outermost)
    return found


REACQUIRING = {
    Condition.wait.__code__,
    acquire_and_raise.__code__,
    getattr(getattr(_internals.locks.Condition, "wait", None), "__code__", None),
}


def waits(task: Task[Any]) -> tuple[Any, float | None] | None:
    """Return the primitive that a task waits for, and since when, or None."""
    return waits_in(chain(get_coro(task)))


def waits_in(awaitables: list[Any]) -> tuple[Any, float | None] | None:
    # The innermost is an awaitable in C, or the iterator of the future that ours awaits.
    if awaitables and type(awaitables[-1]) is FUTURE_ITERATOR:
        return recorder.waited(awaitables[-2]) if len(awaitables) > 1 else None
    for awaitable in awaitables[:-3:-1]:
        if (found := recorder.waited(awaitable)) is not None:
            return found  # type: ignore[no-any-return]
    return None


def operation(primitive: Any, awaitables: list[Any]) -> Any:
    """Return what a task waits to do with a queue or an RWLock."""
    of_rwlock = is_rwlock(primitive)
    if of_rwlock or issubclass(type(primitive), _internals.queues.Queue):
        for awaitable in awaitables[:-3:-1]:
            if recorder.waited(awaitable) is not None:
                if of_rwlock:
                    return "write" if recorder.writes(awaitable) else "read"
                return awaitable.__name__
    return None


def is_rwlock(primitive: Any) -> bool:
    return issubclass(type(primitive), Turns)


def is_held(primitive: Any) -> bool:
    """Whether it is locked. A subclass may override locked(): that is not called."""
    kind = type(primitive)
    if issubclass(kind, _internals.locks.Lock):
        return bool(primitive._locked)
    if issubclass(kind, _internals.locks.Semaphore):
        return bool(primitive._value <= 0)
    return is_rwlock(primitive) and primitive.locked()


def future_of(task: Task[Any]) -> Future[Any] | None:
    """Return the future that a task waits on. Without one, it runs or is ready to."""
    future = getattr(task, "_fut_waiter", None)
    if future is None or future.done() or getattr(task, "_must_cancel", False):
        return None
    return future  # type: ignore[no-any-return]


def reacquires() -> bool:
    """Whether wait() of a condition takes its lock back here. It does not end without it."""
    return any(frame.f_code in REACQUIRING for frame in outwards(sys._getframe()))


# ---- Places ----


def frame_of(awaitable: Any) -> FrameType | None:
    kind = type(awaitable)
    if kind is CoroutineType:
        return awaitable.cr_frame  # type: ignore[no-any-return]
    if kind is GeneratorType:
        return awaitable.gi_frame  # type: ignore[no-any-return]
    return awaitable.ag_frame if kind is AsyncGeneratorType else None


def place_of(frame: FrameType) -> Place:
    code = frame.f_code
    return Place(code.co_filename, frame.f_lineno or code.co_firstlineno, code.co_qualname)


LIBRARIES = ("aiofastlock", "asyncio", "contextlib")
WATCH = __name__.rpartition(".")[0]


def of_program(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] not in LIBRARIES


def innermost_frames() -> dict[int, FrameType]:
    """The innermost frame of each thread; of this one, without the frames of the watch.

    A function of the watch that kept its own frame would be a cycle, which would keep the variables
    of the program's functions until the garbage collector runs.
    """
    found = sys._current_frames()
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith(WATCH):
        frame = frame.f_back
    del found[threading.get_ident()]
    return found if frame is None else {**found, threading.get_ident(): frame}


def outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def frames(task: Task[Any]) -> list[FrameType]:
    """The frames of a task, from the outermost to the innermost, with what it calls if it runs."""
    awaitables = chain(get_coro(task))
    found = [frame for awaitable in awaitables if (frame := frame_of(awaitable))]
    if found and future_of(task) is None:
        for innermost in innermost_frames().values():
            running = list(outwards(innermost))
            if found[0] in running:
                return running[running.index(found[0]) :: -1]
    return found


def where(task: Task[Any]) -> Place | None:
    """Where a task is: the innermost place that is not asyncio's or aiofastlock's."""
    found = frames(task)
    for frame in reversed(found):
        if of_program(frame):
            return place_of(frame)
    return place_of(found[0]) if found else None


def where_inside(task: Task[Any], primitive: Any) -> Place | None:
    """Where the code of a task is that is inside a primitive."""
    for awaitable in chain(get_coro(task)):
        if is_inside(awaitable, primitive):
            frame = frame_of(awaitable)
            if frame is not None and of_program(frame):
                return place_of(frame)
    return where(task)


# ---- What code is inside: the evaluation stack has the __aexit__ that is to be called ----

EXITS = ("__aexit__", "__exit__")
FUNCTIONS = (
    FunctionType,
    BuiltinFunctionType,
    MethodDescriptorType,
    WrapperDescriptorType,
    # In the compiled implementation, a type of its own:
    *(
        type(vars(cls)["__aexit__"])
        for cls in _implementation.Lock.__mro__
        if "__aexit__" in vars(cls)
    ),
)


def entered(awaitable: Any, awaited: Any = None) -> Iterator[Any]:
    """The context managers that suspended code is inside, and those that run inside of them.

    The last is not entered yet if the code awaits its __aenter__().
    """
    managers = []
    before: Any = None
    for value in referents(awaitable):
        kind = type(value)
        if kind in (MethodType, BuiltinFunctionType) and value.__name__ in EXITS:
            managers.append(value.__self__)
        elif type(before) in FUNCTIONS and before.__name__ in EXITS:  # from Python 3.14 on
            managers.append(value)
        before = value
    if type(awaited) in (CoroutineType, *recorder.AWAITABLES) and awaited.__name__ == "__aenter__":
        del managers[-1:]
    for manager in managers:
        yield from with_inner(manager)


def referents(awaitable: Any) -> list[Any]:
    found = gc.get_referents(awaitable)
    if found and type(found[0]) is FrameType:  # as in PyPy: it is the frame that has them
        return gc.get_referents(found[0])  # pragma: no cover - PyPy
    return found


def with_inner(manager: Any) -> Iterator[Any]:
    yield manager
    kind = type(manager)
    if issubclass(kind, contextlib._GeneratorContextManagerBase):
        yield from entered(manager.gen)
    elif issubclass(kind, contextlib._BaseExitStack):
        for _, callback in list(manager._exit_callbacks):
            if type(callback) is MethodType:
                yield from with_inner(callback.__self__)


def is_inside(awaitable: Any, primitive: Any) -> bool:
    return any(is_it(manager, primitive) for manager in entered(awaitable))


def is_it(value: Any, primitive: Any) -> bool:
    return lock_of(value) is primitive or value is primitive


def lock_of(value: Any) -> Any:
    """What the recorder knows of a condition, which is its lock, or of an RWLock."""
    if issubclass(type(value), _internals.locks.Condition):
        value = value._lock
    return value._turns if issubclass(type(value), (RWLock, Side)) else value


def suspended_inside(primitive: Any) -> Place | None:
    """Where an asynchronous generator is inside a primitive, which no task runs."""
    for loop in loops([primitive]):
        for generator in generators(loop):
            frame = generator.ag_frame
            if frame is not None and not generator.ag_running and is_inside(generator, primitive):
                return place_of(frame)
    return None


def generators(loop: AbstractEventLoop) -> list[AsyncGeneratorType[Any, Any]]:
    """The asynchronous generators of a loop, or all of them if it does not show its own."""
    known = getattr(loop, "_asyncgens", None)
    if known is None:  # as in uvloop
        return [found for found in gc.get_objects() if type(found) is AsyncGeneratorType]
    return list(known)


MOST_WAITING = 5000  # of the tasks that wait for primitives, to look whether they hold others


def find_inside(primitives: Iterable[Any], tasks: Iterable[Task[Any]]) -> list[list[Task[Any]]]:
    """Return the tasks that are inside each of these primitives, by `async with`."""
    wanted = list(primitives)
    found: list[list[Task[Any]]] = [[] for _ in wanted]
    ids = {id(primitive): index for index, primitive in enumerate(wanted)}
    waiting = 0
    for task in tasks:
        awaitables = chain(get_coro(task))
        if waits_in(awaitables) is not None:
            waiting += 1
            if waiting > MOST_WAITING:
                continue
        for awaitable, awaited in itertools.zip_longest(awaitables, awaitables[1:]):
            for manager in entered(awaitable, awaited) if type(awaitable) in SUSPENDED else ():
                index = ids.get(id(lock_of(manager)))
                if index is not None:
                    found[index].append(task)
    return found


# ---- Timeouts ----


def will_time_out(tasks: set[Task[Any]]) -> bool:
    """Whether a timeout or a callback will cancel one of these tasks, or one that awaits it."""
    timed = {
        id(task) for loop in {task.get_loop() for task in tasks} for task in tasks_with_timers(loop)
    }
    seen = set(tasks)
    unseen = list(tasks)
    while unseen:
        task = unseen.pop()
        if id(task) in timed or any(map(has_timeout, chain(get_coro(task)))):
            return True
        new = awaiters(task) - seen
        seen |= new
        unseen += new
    return False


def has_timeout(awaitable: Any) -> bool:
    """Whether it is asyncio.wait() or asyncio.wait_for() with a timeout."""
    frame = frame_of(awaitable)
    return (
        frame is not None
        and frame.f_code in (WAIT, WAIT_FOR)
        and variables(frame).get("timeout") is not None
    )


def tasks_with_timers(loop: AbstractEventLoop) -> Iterator[Task[Any]]:
    """The tasks that asyncio.timeout(), a scope of anyio or a callback of the loop will cancel."""
    for callback in timed_callbacks(loop):
        if type(callback) not in (MethodType, BuiltinFunctionType):
            continue
        owner = callback.__self__
        if is_set(owner):
            yield owner._task
        elif type(owner).__name__ == "CancelScope":
            yield from tasks_of_scope(owner)
        elif get_coro(owner) is not None and callback.__name__ == "cancel":
            yield owner


def timed_callbacks(loop: AbstractEventLoop) -> list[Any]:
    """What a loop will call next, if it runs in this thread, and at a given time."""
    timers, ready = getattr(loop, "_scheduled", None), getattr(loop, "_ready", None)
    # As in uvloop, whose timers drop what they do not call any more, and in trio-asyncio.
    if type(timers) is not list or type(ready) is not deque:
        names = ("Handle", "TimerHandle")
        handles = [found for found in gc.get_objects() if type(found).__name__ in names]
        return [found for handle in handles for found in gc.get_referents(handle)]
    handles = list(timers)
    if asyncio._get_running_loop() is loop:
        handles += ready
    return [handle._callback for handle in handles if not handle.cancelled()]


def is_set(timeout: Any) -> bool:
    if type(timeout) is not asyncio.Timeout or timeout.expired():
        return False
    return timeout.when() is not None and timeout._task is not None  # type: ignore[attr-defined]


def tasks_of_scope(scope: Any) -> Iterator[Task[Any]]:
    yield from list(scope._tasks)
    for inner in list(scope._child_scopes):
        yield from tasks_of_scope(inner)


# ---- Tasks that tasks wait for ----

# What awaits a future, where asyncio's are in Python.
FUTURE = getattr(asyncio.Future.__await__, "__code__", None)
WAIT: CodeType = asyncio.tasks._wait.__code__  # type: ignore[attr-defined]
WAIT_FOR = asyncio.wait_for.__code__
GROUP_EXITS = {
    vars(asyncio.TaskGroup)[name].__code__
    for name in ("__aexit__", "_aexit")
    if name in vars(asyncio.TaskGroup)
}


def needs(future: Future[Any]) -> tuple[Sequence[Any], bool, Future[Any]] | None:
    """Return what must end before a task can go on or a future is set, or None if that is unknown.

    It is one primitive, or tasks and futures: all of them, or any. The last is the future that the
    task waits on.
    """
    coroutine = get_coro(future)
    if coroutine is None:
        return needs_of_result(future)
    waited_for = future_of(future)  # type: ignore[arg-type]
    if waited_for is None:
        return None
    awaitables = chain(coroutine)
    waited = waits_in(awaitables)
    if waited is not None:
        return [waited[0]], True, waited_for
    for awaitable in reversed(awaitables):
        frame = frame_of(awaitable)
        if frame is None or frame.f_code is FUTURE:
            continue
        if frame.f_code is WAIT:
            found = variables(frame)
            every = found.get("return_when") != asyncio.FIRST_COMPLETED
            return (pending(found.get("fs", ())), every, waited_for)
        if frame.f_code is WAIT_FOR and asyncio.isfuture(variables(frame).get("fut")):
            return ([variables(frame)["fut"]], True, waited_for)
        if frame.f_code in GROUP_EXITS or frame.f_code.co_qualname == "TaskGroup.__aexit__":
            return (pending(variables(frame)["self"]._tasks), True, waited_for)
        break
    if get_coro(waited_for) is None:
        return needs_of_result(waited_for)
    return ([waited_for], True, waited_for)


def needs_of_result(future: Future[Any]) -> tuple[Sequence[Any], bool, Future[Any]] | None:
    if type(future).__name__ == "_GatheringFuture":
        return (pending(future._children), True, future)  # type: ignore[attr-defined]
    for callback in callbacks(future):
        inner = closure(callback).get("inner")  # asyncio.shield()'s
        if inner is not None:
            return ([inner], True, future)
    return None


def pending(futures: Iterable[Future[Any]]) -> list[Future[Any]]:
    return [future for future in list(futures) if not future.done()]


def is_task(thing: Any) -> bool:
    return asyncio.isfuture(thing) and get_coro(thing) is not None


def callbacks(future: Any) -> list[Any]:
    return [callback for callback, _ in getattr(future, "_callbacks", None) or ()]


def closure(function: Any) -> dict[str, Any]:
    """The variables of the function in which a function was defined."""
    if type(function) is not FunctionType or not function.__closure__:
        return {}
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__, strict=True):
        with contextlib.suppress(ValueError):  # it is empty
            found[name] = cell.cell_contents
    return found


def awaiters(task: Task[Any]) -> set[Task[Any]]:
    """Return the tasks that directly await a task, through futures that are set when it ends."""
    found: set[Task[Any]] = set()
    futures: list[Any] = [task]
    seen = set()
    while futures:
        for callback in callbacks(futures.pop()):
            values: list[Any] = []
            if type(callback) is functools.partial:  # asyncio.wait_for()'s
                values = list(callback.args)
            elif type(callback) is FunctionType:
                outer = closure(callback)
                values = [outer.get(name) for name in ("outer", "waiter", "self")]
            elif (owner := getattr(callback, "__self__", None)) is not None:
                values = [owner]
            for value in values:
                if get_coro(value) is not None:
                    found.add(value)
                elif type(value).__name__ == "TaskGroup":
                    parent = getattr(value, "_parent_task", None) or getattr(
                        getattr(value, "cancel_scope", None), "_host_task", None
                    )
                    found.update([parent] if parent is not None else [])
                elif asyncio.isfuture(value) and value not in seen:
                    seen.add(value)
                    futures.append(value)
    return found - {task}


def waiting(primitive: Any) -> list[Future[Any]]:
    """Return the futures that tasks wait on, in order; of a queue, those of the getters first."""
    if issubclass(type(primitive), _internals.queues.Queue):
        return [*primitive._getters, *primitive._putters]
    return list(primitive._waiters or ())


def waiter_tasks(primitive: Any) -> list[Task[Any]]:
    """Return the tasks that wait for a primitive, in order."""
    owners: Iterator[Any] = (
        getattr(callback, "__self__", None)
        for future in waiting(primitive)
        if not future.done()
        for callback in callbacks(future)
    )
    return [owner for owner in owners if get_coro(owner) is not None]


# ---- Event loops ----

RUNNING = {
    base_events.BaseEventLoop.run_forever.__code__,
    base_events.BaseEventLoop.run_until_complete.__code__,
    runners.Runner.run.__code__,
}


def loops(
    primitives: Iterable[Any] = (), tasks: Iterable[Task[Any]] = ()
) -> list[AbstractEventLoop]:
    """Return the event loops that run, in any thread, and those of primitives and tasks."""
    found: dict[AbstractEventLoop, None] = {}
    running = asyncio._get_running_loop()
    if running is not None:
        found[running] = None
    for innermost in innermost_frames().values():
        for frame in outwards(innermost):
            if frame.f_code in RUNNING:
                runner = frame.f_locals["self"]
                loop = getattr(runner, "_loop", runner)
                if loop is not None:
                    found[loop] = None
    for primitive in primitives:
        if primitive._loop is not None:
            found[primitive._loop] = None
    for task in tasks:
        found[task.get_loop()] = None
    return [loop for loop in found if not loop.is_closed()]


def thread_stack(loop: AbstractEventLoop) -> list[FrameType]:
    """The frames of the program that run in a loop's thread, from the outermost."""
    innermost = innermost_frames().get(getattr(loop, "_thread_id", None) or 0)
    frames = list(outwards(innermost))
    inside = [index for index, frame in enumerate(frames) if frame.f_code in RUNNING]
    return [frame for frame in frames[: min(inside, default=0)] if of_program(frame)][::-1]
