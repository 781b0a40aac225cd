"""Records who holds what and since when, for aiofastlock.watch."""

from __future__ import annotations

import sys
import time
from inspect import CO_OPTIMIZED
from typing import NamedTuple
from weakref import WeakKeyDictionary, ref

from aiofastlock import _internals, _shared
from aiofastlock._pure.barrier import Barrier
from aiofastlock._pure.condition import Condition
from aiofastlock._pure.event import Event
from aiofastlock._pure.lock import ContextManager, Lock
from aiofastlock._pure.queue import Queue
from aiofastlock._pure.rwlock import Turns
from aiofastlock._pure.semaphore import Semaphore

TYPE_CHECKING = False  # as typing says it
if TYPE_CHECKING:
    from asyncio import Future, Task
    from collections.abc import Callable
    from types import CodeType, FrameType
    from typing import Any


class Hold(NamedTuple):
    """A primitive that a task has acquired and not released."""

    primitive: Any
    task: Task[Any] | None  # None: acquired outside of a task, or the task was collected
    since: float  # of time.monotonic()
    structured: bool  # acquired by `async with`: no other task will release it
    gone: bool  # the task was collected


class Counters:
    """What was counted of the primitives that were made at one place, or of a single one."""

    __slots__ = (
        "acquired",
        "kind",
        "longest_hold",
        "longest_wait",
        "made",
        "place",
        "total_hold",
        "total_wait",
        "waited",
    )

    def __init__(self, kind: str, place: tuple[str, int, str] | None) -> None:
        self.kind = kind
        self.place = place
        self.made = self.acquired = self.waited = 0
        self.total_wait = self.longest_wait = self.total_hold = self.longest_hold = 0.0


class Record:
    """What is recorded of one primitive."""

    __slots__ = ("counters", "holds", "primitive", "released_by_others")

    def __init__(self, primitive: Any, counters: Counters) -> None:
        key = id(primitive)
        self.primitive = ref(primitive, lambda _: records.pop(key, None))
        self.counters = counters
        self.holds: list[tuple[ref[Task[Any]] | None, float, bool]] = []
        self.released_by_others = False


records: dict[int, Record] = {}  # by the id of the primitive
places: dict[tuple[str, tuple[str, int, str]], Counters] = {}
since: WeakKeyDictionary[Future[Any], float] = WeakKeyDictionary()  # when tasks began to wait
on_parking: Callable[[Any], None]
on_acquired: Callable[[Any], None] | None

# The methods that wait on a future.
WAITING = {
    method.__code__
    for method in (
        *(Lock.acquire, Semaphore.acquire, Event.wait, Condition.wait, Barrier.wait),
        *(Queue.get, Queue.put, Turns.wait),
    )
}
AWAITABLES: tuple[type, ...] = ()  # that primitives return and that are no coroutines
ENTERING = ContextManager.__aenter__.__code__
EXITING = ContextManager.__aexit__.__code__
OF_QUEUES = Queue.__init__.__globals__


def start(parking: Callable[[Any], None], acquired: Callable[[Any], None] | None = None) -> None:
    """Begin to record, or replace the two functions.

    `parking(primitive)` is called in a task that is about to wait for a primitive of which a
    holder is that task itself, has ended, or waits. If it raises, the task does not wait, and the
    primitive is as it was. `acquired(primitive)` is called in a task that has acquired one.
    """
    global on_parking, on_acquired
    on_parking, on_acquired = parking, acquired
    _shared.recorder = sys.modules[__name__]


def stop() -> None:
    """Stop, and forget what was recorded."""
    _shared.recorder = None
    records.clear()
    places.clear()
    since.clear()


# ---- Called by the primitives ----


def made(primitive: Any) -> None:
    if is_of_queue(sys._getframe(2)):
        return
    place = place_of(primitive, sys._getframe(1))
    kind = kind_of(primitive)
    counters = places.get((kind, place))
    if counters is None:
        counters = places[kind, place] = Counters(kind, place)
    counters.made += 1
    records[id(primitive)] = Record(primitive, counters)


def parking(primitive: Any, future: Future[Any]) -> None:
    """The running task is about to wait for this future."""
    record = record_of(primitive)
    if any(not may_release(task) for task, _, _ in record.holds):
        on_parking(primitive)
    since[future] = time.monotonic()


def left(primitive: Any, future: Future[Any]) -> None:
    """A task does not wait for this future any more."""
    began = since.pop(future, None)
    if began is not None:
        counters = record_of(primitive).counters
        waited = time.monotonic() - began
        counters.waited += 1
        counters.total_wait += waited
        counters.longest_wait = max(counters.longest_wait, waited)


def acquired(primitive: Any) -> None:
    record = record_of(primitive)
    task = current_task()
    structured = is_called_by(ENTERING)
    record.counters.acquired += 1
    if isinstance(primitive, Lock):
        record.holds.clear()  # it was unlocked unseen
    record.holds.append((None if task is None else ref(task), time.monotonic(), structured))
    if on_acquired is not None:
        on_acquired(primitive)


def released(primitive: Any) -> None:
    record = record_of(primitive)
    if not record.holds:
        # Released by a task that has not acquired it, unless that was before the recording.
        record.released_by_others |= record.counters.place is not None
        return
    if isinstance(primitive, Lock) and record.holds[0][2] and is_called_by(EXITING):
        own = [0]
    else:
        task = current_task()
        own = [
            i
            for i, (holder, _, _) in enumerate(record.holds)
            if holder is not None and task is not None and holder() is task
        ]
    if not own:
        record.released_by_others = True
    _, began, _ = record.holds.pop(own[0] if own else 0)
    held = time.monotonic() - began
    record.counters.total_hold += held
    record.counters.longest_hold = max(record.counters.longest_hold, held)


