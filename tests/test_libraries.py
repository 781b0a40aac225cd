"""What other libraries do with asyncio's primitives, they do with aiofastlock's.

Each test has the expected result as a literal, and also runs on asyncio's primitives, which decide
whether it is right.
"""

import asyncio
import functools
import gc
import importlib
import inspect
import json
import os
import subprocess
import sys
import unittest
import weakref
from unittest import mock

import attrs
import beartype
import blinker
import dill
import pytest
import typeguard
import vine
from conftest import CLASSES, FREE_THREADED, IMPLEMENTATIONS, QUEUES, SWITCHES
from helpers import ARGUMENTS, Parking, by_hand, finish, park, park_on, state, steps
from starlette.background import BackgroundTask

needs_wheels = pytest.mark.skipif(
    FREE_THREADED or sys.version_info.releaselevel != "final",
    reason="the extra test-minimal, which is installed here, leaves this library out",
)
needs_policies = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="trio-asyncio does not run on Python 3.14"
)


@pytest.fixture(params=CLASSES)
def name(request):
    return request.param


@pytest.fixture
def Primitive(implementation, name):
    return getattr(IMPLEMENTATIONS[implementation], name)


def make(cls, name):
    return cls(*ARGUMENTS.get(name, []))


# ---- Type checks at run time: code is annotated with asyncio's classes ----


def by_attrs(cls):
    field = attrs.field(validator=attrs.validators.instance_of(cls))
    return attrs.make_class("Holder", {"it": field})


def by_beartype(cls):
    def take(it):
        pass

    take.__annotations__["it"] = cls
    return beartype.beartype(take)


def by_pydantic(cls):
    import pydantic

    adapter = pydantic.TypeAdapter(cls, config={"arbitrary_types_allowed": True})
    return adapter.validate_python


def by_typeguard(cls):
    return lambda it: typeguard.check_type(it, cls)


@pytest.mark.parametrize(
    "check", [by_attrs, by_beartype, pytest.param(by_pydantic, marks=needs_wheels), by_typeguard]
)
@pytest.mark.parametrize("subclass", [False, True], ids=["itself", "a subclass"])
def test_type_checks_accept_what_is_annotated_as_asyncios(implementation, name, check, subclass):
    accept = check(getattr(asyncio, name))
    accepted = []
    for other in CLASSES:
        cls = getattr(IMPLEMENTATIONS[implementation], other)
        it = make(type("Sub", (cls,), {}) if subclass else cls, other)
        try:
            accept(it)
        except (TypeError, ValueError, beartype.roar.BeartypeException, typeguard.TypeCheckError):
            continue
        accepted.append(other)
    subclasses = {"Semaphore": ["BoundedSemaphore"], "Queue": ["LifoQueue", "PriorityQueue"]}
    assert accepted == [name, *subclasses.get(name, [])]


def test_singledispatch(Primitive, name):
    @functools.singledispatch
    def kind(_):
        return None

    for each in CLASSES:
        kind.register(getattr(asyncio, each), lambda _, each=each: each)
    assert kind(make(Primitive, name)) == name


# ---- attrs and pydantic: subclasses and fields ----


async def test_a_subclass_with_slots_by_attrs(Primitive, name):
    @attrs.define(eq=False)
    class Numbered(Primitive):
        number: int = 1

        def __attrs_pre_init__(self):
            super().__init__(*ARGUMENTS.get(name, []))

    parking = Parking(Numbered)
    numbered = parking.primitive
    assert numbered.number == ARGUMENTS.get(name, [1])[0]
    assert Numbered.__slots__ == ("number",)
    assert weakref.ref(numbered)() is numbered
    await parking.works()


