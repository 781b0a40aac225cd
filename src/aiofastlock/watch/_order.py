"""Finds locks that were ever acquired in both orders.

Two tasks that do so at the same time may wait for each other, even if no test ever ran them so.
What counts is the place where a lock was made: all locks of one place are one. Locks of the same
place, such as a lock for each key, are left out, or are distinguished if `each` is True.
"""

from __future__ import annotations

import logging
from weakref import WeakKeyDictionary, ref

from aiofastlock._pure.recorder import current_task, kind_of
from aiofastlock.watch import _tasks, _text
from aiofastlock.watch._types import label

TYPE_CHECKING = False  # as typing says it
if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Callable, Hashable
    from typing import Any


class Order:
    def __init__(self, each: bool, report: Callable[..., None]) -> None:
        self.each = each
        self.report = report
        self.held: WeakKeyDictionary[Task[Any], list[ref[Any]]] = WeakKeyDictionary()
        # The first text for each order in which two were acquired, by their places. Locks of one
        # place are distinguished by their id(), which `alive` keeps from being used twice.
        self.seen: dict[tuple[Hashable, Hashable], str] = {}
        self.alive: dict[int, Any] = {}

    def acquired(self, primitive: Any) -> None:
        task = current_task()
        if task is None:
            return
        held = [
            other
            for weak in self.held.get(task, ())
            if (other := weak()) is not None
            and other is not primitive
            and any(hold.task is task for hold in _tasks.recorder.holders(other))
        ]
        for other in held:
            first, second = self.key(other), self.key(primitive)
            if first == second:
                if not self.each:
                    continue
                first, second = id(other), id(primitive)
                self.alive.update({first: other, second: primitive})
            self.note(first, second, task, other, primitive)
        self.held[task] = [*map(ref, held), ref(primitive)]

    def key(self, primitive: Any) -> Hashable:
        place = _tasks.recorder.made_at(primitive)
        if place is None:  # made before the watch
            self.alive[id(primitive)] = primitive
            return id(primitive)
        return (*place,)

    def note(
        self, first: Hashable, second: Hashable, task: Task[Any], one: Any, other: Any
    ) -> None:
        if (first, second) in self.seen:
            return
        names = [_text.name_of(primitive, [task]) for primitive in (one, other)]
        text = (
            f"{label(task)}, at {_tasks.where(task)}, acquires {kind_of(other)} {names[1]} "
            f"while it holds {kind_of(one)} {names[0]}"
        )
        self.seen[first, second] = text
        before = self.seen.get((second, first))
        if before is not None:
            self.report(
                f"order {sorted(map(str, (first, second)))}",
                (),
                logging.ERROR,
                "Two locks are acquired in both orders. If two tasks do so at the same time, they "
                f"wait for each other.\n  Before: {before}.\n  Now: {text}.",
                order=[before, text],
            )
