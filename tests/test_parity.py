"""Whatever can be asked about asyncio's locks has the same answer here, but for one list."""

import asyncio
import functools
import inspect
import itertools
import sys
import types
from fnmatch import fnmatchcase
from unittest import mock

import parity
import pytest
from conftest import IMPLEMENTATIONS, OURS, PRIMITIVES, needs_compiled

pytestmark = pytest.mark.skipif(
    sys.implementation.name == "pypy",
    reason="mocks that were never awaited warn when PyPy collects them; use parity.py there",
)


class Difference:
    """What differs from asyncio, and why.

    Each primitive, subject and fact that it names must differ: in all combinations. A name can
    have wildcards, of which one must differ.
    """

    def __init__(self, reason, facts, subjects, primitives=None, when=True):
        self.reason, self.when = reason, when
        self.facts = [fact.strip() for fact in facts.split(",")]
        self.subjects = [subject.strip() for subject in subjects.split(",")]
        self.primitives = parity.NAMES if primitives is None else primitives.split()

    def combinations(self, primitive):
        if self.when and primitive in self.primitives:
            for subject in self.subjects:
                for fact in self.facts:
                    yield subject, fact


def matching(pattern, names):
    return [name for name in names if fnmatchcase(name, pattern)]


QUEUES = "Lock Event Condition Semaphore BoundedSemaphore"
OF_ITEMS = " ".join(name for name in parity.NAMES if name.endswith("Queue"))
METHODS_THAT_WAIT = {
    "self.acquire()": "Lock Condition Semaphore BoundedSemaphore",
    "self.__aenter__()": "Lock Condition Semaphore BoundedSemaphore Barrier",
    "self.wait()": "Event Condition Barrier",
    "self.wait_for()": "Condition",
    "self.put(), self.get(), self.join()": OF_ITEMS,
}
WITH_MIXIN = "Lock Condition Semaphore BoundedSemaphore"
STATE = {
    "Lock": "self._locked",
    "Event": "self._value",
    "Condition": "self._lock, self.acquire, self.locked, self.release",
    "Semaphore": "self._value",
    "BoundedSemaphore": "self._bound_value, self._value",
    "Barrier": "self._count, self._parties, self._state",
    **dict.fromkeys(
        OF_ITEMS.split(),
        "self._finished, self._getters, self._is_shutdown, self._maxsize, self._putters, "
        "self._queue, self._unfinished_tasks",
    ),
}