@needs_wheels
def test_a_field_of_a_model_by_pydantic(Primitive, name):
    import pydantic

    class Model(pydantic.BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        field: Primitive = pydantic.Field(default_factory=lambda: make(Primitive, name))

    model = Model()
    assert Model(field=model.field).field is model.field
    copied = model.model_copy(deep=True).field
    assert (type(copied), copied is model.field) == (Primitive, False)
    assert state(copied) == state(model.field)


# ---- Signals: receivers are held by weak references ----

# The methods that a signal can call, and the state after the call.
RECEIVERS = {
    "Lock": ("release", "unlocked"),
    "Event": ("set", "set"),
    "Condition": ("release", "unlocked"),
    "Semaphore": ("release", "unlocked, value:1"),
    "BoundedSemaphore": ("release", "unlocked, value:1"),
    **dict.fromkeys(QUEUES, ("put_nowait", "maxsize=0 _queue=['item'] tasks=1")),
}


@pytest.mark.parametrize("name", RECEIVERS)
def test_a_weak_receiver_by_vine(Primitive, name):
    primitive = Parking(Primitive).primitive
    method, expected = RECEIVERS[name]
    if name == "Condition":
        finish(primitive.acquire())
    promise = vine.promise(getattr(primitive, method), weak=True)
    promise(*["item"] * (method == "put_nowait"))
    assert state(primitive) == expected
    del primitive
    gc.collect()
    assert promise.fun() is None


@pytest.mark.parametrize("name", RECEIVERS)
def test_a_receiver_stays_while_its_primitive_does_by_blinker(Primitive, name):
    primitive = Parking(Primitive).primitive
    signal = blinker.Signal()
    signal.connect(getattr(primitive, RECEIVERS[name][0]))
    gc.collect()
    assert len(list(signal.receivers_for(blinker.ANY))) == 1
    del primitive
    gc.collect()
    assert list(signal.receivers_for(blinker.ANY)) == []


async def test_receivers_by_blinker(Condition):
    """The sender is the argument: how many tasks are notified, and a predicate."""
    condition = Condition()
    tasks = await park_on(condition, 3)
    notify, wait_for = blinker.Signal(), blinker.Signal()
    notify.connect(condition.notify)
    wait_for.connect(condition.wait_for)
    async with condition:
        assert notify.send(2) == [(condition.notify, None)]
        assert await wait_for.send_async(lambda: "ready") == [(condition.wait_for, "ready")]
    await steps()
    assert [task.done() for task in tasks] == [True, True, False]
    async with condition:
        condition.notify()
    await tasks[2]


async def test_the_sender_is_put_into_a_queue_by_blinker(Queue):
    queue, signal = Queue(1), blinker.Signal()
    signal.connect(queue.put_nowait)
    assert signal.send("one") == [(queue.put_nowait, None)]
    signal.disconnect(queue.put_nowait)
    signal.connect(queue.put)
    (task,) = await park(lambda: signal.send_async("two"))
    assert not task.done()
    assert await queue.get() == "one"
    assert await task == [(queue.put, None)]
    assert await queue.get() == "two"


# ---- Calls of coroutine functions: what is no coroutine function is not awaited ----


async def respond(app):
    """Return the status of a response of an ASGI application, and its body."""
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    sent = []

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


def by_fastapi(function):
    import fastapi

    app, depends = fastapi.FastAPI(), fastapi.Depends(function)

    @app.get("/")
    async def endpoint(result=depends):
        return repr(result)

    assert asyncio.run(respond(app))[0] == 200


def by_starlette(function):
    asyncio.run(BackgroundTask(function)())


def by_side_effect(function):
    asyncio.run(mock.AsyncMock(side_effect=function)())


def by_wraps(function):
    asyncio.run(mock.AsyncMock(wraps=function)())


def by_cleanup(function):
    class Case(unittest.IsolatedAsyncioTestCase):
        def test(self):
            self.addAsyncCleanup(function)

    result = unittest.TestResult()
    Case("test").run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])


CALLS = {
    "Lock.acquire": "locked",
    "Lock.__aenter__": "locked",
    "Condition.acquire": "locked",
    "Condition.__aenter__": "locked",
    "Semaphore.acquire": "locked",
    "Semaphore.__aenter__": "locked",
    "BoundedSemaphore.acquire": "locked",
    "BoundedSemaphore.__aenter__": "locked",
    "Barrier.abort": "broken",
    **dict.fromkeys([f"{name}.get" for name in QUEUES], "maxsize=0 tasks=1"),
}


