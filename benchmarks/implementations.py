"""The implementations to compare: aiofastlock's two, asyncio's, other libraries', the floors."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import floors

import aiofastlock
from aiofastlock._benchmark import (
    Row,
    Workload,
    acquire_and_release,
    broadcast,
    cancel,
    enter_and_leave,
    hand_off,
    own_copy,
    put_and_get,
    wait_when_set,
)

UNCONTENDED = (enter_and_leave, acquire_and_release, wait_when_set, put_and_get)


class LacksError(LookupError):
    """The implementation lacks what a row needs."""


@dataclass(frozen=True)
class Implementation:
    """Primitives by asyncio's names, and other differences from asyncio."""

    primitives: Any
    renamed: Mapping[str, str] = field(default_factory=dict)
    instead: Mapping[Workload, Workload] = field(default_factory=dict)
    lacks: Mapping[Workload, str] = field(default_factory=dict)
    only: tuple[Workload, ...] = ()

    def contestant(self, row: Row) -> tuple[Workload, Any]:
        """Return the row's workload with this implementation's method names, and the primitive."""
        if row.workload in self.lacks:
            raise LacksError(self.lacks[row.workload])
        if row.workload in self.instead:
            return self.instead[row.workload], None
        if self.only and row.workload not in self.only:
            raise LacksError("has no such floor")
        primitive = getattr(self.primitives, row.primitive, None)
        if primitive is None:
            raise LacksError(f"has no {row.primitive}")
        return own_copy(row.workload, self.renamed), primitive


def our_compiled() -> Implementation:
    if aiofastlock.IMPLEMENTATION != "compiled":
        raise ImportError("the compiled implementation is not in use")
    return Implementation(aiofastlock)


def our_pure() -> Implementation:
    return Implementation(importlib.import_module("aiofastlock._pure"))


def of_anyio(*, fast_acquire: bool) -> Implementation:
    """Return anyio's. Without fast_acquire, acquire() always yields to the event loop."""
    anyio = importlib.import_module("anyio")
    lock = partial(anyio.Lock, fast_acquire=fast_acquire)

    def condition() -> Any:
        return anyio.Condition(lock())

    def semaphore(value: int = 1) -> Any:
        return anyio.Semaphore(value, fast_acquire=fast_acquire)

    def bounded_semaphore(value: int = 1) -> Any:
        return anyio.Semaphore(value, max_value=value, fast_acquire=fast_acquire)

    primitives = SimpleNamespace(
        Lock=lock,
        Event=anyio.Event,
        Condition=condition,
        Semaphore=semaphore,
        BoundedSemaphore=bounded_semaphore,
    )
    return Implementation(primitives, lacks={broadcast: "has no Event.clear()"})


def of_aiologic() -> Implementation:
    """Return aiologic's, with its reusable event and barrier, because asyncio's are reusable."""
    aiologic = importlib.import_module("aiologic")
    primitives = SimpleNamespace(
        Lock=aiologic.Lock,
        Event=aiologic.REvent,
        Condition=aiologic.Condition,
        Semaphore=aiologic.Semaphore,
        BoundedSemaphore=aiologic.BoundedSemaphore,
        Barrier=aiologic.RBarrier,
    )
    # `await event.with_()` does what `await event` does, with one generator less.
    names = {"acquire": "async_acquire", "release": "async_release", "wait": "with_"}
    return Implementation(primitives, renamed=names)


def of_ez_a_sync() -> Implementation:
    """Return ez-a-sync's semaphore in Cython. It has no lock."""
    semaphores = importlib.import_module("a_sync.primitives.locks.semaphore")
    return Implementation(SimpleNamespace(Semaphore=semaphores.Semaphore))


def the_floor() -> Implementation:
    """Return the floors, which do nothing."""
    floor = floors.load_floor()
    every = ("Lock", "Condition", "Semaphore", "BoundedSemaphore")
    primitives = SimpleNamespace(
        Event=floor.Event, Queue=floor.Queue, **dict.fromkeys(every, floor.Lock)
    )
    instead = {hand_off: floors.ping_pong, cancel: floors.cancel_bare}
    return Implementation(primitives, instead=instead, only=UNCONTENDED)


IMPLEMENTATIONS: dict[str, Callable[[], Implementation]] = {
    "compiled": our_compiled,
    "pure": our_pure,
    "asyncio": lambda: Implementation(asyncio),
    "anyio": partial(of_anyio, fast_acquire=False),
    "anyio-fast": partial(of_anyio, fast_acquire=True),
    "aiologic": of_aiologic,
    "ez-a-sync": of_ez_a_sync,
    "floor": the_floor,
}