BOTH = [
    # The queue
    Difference(
        "a waiter leaves from anywhere in the queue at once, so that it is no deque",
        "waiters.type, waiters.attributes",
        "self, sub",
        QUEUES,
    ),
    Difference("the same", "kind, abcs, value", "self._waiters", "Event Condition"),
    Difference("the same", "kind, value", "self._getters, self._putters", OF_ITEMS),
    Difference(
        "a copy would never be woken",
        "waiters.copy, waiters.deepcopy, waiters.pickle",
        "self, sub",
        QUEUES,
    ),
    *(
        Difference(
            "asyncio's message says nothing of the reason", "without_running_loop", subject, names
        )
        for subject, names in METHODS_THAT_WAIT.items()
    ),
    # The classes
    Difference(
        "asyncio's locks are no instances of a class that replaces theirs",
        "relations.asyncio's is no instance",
        "cls",
    ),
    Difference("the base classes are others", "described.names of bases", "cls"),
    Difference("asyncio's have no try_acquire()", "names.more", "cls", WITH_MIXIN),
    Difference("the same", "instance_names.more", "self, sub", WITH_MIXIN),
    # Barrier has a queue, where asyncio's has a condition
    Difference(
        "its own queue, where asyncio's barrier has a condition",
        "present",
        "self._cond",
        "Barrier",
    ),
    Difference("the same", "data_assigned.*", "self._count", "Barrier"),
    Difference(
        "the same",
        "steps.*, awaiting.steps",
        "self.wait() suspended, self.__aenter__() suspended, sub.wait() suspended, "
        "sub.__aenter__() suspended",
        "Barrier",
        when=sys.implementation.name == "cpython",  # PyPy's awaits drop what is thrown in
    ),
    Difference(
        "the same",
        "coroutine_attributes.cr_await",
        "self.wait() suspended, sub.wait() suspended",
        "Barrier",
    ),
    Difference("the same", "while_it_waits.chain", "self.wait(), self.__aenter__()", "Barrier"),
    Difference(
        "the same",
        "while_it_waits.call graph, while_it_waits.call graph of an outer task",
        "self.wait(), self.__aenter__()",
        "Barrier",
        when=sys.version_info >= (3, 14),
    ),
]
PURE = [
    Difference(
        "the base classes have other names",
        "qualname",
        "cls._get_loop, self._get_loop",
    ),
    Difference(
        "the same",
        "qualname",
        "cls.__aenter__, cls.__aexit__, self.__aenter__, self.__aexit__",
        "Lock Condition Semaphore BoundedSemaphore",
    ),
    Difference(
        "the same",
        "coroutine_attributes.qualname",
        "self.__aenter__() *, self.__aexit__() *, sub.__aenter__() suspended",
        "Lock Condition Semaphore BoundedSemaphore",
    ),
    Difference(
        "the methods are in modules of their own, from which the class is imported",
        "function_attributes.__module__",
        "cls.*, self.*",
    ),
    Difference(
        "the same: inspect looks for the class where users find it", "described.source", "cls"
    ),
    Difference("the event loop is left out of copies", "names.more dunders", "cls"),
    Difference("attributes are made in another order", "subclasses.__getattr__", "cls"),
    Difference("the same", "subclasses.list first", "cls", "Lock Event Condition " + OF_ITEMS),
    Difference("the queue knows it", "classified, static", "self._count", "Barrier"),
    Difference("the same", "instance_names.vars", "self, sub", "Barrier"),
    Difference("it waits in a queue of its own", "hooks._get_loop", "cls", "Barrier"),
    Difference("the same", "call_errors.none", "cls.*, self.*", "Barrier"),
    Difference(
        "as from 3.13 on",
        "call_errors.none",
        "cls._wake_up_next, self._wake_up_next",
        "Semaphore BoundedSemaphore",
        when=sys.version_info < (3, 13),
    ),
]
COMPILED = [
    # The attributes
    *(
        Difference(
            "the state is kept in fields, which cost less than a __dict__",
            "data_assigned.in vars, classified, static",
            subjects,
            name,
        )
        for name, subjects in STATE.items()
    ),
    Difference("the same", "instance_names.vars", "self, sub"),
    Difference("the same: it is a field, not None", "static, kind, kinds", "cls._loop"),
    Difference("the same", "static", "self._loop"),
    Difference("the same", "mocks.create_autospec._loop", "cls"),
    Difference("the same", "mocks.create_autospec of an instance._loop", "cls"),
    Difference("the same", "data_assigned.delete", "self._loop"),
    Difference("the same", "names.more dunders", "cls"),
    Difference("the same", "data_assigned.in vars, classified, static", "self._waiters", QUEUES),
    Difference("the same: it is made at each look", "waiters.same", "self, sub", QUEUES),
    Difference(
        "a class whose objects have fields cannot have another such class beside it",
        "subclasses.dict, subclasses.exception, subclasses.list first, "
        "subclasses.another primitive, subclasses.StringIO first",
        "cls",
    ),
    Difference(
        "what asyncio sets in __init__ is there before, so that __getattr__ is not called",
        "subclasses.__getattr__",
        "cls",
    ),
    Difference(
        "fields of the class, where asyncio has attributes of the instance alone",
        "names.more, subclasses.abstract method",
        "cls",
        "Condition",
    ),
    Difference(
        "the same: some values have no place there",
        "data_assigned.None, data_assigned.object, data_assigned.list",
        "self._state",
        "Barrier",
    ),
    Difference("the same", "data_assigned.delete, data_assigned.patch", "self._state", "Barrier"),
    Difference(
        "the same: they are made again",
        "data_assigned.delete",
        "self.acquire, self.locked, self.release",
        "Condition",
    ),
    Difference(
        "the same: it is another object at each look",
        "data_assigned.patch",
        "self._waiters",
        "Event Condition",
    ),
    Difference("the same", "abcs, data_assigned.patch", "self._getters, self._putters", OF_ITEMS),
    Difference(
        "the same: it is found in no __dict__", "data_assigned.patch", "self._lock", "Condition"
    ),
    # The methods
    Difference(
        "a mixin's methods are the class's, for each has C code of its own",
        "qualname, function_attributes.__qualname__, identity.repr",
        "cls._get_loop, self._get_loop",
    ),
    Difference(
        "the same",
        "qualname, function_attributes.__qualname__, identity.repr",
        "cls.__aenter__, cls.__aexit__, self.__aenter__, self.__aexit__",
        WITH_MIXIN,
    ),
    Difference(
        "the same: a message has the name",
        "wrapped.signature of partialmethod",
        "self._get_loop",
        when=sys.version_info >= (3, 13),
    ),
    Difference(
        "the same",
        "wrapped.signature of partialmethod",
        "self.__aenter__",
        WITH_MIXIN,
        when=sys.version_info >= (3, 13),
    ),
    Difference("mock asks for the type, which is not Python's", "patches.spec", "cls._get_loop"),
    Difference("the same", "patches.spec", "cls.*"),
    Difference(
        "as in the pure-Python implementation",
        "call_errors.none",
        "*._wait, *._exit, *._block, *._release",
        "Barrier",
    ),
    Difference(
        "the same, as from 3.13 on",
        "call_errors.none",
        "*._wake_up_next",
        "Semaphore BoundedSemaphore",
        when=sys.version_info < (3, 13),
    ),
    # The awaitable
    Difference(
        "`await` in C needs an iterator",
        "coroutine_operations.iter, coroutine_operations.next, coroutine_operations.contains",
        "*.*() *",
    ),
    Difference("the same, and that works in any generator", "uses.a plain generator", "self.*()"),
    Difference("it is no type of Python's", "coroutine_attributes.__await__", "*.*() *"),
    Difference(
        "it has no finalizer", "coroutine_attributes.__del__", "*.*() *", " ".join(PRIMITIVES)
    ),
    Difference(
        "the same",
        "coroutine_attributes.__class_getitem__",
        "*.*() *",
        when=sys.version_info >= (3, 13),
    ),
    Difference("the same: of a class in Python", "awaiting.dir", "*.*() *"),
    Difference("functions in C have no frames", "coroutine_state.traceback", "*.*() *"),
    Difference(
        "they do not know where they were called",
        "never_awaited, never_awaited_with_origin",
        "self.*()",
    ),
    Difference(
        "it awaits nothing but a future: there is no coroutine of acquire() inside",
        "coroutine_attributes.cr_await",
        "self.__aenter__() suspended, sub.__aenter__() suspended",
        WITH_MIXIN + " Barrier",
    ),
    Difference("the same", "while_it_waits.chain", "self.__aenter__()", WITH_MIXIN),
    Difference(
        "the same",
        "while_it_waits.call graph, while_it_waits.call graph of an outer task",
        "self.__aenter__()",
        WITH_MIXIN,
        when=sys.version_info >= (3, 14),
    ),
    Difference(
        "the base class has another name",
        "coroutine_attributes.qualname",
        "*.__aenter__() *, *.__aexit__() *",
        WITH_MIXIN,
    ),
    Difference(
        "throw() looks at its arguments in C, where asyncio's calls the future's iterator",
        "steps.throw 1, steps.throw int, steps.throw StopIteration, steps.throw bad traceback, "
        "steps.throw instance*value",
        "*.*() *",
    ),
    Difference("the same", "awaiting.steps", "*.*() *"),
    Difference(
        "others see it closed as soon as a step begins, for that costs least",
        "while_it_runs.await, while_it_runs.close, while_it_runs.cr_running, while_it_runs.send, "
        "while_it_runs.state, while_it_runs.throw, while_it_runs.cr_frame",
        "self.*()",
        " ".join(PRIMITIVES),
    ),
    # The handle
    Difference(
        "it is written in C",
        "handle_attributes.*_run, handle_kinds.pickle",
        "handle",
    ),
    # The classes
    Difference("their source is Cython", "described.source", "cls"),
    Difference("the same", "described.slots", "cls"),
    Difference(
        "as a class in C, to __reduce__() but not to __reduce_ex__()",
        "reductions.__reduce__",
        "self, sub",
        "Lock Event Semaphore BoundedSemaphore Barrier " + OF_ITEMS,
    ),
]
EXPECTED_DIFFERENCES = {"pure": BOTH + PURE, "compiled": BOTH + COMPILED}