CALLERS = [by_starlette, by_side_effect, by_wraps, by_cleanup]
CALLERS.append(pytest.param(by_fastapi, marks=needs_wheels))


def ready(implementation, call):
    """Return a primitive whose method need not wait, and the method."""
    name, method = call.split(".")
    primitive = make(getattr(IMPLEMENTATIONS[implementation], name), name)
    if name in QUEUES:
        primitive.put_nowait("item")
    return primitive, method


@pytest.mark.parametrize("by", CALLERS)
@pytest.mark.parametrize("call", CALLS)
def test_a_coroutine_function_is_awaited(implementation, call, by):
    primitive, method = ready(implementation, call)
    by(getattr(primitive, method))
    assert state(primitive) == CALLS[call]


async def test_a_background_task_waits_by_starlette(Event):
    event = Event()
    (task,) = await park(BackgroundTask(event.wait))
    await steps()
    assert len(event._waiters) == 1
    event.set()
    await asyncio.wait_for(task, 1)


async def test_a_background_task_puts_by_starlette(Queue):
    queue = Queue(1)
    await BackgroundTask(queue.put, "one")()
    (task,) = await park(BackgroundTask(queue.put, item="two"))
    assert len(queue._putters) == 1
    assert await queue.get() == "one"
    await asyncio.wait_for(task, 1)
    assert await queue.get() == "two"


@needs_wheels
async def test_a_permit_for_each_request_by_fastapi(Semaphore):
    import fastapi

    app, semaphore = fastapi.FastAPI(), Semaphore(2)
    depends = fastapi.Depends(semaphore.acquire)

    @app.get("/")
    async def endpoint(permit=depends):
        return [permit, semaphore._value]

    assert [await respond(app) for _ in range(2)] == [(200, [True, 1]), (200, [True, 0])]
    (third,) = await park(lambda: respond(app))
    await steps(50)
    assert not third.done()
    semaphore.release()
    assert await asyncio.wait_for(third, 1) == (200, [True, 0])


# ---- unittest.mock ----

# Coroutine functions are replaced by an AsyncMock.
MOCKED = {
    "Lock": ["__aenter__", "__aexit__", "acquire"],
    "Event": ["wait"],
    "Condition": ["__aenter__", "__aexit__", "acquire", "wait", "wait_for"],
    "Semaphore": ["__aenter__", "__aexit__", "acquire"],
    "BoundedSemaphore": ["__aenter__", "__aexit__", "acquire"],
    "Barrier": ["__aenter__", "__aexit__", "abort", "reset", "wait"],
    **{queue: ["get", "join", "put"] for queue in QUEUES},
}
PROPERTIES = {"broken", "maxsize", "n_waiting", "parties"}


def public(cls):
    return [name for name in dir(cls) if not name.startswith("_")]


def awaited(mocked, names):
    return [name for name in names if isinstance(getattr(mocked, name), mock.AsyncMock)]


@pytest.mark.parametrize(
    "spec",
    [
        lambda cls: mock.AsyncMock(spec=cls),
        lambda cls: mock.MagicMock(spec=cls),
        lambda cls: mock.create_autospec(cls, instance=True),
    ],
    ids=["AsyncMock", "MagicMock", "create_autospec"],
)
def test_a_mock_of_a_class(Primitive, name, spec):
    mocked = spec(Primitive)
    assert isinstance(mocked, Primitive)
    # asyncio's Condition has these in its instances alone.
    names = set(public(Primitive)) - ({"acquire"} if name == "Condition" else set())
    expected = [method for method in MOCKED[name] if method in names]
    assert awaited(mocked, sorted(names)) == expected


async def test_a_mock_of_a_class_is_used(Lock, Event, Queue):
    lock, event = mock.create_autospec(Lock, instance=True), mock.AsyncMock(spec=Event)
    async with lock:
        pass
    lock.__aenter__.assert_awaited_once_with()
    lock.acquire.return_value = "acquired"
    assert await lock.acquire() == "acquired"
    event.wait.return_value, event.is_set.return_value = "waited", "set"
    assert (await event.wait(), event.is_set()) == ("waited", "set")
    queue = mock.create_autospec(Queue, instance=True)
    queue.get.return_value = "got"
    assert await queue.get() == "got"
    await queue.put("item")
    queue.put.assert_awaited_once_with("item")
    with pytest.raises(TypeError):
        queue.put_nowait()
    with pytest.raises(AttributeError, match="has no attribute 'acquire'"):
        event.acquire()


