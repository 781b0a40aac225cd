"""What several test files use: coroutines driven by hand, tasks that wait, and copies."""

import asyncio
import copy
import functools
import pickle
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from conftest import CLASSES, QUEUES, needs_refcounts

from aiofastlock import _pure

# ---- By hand ----


def by_hand(coroutine):
    """Return the result of a coroutine that ends in one step."""
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    return stop.value.value


def finish(coroutine):
    assert by_hand(coroutine) is True


def parked(coroutine):
    """Return a coroutine that now waits, and the future that it waits on."""
    return coroutine, coroutine.send(None)


def abandon(coroutine, how):
    """End a coroutine that waits. To drop it, the caller must delete it after this call."""
    if how == "close":
        coroutine.close()
    elif how != "drop":
        error = {"throw": KeyError, "cancel": asyncio.CancelledError}[how]
        with pytest.raises(error):
            coroutine.throw(error("abandoned"))


ABANDONED = ["close", "throw", pytest.param("drop", marks=needs_refcounts)]
abandoned = pytest.mark.parametrize("how", ABANDONED)
abandoned_or_cancelled = pytest.mark.parametrize("how", ["cancel", *ABANDONED])


def failing(error):
    """Return a callable that raises the error."""
    return mock.Mock(side_effect=error("not now"))


# ---- Tasks ----


def length_of_chain(implementation):
    """Return how many objects overflow the stack if they are deallocated by recursion in C.

    Each takes 100 bytes or more, and a usual stack is eight megabytes.
    """
    # In debug mode a future stores the stack of its caller, which takes long.
    if implementation == "pure" or asyncio.coroutines._is_debug_mode():
        return 20_000
    return 100_000