@functools.cache
def judged(implementation, primitive):
    """Return the differences that are not listed, and what is listed but does not differ."""
    found = parity.differences(implementation, primitive)
    by_subject = {}
    for key in found:
        by_subject.setdefault(key.subject, {})[key.fact] = key
    unlisted, stale = dict(found), []
    for difference in EXPECTED_DIFFERENCES[implementation]:
        for subject, fact in difference.combinations(primitive):
            subjects = matching(subject, by_subject)
            matched = [
                by_subject[each][name]
                for each in subjects
                for name in matching(fact, by_subject[each])
            ]
            for key in matched:
                unlisted.pop(key, None)
            if not matched:
                stale.append((subject, fact, difference.reason))
    return unlisted, stale


@pytest.fixture(params=parity.NAMES)
def name(request):
    return request.param


# In this order, a worker walks over each of asyncio's classes once.
@pytest.mark.parametrize(("name", "ours"), list(itertools.product(parity.NAMES, OURS)))
def test_what_differs_is_what_is_listed(name, ours):
    differs, stale = judged(ours, name)
    report = [
        f"{key.subject}, {key.fact}:\n  asyncio: {theirs}\n  {ours}: {found}"
        for key, (theirs, found) in differs.items()
    ]
    assert not report, "\n".join(report)
    assert not stale, "listed, but no difference (any more)"


