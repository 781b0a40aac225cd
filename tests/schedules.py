"""Random programs, whose traces on both implementations must equal the oracle's, step by step.

A program has a setup, which is a few primitives that may share a lock, and queues, and a list of
operations. A driver carries them out one after the other, on tasks and on awaitables that it drives
by hand; the tasks carry out other operations. All of them record what happens to them and what they
see. The loop's time does not pass by itself, so a trace repeats exactly. At the end of every
program, all queues are empty and everything works as if new.

In a third of the programs, the primitives are instances of subclasses that override what
asyncio's methods look up. Some of their methods are patched meanwhile, and restored.

The command runs many programs, on a given number of cores:

    python tests/schedules.py --programs 2000000 --jobs 2

It prints its seed, and ends at the first program whose traces differ: it makes the program as small
as it can, prints it as a script that shows the difference, and exits with 1. To run program number
N of a seed again, pass `--seed SEED --first N --programs 1`.
"""

import argparse
import asyncio
import contextlib
import faulthandler
import gc
import pprint
import random
import selectors
import sys
import time
import weakref
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import zip_longest
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import NamedTuple
from unittest import mock

import oracle
from conftest import FREE_THREADED, OURS
from helpers import OfKey, but_for

from aiofastlock import _pure

COUNTS_REFERENCES = sys.implementation.name == "cpython"
# Where the garbage collector closes the coroutines of a task in the order of their calls. In
# free-threaded builds the order is that of their addresses.
COLLECTS_IN_ORDER = COUNTS_REFERENCES and not FREE_THREADED
STARTS_EAGERLY = sys.version_info >= (3, 12)

# asyncio's Barrier differs from aiofastlock's on purpose (test_barrier_schedules.py has a
# model of it). Here the pure-Python one shows what the compiled one must do.
ORACLE = SimpleNamespace(**{**vars(oracle), "Barrier": _pure.Barrier})

# asyncio's, with what they lack.


class Lock(asyncio.Lock):
    try_acquire = oracle.Lock.try_acquire


class Semaphore(asyncio.Semaphore):
    try_acquire = oracle.Semaphore.try_acquire


class BoundedSemaphore(asyncio.BoundedSemaphore):
    try_acquire = oracle.Semaphore.try_acquire


class Condition(asyncio.Condition):
    try_acquire = oracle.Condition.try_acquire

    def __init__(self, lock=None):
        super().__init__(Lock() if lock is None else lock)


class OverTheFixedLock(Condition):
    def __init__(self, lock=None):
        super().__init__(oracle.Lock() if lock is None else lock)


def asyncios(name):
    """Return asyncio's implementation, by the name that show() knows."""
    if name == "over the fixed lock":
        return {name: but_for(ORACLE, Condition=OverTheFixedLock)}
    lacking = ("Barrier", "KeyedLock", "KeyedSemaphore", "RWLock")
    classes = {cls.__name__: cls for cls in (Lock, Semaphore, BoundedSemaphore, Condition)}
    return {name: but_for(asyncio, **{it: getattr(ORACLE, it) for it in lacking}, **classes)}


class Stuck(BaseException):
    """Nothing can run any more, and there is nothing to wait for."""


class Clockwork(asyncio.SelectorEventLoop):
    """A loop whose time stands still while anything can run, and then jumps to the next timer.

    Its methods that wake tasks are asyncio's, so that the locks behave as in any other loop.
    """

    now = 0.0
    iteration = 0

    def __init__(self):
        super().__init__(Standstill(self))
        self.made = []

    def time(self):
        return self.now

    def create_task(self, *arguments, **keywords):
        task = super().create_task(*arguments, **keywords)
        self.made.append(task)
        return task


class Standstill(selectors.DefaultSelector):
    """The selector, which the loop calls in each iteration. It jumps in time instead of waiting."""

    def __init__(self, loop):
        super().__init__()
        self.loop = loop

    def select(self, timeout=None):
        if timeout is None:
            raise Stuck
        self.loop.iteration += 1
        self.loop.now += timeout
        return super().select(0)


class InOrder(dict):
    """The tasks of a TaskGroup. In a set, it would cancel them in the order of their addresses."""

    def add(self, task):
        self[task] = None

    def discard(self, task):
        self.pop(task, None)


# ---- What a program is about ----


class Kind(NamedTuple):
    """What can be called on a primitive, awaited by hand, and awaited in tasks."""

    calls: tuple
    awaitables: tuple
    inside: tuple


ACQUIRE = (("acquire",), ("__aenter__",), ("__aexit__",))
PREDICATES = tuple(("wait_for", stage) for stage in range(4))
NOTIFY = (("notify_all",), ("notify",), *[("notify", n) for n in range(-1, 4)])
WAIT = (("wait",),)
LOCK = Kind((("release",), ("release",), ("try_acquire",)), ACQUIRE, ACQUIRE)
CONDITION = Kind(
    (("release",), ("try_acquire",), *NOTIFY),
    # On PyPy, a wait() that does not end when wait_for() is closed cannot be reported.
    (*ACQUIRE, *WAIT * 2, *(PREDICATES if COUNTS_REFERENCES else ())),
    (*WAIT * 3, *PREDICATES),
)
BARRIER = Kind((), (*WAIT * 4, *ACQUIRE[1:], ("reset",), ("abort",)), WAIT * 3 + (("reset",),))
ITEMS = (("put_nowait", 1), ("put_nowait", 2), ("put_nowait", None), ("get_nowait",))
PASS_ITEMS = (("put", 3), ("put", 4), ("put", None), ("get",), ("get",), ("get",))
QUEUE = Kind(
    (*ITEMS * 2, ("task_done",), ("shutdown",), ("shutdown", True)),
    (*PASS_ITEMS, ("join",)),
    (*PASS_ITEMS, ("join",)),
)
RWLOCK = Kind((("release",), ("try_acquire",)), ACQUIRE, ACQUIRE)
NUMBERS = Kind(*[tuple(call for call in calls if call[-1] is not None) for calls in QUEUE])
KINDS = {
    "Queue": QUEUE,
    "LifoQueue": QUEUE,
    "PriorityQueue": NUMBERS,
    "Lock": LOCK,
    "asyncio's Lock": LOCK,  # the oracle's, whatever the others are
    "Event": Kind((("set",), ("clear",)), WAIT, WAIT),
    "Semaphore": LOCK,
    "BoundedSemaphore": LOCK,
    "KeyedLock": LOCK,  # the lock of a key, looked up each time
    "KeyedSemaphore": LOCK,
    "Condition": CONDITION,  # with a new lock, or with that of the thing with this number
    "Barrier": BARRIER,
    "ReaderLock": RWLOCK,
    "WriterLock": RWLOCK,  # of the same RWLock as the last ReaderLock
}
QUERIES = (
    "locked",
    "is_set",
    "parties",
    "n_waiting",
    "broken",
    "qsize",
    "empty",
    "full",
    "maxsize",
)
DEATHS = {
    death.__name__: death
    for death in (asyncio.CancelledError, KeyError, GeneratorExit, KeyboardInterrupt)
}


