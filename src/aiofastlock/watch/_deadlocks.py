"""Finds tasks that wait for each other.

The graph has three kinds of nodes: tasks, futures and primitives. A task or a future needs others
to end: all of them, or any. A primitive needs any of its holders to release it; an RWLock needs all
of them, since who waits for readers waits for each of them. A node is live if
what it needs is live, or if it can go on for a reason that is not seen here: a task that is ready
or sleeps, a future that a socket sets, a permit whose holder is not known. What can be reached from
a node and is not live is dead: nothing changes it but a timeout, a cancellation, or a release by a
task that does not hold the primitive.

The search goes depth first, and ends as soon as the first node is known to be live. So it looks at
few of many holders, and only at what the first node leads to.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from weakref import ref

from aiofastlock import _internals
from aiofastlock.watch import _tasks
from aiofastlock.watch._types import get_coro

TYPE_CHECKING = False  # as typing says it
if TYPE_CHECKING:
    from asyncio import Task
    from typing import Any, Literal, Self

# How many of the tasks that a holder awaits are looked at when another task is about to wait: each
# of a thousand tasks of a group would look at a thousand. The look every so often sees them all.
MOST_AT_ONCE = 16


NO_MORE = object()
NOTHING: Iterator[Any] = iter(())


class Ended(NamedTuple):
    """A holder that has ended, in the graph."""

    primitive: Any
    task: Task[Any] | None


def has_ended(hold: Any) -> bool:
    return hold.gone or (hold.task is not None and hold.task.done())


class Node:
    __slots__ = ("basis", "live", "missing", "needed_by", "needs", "rest", "thing")

    def __init__(self, thing: Any) -> None:
        self.thing = thing
        self.needs: list[Node] = []  # those that were looked at
        self.rest: Iterator[Any] = NOTHING  # the others
        self.missing = 1  # how many of them must be live before this one is
        self.needed_by: list[Node] = []
        self.live = False
        # What was seen of it. If the same is seen later, it was so all the time between.
        self.basis: tuple[Any, ...] = ()

    def dead_needs(self) -> list[Node]:
        return [node for node in self.needs if not node.live]


class Graph:
    """One search. Nodes refer to each other, and so the end of `with` forgets them.

    `parking` is a task that is about to wait, and the primitive. Where permits are taken without
    `async with`, any task may release them, as a consumer those of a producer: only holds from
    before `bare_before` count.
    """

    def __init__(
        self, parking: tuple[Task[Any], Any] | None = None, bare_before: float = float("-inf")
    ) -> None:
        self.parking = parking
        self.bare_before = bare_before
        self.nodes: dict[int, Node] = {}  # by the id() of the thing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes.values():
            node.needs.clear()
            node.needed_by.clear()
            node.rest = NOTHING

    def is_dead(self, start: Any) -> bool:
        first = self.add(start)
        stack = [first]
        while stack and not first.live:
            node = stack[-1]
            thing = NO_MORE if node.live else next(node.rest, NO_MORE)
            if thing is NO_MORE:
                stack.pop()
                continue
            known = self.nodes.get(id(thing))
            found = known or self.add(thing)
            node.needs.append(found)
            if found.live:
                satisfy(node)
                continue
            found.needed_by.append(node)
            if known is None:
                stack.append(found)
        return not first.live

    def add(self, thing: Any) -> Node:
        node = self.nodes[id(thing)] = Node(thing)
        if type(thing) is Ended:
            pass
        elif asyncio.isfuture(thing):
            self.add_future(node, thing)
        else:
            self.add_primitive(node, thing)
        return node

    def add_future(self, node: Node, future: Any) -> None:
        if self.parking is not None and future is self.parking[0]:
            node.rest = iter([self.parking[1]])
            return
        needs = None if future.done() else _tasks.needs(future)
        if needs is None:
            node.live = True
            return
        things, every, waited_for = needs
        node.basis = (waited_for,)
        if self.parking is not None and len(things) > MOST_AT_ONCE:
            task = self.parking[0]
            things = [*(t for t in things if t is task), *things[:MOST_AT_ONCE]]
        node.rest = iter(things)
        if every:
            node.missing = len(things)
        node.live = node.missing == 0

    def add_primitive(self, node: Node, primitive: Any) -> None:
        holders = holders_of(primitive, self.bare_before)
        if holders is None:
            node.live = True
            return
        node.basis = tuple([one.task if type(one) is Ended else one for one in holders])
        node.rest = iter(holders)
        if _tasks.is_rwlock(primitive):
            node.missing = len(holders)


def holders_of(primitive: Any, bare_before: float = float("-inf")) -> list[Any] | None:
    """Return the tasks that hold a primitive, or None if it may be released by others."""
    recorder = _tasks.recorder
    is_semaphore = issubclass(type(primitive), _internals.locks.Semaphore)
    if not _tasks.is_held(primitive):
        return None
    holds: list[Any] = recorder.holders(primitive)
    if not holds or recorder.missed(primitive) or recorder.released_by_others(primitive):
        return None
    holders: list[Any] = []
    for _, task, since, structured, gone in holds:
        if task is None and not gone:
            return None
        if is_semaphore and not structured and since > bare_before:
            return None
        if gone or task.done():
            if _tasks.suspended_inside(primitive):
                return None
            holders.append(Ended(primitive, task))
        else:
            holders.append(task)
    return holders


def satisfy(node: Node) -> None:
    """One more of a node's needs is live."""
    pending = [node]
    while pending:
        node = pending.pop()
        node.missing -= 1
        if node.missing == 0 and not node.live:
            node.live = True
            pending += node.needed_by


