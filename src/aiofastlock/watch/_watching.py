"""The public functions, and the look that is taken every so often."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal as signals
import sys
import threading
import time
from typing import NamedTuple
from weakref import ref

from aiofastlock._pure.recorder import kind_of
from aiofastlock.watch import _deadlocks, _tasks, _text
from aiofastlock.watch._order import Order
from aiofastlock.watch._types import (
    MOST,
    Deadlock,
    DeadlockError,
    Holder,
    Place,
    Primitive,
    Snapshot,
    Statistics,
    Waiter,
    get_coro,
)

TYPE_CHECKING = False  # as typing says it
if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Callable, Hashable, Iterable
    from types import FrameType
    from typing import Any, Literal, TextIO

logger = logging.getLogger("aiofastlock.watch")

LONGEST_INTERVAL = 1.0  # seconds between two looks

_changing = threading.RLock()


def start(
    *,
    stuck_after: float = 30.0,
    on_deadlock: Literal["log", "raise"] = "log",
    order: bool | Literal["each"] = False,
) -> None:
    """Begin to watch, or change the settings.

    What waits for longer than `stuck_after` seconds while its holders do not change is reported.
    If `on_deadlock` is "raise", a task that would wait forever gets a DeadlockError instead, and
    the primitive is left as it was; if it is "log", and wherever nothing can be raised, the logger
    `aiofastlock.watch` reports it. With `order`, locks that were ever acquired in both orders are
    reported, by the places where they were made; with order="each", also those made at one place.

    What is held already is held by unknown tasks. ValueError or TypeError is raised for a wrong
    argument.
    """
    if isinstance(stuck_after, bool) or not isinstance(stuck_after, int | float):
        raise TypeError(f"stuck_after must be a number of seconds, not {stuck_after!r}")
    if not 0 < stuck_after < math.inf:
        raise ValueError(f"stuck_after must be a number of seconds above 0, not {stuck_after!r}")
    if on_deadlock not in ("log", "raise"):
        raise ValueError(f"on_deadlock must be 'log' or 'raise', not {on_deadlock!r}")
    if order not in (False, True, "each"):
        raise ValueError(f"order must be False, True or 'each', not {order!r}")
    with _changing:
        watch.start(stuck_after, on_deadlock, order)


def stop() -> None:
    """Stop watching, and forget what was recorded."""
    with _changing:
        watch.stop()


def is_watching() -> bool:
    """Return True if start() was called, and stop() was not."""
    return watch.thread is not None


def start_by_environment(setting: str) -> None:
    """Start as AIOFASTLOCK_WATCH says: 1, or settings such as `stuck_after=5,on_deadlock=raise`."""
    try:
        settings: dict[str, Any] = {}
        for part in [] if setting == "1" else setting.split(","):
            name, _, value = part.strip().partition("=")
            if name not in ("stuck_after", "on_deadlock", "order"):
                raise ValueError(f"there is no setting {name!r}")
            settings[name] = value
        if "stuck_after" in settings:
            settings["stuck_after"] = float(settings["stuck_after"])
        if "order" in settings:
            orders = {"0": False, "1": True}
            settings["order"] = orders.get(settings["order"], settings["order"])
        start(**settings)
    except ValueError as error:
        raise ValueError(
            f"AIOFASTLOCK_WATCH must be unset, 0, 1, or settings such as stuck_after=5,"
            f"on_deadlock=raise, not {setting!r}: {error}"
        ) from None


class Watch:
    """What start() begins and stop() ends.

    Everything that is found is reported once: `reported` has its key, the time, and what it is
    about, until a look does not find it any more, or one of those tasks and primitives does not
    exist any more. The key contains their id(), which others may have then.
    """

    stuck_after = 30.0
    on_deadlock: Literal["log", "raise"] = "log"
    thread: threading.Thread | None = None  # while it watches
    stopped: threading.Event
    began: float

    def __init__(self) -> None:
        self.reported: dict[Hashable, tuple[float, list[ref[Any]]]] = {}
        self.edges: dict[tuple[int, int], tuple[ref[Task[Any]], ref[Task[Any]]]] = {}
        self.before: list[ref[Any]] = []  # what was held before, and waited for

    def start(
        self,
        stuck_after: float,
        on_deadlock: Literal["log", "raise"],
        order: bool | Literal["each"],
    ) -> None:
        self.stuck_after = stuck_after
        self.on_deadlock = on_deadlock
        acquired = Order(order == "each", self.report).acquired if order else None
        _tasks.recorder.start(self.parking, acquired and self.guarded(acquired))
        if self.thread is None:
            self.began = time.monotonic()
            self.before = [ref(primitive) for primitive in waited_for()]
            self.look_every_so_often()

    def look_every_so_often(self) -> None:
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.looks, name="aiofastlock.watch", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        if self.thread is not None:
            self.stopped.set()
            self.thread = None
            _tasks.recorder.stop()
            self.draw_edges([])
            _deadlocks.sleepers.clear()
            self.reported.clear()
            self.before.clear()

    # ---- A fault of the watch must not become one of the program ----

    def failed(self, error: Exception) -> None:
        """Report a fault of the watch, and do nothing any more."""
        if is_watching():
            stop()
            logger.error("aiofastlock.watch has failed, and is turned off", exc_info=error)

    def guarded(self, function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            try:
                function(*arguments)
            except Exception as error:
                self.failed(error)

        return call

    # ---- When a task is about to wait ----

    def parking(self, primitive: Any) -> None:
        try:
            deadlock = self.deadlock_at_once(primitive)
        except Exception as error:
            self.failed(error)
            return
        if deadlock is not None:
            raise DeadlockError(deadlock)

    def deadlock_at_once(self, primitive: Any) -> Deadlock | None:
        """Report what goes wrong if the running task waits; return it if it is to be raised."""
        task = asyncio.current_task()
        found = None if task is None else _deadlocks.at_once(task, primitive)
        if found is None or _tasks.reacquires():
            return None
        deadlock = _text.of_deadlock(found, time.monotonic(), parking=task)
        if self.on_deadlock == "raise" and not deadlock.ends_by_timeout:
            return deadlock
        self.report_deadlock(found.key(), deadlock)
        return None

    def report_deadlock(self, key: Hashable, deadlock: Deadlock) -> None:
        about = [*deadlock.tasks, *deadlock.primitives]
        self.report(key, about, logging.ERROR, deadlock.text, deadlock=deadlock.as_dict())

    def report(
        self, key: Hashable, about: Iterable[Any], level: int, text: str, **extra: Any
    ) -> None:
        if key not in self.reported:

            def forget(_: ref[Any]) -> None:
                self.reported.pop(key, None)

            self.reported[key] = time.monotonic(), [ref(thing, forget) for thing in about]
            logger.log(level, "%s", text, extra=extra)

    # ---- Every so often ----

    def looks(self) -> None:
        """The thread. It also sees what is stuck while an event loop is blocked."""
        stopped = self.stopped
        took = 0.0
        while not stopped.wait(max(min(LONGEST_INTERVAL, self.stuck_after / 4), 20 * took)):
            began = time.monotonic()
            try:
                self.look(began)
            except Exception as error:
                self.failed(error)
            took = time.monotonic() - began

    def look(self, now: float) -> None:
        began = time.monotonic()
        contended = {id(p): p for p in self.held() if p._waiters}
        self.draw_edges(contended.values())
        current: set[Hashable] = set()
        for found in _deadlocks.search(contended.values(), now - self.stuck_after):
            key = found.key()
            current.add(key)
            for primitive in found.primitives:
                contended.pop(id(primitive), None)
            if key not in self.reported:
                self.report_deadlock(key, _text.of_deadlock(found, now))
        for primitive in contended.values():
            stuck_key = self.stuck_key(primitive, now)
            if stuck_key is None:
                continue
            current.add(stuck_key)
            if stuck_key not in self.reported:
                stuck = with_waiters(primitive, now)
                about = [primitive, *(h.task for h in stuck.holders if h.task is not None)]
                text = _text.of_stuck(stuck)
                self.report(stuck_key, about, logging.WARNING, text, stuck=stuck.as_dict())
        for old, (reported, _) in list(self.reported.items()):
            if old not in current and reported < began and not isinstance(old, str):
                self.reported.pop(old, None)

    def held(self) -> list[Any]:
        """Return the primitives that are held, and of those held before, what is waited for."""
        held = [hold.primitive for hold in _tasks.recorder.holds()]
        before = [primitive for weak in self.before if (primitive := weak()) is not None]
        before = [p for p in before if _tasks.is_held(p) and _tasks.recorder.missed(p)]
        self.before = list(map(ref, before))
        return held + before

    def stuck_key(self, primitive: Any, now: float) -> Hashable:
        """Return a key if nothing has moved for too long: neither the holders nor the first waiter.

        A primitive that tasks release which do not hold it is used as a signal. Who waits for that
        can wait long.
        """
        if _tasks.is_held(primitive) and not _tasks.recorder.released_by_others(primitive):
            holds = _tasks.recorder.holders(primitive)
            tasks = _tasks.waiter_tasks(primitive)
            waits = _tasks.waits(tasks[0]) if tasks else None
            times = [hold.since for hold in holds] or [self.began]
            if waits is not None:
                times.append(self.began if waits[1] is None else waits[1])
                if now - max(times) >= self.stuck_after:
                    return ("stuck", id(primitive), *(id(hold.task) for hold in holds))
        return None

    # ---- asyncio's own graph of who awaits whom, from Python 3.14 on ----

    MOST_EDGES = 1000  # of a primitive

    def draw_edges(self, contended: Iterable[Any]) -> None:
        """Make the graph that `python -m asyncio pstree` reads have an edge for each waiter."""
        if sys.version_info < (3, 14) or not sys._is_gil_enabled():
            return  # pragma: no cover - before Python 3.14, and free-threaded
        wanted = {
            (id(holder), id(waiter)): (holder, waiter)
            for primitive in contended
            for waiter in _tasks.waiter_tasks(primitive)[: self.MOST_EDGES]
            for holder in {hold.task for hold in _tasks.recorder.holders(primitive)}
            if holder is not None
        }
        for key, weak in list(self.edges.items()):
            holder, waiter = weak[0](), weak[1]()
            if (holder, waiter) != wanted.get(key):
                del self.edges[key]
                if holder is not None and waiter is not None:
                    asyncio.future_discard_from_awaited_by(holder, waiter)
        for key, (holder, waiter) in wanted.items():
            if key not in self.edges:
                asyncio.future_add_to_awaited_by(holder, waiter)
                self.edges[key] = ref(holder), ref(waiter)


watch = Watch()


def _after_fork() -> None:
    _changing.__init__()
    if is_watching():
        watch.look_every_so_often()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

# ---- Snapshots ----


def snapshot() -> Snapshot:
    """Return what is held and waited for now, in all event loops that are known.

    Of what was acquired before start(), or without it, only those holders are known that are inside
    `async with`, and of what nobody waits for none.
    """
    now = time.monotonic()
    recorder = _tasks.recorder
    holds: dict[int, list[Any]] = {}
    primitives: dict[int, Any] = {}
    for hold in recorder.holds():
        primitives[id(hold.primitive)] = hold.primitive
        holds.setdefault(id(hold.primitive), []).append(hold)
    waiters: dict[int, list[Waiter]] = {}
    places: Places = {}
    tasks = [hold.task for found in holds.values() for hold in found if hold.task is not None]
    everyone: list[Task[Any]] = []
    for loop in _tasks.loops(primitives.values(), tasks):
        everyone += asyncio.all_tasks(loop)
    for task in everyone:
        if _tasks.future_of(task) is None:  # it is woken, or does not wait
            continue
        found = waiter_of(task, now, places)
        if found is not None:
            primitive, waiter = found
            primitives[id(primitive)] = primitive
            waiters.setdefault(id(primitive), []).append(waiter)
    unknown = [p for p in primitives.values() if _tasks.is_held(p) and recorder.missed(p)]
    if unknown:
        for primitive, inside in zip(unknown, _tasks.find_inside(unknown, everyone), strict=True):
            known = [hold.task for hold in holds.get(id(primitive), [])]
            holds.setdefault(id(primitive), []).extend(
                Before(primitive, task) for task in inside if task not in known
            )
    sort_by_queue(primitives, waiters)
    dead = _deadlocks.search(primitives.values(), now - watch.stuck_after)
    return Snapshot(
        tuple(
            describe(primitive, holds.get(key, []), waiters.get(key, []), now)
            for key, primitive in primitives.items()
        ),
        tuple(_text.of_deadlock(found, now) for found in dead),
        is_watching(),
    )


def waited_for() -> list[Any]:
    """Return the primitives that tasks wait for, in the event loops that run."""
    found = {}
    for loop in _tasks.loops():
        for task in asyncio.all_tasks(loop):
            waits = _tasks.waits(task)
            if waits is not None:
                found[id(waits[0])] = waits[0]
    return list(found.values())


class Before(NamedTuple):
    """A hold that was not recorded, and is seen because the code of its task is inside."""

    primitive: Any
    task: Task[Any]
    since: None = None
    structured: bool = True
    gone: bool = False


# Places by the id() of their code and the instruction: many tasks are at the same. None: not of the
# program.
Places = dict[tuple[int, int], "Place | None"]


def sort_by_queue(primitives: dict[int, Any], waiters: dict[int, list[Waiter]]) -> None:
    """Sort the waiters of each primitive as they are in its queue; those that leave it are last."""
    for key, some in waiters.items():
        if len(some) > 1:
            futures = _tasks.waiting(primitives[key])
            order = {id(future): index for index, future in enumerate(futures)}
            some.sort(
                key=lambda waiter: order.get(
                    id(getattr(waiter.task, "_fut_waiter", None)), len(order)
                )
            )


def waiter_of(task: Task[Any], now: float, places: Places) -> tuple[Any, Waiter] | None:
    """Return the primitive that a task waits for, and the task as its waiter, or None."""
    awaitables = _tasks.chain(get_coro(task))
    waits = _tasks.waits_in(awaitables)
    if waits is None:
        return None
    primitive, since = waits
    waited = None if since is None else max(now - since, 0.0)
    place = place_of(awaitables, places) or _tasks.where(task)
    return primitive, Waiter(task, waited, place, _tasks.operation(primitive, awaitables))


def with_waiters(primitive: Any, now: float) -> Primitive:
    places: Places = {}
    waiters = [
        found[1]
        for task in _tasks.waiter_tasks(primitive)
        if (found := waiter_of(task, now, places)) is not None
    ]
    return describe(primitive, _tasks.recorder.holders(primitive), waiters, now)


def describe(primitive: Any, holds: list[Any], waiters: list[Waiter], now: float) -> Primitive:
    kind = kind_of(primitive)
    holders = []
    operation: Literal["read", "write"] | None = None
    if _tasks.is_rwlock(primitive):
        operation = "write" if primitive._writing else "read"
    for hold in holds:
        task = hold.task
        ended = _deadlocks.has_ended(hold)
        generator = _tasks.suspended_inside(primitive) if ended else None
        place = generator if task is None or ended else _tasks.where_inside(task, primitive)
        held = None if hold.since is None else max(now - hold.since, 0.0)
        ended = ended and not generator
        holders.append(Holder(task, held, place, ended, generator is not None, operation))
    around = [hold.task for hold in holds if hold.task is not None] + [
        waiter.task for waiter in waiters[:MOST]
    ]
    return Primitive(
        kind,
        _text.name_of(primitive, around),
        tuple(holders),
        tuple(waiters),
        _tasks.is_held(primitive) and _tasks.recorder.missed(primitive),
        _text.made_at(primitive),
        primitive,
    )


def place_of(awaitables: list[Any], places: Places) -> Place | None:
    """Return the innermost place that is not asyncio's or aiofastlock's."""
    for awaitable in reversed(awaitables):
        frame = _tasks.frame_of(awaitable)
        if frame is not None:
            key = id(frame.f_code), frame.f_lasti
            if key not in places:
                places[key] = _tasks.place_of(frame) if _tasks.of_program(frame) else None
            if (place := places[key]) is not None:
                return place
    return None


def dump(file: TextIO | None = None) -> None:
    """Write the text of a snapshot to a file, or to sys.stderr.

    ValueError is raised if there is no such file.
    """
    if file is None:
        file = sys.stderr
    if file is None:
        raise ValueError("there is no sys.stderr: pass a file")
    file.write(str(snapshot()))
    file.flush()


# ---- Signals ----

_registered: dict[int, Any] = {}  # the handlers that were there before
NEVER_CAUGHT = [getattr(signals, name, None) for name in ("SIGKILL", "SIGSTOP")]


def register(signum: int, file: TextIO | None = None) -> None:
    """Call dump(file) on a signal, also while the event loop is blocked.

    ValueError is raised if the signal cannot be caught, if the file cannot be written, and outside
    of the main thread.
    """
    if file is None and sys.stderr is None:
        raise ValueError("there is no sys.stderr: pass a file")
    if file is not None and not (hasattr(file, "write") and file.writable()):
        raise ValueError(f"{file!r} cannot be written")

    def handler(signum: int, frame: FrameType | None) -> None:
        try:
            dump(file)
        except Exception:
            logger.exception("aiofastlock.watch could not write what signal %s asks for", signum)

    if threading.current_thread() is not threading.main_thread():
        raise ValueError("signals can be registered in the main thread only")
    try:
        if signum in NEVER_CAUGHT:  # PyPy says nothing
            raise ValueError("no program can")
        before = signals.signal(signum, handler)
    except (OSError, ValueError) as error:
        raise ValueError(f"signal {signum!r} cannot be caught: {error}") from None
    _registered.setdefault(signum, before)


def unregister(signum: int) -> bool:
    """Undo register(). Return True if the signal was registered."""
    if signum not in _registered:
        return False
    signals.signal(signum, _registered.pop(signum) or signals.SIG_DFL)
    return True


# ---- Statistics ----


def statistics() -> list[Statistics]:
    """Return what was counted since start(), for each place where primitives were made.

    Of primitives that were made before, some are counted alone, and others together.
    """
    result = []
    for key, kind, *numbers in _tasks.recorder.counters():
        place = Place(*key) if type(key) is tuple else None
        if place is not None:
            name = f"made at {place}"
        elif key is None:
            name = "made before"
        else:
            name = _text.name_of(
                key, [hold.task for hold in _tasks.recorder.holders(key) if hold.task]
            )
        result.append(Statistics(kind, name, place, *numbers))
    return result