def describe(error):
    """What two equal errors have in common.

    The number tells the instance that was thrown from a similar one.
    """
    if isinstance(error, BaseExceptionGroup):
        return type(error).__name__, *map(describe, error.exceptions)
    number, value = getattr(error, "number", None), getattr(error, "value", None)
    return type(error).__name__, str(error), error.args, number, value


# ---- Subclasses ----

# A hook is what a subclass overrides. Most of them only record the call, and do what the class
# does. Those of Barrier are public: what its own methods call differs on purpose. Nothing is
# recorded if an attribute is only read, or if acquire() asks locked() once more when it has made a
# future, as only aiofastlock's does.


def calls_original(trace, number, name, original):
    def override(self, *arguments):
        numbers = [argument for argument in arguments if isinstance(argument, int)]
        trace.append(("called", number, name, numbers))
        result = original(self, *arguments)
        if isinstance(result, bool):
            trace.append(("returned", number, name, result))
        return result

    return override


def awaits_original(trace, number, name, original):
    async def override(self, *arguments):
        trace.append(("awaited", number, name))
        return await original(self, *arguments)

    return override


def asks_original(trace, number, name, original):
    between = ("called", number, "_get_loop", [])

    def override(self):
        answer = "asked", number, name, original(self)
        if answer != next((event for event in reversed(trace) if event != between), None):
            trace.append(answer)
        return answer[-1]

    return override


def keeps_two(trace, number, name, original):
    """Call it and, to put, put the item once more."""

    def override(self, item):
        trace.append(("called", number, name, [item]))
        original(self, item)
        if self.qsize() % 2:
            original(self, item)

    return override


def wakes_last_of(trace, number, name, original):
    def override(self, waiters):
        trace.append(("called", number, name, []))
        for waiter in oracle.asleep_in(waiters)[-1:]:
            waiters.remove(waiter)
            waiter.set_result(None)

    return override


def lets_overtake(trace, number, name, original):
    return asks_original(trace, number, name, lambda self: self._value <= 0)


def parked_in(primitive):
    return oracle.asleep_in(primitive._waiters)


def wakes_last(trace, number, name, original):
    """Wake the waiter that came last, which no method of the class does."""

    def wake_up_first(self):
        woken = [it for it in self._waiters or () if it.done() and not it.cancelled()]
        if parked_in(self) and not woken:
            parked_in(self)[-1].set_result(True)

    def wake_up_next(self):
        last = parked_in(self)[-1:]
        for waiter in last:
            self._value -= 1
            waiter.set_result(True)
        return bool(last)

    def notify(self, n):
        for waiter in parked_in(self)[::-1][: max(n, 0)]:
            waiter.set_result(False)

    found = {"_wake_up_first": wake_up_first, "_wake_up_next": wake_up_next, "_notify": notify}
    return calls_original(trace, number, name, found[name])


def keeps(trace, number, name, original):
    """A property with a value of its own."""
    own = f"own{name}"

    def get(self):
        return vars(self)[own]

    def set_(self, value):
        if vars(self).get(own) != value:
            trace.append(("stored", number, name, value))
        vars(self)[own] = value

    return property(get, set_)


def sets(trace, number, name, original):
    seen = {}

    def override(self, attribute, value):
        if attribute in ("_locked", "_value"):
            if seen.setdefault(attribute, value) != value:
                trace.append(("stored", number, name, attribute, value))
            seen[attribute] = value
        original(self, attribute, value)

    return override


class PriorityQueue:
    """Has only what asyncio's methods use of a deque. Every second waiter overtakes the others."""

    def __init__(self, trace, number):
        self.trace, self.number = trace, number
        self.waiters = []
        self.appended = 0

    def append(self, waiter):
        self.appended += 1
        self.waiters.append((self.appended % 2, self.appended, waiter))
        self.waiters.sort()
        self.trace.append(("appended", self.number))

    def remove(self, waiter):
        self.trace.append(("removed", self.number))
        del self.waiters[list(self).index(waiter)]

    def __iter__(self):
        return iter([waiter for *_, waiter in self.waiters])

    def __len__(self):
        return len(self.waiters)


OF_ITEMS = ("put", "get", "join")
AWAITED = ("acquire", "wait", "wait_for", "reset", "abort", "__aenter__", "__aexit__", *OF_ITEMS)
OVERRIDES = {  # and others, which have the name of their method
    "an acquire that is no coroutine function": ("acquire", calls_original),
    "locked": ("locked", asks_original),
    "is_set": ("is_set", asks_original),
    "empty": ("empty", asks_original),
    "full": ("full", asks_original),
    "a _put of two": ("_put", keeps_two),
    "a _wakeup_next for the last": ("_wakeup_next", wakes_last_of),
    "a locked that lets others overtake": ("locked", lets_overtake),
    "a _wake_up_first for the last": ("_wake_up_first", wakes_last),
    "a _wake_up_next for the last": ("_wake_up_next", wakes_last),
    "a _notify for the last": ("_notify", wakes_last),
    "_locked": ("_locked", keeps),
    "_value": ("_value", keeps),
    "__setattr__": ("__setattr__", sets),
}
QUEUES = {  # that a subclass creates
    "a deque": lambda trace, number: deque(),
    "a priority queue": PriorityQueue,
}
ENTER = ("acquire", "an acquire that is no coroutine function", "__aenter__", "__aexit__")
OF_LOCKS = (*ENTER, "release", "try_acquire", "locked", "_get_loop")
OF_SEMAPHORES = (
    *OF_LOCKS,
    *("_wake_up_next", "a _wake_up_next for the last", "a locked that lets others overtake"),
)
METHODS = {  # that are overridden or patched
    "Lock": (*OF_LOCKS, "_wake_up_first", "a _wake_up_first for the last"),
    "Event": ("wait", "set", "clear", "is_set", "_get_loop"),
    "Semaphore": OF_SEMAPHORES,
    "BoundedSemaphore": OF_SEMAPHORES,
    "Condition": (
        *OF_LOCKS,
        *("wait", "wait_for", "notify", "notify_all", "_notify", "a _notify for the last"),
    ),
    "Barrier": ("wait", "reset", "abort"),
}
OF_QUEUES = (
    *("put", "get", "join", "put_nowait", "get_nowait", "task_done", "shutdown", "empty", "full"),
    *("_put", "_get", "_wakeup_next", "_get_loop", "a _put of two", "a _wakeup_next for the last"),
)
METHODS |= dict.fromkeys(("Queue", "LifoQueue", "PriorityQueue"), OF_QUEUES)
METHODS |= {"asyncio's Lock": METHODS["Lock"], "KeyedLock": (), "KeyedSemaphore": ()}
ATTRIBUTES = {  # that are overridden
    "Lock": ("_locked", "__setattr__", *QUEUES),
    "Event": ("_value", "__setattr__", *QUEUES),
    "Semaphore": ("_value", "__setattr__", *QUEUES),
    "BoundedSemaphore": ("_value", "__setattr__", *QUEUES),
    "Condition": (*QUEUES,),
    "KeyedLock": (),
    "KeyedSemaphore": (),
    "Barrier": (),
    "Queue": (),
    "LifoQueue": (),
    "PriorityQueue": (),
}
ATTRIBUTES["asyncio's Lock"] = ATTRIBUTES["Lock"]
OF_ITS_LOCK = ("acquire", "an acquire that is no coroutine function", "release", "locked")