def closure(start: Node) -> list[Node]:
    """The dead nodes that a dead node leads to."""
    found = {id(start): start}
    pending = [start]
    while pending:
        for node in pending.pop().dead_needs():
            if id(node) not in found:
                found[id(node)] = node
                pending.append(node)
    return list(found.values())


class Found(NamedTuple):
    """What is wrong in a dead graph."""

    kind: Literal["self", "circle", "permits", "ended"]
    tasks: list[Task[Any]]  # in the order in which they wait
    primitives: list[Any]
    needs: dict[int, list[Any]]  # what each thing of the graph waits for, by its id

    def key(self) -> tuple[int, ...]:
        return tuple(sorted(map(id, [*self.tasks, *self.primitives])))


def find(graph: Graph, start: Any, prefer: Any = None) -> Found:
    """Follow a dead node to the circle, or to the end, that makes it dead."""
    needs = {key: [need.thing for need in node.needs] for key, node in graph.nodes.items()}
    path: dict[int, Node] = {}
    node = graph.nodes[id(start)]
    while id(node) not in path:
        path[id(node)] = node
        following = node.dead_needs()
        if not following:
            ended = node.thing
            tasks = [] if ended.task is None else [ended.task]
            return Found("ended", tasks, [ended.primitive], needs)
        node = following[0]
        if len(following) > 1:
            node = next((n for n in following if n.thing is prefer), node)
    nodes = list(path.values())
    circle = [node.thing for node in nodes[nodes.index(node) :]]
    tasks, primitives = sort(circle)
    if any(issubclass(type(primitive), _internals.locks.Semaphore) for primitive in primitives):
        return Found("permits", *sort(node.thing for node in closure(node)), needs)
    if circle[0] is not tasks[0]:  # then with the task that waits for the first
        tasks.insert(0, tasks.pop())
    return Found("self" if len(circle) == 2 else "circle", tasks, primitives, needs)


def sort(things: Iterable[Any]) -> tuple[list[Task[Any]], list[Any]]:
    """Return the tasks and the primitives."""
    tasks: list[Any] = []
    primitives = []
    for thing in things:
        if not asyncio.isfuture(thing):
            if type(thing) is not Ended:
                primitives.append(thing)
        elif get_coro(thing) is not None:
            tasks.append(thing)
    return tasks, primitives


# ---- When a task is about to wait ----

# The holder of a primitive that was last seen to wait for something else, and what for: while it
# does, nobody has to search. Keyed by the id of the primitive, which the first one refers to.
sleepers: dict[int, tuple[ref[Any], ref[Any], ref[Any]]] = {}


def circle_of_locks(task: Task[Any], primitive: Any) -> Found | None:
    """Return what is found if each task waits for a lock that the next one holds, or None.

    A graph shows the same, and takes more than twice as long.
    """
    tasks: list[Any] = [task]
    locks: list[Any] = []
    needs: dict[int, list[Any]] = {}
    while issubclass(type(primitive), _internals.locks.Lock):
        holders = holders_of(primitive)
        if holders is None or len(holders) > 1 or type(holders[0]) is Ended:
            break
        holder = holders[0]
        locks.append(primitive)
        needs[id(tasks[-1])] = [primitive]
        needs[id(primitive)] = holders
        if holder is task:
            return Found("circle" if len(tasks) > 1 else "self", tasks, locks, needs)
        waited = None if _tasks.future_of(holder) is None else _tasks.waits(holder)
        if waited is None or id(holder) in needs:  # or in a circle that was found before
            break
        tasks.append(holder)
        primitive = waited[0]
    return None


def at_once(task: Task[Any], primitive: Any) -> Found | None:
    """Return what goes wrong if the task waits for the primitive now."""
    key = id(primitive)
    if key in sleepers and not _tasks.is_rwlock(primitive):
        _, sleeper, future = sleepers[key]
        holder = sleeper()
        waited_for = None if holder is None else _tasks.future_of(holder)
        if waited_for is not None and waited_for is future():
            return None
    found = circle_of_locks(task, primitive)
    if found is not None:
        return found
    with Graph(parking=(task, primitive)) as graph:
        if graph.is_dead(task):
            found = find(graph, task, prefer=task)
            # Otherwise the task joins others that wait for what was found before.
            ended = found.kind == "ended" and found.primitives[0] is primitive
            return found if ended or (found.kind != "ended" and task in found.tasks) else None
        for node in graph.nodes[key].needs:
            waited_for = _tasks.future_of(node.thing) if _tasks.is_task(node.thing) else None
            if node.live and not node.needs and waited_for is not None:
                forget = ref(primitive, lambda _: forget_sleeper(key))
                sleepers[key] = forget, ref(node.thing), ref(waited_for)
    return None


def forget_sleeper(key: int) -> None:
    sleepers.pop(key, None)


# ---- Every so often ----


def search(primitives: Iterable[Any], bare_before: float) -> list[Found]:
    """Return what is wrong with these primitives.

    Other threads go on while this one looks, so it looks twice: a task that waits on one future
    both times, or that holds a primitive both times and waits on one future, did so between.
    """
    result: dict[tuple[int, ...], Found] = {}
    known: set[int] = set()
    for primitive in primitives:
        if id(primitive) in known:
            continue
        with Graph(bare_before=bare_before) as once, Graph(bare_before=bare_before) as twice:
            if not once.is_dead(primitive) or not twice.is_dead(primitive):
                continue
            dead = closure(once.nodes[id(primitive)])
            for node in dead:
                again = twice.nodes.get(id(node.thing))
                if type(node.thing) is not Ended and not (again and same(node.basis, again.basis)):
                    break
            else:
                known.update(id(node.thing) for node in dead)
                found = find(once, primitive)
                result.setdefault(found.key(), found)
    return list(result.values())


def same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return len(one) == len(other) and all(map(operator.is_, one, other))