def is_called_by(code: CodeType) -> bool:
    """Whether this code has called the primitive's method."""
    caller = sys._getframe(2).f_back
    return caller is not None and caller.f_code is code


def record_of(primitive: Any) -> Record:
    record = records.get(id(primitive))
    if record is None:
        counters = Counters(kind_of(primitive), None)
        counters.made = 1
        record = records[id(primitive)] = Record(primitive, counters)
    return record


def is_of_queue(frame: FrameType) -> bool:
    """Whether it makes the event that join() of a queue waits for, which no program sees."""
    return frame.f_globals is OF_QUEUES


def place_of(primitive: Any, frame: FrameType) -> tuple[str, int, str]:
    """Where a primitive is made, by the frame of its constructor or of the caller."""
    while frame.f_back is not None and is_of(primitive, frame):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname


def is_of(primitive: Any, frame: FrameType) -> bool:
    """Whether a frame only makes the primitive, for the frame that wants it."""
    if frame.f_globals.get("__name__", "").startswith("aiofastlock."):
        return True
    constructs = frame.f_code.co_name == "__init__" and frame.f_code.co_argcount > 0
    return constructs and variables(frame).get(frame.f_code.co_varnames[0]) is primitive


def variables(frame: FrameType) -> dict[str, Any]:
    """The local variables of a function."""
    found = frame.f_locals
    copy = dict(found)
    if sys.version_info < (3, 13) and frame.f_code.co_flags & CO_OPTIMIZED and not frame.f_trace:
        # It would keep their values until the function ends.
        found.clear()  # pragma: no cover - before Python 3.13
    return copy


def current_task() -> Task[Any] | None:
    try:
        return sys.modules["asyncio.tasks"].current_task()  # type: ignore[no-any-return]
    except RuntimeError:  # no event loop is running
        return None


def may_release(holder: ref[Task[Any]] | None) -> bool:
    """Whether a holder is ready to run, or none that is known."""
    if holder is None:
        return True
    task = holder()
    return (
        task is not None
        and not task.done()
        and task is not current_task()
        and getattr(task, "_fut_waiter", None) is None
    )


# asyncio's classes, from which all others inherit, and RWLock's; subclasses before their bases.
KINDS: tuple[type, ...] = (
    *(
        getattr(_internals.locks, name)
        for name in ("Lock", "BoundedSemaphore", "Semaphore", "Event", "Condition", "Barrier")
    ),
    *(getattr(_internals.queues, name) for name in ("LifoQueue", "PriorityQueue", "Queue")),
    Turns,
)


def kind_of(primitive: Any) -> str:
    # No generator: Python 3.12 and 3.13 crash if one cannot be allocated.
    name, *_ = [kind.__name__ for kind in KINDS if issubclass(type(primitive), kind)]
    return name


# ---- What was recorded ----


def holders(primitive: Any) -> list[Hold]:
    """Return who holds a primitive, in order of acquisition."""
    record = records.get(id(primitive))
    if record is None or (isinstance(primitive, Lock) and not primitive._locked):
        return []
    result = []
    for holder, began, structured in record.holds:
        task = None if holder is None else holder()
        gone = holder is not None and task is None
        result.append(Hold(primitive, task, began, structured, gone))
    return result


def holds() -> list[Hold]:
    """Return what is held."""
    primitives = [record.primitive() for record in list(records.values()) if record.holds]
    return [
        hold for primitive in primitives if primitive is not None for hold in holders(primitive)
    ]


def missed(primitive: Any) -> bool:
    """Return True unless everything that is held of a primitive was recorded."""
    return made_at(primitive) is None and is_held_more(primitive, len(holders(primitive)))


def is_held_more(primitive: Any, recorded: int) -> bool:
    """Whether more is held of a primitive than is recorded, as far as it tells."""
    if isinstance(primitive, Lock):
        return primitive._locked and not recorded
    if isinstance(primitive, Turns):
        return primitive._readers + primitive._writing > recorded
    permits = getattr(primitive, "_bound_value", None)
    return permits is None or permits - primitive._value > recorded


def released_by_others(primitive: Any) -> bool:
    """Return True if a primitive was ever released by a task that did not hold it."""
    record = records.get(id(primitive))
    return record is not None and record.released_by_others


def waited(awaitable: Any) -> tuple[Any, float | None] | None:
    """Return the primitive that a suspended coroutine waits for, and since when; or None."""
    if getattr(awaitable, "cr_code", None) not in WAITING or awaitable.cr_frame is None:
        return None
    found = variables(awaitable.cr_frame)
    return (found["self"], since.get(found["future"])) if "future" in found else None


def writes(awaitable: Any) -> bool:
    """Return whether a coroutine that waits at an RWLock waits to write."""
    return variables(awaitable.cr_frame)["writes"]  # type: ignore[no-any-return]


def made_at(primitive: Any) -> tuple[str, int, str] | None:
    """Return the file, the line and the function in which a primitive was made, if recorded."""
    record = records.get(id(primitive))
    return None if record is None else record.counters.place


def counters() -> list[tuple[Any, ...]]:
    """Return what was counted, by place, and for each primitive of which the place is not known.

    Each is the place or the primitive, its kind, the number that were made, how often they were
    acquired and waited for, the total and the longest wait, the total and the longest hold.
    """
    single = [
        (record.primitive(), record.counters)
        for record in list(records.values())
        if record.counters.place is None
    ]
    # No generator, as in kind_of().
    of_places = [(counted.place, counted) for counted in list(places.values())]
    return [
        (
            key,
            counted.kind,
            counted.made,
            counted.acquired,
            counted.waited,
            counted.total_wait,
            counted.longest_wait,
            counted.total_hold,
            counted.longest_hold,
        )
        for key, counted in [*single, *of_places]
        if key is not None
    ]