def is_private(hook):
    name, _ = OVERRIDES.get(hook, (hook, None))
    return name in ("empty", "full") or (name.startswith("_") and name not in ENTER)


def override(trace, number, hook, original):
    """Return the name of what a hook overrides, and what it is overridden with."""
    default = hook, awaits_original if hook in AWAITED else calls_original
    name, make = OVERRIDES.get(hook, default)
    return name, make(trace, number, name, original(name))


def override_in_class(trace, number, hook, cls):
    return override(trace, number, hook, lambda name: getattr(cls, name, None))


def override_in_instance(trace, number, hook, instance):
    def original(name):
        method = getattr(instance, name)
        return lambda _, *arguments: method(*arguments)

    name, function = override(trace, number, hook, original)
    return name, MethodType(function, instance)


def subclass(trace, number, kind, hooks, cls):
    """Return a subclass of a subclass, which overrides what the hooks say."""
    queues = [QUEUES[hook] for hook in hooks if hook in QUEUES]
    # An instance of Condition has its lock's methods as attributes, which hide those of its class.
    inside = [hook for hook in hooks if kind == "Condition" and hook in OF_ITS_LOCK]
    between = type("Between", (cls,), {})

    def init(self, *arguments):
        between.__init__(self, *arguments)
        for make in queues:
            self._waiters = make(trace, number)
        for hook in inside:
            setattr(self, *override_in_instance(trace, number, hook, self))

    others = [hook for hook in hooks if hook not in QUEUES and hook not in inside]
    overrides = dict(override_in_class(trace, number, hook, between) for hook in others)
    if queues or inside:
        overrides["__init__"] = init
    return type("Own", (between,), overrides)


# ---- Carrying it out ----


class Hand:
    """An awaitable that is driven by hand."""

    def __init__(self, awaitable):
        self.awaitable = awaitable
        self.future = None  # that it waits for
        self.ended = False


