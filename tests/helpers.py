"""What several files of tests need: steps taken by hand, tasks that wait, and copies."""

import asyncio
import copy
import pickle

import pytest
from conftest import PRIMITIVES, needs_refcounts

# ---- By hand ----


def by_hand(coroutine):
    """What it gives. It must end within one step."""
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    return stop.value.value


def finish(coroutine):
    assert by_hand(coroutine) is True


def parked(coroutine):
    """It, and the future that it waits on."""
    return coroutine, coroutine.send(None)


def die(coroutine, how):
    """End one that waits; to be dropped, it must be deleted after that."""
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
    """Have its error asked for: else it is told when the collector finds it, in another test."""
    if not task.cancelled():
        task.exception()


async def park(wait, count=1):
    """Tasks that wait."""
    tasks = [asyncio.create_task(wait()) for _ in range(count)]
    for task in tasks:
        task.add_done_callback(retrieve)
    await asyncio.sleep(0)
    return tasks


async def queue_up(lock, count=1):
    """Tasks that wait for what is held, each in its turn, and then give it back."""

    async def take_turn():
        async with lock:
            pass

    return await park(take_turn, count)


async def park_on(condition, count=1):
    """Tasks that wait to be notified, in their order, and then give the lock back."""

    async def wait():
        async with condition:
            return await condition.wait()

    return await park(wait, count)


async def end(*tasks):
    """Let them run until they have ended, in whatever way. Those that can do so soon."""
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
    """What its repr says of it."""
    return repr(primitive).rpartition(" [")[2].removesuffix("]>")


# What is given to make one that is to be had, if there is a choice.
ARGUMENTS = {"Semaphore": [1], "BoundedSemaphore": [1], "Barrier": [2]}


class Parking:
    """A primitive that is not to be had, and how to wait for it and to be woken."""

    def __init__(self, cls, method=None):
        self.name = next(base.__name__ for base in cls.__mro__ if base.__name__ in PRIMITIVES)
        self.primitive = cls(*ARGUMENTS.get(self.name, []))
        self.method = method or ("wait" if hasattr(cls, "wait") else "acquire")
        self.is_given = self.method == "acquire"  # to the one that is woken
        if self.is_given:
            finish(self.primitive.acquire())
        self.shut = state(self.primitive)

    def call(self):
        # By what it is told, wait_for() waits once.
        arguments = [iter([False, True]).__next__] if self.method == "wait_for" else []
        return getattr(self.primitive, self.method)(*arguments)

    def wait(self):
        """What parks when it is awaited, and gives True, or an index."""
        if self.name == "Condition":
            finish(self.primitive.acquire())
        return self.call()

    async def visit(self):
        """Wait, and leave the others as they were."""
        if self.name != "Condition":
            return await self.call()
        async with self.primitive:
            return await self.call()

    def wake(self):
        """The first that waits, or all of them, at an event."""
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
        """One that waited by hand is over: a condition's lock, which it has taken, is free."""
        if self.name == "Condition":
            self.primitive.release()

    def queue(self):
        """The futures of those that wait."""
        owner = getattr(self.primitive, "_cond", self.primitive)  # which asyncio's barrier has
        return list(owner._waiters or ())

    async def works(self):
        """Nobody waits, it is not to be had, and one that waits is woken."""
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
    """A future in Python, which does what it is told in the middle of done() or set_result()."""

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