def test_what_is_listed_and_does_not_differ_is_stale():
    listed = [Difference("once", "signature, kinds", "self.acquire", "Lock")]
    with mock.patch.dict(EXPECTED_DIFFERENCES, {"asyncio": listed}):
        unlisted, stale = judged.__wrapped__("asyncio", "Lock")
    assert not unlisted
    assert stale == [("self.acquire", fact, "once") for fact in ("signature", "kinds")]


class ByWrapper(asyncio.Lock):
    """As a builtin method, or one of functools.partial, would: it is no coroutine function."""

    def acquire(self):
        return super().acquire()


class Renamed(asyncio.Lock):
    async def acquire(self, blocking=True):
        return await super().acquire()


class Silent(asyncio.Lock):
    def release(self):
        self._locked = False


class Unequal(asyncio.Lock):
    def __eq__(self, other):
        return NotImplemented

    __hash__ = None


class Uncopied(asyncio.Lock):
    def __reduce_ex__(self, protocol):
        raise TypeError("no copies")


class Awaitable:
    """A coroutine in all but its attributes."""

    __slots__ = ("coroutine",)

    def __init__(self, coroutine):
        self.coroutine = coroutine

    def __await__(self):
        return self.coroutine.__await__()

    def send(self, value):
        return self.coroutine.send(value)

    def throw(self, *error):
        return self.coroutine.throw(*error)

    def close(self):
        self.coroutine.close()


class Wrapped(asyncio.Lock):
    def acquire(self):
        return Awaitable(super().acquire())


FOUND = {
    ByWrapper: {
        ("self.acquire", "kinds"),
        ("cls", "mocks.create_autospec.acquire"),
    },
    Renamed: {
        ("self.acquire", "signature"),
        ("cls.acquire", "call_errors.too many"),
    },
    Silent: {
        ("cls", "hooks._wake_up_first"),
    },
    Unequal: {
        ("self", "equality"),
    },
    Uncopied: {
        ("self", "copies.deepcopy"),
        ("self", "copies.pickle 0"),
    },
    Wrapped: {
        ("self.acquire() suspended", "coroutine_attributes.cr_running"),
        ("self.acquire() created", "coroutine_state.getcoroutinestate"),
        ("self.acquire() suspended", "weak_references"),
        ("self.acquire()", "while_it_runs.cr_running"),
    },
}