class Driver:
    """Carries out a program, and records what happens.

    Every operation is a method, and its arguments are plain data. `which` is an index into the
    things that have the method. An operation is left out where there is no such thing, so that a
    program from which any part was removed is still a program.
    """

    def __init__(self, implementation, setup):
        self.implementation = implementation
        self.trace = []
        self.tasks = []
        self.orphans = []
        self.hands = []
        self.thrown = 0
        self.stage = 0
        self.is_tidy = False
        self.things = []
        self.rwlock = None
        self.sides = []
        self.own = []  # the kinds and numbers of those that are of subclasses
        self.in_python = set()  # the numbers of those of which every method is in Python
        self.patches = []
        self.having = {}
        for kind, *arguments in setup:
            self.things.append(self.make(kind, *arguments))
            calls, awaitables, _ = KINDS[kind]
            for method in {method for method, *_ in (*calls, *awaitables)}:
                self.having.setdefault(method, []).append(self.things[-1])
        kinds = [kind for kind, *_ in setup]
        self.semaphores = [
            thing for thing, kind in zip(self.things, kinds, strict=True) if "Semaphore" in kind
        ]
        self.permits = [semaphore._value for semaphore in self.semaphores]
        self.keyed = self.having_kind(kinds, "KeyedLock", "KeyedSemaphore")
        self.barriers = self.having_kind(kinds, "Barrier")
        self.queues = self.having.get("put_nowait", [])
        locks = [thing._lock for thing in self.having.get("notify", ())]
        others = (*self.barriers, *self.queues)
        queues = [getattr(it, "_turns", it) for it in self.things if it not in others]
        # Once each, though two conditions have the same.
        self.watched = list({id(thing): thing for thing in (*queues, *locks)}.values())

    def having_kind(self, kinds, *chosen):
        return [thing for thing, kind in zip(self.things, kinds, strict=True) if kind in chosen]

    def make(self, kind, *arguments):
        """Make a thing. If the last argument is a list, it has the hooks of a subclass."""
        if kind in ("ReaderLock", "WriterLock"):
            if kind == "ReaderLock" or self.rwlock is None:
                self.rwlock = self.implementation.RWLock()
            reads = kind == "ReaderLock"
            self.sides.append(self.rwlock.reader_lock if reads else self.rwlock.writer_lock)
            return self.sides[-1]
        cls = oracle.Lock if kind == "asyncio's Lock" else getattr(self.implementation, kind)
        if arguments and isinstance(arguments[-1], list):
            *arguments, hooks = arguments
            self.own.append((kind, len(self.things)))
            if any(hook in QUEUES or is_private(hook) for hook in hooks):
                self.in_python.add(len(self.things))
            cls = subclass(self.trace, len(self.things), kind, hooks, cls)
        if kind == "Condition" and arguments:
            others = [thing for thing in self.things if hasattr(thing, "_waiters")]
            others = [thing for thing in others if hasattr(thing, "acquire")]
            other = others[arguments[0] % len(others)] if others else None
            arguments = (getattr(other, "_lock", other),)
        made = cls(*arguments)
        return OfKey(made, ("a", "key")) if kind in ("KeyedLock", "KeyedSemaphore") else made

    def note(self, *event):
        self.trace.append(event)

    def note_error(self, name, error):
        self.note(name, *describe(error))

    def note_trouble(self, loop, context):
        error = context.get("exception")
        self.note("loop", context["message"].split()[:3], error and describe(error))

    def note_unraisable(self, unraisable):
        # Python 3.12 keeps the driver's tasks that never began, and drops them in a later program.
        if "'Driver.work' was never awaited" not in str(unraisable.exc_value):
            self.note("unraisable", *describe(unraisable.exc_value))

    def look(self):
        seen = []
        for thing in self.watched:
            waiters = thing._waiters
            states = waiters and [(waiter.done(), waiter.cancelled()) for waiter in waiters]
            seen.append((repr(thing).rpartition(" [")[2], states or waiters is None))
        seen += [semaphore._value for semaphore in self.semaphores]
        seen += [(repr(it).rpartition(" [")[2], it._count) for it in self.barriers]
        for thing in self.queues:
            seen.append((repr(thing).rpartition(" at 0x")[2].partition(" ")[2], str(thing)))
            for waiters in (thing._getters, thing._putters):
                seen.append([(waiter.done(), waiter.cancelled()) for waiter in waiters])
        for thing in (*self.watched, *self.sides, *self.barriers, *self.queues):
            found = [getattr(thing, query) for query in QUERIES if hasattr(thing, query)]
            seen.append([value() if callable(value) else value for value in found])
        self.trace.append(seen)

    def thing(self, which, method):
        things = self.having.get(method)
        return things[which % len(things)] if things else None

    def make_awaitable(self, which, method, *arguments):
        thing = self.thing(which, method)
        return None if thing is None else self.awaitable_of(thing, method, *arguments)

    def awaitable_of(self, thing, method, *arguments):
        if method == "__aexit__":
            arguments = (None, None, None)
        elif method == "wait_for":
            (stage,) = arguments
            arguments = (lambda: self.has_reached(stage),)
        return getattr(thing, method)(*arguments)

    def has_reached(self, stage):
        self.note("asked for", stage, self.stage)
        if self.stage == 4:
            raise KeyError("predicate")
        return self.stage >= stage and f"stage {self.stage}"

    async def carry_out(self, name, program):
        for operation, *arguments in program:
            result = getattr(self, operation)(name, *arguments)
            if result is not None:
                await result
            self.note(name, "did", operation)
            self.look()

    # Operations of tasks and of the driver.

    def call(self, name, which, method, *arguments):
        thing = self.thing(which, method)
        if thing is not None:
            self.call_it(thing, method, *arguments)

    def call_it(self, thing, method, *arguments):
        try:
            self.note(method, getattr(thing, method)(*arguments))
        except Exception as error:
            self.note_error(method, error)

    def later(self, name, when, *call):
        """From a callback of the loop: as soon as it can be, or after so many seconds."""
        loop = asyncio.get_running_loop()
        if when is None:
            loop.call_soon(self.call_back, *call)
        else:
            loop.call_later(when, self.call_back, *call)

    def call_back(self, *call):
        self.call("callback", *call)
        self.look()

    def set_stage(self, name, stage):
        self.stage = stage

    def write(self, name, which, value):
        if self.semaphores:
            semaphore = self.semaphores[which % len(self.semaphores)]
            if semaphore not in self.keyed:  # what is not held is forgotten
                semaphore._value = value

    def resize(self, name, which, change):
        """As subclasses do: add permits, or take some away, and wake waiters for the new ones."""
        if self.semaphores:
            index = which % len(self.semaphores)
            semaphore = self.semaphores[index]
            if semaphore in self.keyed:
                return
            self.permits[index] += change
            if hasattr(semaphore, "_bound_value"):
                semaphore._bound_value += change
            semaphore._value += change
            self.note("woke", [semaphore._wake_up_next() for _ in range(change)])

    def patch(self, name, which, where, hook):
        """Patch an instance or its class. The classes are the thing's own.

        A class that has been changed a thousand times is not cached any more: then, later programs
        would not test what they should.
        """
        own = [(kind, number) for kind, number in self.own if hook in METHODS[kind]]
        if own:
            kind, number = own[which % len(own)]
            if self.leaves_out(kind, number, where, hook):
                return
            patched = self.things[number]
            make = override_in_instance if where == "instance" else override_in_class
            if where != "instance":
                patched = type(patched) if where == "class" else type(patched).__base__
            method, function = make(self.trace, number, hook, patched)
            create = not hasattr(patched, method)
            self.patches.append(mock.patch.object(patched, method, function, create=create))
            self.patches[-1].__enter__()

    def leaves_out(self, kind, number, where, hook):
        """Whether the compiled implementation differs from asyncio there.

        What it has begun, it ends as it began, if nothing is overridden that asyncio's methods look
        up. And its Condition has the lock's methods in the class, where asyncio's are hidden.
        """
        is_hidden = kind == "Condition" and hook in OF_ITS_LOCK and where != "instance"
        others = [task for task in asyncio.all_tasks() if task.get_name() != "driver"]
        has_begun = bool(others) or not all(hand.ended for hand in self.hands)
        return is_hidden or (has_begun and number not in self.in_python)

    def restore(self, name):
        if self.patches:
            self.patches.pop().__exit__(None, None, None)

    async def tick(self, name, count):
        for _ in range(count):
            await asyncio.sleep(0)

    def sleep(self, name, delay):
        return asyncio.sleep(delay)

    # Operations of tasks.

    async def enter(self, name, which, timeout, body):
        thing = self.thing(which, "__aenter__")
        if thing is not None:
            async with asyncio.timeout(timeout), thing as entered:
                self.note(name, "entered", entered)
                await self.carry_out(name, body)

    async def hold(self, name, which, how, timeout, body):
        thing = self.thing(which, "acquire")
        if thing is not None:
            await self.wait(name, how, timeout, which, "acquire")
            try:
                await self.carry_out(name, body)
            finally:
                thing.release()

    async def wait(self, name, how, timeout, *awaitable):
        waiting = self.make_awaitable(*awaitable)
        if waiting is None:
            return
        if how == "wait_for":
            result = await asyncio.wait_for(waiting, timeout)
        elif how == "task":
            result = await asyncio.create_task(waiting)
        elif how == "shield":
            result = await asyncio.shield(waiting)
        elif how == "stubborn":
            try:
                result = await waiting
            except asyncio.CancelledError as error:
                self.note_error(how, error)
                return
        else:
            async with asyncio.timeout(timeout):
                result = await waiting
        self.note(name, *awaitable, result)

    async def wait_inside(self, name, which, timeout, method, *arguments):
        condition = self.thing(which, "notify")
        if condition is not None:
            async with asyncio.timeout(timeout), condition:
                self.note(name, method, await self.awaitable_of(condition, method, *arguments))

    async def gather(self, name, return_exceptions, awaitables):
        made = [self.make_awaitable(*awaitable) for awaitable in awaitables]
        found = [awaitable for awaitable in made if awaitable is not None]
        for result in await asyncio.gather(*found, return_exceptions=return_exceptions):
            if isinstance(result, BaseException):
                self.note_error(name, result)
            else:
                self.note(name, "gathered", result)

    async def group(self, name, bodies):
        async with asyncio.TaskGroup() as group:
            group._tasks = InOrder()
            for number, body in enumerate(bodies):
                coroutine = self.work(f"{name}.{number}", body)
                try:
                    group.create_task(coroutine)
                except RuntimeError:  # it is aborting, and closes the coroutine from Python 3.13 on
                    coroutine.close()
                    raise
            await asyncio.sleep(0)

    async def park(self, name, kind):
        """Wait for ever, at a primitive that no other task knows."""
        if kind == "Barrier":
            await self.implementation.Barrier(2).wait()
        elif kind == "Event":
            await self.implementation.Event().wait()
        elif kind == "Queue":
            await self.implementation.Queue().get()
        elif kind == "RWLock":
            rwlock = self.implementation.RWLock()
            async with rwlock.reader_lock:
                await rwlock.writer_lock.acquire()
        else:
            thing = getattr(self.implementation, kind)()
            async with thing:
                await (thing.wait() if kind == "Condition" else thing.acquire())

    def fail(self, name):
        raise KeyError(name)

    async def work(self, name, body):
        try:
            await self.carry_out(name, body)
        except BaseException as error:
            self.note_error(name, error)
            raise
        finally:
            self.note(name, "ends")
            self.look()

    # Operations of the driver.

    def tidy(self, name):
        """From here on, all that is acquired is released: at the end, all must be as it was."""
        self.is_tidy = True
        conditions = self.having.get("notify", ())
        self.having["wait"] = [it for it in self.having.get("wait", ()) if it not in conditions]

    def spawn(self, name, how, count, body):
        for _ in range(count):
            self.spawn_one(how, body)

    def spawn_one(self, how, body):
        name = f"task {len(self.tasks) + len(self.orphans)}"
        loop = asyncio.get_running_loop()
        # A task to which only the thing that it waits for refers. There is one at a time: the
        # order in which two of them are collected is undefined.
        if how == "orphan" and not any(orphan() for orphan in self.orphans):
            orphan = asyncio.Task(self.work_unheard(name, body), loop=loop)
            self.orphans.append(weakref.ref(orphan))
            return
        # The tasks that an eager task makes in its first step are eager, too.
        if how == "eager" and STARTS_EAGERLY:
            loop.set_task_factory(asyncio.eager_task_factory)
        try:
            self.tasks.append(asyncio.create_task(self.work(name, body)))
        finally:
            loop.set_task_factory(None)

    async def work_unheard(self, name, body):
        with contextlib.suppress(Exception):
            await self.work(name, body)

    def collect(self, name):
        if COUNTS_REFERENCES:
            gc.collect()

    def cancel(self, name, index, messages):
        tasks = [task for task in self.tasks if not task.done()] or self.tasks
        if tasks:
            task = tasks[index % len(tasks)]
            self.note("cancel", [task.cancel(message) for message in messages])

    def when_done(self, name, index, *call):
        if self.tasks:
            task = self.tasks[index % len(self.tasks)]
            task.add_done_callback(lambda _: self.call_back(*call))

    def waiter(self, which, index):
        all_waiters = [thing._waiters or () for thing in self.watched]
        all_waiters += [it for queue in self.queues for it in (queue._getters, queue._putters)]
        waiters = list(all_waiters[which % len(all_waiters)]) if all_waiters else ()
        return waiters[index % len(waiters)] if waiters else None

    def when_woken(self, name, which, index, *call):
        waiter = self.waiter(which, index)
        if waiter is not None:
            waiter.add_done_callback(lambda _: self.call_back(*call))

    def cancel_waiter(self, name, which, index):
        """As a task's cancel() does, also to what has no task."""
        waiter = self.waiter(which, index)
        if waiter is not None:
            self.note("cancel", waiter.cancel("by hand"))

    def call_inside(self, name, which, method, *arguments):
        """As a task that found the lock free."""
        condition = self.thing(which, "notify")
        if condition is not None and not self.may_wait(condition._lock):
            with contextlib.suppress(StopIteration):
                condition.acquire().send(None)
            self.call_it(condition, method, *arguments)
            self.call_it(condition, "release")

    def by_hand(self, name, iterator, start, *awaitable):
        found = self.make_awaitable(*awaitable)
        if found is not None:
            self.hands.append(Hand(found.__await__() if iterator else found))
            if start:
                self.drive_hand(self.hands[-1], "send")

    def drive(self, name, index, how, argument=None):
        hands = [hand for hand in self.hands if not hand.ended] or self.hands
        if hands:
            hand = hands[index % len(hands)]
            if how != "send if woken":
                self.drive_hand(hand, how, argument)
            elif hand.future is None or hand.future.done():
                self.drive_hand(hand, "send", argument)

    def drive_hand(self, hand, how, argument=None):
        try:
            if how == "close":
                hand.awaitable.close()
                hand.ended = True
                self.note(how)
                return
            if how == "send":
                future = hand.awaitable.send(None if hand.future is None else argument)
            else:
                death = DEATHS[argument]
                if how == "throw":
                    self.thrown += 1
                    death = death("thrown")
                    death.number = self.thrown
                future = hand.awaitable.throw(death)
            hand.future = future
            queues = [list(thing._waiters or ()) for thing in self.watched]
            places = [queue.index(future) if future in queue else None for queue in queues]
            self.note(how, "parked", future.done(), places)
        except BaseException as error:
            hand.ended = how != "close"  # else it has refused to end
            self.note_error(how, error)
            error.__traceback__ = None  # it refers to this frame, which refers to the hand

    def drop(self, name, index):
        if self.hands:
            hand = self.hands.pop(index % len(self.hands))
            if hand.future is None:
                hand.awaitable.close()
            elif any(self.may_wait(thing._lock) for thing in self.having.get("notify", ())):
                # It may refuse to end, which cannot be reported when it is dropped.
                self.drive_hand(hand, "close")
                self.drive_hand(hand, "close")

    def may_wait(self, lock):
        return lock.locked() or oracle.anybody_in(lock._waiters)

    # The end.

    async def run(self, program):
        loop = asyncio.get_running_loop()
        asyncio.current_task().set_name("driver")
        loop.set_exception_handler(self.note_trouble)
        for operation in program:
            await self.carry_out("driver", [operation])
        self.let_go()
        await self.carry_out("driver", [("sleep", 100)])
        # End what is left. Of the waiters that take a lock back first, each round ends one.
        # (All tasks but this one, because wait_for() of Python 3.11 may leave a task behind.)
        for _ in range(100):
            if self.orphans:
                self.collect("driver")
            orphans = [task for task in (orphan() for orphan in self.orphans) if task]
            tasks = [task for task in (*loop.made[1:], *orphans) if not task.done()]
            hands = [hand for hand in self.hands if not hand.ended]
            if not tasks and not hands:
                break
            for task in tasks:
                task.cancel("end")
            for hand in hands:
                # A woken one must take its turn: two could hand it to each other for ever.
                if hand.future is not None and hand.future.done():
                    self.drive_hand(hand, "send")
                else:
                    self.drive_hand(hand, "throw", "CancelledError")
            del orphans, tasks
            self.let_go()
            await self.carry_out("driver", [("tick", 3)])
        await asyncio.gather(*loop.made[1:], return_exceptions=True)
        await asyncio.sleep(1000)  # nothing is left behind for the next program
        self.look()
        self.note("faults", list(self.faults()))

    def let_go(self):
        for event in self.having.get("set", ()):
            event.set()
        for index, permits in enumerate(self.permits if self.is_tidy else ()):
            if permits < 1:  # a wait() that takes its semaphore back would never end
                self.resize("driver", index, 1 - permits)
        for thing in () if self.is_tidy else self.having.get("release", ()):
            with contextlib.suppress(ValueError, RuntimeError):
                thing.release()

    def faults(self):
        """Yield what is wrong when all tasks have ended: everything must work as if new."""
        others = (*self.semaphores, *self.having.get("set", ()))
        locks = [it for it in self.watched if getattr(it, "_lock", it) not in others]
        locks = [it for it in locks if hasattr(it, "acquire")] + self.sides
        for i, queue in enumerate(self.queues):
            if queue._getters or queue._putters:
                yield f"queue {i}: a waiter is left"
        for i, thing in enumerate(self.watched):  # its repr would have an address
            if thing._waiters:
                yield f"{i}: a waiter is left"
        for i, thing in enumerate(self.keyed):
            used = thing.locked() or getattr(thing, "_value", 0) != getattr(
                thing, "_bound_value", 0
            )
            if not isinstance(thing.keyed, dict) and len(thing.keyed) != used:
                yield f"keyed {i}: {list(thing.keyed)}"
        if self.is_tidy:
            permits = [semaphore._value for semaphore in self.semaphores]
            if permits != self.permits:
                yield f"permits: {permits} of {self.permits}"
            if any(lock.locked() for lock in locks):
                yield "a lock that is still held"
        for semaphore in self.semaphores:
            permits = semaphore._value
            while semaphore._value > 0 and at_once(semaphore.acquire()):
                permits -= 1
            if permits > 0 or (permits == 0 and not semaphore.locked()):
                yield f"{semaphore!r}: a permit that cannot be acquired"
        for lock in locks:
            if getattr(lock, "_turns", lock).locked():
                continue
            if not (at_once(lock.acquire()) and lock.locked()):
                yield f"{lock!r}: it can't be acquired"
            elif lock in self.sides:
                lock.release()
        for event in self.having.get("set", ()):
            event.set()
            if not at_once(event.wait()):
                yield f"{event!r}: set, and wait() parks"
        for barrier in self.barriers:
            at_once(barrier.reset())
            parties = [barrier.wait() for _ in range(barrier.parties)]
            for party in parties[:-1]:
                party.send(None)
            indices = [at_once(party) for party in reversed(parties)]
            if sorted(indices) != list(range(barrier.parties)):
                yield f"{barrier!r}: indices {indices}"


