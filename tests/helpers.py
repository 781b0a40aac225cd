"""Helpers for several files of tests: steps taken by hand, tasks that wait, and copies."""

import asyncio
import copy
import pickle

import pytest
from conftest import PRIMITIVES, needs_refcounts

# ---- By hand ----


def by_hand(coroutine):
    """Return its result. It must end within one step."""
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    return stop.value.value


def finish(coroutine):
    assert by_hand(coroutine) is True


def parked(coroutine):
    """Return it, and the future that it waits for."""
    return coroutine, coroutine.send(None)


def die(coroutine, how):
    """End a coroutine that waits. If it is to be dropped, the caller deletes it."""
    if how == "close":
        coroutine.close()
    elif how == "throw":
        with pytest.raises(KeyError):
            coroutine.throw(KeyError("dead"))


deaths = pytest.mark.parametrize(
    "how", ["close", "throw", pytest.param("drop", marks=needs_refcounts)]
)

# ---- Tasks ----


async def steps(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


def retrieve(task):
    """Retrieve its exception: else asyncio reports it when it is collected, in another test."""
    if not task.cancelled():
        task.exception()


async def park(wait, count=1):
    """Return tasks that wait."""
    tasks = [asyncio.create_task(wait()) for _ in range(count)]
    for task in tasks:
        task.add_done_callback(retrieve)
    await asyncio.sleep(0)
    return tasks


async def queue_up(lock, count=1):
    """Return tasks that wait for a held lock, and release it when they had their turn."""

    async def take_turn():
        async with lock:
            pass

    return await park(take_turn, count)


async def park_on(condition, count=1):
    """Return tasks that wait to be notified, in this order, and then release the lock."""

    async def wait():
        async with condition:
            return await condition.wait()

    return await park(wait, count)


async def end(*tasks):
    """Let tasks run until they have ended, in whatever way. They must do so within 100 steps."""
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


# ---- Any primitive ----


def state(primitive):
    """Return its state as its repr shows it."""
    return repr(primitive).rpartition(" [")[2].removesuffix("]>")


# The arguments of a primitive that one task can have, where it takes any.
ARGUMENTS = {"Semaphore": [1], "BoundedSemaphore": [1], "Barrier": [2]}


class Parking:
    """A primitive for which a task must wait, and how to wait for it and to be woken."""

    def __init__(self, cls, method=None):
        self.name = next(base.__name__ for base in cls.__mro__ if base.__name__ in PRIMITIVES)
        self.primitive = cls(*ARGUMENTS.get(self.name, []))
        self.method = method or ("wait" if hasattr(cls, "wait") else "acquire")
        self.is_given = self.method == "acquire"  # the woken waiter holds it
        if self.is_given:
            finish(self.primitive.acquire())
        self.shut = state(self.primitive)

    def call(self):
        # With this predicate, wait_for() waits once.
        arguments = [iter([False, True]).__next__] if self.method == "wait_for" else []
        return getattr(self.primitive, self.method)(*arguments)

    def wait(self):
        """Return an awaitable that parks, and whose result is True or an index."""
        if self.name == "Condition":
            finish(self.primitive.acquire())
        return self.call()

    async def visit(self):
        """Wait, and leave the other waiters as they were."""
        if self.name != "Condition":
            return await self.call()
        async with self.primitive:
            return await self.call()

    def wake(self):
        """Wake the first waiter, or all waiters of an event."""
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
            self.primitive.release()

    def ended(self):
        """After a waiter by hand has ended: release the condition's lock, which it has taken."""
        if self.name == "Condition":
            self.primitive.release()

    def queue(self):
        """Return the futures of the waiters."""
        owner = getattr(self.primitive, "_cond", self.primitive)  # asyncio's barrier has a _cond
        return list(owner._waiters or ())

    async def works(self):
        """Check that no task waits, that a task must wait, and that it is woken."""
        assert not self.queue()
        assert state(self.primitive) == self.shut
        (task,) = await park(self.visit)
        assert len(self.queue()) == 1
        self.wake()
        assert await asyncio.wait_for(task, 1) in (True, 0)
        assert not self.queue()
        assert state(self.primitive) == self.shut


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
    """A future in Python, which calls a given function inside done() or set_result()."""

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