def test_a_mock_in_an_instance(Primitive, name):
    """As kopf's tests replace a condition's wait_for()."""
    primitive = make(Primitive, name)
    names = {*public(primitive), *MOCKED[name]} - PROPERTIES
    mocked = []
    for method in sorted(names):
        original = getattr(primitive, method)
        with mock.patch.object(primitive, method) as replacement:
            assert getattr(primitive, method) is replacement
            if isinstance(replacement, mock.AsyncMock):
                mocked.append(method)
        assert getattr(primitive, method) == original
    assert mocked == MOCKED[name]


# ---- Classes that are patched, as tracers patch them ----

OF_QUEUES = ["put", "put_nowait", "get", "get_nowait", "task_done", "join"]
# What is called of a class: here by `async with`, and by methods that call others.
TRACED = {
    "Lock": ["acquire", "release"],
    "Event": ["set", "wait", "clear"],
    "Condition": ["notify_all", "notify", "wait_for"],
    "Semaphore": ["acquire", "locked", "release"],
    "BoundedSemaphore": ["acquire", "locked", "release"],
    "Barrier": ["wait", "abort", "reset"],
    **dict.fromkeys(QUEUES, OF_QUEUES),
}


async def use(primitive, name):
    match name:
        case "Event":
            primitive.set()
            await primitive.wait()
            primitive.clear()
        case "Condition":
            async with primitive:
                primitive.notify_all()
                await primitive.wait_for(lambda: True)
        case "Barrier":
            async with primitive:
                pass
            await primitive.abort()
            await primitive.reset()
        case "Queue" | "LifoQueue" | "PriorityQueue":
            await primitive.put("item")
            assert await primitive.get() == "item"
            primitive.task_done()
            await primitive.join()
        case _:
            async with primitive:
                pass


@needs_wheels
async def test_a_class_is_patched_by_wrapt(Primitive, name, monkeypatch):
    import wrapt

    seen = []

    def trace(wrapped, instance, args, kwargs):
        assert instance is primitive
        seen.append(wrapped.__name__)
        return wrapped(*args, **kwargs)

    primitive = Primitive(1) if name == "Barrier" else Primitive()
    with monkeypatch.context() as patches:
        for method in TRACED[name]:
            original = inspect.getattr_static(Primitive, method)
            patches.setattr(Primitive, method, wrapt.FunctionWrapper(original, trace))
        await use(primitive, name)
    await use(primitive, name)
    assert seen == TRACED[name]


# ---- Pickled with more than pickle does ----


@pytest.fixture(params=["cloudpickle", "dill"])
def library(request):
    if request.param == "dill":
        return dill
    if sys.implementation.name != "cpython":
        pytest.skip("cloudpickle cannot be imported on PyPy")
    return importlib.import_module(request.param)


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("call", CALLS)
def test_a_bound_method_is_pickled(implementation, call, library):
    primitive, method = ready(implementation, call)
    before = state(primitive)
    bound = getattr(primitive, method)
    copied = library.loads(library.dumps(bound))
    assert type(copied.__self__) is type(bound.__self__)  # a condition's may be its lock's
    by_hand(copied())
    assert (state(primitive), state(copied.__self__)) == (before, CALLS[call])


@pytest.mark.usefixtures("importable")
def test_a_function_of_a_class_is_pickled(Primitive, name, library):
    for method in {*public(Primitive), *MOCKED[name]} - PROPERTIES:
        if function := getattr(Primitive, method, None):
            assert library.loads(library.dumps(function)) == function


@pytest.mark.usefixtures("importable")
def test_a_local_subclass_is_pickled(Lock, library):
    class Named(Lock):
        name = "x"

    lock = Named()
    finish(lock.acquire())
    copied = library.loads(library.dumps(lock))
    assert (type(copied).__name__, copied.name, state(copied)) == ("Named", "x", "locked")