def at_once(awaitable):
    """Return its result, or False if it parks."""
    try:
        awaitable.send(None)
    except StopIteration as stop:
        return stop.value
    awaitable.close()
    return False


class Machine:
    """Runs programs, one after the other, on the same loop, which is slow to make.

    The collector runs in a program only where the program says so.
    """

    runner = None

    def __enter__(self):
        self.collected = gc.isenabled()
        gc.disable()
        gc.collect()
        if COUNTS_REFERENCES:
            gc.freeze()  # so that a collection is cheap
        self.programs = 0
        return self

    def __exit__(self, *_):
        self.stop()
        if self.collected:
            gc.enable()

    def stop(self):
        if self.runner is not None:
            runner, self.runner = self.runner, None
            runner.get_loop().set_exception_handler(lambda loop, context: None)
            with contextlib.suppress(Stuck):
                runner.close()

    def trace(self, implementation, setup, program):
        self.programs += 1
        if self.programs % 100 == 0:
            gc.collect()
        if self.runner is None:
            self.runner = asyncio.Runner(loop_factory=Clockwork)
        driver = Driver(implementation, setup)
        hook, sys.unraisablehook = sys.unraisablehook, driver.note_unraisable
        try:
            self.runner.run(driver.run(program))
            self.runner.get_loop().made.clear()
        except BaseException as error:
            self.stop()
            if not isinstance(error, Stuck):
                raise
            driver.note("stuck")
            seen = [*driver.trace]
            # Drop its tasks here. What they do then, in any order, is not of the trace.
            driver.__init__(implementation, [])
            return seen
        finally:
            if driver.orphans or self.runner is None:
                gc.collect()
            sys.unraisablehook = hook
        return driver.trace