async def steps(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


def retrieve(task):
    """Look at a task's exception, or asyncio logs it later, when another test runs."""
    if not task.cancelled():
        task.exception()


async def park(wait, count=1):
    """Start tasks, and return them once they wait."""
    tasks = [asyncio.create_task(wait()) for _ in range(count)]
    for task in tasks:
        task.add_done_callback(retrieve)
    await asyncio.sleep(0)
    return tasks


async def queue_up(lock, count=1):
    """Start tasks that each wait for a lock that is held, take it and release it."""

    async def take_turn():
        async with lock:
            pass

    return await park(take_turn, count)


async def park_on(condition, count=1):
    """Start tasks that each wait for a notification."""

    async def wait():
        async with condition:
            return await condition.wait()

    return await park(wait, count)


async def end(*tasks):
    """Run tasks until they end, with a result or an exception. They must end soon."""
    for _ in range(100):
        if all(task.done() for task in tasks):
            break
        await asyncio.sleep(0)
    assert all(task.done() for task in tasks)
    for task in tasks:
        retrieve(task)


async def result(task):
    await end(task)
    return task.result()


class Driven:
    """Awaits a coroutine, and cancels the task at its n-th wait: before it ends, or as it ends."""

    def __init__(self, coroutine, n, when):
        self.coroutine = coroutine
        self.n = n
        self.when = when
        self.waits = 0

    def __await__(self):
        task = asyncio.current_task()
        sent = self.coroutine.__await__()
        future = next(sent, None)
        while True:
            self.waits += 1
            if self.waits == self.n:
                if self.when == "before" or future is None:
                    task.get_loop().call_soon(task.cancel)
                else:
                    future.add_done_callback(lambda _: task.cancel())
            try:
                yield future
            except BaseException as error:
                step = functools.partial(sent.throw, error)
            else:
                step = functools.partial(sent.send, None)
            try:
                future = step()
            except StopIteration as stop:
                return stop.value

    async def drive(self):
        return await self


# ---- Any primitive ----


def state(primitive):
    """Return the state that a primitive's repr shows, or a queue's."""
    if hasattr(primitive, "put_nowait"):
        return primitive._format()
    return repr(primitive).rpartition(" [")[2].removesuffix("]>")


# Arguments of the constructors that take any.
ARGUMENTS = {"Semaphore": [1], "BoundedSemaphore": [1], "Barrier": [2]}


class Parking:
    """A primitive that tasks must wait for, how to wait for it, and how to wake a waiter."""

    def __init__(self, cls, method=None):
        self.name = next(base.__name__ for base in cls.__mro__ if base.__name__ in CLASSES)
        self.primitive = cls(*ARGUMENTS.get(self.name, []))
        default = "get" if self.name in QUEUES else "wait" if hasattr(cls, "wait") else "acquire"
        self.method = method or default
        self.is_given = self.method == "acquire"  # the woken task then holds it
        if self.is_given:
            finish(self.primitive.acquire())
        self.shut = state(self.primitive)

    def another(self):
        return type(self)(type(self.primitive))

    def call(self):
        # With such a predicate, wait_for() waits once.
        arguments = [iter([False, True]).__next__] if self.method == "wait_for" else []
        return getattr(self.primitive, self.method)(*arguments)

    def wait(self):
        """Return a coroutine that waits, and then returns True or an index."""
        if self.name == "Condition":
            finish(self.primitive.acquire())
        return self.call()

    async def visit(self):
        """Wait, and then leave the primitive as a waiter would find it."""
        if self.name != "Condition":
            return await self.call()
        async with self.primitive:
            return await self.call()

    def wake(self):
        """Wake the first waiter, or all of them if this is an event."""
        if self.name == "Event":
            self.primitive.set()
            self.primitive.clear()
        elif self.name == "Condition":
            finish(self.primitive.acquire())
            self.primitive.notify()
            self.primitive.release()
        elif self.name == "Barrier":
            by_hand(self.primitive.wait())
        else:
            self.open()

    def open(self):
        """Let a task that comes now pass without waiting."""
        if self.name == "Event":
            self.primitive.set()
        elif self.name in QUEUES:
            self.primitive.put_nowait(True)
            self.primitive.task_done()
        else:
            self.primitive.release()

    def ended(self):
        """Release the condition's lock, which a coroutine driven by hand took back."""
        if self.name == "Condition":
            self.primitive.release()

    def queue(self):
        """Return the futures of the waiters."""
        if self.name in QUEUES:
            return list(self.primitive._getters)
        owner = getattr(self.primitive, "_cond", self.primitive)  # asyncio.Barrier has a condition
        return list(owner._waiters or ())

    async def works(self):
        """Check that no task waits, that a task must wait, and that a waiter is woken."""
        assert not self.queue()
        assert state(self.primitive) == self.shut
        (task,) = await park(self.visit)
        assert len(self.queue()) == 1
        self.wake()
        assert await asyncio.wait_for(task, 1) in (True, 0)
        assert not self.queue()
        assert state(self.primitive) == self.shut


class OfKey:
    """The lock or semaphore of a key, looked up each time.

    The oracle's are never forgotten, so their queue is empty where that of a new one is None.
    """

    def __init__(self, keyed, key):
        vars(self).update(keyed=keyed, key=key)

    def __getattr__(self, name):
        found = getattr(self.keyed[self.key], name)
        return found or () if name == "_waiters" else found

    def __setattr__(self, name, value):
        setattr(self.keyed[self.key], name, value)

    def __aenter__(self):
        return self.keyed[self.key].__aenter__()

    def __aexit__(self, *error):
        return self.keyed[self.key].__aexit__(*error)

    def __repr__(self):
        return repr(self.keyed[self.key]).replace(f", key:{self.key!r}", "")


class WriterParking(Parking):
    """The writer lock of an RWLock, which a writer holds."""

    name, method, is_given = "WriterLock", "acquire", True

    def __init__(self, cls):
        self.cls = cls
        self.rwlock = cls()
        self.primitive = self.rwlock.writer_lock
        finish(self.primitive.acquire())
        self.shut = state(self.primitive)

    def another(self):
        return WriterParking(self.cls)

    def queue(self):
        return list(self.rwlock._turns._waiters)


# ---- The documentation ----


def examples(page):
    """Run the Python code of a page, and return what it defines."""
    path = Path(__file__).parent.parent / "docs" / page
    if not path.exists():
        pytest.skip("the tests are not run from a source tree")
    names = {"__name__": "examples"}
    for code in re.findall(r"^```python\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL):
        exec(code, names)
    return SimpleNamespace(**names)


# ---- Copies ----


def through_pickle(protocol):
    return lambda found: pickle.loads(pickle.dumps(found, protocol))


ROUND_TRIPS = {
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": through_pickle(protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}
COPIES = {"copy": copy.copy, **ROUND_TRIPS}
copies = pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)

# ---- Code that runs in the middle of a step ----


class InterruptedFuture(asyncio.futures._PyFuture):
    """A future in Python that runs a given callable inside done() or set_result()."""

    def __init__(self, **keywords):
        self.in_done = self.in_set_result = self.after_set_result = None
        super().__init__(**keywords)

    def done(self):
        if self.in_done is not None:
            interrupt, self.in_done = self.in_done, None
            interrupt()
        return super().done()

    def set_result(self, result):
        if self.in_set_result is not None:
            interrupt, self.in_set_result = self.in_set_result, None
            interrupt()
        super().set_result(result)
        if self.after_set_result is not None:
            raise self.after_set_result


class InterruptedLoop(asyncio.SelectorEventLoop):
    in_is_closed = in_create_future = None

    def create_future(self):
        if self.in_create_future is not None:
            interrupt, self.in_create_future = self.in_create_future, None
            interrupt()
        return InterruptedFuture(loop=self)

    def is_closed(self):
        if self.in_is_closed is not None:
            interrupt, self.in_is_closed = self.in_is_closed, None
            interrupt()
        return super().is_closed()


def on_interrupted_loop(main):
    with asyncio.Runner(loop_factory=InterruptedLoop) as runner:
        return runner.run(main())


# ---- Implementations that are wrong ----


def but_for(implementation, **classes):
    """Return an implementation with other classes."""
    names = [name for name in dir(implementation) if not name.startswith("__")]
    found = {name: getattr(implementation, name) for name in names}
    return SimpleNamespace(**{**found, **classes})


class QueueLosesTurns(_pure.Queue):
    """A woken waiter that is cancelled does not wake another."""

    def _wakeup_next(self, waiters):
        if sys._getframe(1).f_code.co_name not in ("get", "put"):
            super()._wakeup_next(waiters)


class QueueLosesItems(_pure.Queue):
    """A getter that is cancelled takes an item with it."""

    async def get(self):
        try:
            return await super().get()
        except asyncio.CancelledError:
            if self._queue:
                self._get()
            raise