@pytest.mark.usefixtures("importable")
def test_a_local_subclass_is_pickled_with_its_items(Queue, library):
    if library is dill and sys.version_info >= (3, 15):
        pytest.skip("dill cannot pickle functions there yet")

    class Unique(Queue):
        def _init(self, maxsize):
            self._queue = {}

        def _put(self, item):
            self._queue[item] = None

        def _get(self):
            return self._queue.popitem()[0]

    queue = Unique(3)
    for item in (1, 1, 2):
        queue.put_nowait(item)
    copied = library.loads(library.dumps(queue))
    assert state(copied) == state(queue) == "maxsize=3 _queue=[1, 2] tasks=3"
    assert [copied.get_nowait() for _ in range(2)] == [2, 1]


# ---- Libraries that subclass asyncio's classes or replace its parts, in another process ----


def run(implementation, program):
    """Return the output of a program that may import the implementation as aiofastlock."""
    environment = {**os.environ, "AIOFASTLOCK_EXTENSIONS": SWITCHES.get(implementation, "")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_wheels
def test_a_queue_by_priority_by_asynkit(implementation):
    """Its lock puts a queue into _waiters, and overrides _wake_up_first()."""
    install = "" if implementation == "asyncio" else "import aiofastlock.auto"
    program = """
import asyncio
from asynkit.experimental.priority import PriorityCondition, PriorityLock, PriorityTask

lock = PriorityLock()
condition = PriorityCondition(lock)
order = []

async def acquire(priority):
    async with lock:
        order.append(priority)

async def wait(priority):
    async with condition:
        await condition.wait()
        order.append(priority)

async def start(work):
    tasks = [PriorityTask(work(priority), priority=priority) for priority in (3, 1, 2)]
    for _ in range(10):
        await asyncio.sleep(0)
    return tasks

async def main():
    async with lock:
        tasks = await start(acquire)
    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    tasks = await start(wait)
    async with condition:
        condition.notify(2)
        condition.notify()
    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    print(order)

asyncio.run(main())
"""
    assert run(implementation, f"{install}\n{program}") == "[1, 2, 3, 1, 2, 3]\n"


@needs_wheels
@needs_policies
@pytest.mark.parametrize("first", ["trio_asyncio", "the classes"])
def test_trio_asyncios_loop(implementation, first):
    """It replaces the function of asyncio that returns the running loop."""
    module = "asyncio" if implementation == "asyncio" else "aiofastlock"
    imports = [f"import {module} as module", "import trio_asyncio"]
    if first == "trio_asyncio":
        imports.reverse()
    program = """
import asyncio
import trio

async def acquire(primitive):
    await primitive.acquire()
    asyncio.get_running_loop().call_soon(primitive.release)
    return await primitive.acquire()

async def wait(event):
    asyncio.get_running_loop().call_soon(event.set)
    return await event.wait()

async def notify(condition):
    async def notify():
        async with condition:
            condition.notify()

    async with condition:
        asyncio.create_task(notify())
        return await condition.wait()

async def meet(barrier):
    asyncio.create_task(barrier.wait())
    return await barrier.wait()

async def hand_over(queue):
    await queue.put(False)
    asyncio.create_task(queue.put(True))
    while not await queue.get():
        pass
    asyncio.get_running_loop().call_soon(queue.put_nowait, 1)
    return await queue.get()

async def main():
    async with trio_asyncio.open_loop():
        for work, primitive in [
            (acquire, module.Lock()),
            (wait, module.Event()),
            (notify, module.Condition()),
            (acquire, module.Semaphore()),
            (acquire, module.BoundedSemaphore()),
            (meet, module.Barrier(2)),
            (hand_over, module.Queue(1)),
            (hand_over, module.LifoQueue(1)),
            (hand_over, module.PriorityQueue(1)),
        ]:
            print(await trio_asyncio.aio_as_trio(work)(primitive))

trio.run(main)
"""
    expected = "True\nTrue\nTrue\nTrue\nTrue\n0\n1\n1\n1\n"
    assert run(implementation, "\n".join([*imports, program])) == expected