def trace(implementation, setup, program):
    with Machine() as machine:
        return machine.trace(implementation, setup, program)


# ---- Programs at random ----

SIZES = 5, 24
INDICES = tuple(range(7))
WHICH = (0, 1, 2)
TIMEOUTS = (None, None, None, 0.0, 1.0, 2.0)  # a float can be left out, an int made smaller
MESSAGES = ((None,), ("once",), ("first", "second"))
PRIVATE = ("Event", "Lock", "Semaphore", "Condition", "Barrier", "Queue", "RWLock")

# Nothing is released more than once, or acquired by hand.
TIDY_INSIDE = (
    *("enter", "enter", "enter", "enter", "wait", "wait", "tick", "tick", "tick", "sleep"),
    *("call", "group", "later", "fail"),
)
INSIDE = (*TIDY_INSIDE, "hold", "hold", "gather", "wait", "wait", "tick", "park")
TIDY = (
    *("tick", "tick", "sleep", "call", "later", "when_done", "when_woken", "cancel_waiter"),
    *("spawn", "spawn", "spawn", "spawn", "cancel", "cancel"),
)
OPERATIONS = (*TIDY, "call", *["by_hand"] * 4, *["drive"] * 4)


class Composer:
    """Makes operations from choices. When these are used up, it takes the first of each."""

    def __init__(self, setup, is_tidy, is_deadly):
        kinds = [KINDS[kind] for kind, *_ in setup]
        names = {kind for kind, *_ in setup}
        self.is_deadly = is_deadly
        self.orphans = ("orphan",) if is_deadly and COLLECTS_IN_ORDER else ()
        self.awaitables = [awaitable for kind in kinds for awaitable in kind.awaitables]
        self.inside = [awaitable for kind in kinds for awaitable in kind.inside]
        self.calls = [call for kind in kinds for call in kind.calls]
        self.hows = ("plain", "plain", "wait_for", "task", "stubborn", "shield")
        self.operations, self.operations_inside = [*OPERATIONS], [*INSIDE]
        if is_tidy:
            self.inside = [it for it in self.inside if it[0] in ("wait", "reset", *OF_ITEMS)]
            self.calls = [it for it in self.calls if it[0] not in ("release", "try_acquire")]
            self.operations, self.operations_inside = [*TIDY], [*TIDY_INSIDE]
            self.hows = ("plain", "stubborn")  # a wait() may release only its own task's lock
        if names & {"Semaphore", "BoundedSemaphore", "KeyedSemaphore"}:
            self.operations.append("resize" if is_tidy else "write")
            self.operations_inside.append("resize")
        own = [kind for kind, *arguments in setup if arguments and isinstance(arguments[-1], list)]
        self.hooks = [hook for kind in own for hook in METHODS[kind]]
        if own:
            self.operations += ["patch", "patch", "restore"]
            self.operations_inside += ["patch", "restore"]
        if "Condition" in names:
            self.operations += ["set_stage", "call_inside", "call_inside"]
            self.operations_inside += ["set_stage", *["wait_inside"] * 3]
        if self.orphans:
            self.operations += ["collect"]
            self.operations_inside += ["park"]

    def compose(self, choices, names=None, depth=0):
        """An operation, or None."""

        def pick(*options):
            return options[next(choices, 0) % len(options)]

        def body(size):
            found = [self.compose(choices, self.operations_inside, depth + 1) for _ in range(size)]
            return [operation for operation in found if operation]

        name = pick(*(names or self.operations))
        if depth > 2 and name in ("enter", "hold", "group"):
            name = "wait"
        if not self.calls and name in ("call", "later", "when_done", "when_woken"):
            name = "tick"
        if not self.inside and name in ("wait", "gather"):
            name = "tick"
        match name:
            case "tick" | "sleep":
                return name, pick(1, 2)
            case "call":
                return name, pick(*WHICH), *pick(*self.calls)
            case "later":
                return name, pick(None, None, 0.0, 1.0, 2.0), pick(*WHICH), *pick(*self.calls)
            case "when_done":
                return name, pick(*INDICES), pick(*WHICH), *pick(*self.calls)
            case "when_woken":
                return name, pick(*INDICES), pick(*INDICES), pick(*WHICH), *pick(*self.calls)
            case "call_inside":
                return name, pick(*WHICH), "notify", pick(1, 2, 3)
            case "set_stage":
                return name, pick(*range(5))
            case "write":
                return name, pick(*WHICH), pick(*range(-1, 4))
            case "resize":
                return name, pick(*WHICH), pick(1, 2, -1)
            case "patch":
                return name, pick(*WHICH), pick("instance", "class", "base"), pick(*self.hooks)
            case "enter":
                return name, pick(*WHICH), pick(*TIMEOUTS), body(pick(1, 2, 2, 3))
            case "hold":
                return name, pick(*WHICH), pick(*self.hows[:4]), pick(*TIMEOUTS), body(2)
            case "wait":
                how, timeout = pick(*self.hows), pick(*TIMEOUTS)
                return name, how, timeout, pick(*WHICH), *pick(*self.inside)
            case "wait_inside":
                return name, pick(*WHICH), pick(*TIMEOUTS), *pick(*CONDITION.inside)
            case "gather":
                found = [(pick(*WHICH), *pick(*self.inside)) for _ in range(pick(1, 2, 3))]
                return name, pick(False, True), found
            case "group":
                return name, [body(pick(1, 2)) for _ in range(pick(1, 2, 3))]
            case "park":
                return name, pick(*PRIVATE)
            case "spawn":
                how = pick("task", "task", "task", "eager", *self.orphans)
                return name, how, pick(1, 1, 2, 3), body(pick(1, 2, 3))
            case "cancel":
                return name, pick(*INDICES), pick(*MESSAGES)
            case "cancel_waiter":
                return name, pick(*INDICES), pick(*INDICES)
            case "by_hand":
                by, start = pick(False, True), pick(True, True, False)
                return name, by, start, pick(*WHICH), *pick(*self.awaitables)
            case "drive":
                # A waiter to which None is sent before it is woken ends with a RuntimeError.
                more = ("send", "close", "drop") if self.is_deadly else ("send if woken",)
                index, how = pick(*INDICES), pick("throw", "throw class", *more)
                if how == "drop":
                    return ("drop", index) if COUNTS_REFERENCES else (name, index, "close")
                if how in ("send", "send if woken"):
                    return name, index, how, pick(None, 5)
                if how == "close":
                    return name, index, how
                return name, index, how, pick(*DEATHS if self.is_deadly else ["CancelledError"])
            case _:
                return (name,)