@pytest.mark.parametrize("cls", FOUND)
def test_a_difference_is_found(cls):
    theirs = {name: getattr(asyncio, name) for name in parity.NAMES}
    mutant = types.SimpleNamespace(**{**theirs, "Lock": cls})
    with mock.patch.dict(IMPLEMENTATIONS, {cls.__name__: mutant}):
        found = parity.differences(cls.__name__, "Lock")
    assert {(key.subject, key.fact) for key in found} >= FOUND[cls]


def make(implementation, name):
    return getattr(implementation, name)(*([3] if name == "Barrier" else []))


def public_names(thing):
    return {name for name in dir(thing) if not name.startswith("_")}


def test_get_loop_binds_to_the_running_loop(implementation, name):
    """Janus binds its locks early, by this."""
    thing = make(IMPLEMENTATIONS[implementation], name)

    async def get_loop():
        return thing._get_loop(), asyncio.get_running_loop()

    with asyncio.Runner() as runner, asyncio.Runner() as another:
        got, running = runner.run(get_loop())
        assert got is running is thing._loop
        with pytest.raises(RuntimeError, match="is bound to a different event loop"):
            another.run(get_loop())


def test_classes_name_the_module_that_users_import_them_from(our_name, name):
    ours = getattr(OURS[our_name], name)
    assert (ours.__module__, ours.__name__, ours.__qualname__) == ("aiofastlock", name, name)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Lock", {"loop": 1}), ("Event", {"loop": 1}), ("Condition", {"loop": 1}),
        ("Semaphore", {"loop": 1}), ("BoundedSemaphore", {"loop": 1}), ("Barrier", {"loop": 1}),
        ("Lock", [1]), ("Event", [1]), ("Condition", [None, 2]), ("Semaphore", [1, 2]),
        ("BoundedSemaphore", [1, 2]), ("Barrier", [1, 2]), ("Barrier", []),
        ("Semaphore", [-1]), ("BoundedSemaphore", [-1]), ("Barrier", [0]),
        ("Semaphore", ["1"]), ("BoundedSemaphore", ["1"]), ("Barrier", ["1"]),
        ("Condition", [object()]),
    ],
)  # fmt: skip
def test_wrong_arguments_raise_asyncios_errors(our_name, name, arguments):
    texts = []
    for implementation in (OURS[our_name], asyncio):
        keywords = arguments if isinstance(arguments, dict) else {}
        with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
            getattr(implementation, name)(*([] if keywords else arguments), **keywords)
        text = str(caught.value).replace(
            "parties must be > 0", "parties must be >= 1"
        )  # until 3.13
        texts.append((caught.type, text))
    assert texts[0] == texts[1]


@needs_compiled
def test_docstrings_are_the_same_in_both_implementations(name):
    pure, fast = (getattr(OURS[which], name) for which in ("pure", "compiled"))
    assert fast.__doc__
    assert inspect.cleandoc(fast.__doc__) == inspect.cleandoc(pure.__doc__)
    for method in public_names(pure):
        doc = inspect.getdoc(getattr(fast, method))
        assert doc, method
        assert doc == inspect.getdoc(getattr(pure, method)), method


@pytest.mark.parametrize("kind", ["own", "subclass"])
async def test_what_cannot_be_awaited_says_so(our_name, name, kind):
    def refusal(implementation):
        cls = getattr(implementation, name)
        if kind == "subclass":
            cls = type("Mine", (cls,), {})
        with pytest.raises(TypeError) as refused:
            await_it(cls(*([3] if name == "Barrier" else []))).send(None)
        return str(refused.value)

    async def await_it(thing):
        await thing

    assert refusal(OURS[our_name]) == refusal(asyncio)