SEMAPHORES = [
    [(kind, value)] for kind in ("Semaphore", "BoundedSemaphore") for value in (1, 0, 2, 3)
]
QUEUES_ALONE = [
    [(kind, size)] for kind in ("Queue", "LifoQueue", "PriorityQueue") for size in (1, 0, 2, 3)
]
SCENES = {
    "Lock": [[("Lock",)]],
    "Event": [[("Event",)]],
    "Semaphore": SEMAPHORES[:4],
    "BoundedSemaphore": SEMAPHORES[4:],
    "keys": [[("KeyedLock",)], [("KeyedSemaphore", 1)], [("KeyedSemaphore", 2)]],
    "Condition": [
        [("Condition",)],
        [("Lock",), ("Condition", 0), ("Condition", 0)],
        [("asyncio's Lock",), ("Condition", 0), ("Condition", 0)],
    ],
    "Barrier": [[("Barrier", parties)] for parties in (2, 3, 4, 1)],
    "Queue": QUEUES_ALONE[:4],
    "LifoQueue": QUEUES_ALONE[4:8],
    "PriorityQueue": QUEUES_ALONE[8:],
    "RWLock": [[("ReaderLock",), ("WriterLock",)]],
    "world": None,  # two to four of all
}
WORLD = [
    *(("Lock",), ("Event",), ("Semaphore", 1), ("Semaphore", 2), ("Semaphore", 0)),
    *(("BoundedSemaphore", 1), ("BoundedSemaphore", 2), ("Barrier", 2), ("Barrier", 3)),
    *(("KeyedLock",), ("KeyedSemaphore", 2)),
    *(("Condition",), ("Condition", 0), ("Condition", 0), ("Condition", 1)),
    *(("ReaderLock",), ("WriterLock",), ("WriterLock",)),
    *(("Queue", 0), ("Queue", 1), ("Queue", 2), ("PriorityQueue", 1), ("LifoQueue", 1)),
]
# The order of scenes: every second one has several things.
TURNS = [name for scene in SCENES if scene != "world" for name in (scene, "world")]


def with_hooks(chosen, kind, *arguments):
    """Make it a subclass that overrides up to three things, unless asyncio has no such class."""
    if kind not in METHODS:
        return kind, *arguments
    hooks = (*METHODS[kind], *METHODS[kind], *ATTRIBUTES[kind])
    if not hooks:
        return kind, *arguments
    return kind, *arguments, chosen.choices(hooks, k=chosen.randrange(4))


def program_of(seed, index, scene=None, is_deadly=True):
    """Setup and program number `index` of a seed."""
    chosen = random.Random(f"{seed} {index}")
    scene = scene or TURNS[index % len(TURNS)]
    size = 2 + chosen.randrange(3) if scene == "world" else 0
    setup = [chosen.choice(WORLD) for _ in range(size)] or list(chosen.choice(SCENES[scene]))
    if chosen.random() < 1 / 3:
        setup = [with_hooks(chosen, *thing) for thing in setup]
    is_tidy = chosen.random() < 0.3
    composer = Composer(setup, is_tidy, is_deadly)
    program = [composer.compose(iter(chosen.randbytes(60))) for _ in range(chosen.randint(*SIZES))]
    return setup, [("tidy",), *program] if is_tidy else program


# ---- Differences ----


class Difference(NamedTuple):
    name: str  # of the implementation
    setup: list
    program: list


def differ(machine, implementation, setup, program, expected=None):
    """Whether a trace is not the oracle's, or ends with faults."""
    expected = expected or machine.trace(ORACLE, setup, program)
    seen = machine.trace(implementation, setup, program)
    return seen != expected or seen[-1] not in (("faults", []), ("stuck",))


def find_difference(machine, implementations, setup, program):
    expected = machine.trace(ORACLE, setup, program)
    for name, implementation in implementations.items():
        if differ(machine, implementation, setup, program, expected):
            return Difference(name, setup, program)
    return None


def smaller(value):
    """Yield simpler values: with a part left out, or with a simpler part."""
    if isinstance(value, list):
        size = len(value)
        while size:
            for start in range(0, len(value), size):
                yield value[:start] + value[start + size :]
            size //= 2
        for place, item in enumerate(value):
            # The body of an operation may do in its place.
            match item:
                case ("enter" | "hold", *_, body):
                    yield value[:place] + body + value[place + 1 :]
                case ("group", bodies):
                    for body in bodies:
                        yield value[:place] + body + value[place + 1 :]
    if isinstance(value, list | tuple):
        for place, item in enumerate(value):
            for simpler in smaller(item):
                yield type(value)((*value[:place], simpler, *value[place + 1 :]))
    elif isinstance(value, float):
        yield None
    elif isinstance(value, int) and value > 0:
        yield value - 1


def shrink(fails, setup, program):
    """Return the smallest setup and program found that fail, too."""
    best = [setup, program]
    improved = True
    while improved:
        improved = False
        for candidate in smaller(best):
            if isinstance(candidate, list) and len(candidate) == 2 and fails(*candidate):
                best, improved = candidate, True
                break
    return best


def shrunk(machine, implementations, found):
    def fails(setup, program):
        try:
            return differ(machine, implementations[found.name], setup, program)
        except Exception:  # it is no program any more
            return False

    return Difference(found.name, *shrink(fails, found.setup, found.program))


SCRIPT = """\
import sys

sys.path.insert(0, {folder!r})
import schedules

SETUP = {setup}
PROGRAM = {program}
sys.exit(schedules.show({name!r}, SETUP, PROGRAM))
"""


def script(found):
    """Return a script that shows the difference."""
    return SCRIPT.format(
        folder=str(Path(__file__).parent),
        name=found.name,
        setup=pprint.pformat(found.setup, width=99),
        program=pprint.pformat(found.program, width=99),
    )


def report(seed, index, found):
    return f"{found.name} differs in program {index} of seed {seed}:\n\n{script(found)}"


def show(name, setup, program):
    """Print both traces up to where they differ. Return 1 if they do, 0 if they are equal."""
    expected = trace(ORACLE, setup, program)
    seen = trace(OURS.get(name) or asyncios(name)[name], setup, program)
    for of_oracle, of_name in zip_longest(expected, seen):
        if of_oracle != of_name:
            print(f"  oracle: {of_oracle}\n  {name}: {of_name}")
            return 1
        print(" ", of_name)
    if seen[-1] not in (("faults", []), ("stuck",)):
        return 1
    print("the traces are equal")
    return 0


# ---- Many ----

CHUNK = 500


def run_chunk(arguments):
    """Run programs. Return how many, and the number of the first that differs, made small."""
    seed, first, last, scene, names = arguments
    implementations = {name: OURS[name] for name in names}
    faulthandler.enable()
    faulthandler.dump_traceback_later(600, exit=True)  # a program that does not end
    with Machine() as machine:
        for index in range(first, last):
            setup, program = program_of(seed, index, scene)
            found = find_difference(machine, implementations, setup, program)
            if found:
                return index - first, index, shrunk(machine, implementations, found)
    faulthandler.cancel_dump_traceback_later()
    return last - first, None, None


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--programs", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first program")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--scene", choices=SCENES, help="default: all of them in turn")
    parser.add_argument("--implementation", choices=OURS, help="default: both")
    options = parser.parse_args()
    names = [options.implementation] if options.implementation else list(OURS)
    print(
        f"Python {sys.version.split()[0]}, {' and '.join(names)}, seed {options.seed}", flush=True
    )

    end = options.first + options.programs
    chunks = [
        (options.seed, first, min(first + CHUNK, end), options.scene, names)
        for first in range(options.first, end, CHUNK)
    ]
    done, begun, shown = 0, time.monotonic(), 0
    try:
        with ProcessPoolExecutor(options.jobs) as pool:
            for count, index, found in pool.map(run_chunk, chunks):
                done += count
                if found:
                    print(report(options.seed, index, found))
                    if not show(*found):
                        first = options.first + (index - options.first) // CHUNK * CHUNK
                        print(f"but only after others: --first {max(first - CHUNK, 0)}")
                    return 1
                passed = time.monotonic() - begun
                if passed > shown + 10 or done == options.programs:
                    shown = passed
                    print(f"{done} programs, {done / passed:.0f}/s", flush=True)
    except BrokenProcessPool:
        print(f"a process crashed in a program from {options.first + done} on, or one did not end")
        return 1
    print("no difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
