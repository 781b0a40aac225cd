"""Event loops in several threads, with separate objects, objects passed on, or one shared object.

    threads.py own        each thread uses its own objects: the results are those of one thread
    threads.py handed     threads pass objects on, and use them one after the other: the same
    threads.py shared     misuse: all threads do everything to one object at the same time
    threads.py keys       each thread has keys of its own, of the same KeyedLock: the same; and
                          misuse of a KeyedLock
    threads.py install    all threads call install() and uninstall()

Misuse may raise exceptions and lose turns. It must not crash or block a thread, disturb a correct
thread beside it, or break the object: when no thread uses the object any more, its queue is empty,
it works, and it can be deallocated. Exits with 1 and a traceback if not. Hanging threads are shown.

On a build with a GIL, threads switch as often as they can. Every second loop, on average, makes
futures that are written in Python, so threads also switch in the middle of a step there.
"""

import argparse
import asyncio
import contextlib
import copy
import faulthandler
import gc
import logging
import pickle
import sys
import threading
import traceback
import warnings
import weakref
from collections import Counter
from functools import partial
from operator import attrgetter
from queue import SimpleQueue
from random import Random
from time import monotonic

import aiofastlock
from aiofastlock import _pure

IMPLEMENTATIONS = {"asyncio": asyncio, "pure": _pure}
if aiofastlock.IMPLEMENTATION == "compiled":
    IMPLEMENTATIONS["compiled"] = aiofastlock
ARGUMENTS = {
    "Lock": (),
    "Event": (),
    "Condition": (),
    "Semaphore": (2,),
    "BoundedSemaphore": (2,),
    "Barrier": (3,),
    "Queue": (2,),
    "LifoQueue": (2,),
    "PriorityQueue": (2,),
    "RWLock": (),
}
TASKS = 8
SEEDS = 20


def known(implementation):
    return [name for name in ARGUMENTS if hasattr(IMPLEMENTATIONS[implementation], name)]


def make(implementation, primitive):
    return getattr(IMPLEMENTATIONS[implementation], primitive)(*ARGUMENTS[primitive])


def turns_of(primitive):
    """Return what has the queue."""
    return getattr(primitive, "_turns", primitive)


def queues_of(primitive):
    """Return the queues of waiters. asyncio's barrier has none."""
    primitive = turns_of(primitive)
    names = ("_getters", "_putters") if hasattr(primitive, "_getters") else ("_waiters",)
    return [queue for name in names if (queue := getattr(primitive, name, None)) is not None]


def check_queues(primitive):
    for queue in queues_of(primitive):
        assert not queue, f"left in a queue of {primitive!r}: {queue!r}"


# ---- Correct work ----


class Work:
    """Tasks of one loop that use an object in random ways, and what they see, in order."""

    def __init__(self, shared, primitive, seed):
        self.shared = shared
        self.operate = getattr(self, f"on_{primitive.lower()}")
        self.limit = 2 if primitive.endswith("Semaphore") else 1
        self.random = Random(seed)
        self.inside = 0
        self.seen = []

    async def do(self):
        """Run the tasks, and return what they saw. The object is idle again then."""
        tasks = [asyncio.create_task(self.task(number)) for number in range(TASKS)]
        for step in range(40):
            await asyncio.sleep(0)
            if self.random.random() < 0.2:
                self.random.choice(tasks).cancel(f"in step {step}")
        while not all(task.done() for task in tasks):
            for task in tasks:
                task.cancel("at the end")
            await asyncio.sleep(0)
        self.seen.append((repr(self.shared).rpartition(" object at ")[0], self.inside))
        await self.alone()
        check_queues(self.shared)
        return self.seen

    async def task(self, number):
        for turn in range(6):
            try:
                if self.random.random() < 0.3:
                    async with asyncio.timeout(0):
                        outcome = await self.operate()
                else:
                    outcome = await self.operate()
            except AssertionError:
                raise
            except (Exception, asyncio.CancelledError) as error:
                outcome = type(error).__name__, str(error)
            self.seen.append((number, turn, outcome))
            if outcome == ("CancelledError", "at the end"):
                break

    async def alone(self):
        """Use the idle object in ways that need not wait."""
        if hasattr(self.shared, "reader_lock"):
            for _ in range(15):
                async with self.shared.reader_lock, self.shared.reader_lock:
                    assert not self.shared.writer_lock.try_acquire()
                async with self.shared.writer_lock:
                    assert not self.shared.reader_lock.try_acquire()
        elif hasattr(self.shared, "release"):
            for _ in range(30):
                async with self.shared, self.entered():
                    pass
        elif hasattr(self.shared, "set"):
            self.shared.set()
            for _ in range(30):
                await self.shared.wait()
            self.shared.clear()
        elif hasattr(self.shared, "get"):
            self.seen.append(self.shared._format())
            while not self.shared.empty():
                self.seen.append(self.shared.get_nowait())
            for number in range(30):
                await self.shared.put(number)
                self.seen.append(await self.shared.get())
            while self.shared._unfinished_tasks:
                self.shared.task_done()
            await self.shared.join()
        else:
            for _ in range(10):
                await self.shared.abort()
                await self.shared.reset()

    @contextlib.asynccontextmanager
    async def entered(self):
        self.inside += 1
        assert self.inside <= self.limit, f"{self.inside} tasks are inside {self.shared!r}"
        try:
            yield
        finally:
            self.inside -= 1

    async def on_lock(self):
        async with self.shared, self.entered():
            for _ in range(self.random.randrange(3)):
                await asyncio.sleep(0)
        return "entered"

    on_semaphore = on_boundedsemaphore = on_lock

    async def on_rwlock(self):
        if self.random.random() < 0.4:
            async with self.shared.writer_lock, self.entered():
                await asyncio.sleep(0)
            return "written"
        async with self.shared.reader_lock:
            for _ in range(self.random.randrange(3)):
                assert not self.inside
                await asyncio.sleep(0)
        return "read"

    async def on_event(self):
        if self.random.random() < 0.6:
            return await self.shared.wait()
        await asyncio.sleep(0)
        return self.shared.set() if self.random.random() < 0.5 else self.shared.clear()

    async def on_condition(self):
        async with self.shared:
            if self.random.random() < 0.6:
                return await self.shared.wait()
            async with self.entered():
                await asyncio.sleep(0)
                self.shared.notify(self.random.randrange(4))
        return "notified"

    async def on_barrier(self):
        draw = self.random.random()
        if draw < 0.05:
            return await self.shared.abort()
        if draw < 0.2:
            return await self.shared.reset()
        return await self.shared.wait()

    async def on_queue(self):
        draw = self.random.random()
        if draw < 0.1:
            return self.shared.task_done()
        if draw < 0.15:
            return await self.shared.join()
        if draw < 0.2:
            return self.shared.put_nowait(draw)
        if draw < 0.25:
            return self.shared.get_nowait()
        return await (self.shared.put(draw) if draw < 0.6 else self.shared.get())

    on_lifoqueue = on_priorityqueue = on_queue


def do(implementation, primitive, seed, shared=None):
    """Work on an object, or on a new one, in a loop of this thread. Return what was seen."""
    if shared is None:
        shared = make(implementation, primitive)
    return asyncio.run(Work(shared, primitive, seed).do(), debug=False)


class Correct:
    """Threads that use objects correctly, and must see what a single thread saw before."""

    def __init__(self, implementation, primitives):
        self.implementation = implementation
        self.expected = {
            (primitive, seed): do(implementation, primitive, seed)
            for primitive in primitives
            for seed in range(SEEDS)
        }

    def check(self, primitive, seed, shared=None):
        seen = do(self.implementation, primitive, seed, shared)
        expected = self.expected[primitive, seed]
        if seen != expected:
            first = next((pair for pair in zip(seen, expected) if pair[0] != pair[1]), "the end")  # noqa: B905
            raise AssertionError(f"{primitive}, seed {seed}: not as in one thread: {first}")

    def with_own(self, random, end):
        """Check at least once, so that a blocked thread shows as a hang."""
        while True:
            self.check(*random.choice(list(self.expected)))
            if monotonic() > end:
                break

    def with_handed(self, pool, random, end):
        while monotonic() < end:
            primitive, shared = pool.get()
            self.check(primitive, random.randrange(SEEDS), shared)
            pool.put((primitive, shared))


# ---- Misuse ----

# Exceptions that misuse may raise. Others, such as SystemError, show that something broke.
ALLOWED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    asyncio.CancelledError,
    asyncio.InvalidStateError,
    asyncio.QueueEmpty,
    asyncio.QueueFull,
    aiofastlock.QueueShutDown,
    GeneratorExit,
    StopIteration,
    pickle.PickleError,
)
QUEUES = ("Queue", "LifoQueue", "PriorityQueue")
SIDES = ("reader_lock", "writer_lock")
AWAITED = {
    "Lock": ("acquire", "__aenter__"),
    "Event": ("wait",),
    "Condition": ("wait", "acquire", "__aenter__"),
    "Semaphore": ("acquire", "__aenter__"),
    "BoundedSemaphore": ("acquire", "__aenter__"),
    "Barrier": ("wait", "__aenter__", "reset", "abort"),
    **dict.fromkeys(QUEUES, ("get", "put", "join")),
    "RWLock": [f"{side}.{name}" for side in SIDES for name in ("acquire", "__aenter__")],
}
CALLED = {
    "Lock": ("release", "locked"),
    "Event": ("set", "clear", "is_set"),
    "Condition": ("release", "notify", "notify_all", "locked"),
    "Semaphore": ("release", "locked"),
    "BoundedSemaphore": ("release", "locked"),
    "Barrier": ("parties", "n_waiting", "broken"),
    **dict.fromkeys(QUEUES, ("put_nowait", "get_nowait", "task_done", "qsize", "empty", "full")),
    "RWLock": [f"{s}.{name}" for s in SIDES for name in ("release", "locked", "try_acquire")],
}
OF_QUEUES = {"_is_shutdown": (False,), "_maxsize": (2, 0), "_unfinished_tasks": (0, 2)}
WRITTEN = {
    "Lock": {"_locked": (False, True)},
    "Event": {"_value": (False, True)},
    "Condition": {},
    "Semaphore": {"_value": (0, 1, 2)},
    "BoundedSemaphore": {"_value": (0, 1, 2), "_bound_value": (2, 3)},
    "Barrier": {"_parties": (2, 3)},
    **dict.fromkeys(QUEUES, OF_QUEUES),
    "RWLock": {},
}
# On a free-threaded build before 3.14, the interpreter crashes in heapq if another thread changes
# the list (gh-116738). So nothing but a compiled queue may be used by several threads, and only by
# its methods.
HEAPQ_IS_SAFE = sys.version_info >= (3, 14) or getattr(sys, "_is_gil_enabled", lambda: True)()
# The arguments of these methods: numbers, which can be compared.
TAKES_AN_ITEM = ("put", "put_nowait")


def judge(error):
    if error is not None and not isinstance(error, ALLOWED):
        failures.append(error)


class PythonsLoop(asyncio.SelectorEventLoop):
    """Makes futures written in Python, so that threads can switch in the middle of a step."""

    def create_future(self):
        return asyncio.futures._PyFuture(loop=self)


class Misuse:
    """An object that all threads use at the same time."""

    def __init__(self, implementation, primitive):
        self.implementation = implementation
        self.primitive = primitive
        self.shared = make(implementation, primitive)
        self.raw = [None] * 8  # awaitables that any thread may use

    def thread(self, random, end):
        with contextlib.suppress(*ALLOWED):  # the loop itself may raise them
            while monotonic() < end:
                loop = random.choice([asyncio.SelectorEventLoop, PythonsLoop])()
                loop.set_exception_handler(lambda _, context: judge(context.get("exception")))
                until = min(end, monotonic() + random.choice([0.002, 0.02, 0.1]))
                try:
                    loop.run_until_complete(self.main(random, until))
                finally:
                    loop.close()  # with the tasks that wait there

    async def main(self, random, end):
        tasks = [asyncio.create_task(self.task(random, end)) for _ in range(3)]
        await asyncio.wait(tasks, timeout=max(0, end - monotonic()) + 0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=0.01)  # some may never get the lock back

    async def task(self, random, end):
        while monotonic() < end:
            try:
                async with asyncio.timeout(random.choice([0, 0.001])):
                    await random.choice(self.WITH_AWAIT)(self, random)
            except BaseException as error:
                judge(error)
            for _ in range(random.choice([0, 30, 300])):
                try:
                    random.choice(self.WITHOUT)(self, random)
                except BaseException as error:
                    judge(error)
            await asyncio.sleep(0)

    def new(self, random):
        return self.method(random, AWAITED)()

    def method(self, random, names):
        name = random.choice(names[self.primitive])
        found = attrgetter(name)(self.shared)
        return partial(found, random.random()) if name in TAKES_AN_ITEM else found

    async def wait(self, random):
        await self.new(random)

    async def use(self, random):
        if self.primitive == "RWLock":
            async with getattr(self.shared, random.choice(SIDES)):
                await asyncio.sleep(0)
        elif hasattr(self.shared, "__aenter__"):
            async with self.shared:
                await asyncio.sleep(0)
                if self.primitive == "Condition":
                    await self.shared.wait_for(partial(random.choice, [False, True]))
        elif self.primitive in QUEUES:
            await self.shared.put(random.random())
            await self.shared.get()
            self.shared.task_done()

    def call(self, random):
        method = self.method(random, CALLED)
        if callable(method):
            method()

    async def cancel(self, random):
        tasks = [asyncio.ensure_future(self.new(random)) for _ in range(5)]
        await asyncio.sleep(0)
        random.shuffle(tasks)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=0.01)

    def write(self, random):
        name = random.choice(["_loop", *WRITTEN[self.primitive]])  # so that all can wait
        value = None if name == "_loop" else random.choice(WRITTEN[self.primitive][name])
        setattr(turns_of(self.shared), name, value)

    def look(self, random):
        waiters = random.choice(queues_of(self.shared))
        repr(self.shared), repr(waiters), len(waiters), bool(waiters)
        for future in waiters:
            future.done()
        waiters[0].cancelled()

    def meddle(self, random):
        """Complete a future of the queue."""
        future = random.choice(list(random.choice(queues_of(self.shared))))
        draw = random.randrange(4)
        if draw == 0:
            future.set_result(True)
        elif draw == 1:
            future.set_exception(KeyError("someone else's"))
        else:
            future.cancel()

    def append(self, random):
        waiters = random.choice(queues_of(self.shared))
        if len(waiters) < 20:
            waiters.append(asyncio.get_running_loop().create_future())

    def items(self, random):
        """Change the items of a queue, or replace what they are in."""
        if self.primitive == "PriorityQueue" and not HEAPQ_IS_SAFE:
            return
        items = self.shared._queue
        draw = random.randrange(4)
        if draw == 0:
            random.shuffle(items)
        elif draw == 1:
            del items[0]
        elif draw == 2:
            items.append(random.random())
        else:
            self.shared._queue = type(items)([random.random()])

    def shut_down(self, random):
        if random.random() < 0.05:  # it refuses all other calls until `_is_shutdown` is written
            self.shared.shutdown(immediate=random.random() < 0.5)

    def copy(self, random):
        random.choice([copy.copy, copy.deepcopy, pickle.dumps])(self.shared)

    def attributes(self, random):
        self.shared.extra = random.random()
        self.shared.release_count = 1
        weakref.ref(self.shared)
        dict(vars(self.shared))
        del self.shared.extra

    async def others(self, random):
        """Make an object, or a condition that shares the lock, and drop it."""
        new = make(self.implementation, self.primitive)
        if self.primitive == "Lock":
            new = IMPLEMENTATIONS[self.implementation].Condition(self.shared)
            async with new:
                new.notify()
                await new.wait()

    def collect(self, random):
        if random.random() < 0.005:
            gc.collect()

    def begin(self, random):
        """Put an awaitable, perhaps parked, where all threads reach it. Drop the one before."""
        awaitable = self.new(random)
        self.raw[random.randrange(len(self.raw))] = awaitable
        awaitable.send(None)

    def step(self, random):
        awaitable = random.choice(self.raw)
        draw = random.randrange(5)
        if draw == 0:
            awaitable.send(None)
        elif draw == 1:
            next(awaitable.__await__())
        elif draw == 2:
            awaitable.close()
        elif draw == 3:
            awaitable.throw(random.choice([asyncio.CancelledError, KeyError, GeneratorExit]))
        else:
            repr(awaitable)
            self.raw[random.randrange(len(self.raw))] = None

    async def finish(self, random):
        await random.choice(self.raw)

    WITH_AWAIT = (wait, use, cancel, others, finish)
    WITHOUT = (
        *(call, call, call, write, look, meddle, append, items, shut_down),
        *(copy, attributes, collect),
        *(begin, begin, begin, begin, step, step, step, step),
    )

    def check(self):
        """No thread uses the object any more: it must work, and be deallocated."""
        self.raw.clear()
        if self.implementation == "compiled":  # an object of asyncio's is bound to a closed loop
            vars(turns_of(self.shared)).pop("_appended", None)
            gc.collect()
            self.repair()
            do(self.implementation, self.primitive, seed=0, shared=self.shared)
            check_queues(self.shared)
            reference = weakref.ref(self.shared)
            self.shared = None
            gc.collect()
            assert reference() is None, f"kept by {gc.get_referrers(reference())}"

    def repair(self):
        """Restore what was written, and release what was not released."""

        async def rebind():
            if self.primitive == "RWLock":
                self.release_all()
                await self.shared.writer_lock.acquire()
                self.shared.writer_lock.release()
            else:
                self.shared._get_loop()

        loop = asyncio.new_event_loop()
        loop.close()
        turns_of(self.shared)._loop = loop  # with a closed loop, the next one discards all waiters
        asyncio.run(rebind(), debug=False)  # before the values are written: it takes turns back
        for name, values in WRITTEN[self.primitive].items():
            setattr(self.shared, name, values[-1] if self.primitive == "Barrier" else values[0])
        if self.primitive == "Condition" and self.shared.locked():
            with contextlib.suppress(RuntimeError):  # its head waits on a closed loop
                self.shared.release()
        elif self.primitive == "Barrier":
            asyncio.run(self.shared.reset(), debug=False)
        elif self.primitive.endswith("Semaphore"):
            self.shared._value = 2

    def release_all(self):
        for side in (self.shared.reader_lock, self.shared.writer_lock):
            while side.locked():
                with contextlib.suppress(RuntimeError):  # its head waits on a closed loop
                    side.release()


def install_and_uninstall(random, end):
    while monotonic() < end:
        draw = random.randrange(3)
        if draw == 0:
            aiofastlock.install()
        elif draw == 1:
            aiofastlock.uninstall()
        else:
            with aiofastlock.installed():
                asyncio.Lock()


# ---- The commands ----

failures = []  # exceptions, of any thread


def run(functions):
    """Run each function in its own thread, at the same time, until all have ended."""
    start = threading.Barrier(len(functions))

    def thread(function):
        start.wait()
        try:
            function()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=thread, args=[function]) for function in functions]
    for started in threads:
        started.start()
    for started in threads:
        started.join()


# ---- Keys ----


async def with_own_keys(keyed, number, random, end):
    """Tasks exclude each other by key, whatever other threads do with other keys."""
    locks, semaphores = keyed
    inside = Counter()

    async def work(random):
        while monotonic() < end:
            for thing, most in ((locks, 1), (semaphores, 2)):
                key = number, random.randrange(5), most
                async with thing[key]:
                    inside[key] += 1
                    assert inside[key] <= most
                    await asyncio.sleep(0)
                    inside[key] -= 1
            assert (number, "unused") not in locks
            if random.random() < 0.05:
                len(locks), list(semaphores), repr(locks)

    await asyncio.gather(*(work(draw) for draw in split(random, TASKS)))


async def misuse_keys(keyed, random, end):
    """All threads use the same keys in any way."""

    async def work(random):
        while monotonic() < end:
            thing, key = random.choice(keyed), random.randrange(3)
            with contextlib.suppress(*ALLOWED):
                match random.randrange(6):
                    case 0:
                        async with asyncio.timeout(0.001), thing[key]:
                            await asyncio.sleep(0)
                    case 1:
                        thing[key].release()
                    case 2:
                        thing[key].try_acquire()
                    case 3:
                        len(thing), list(thing), key in thing, repr(thing)
                    case 4:
                        thing[key], thing[object()]
                    case 5:
                        thing[random.random()].try_acquire()
            if random.random() < 0.01:
                await asyncio.sleep(0)

    await asyncio.gather(*(work(draw) for draw in split(random, 4)))


def keys(arguments, random):
    def keyed():
        namespace = IMPLEMENTATIONS[arguments.implementation]
        return namespace.KeyedLock(), namespace.KeyedSemaphore(2)

    of_their_own, misused = keyed(), keyed()
    end = monotonic() + arguments.seconds
    run(
        [
            *(
                partial(asyncio.run, with_own_keys(of_their_own, number, draw, end))
                for number, draw in enumerate(split(random, arguments.threads))
            ),
            *(
                partial(asyncio.run, misuse_keys(misused, draw, end))
                for draw in split(random, arguments.threads)
            ),
        ]
    )
    for thing in of_their_own:
        assert list(thing) == []
    for thing in misused:
        for key in list(thing):
            lock = thing[key]
            lock._loop = None
            lock._locked = False
            lock._value = 2
        lock = None  # the last one, if any is left
        assert list(thing) == [], "it is used by nobody"


def own(arguments, random):
    correct = Correct(arguments.implementation, arguments.primitives)
    end = monotonic() + arguments.seconds
    run([partial(correct.with_own, draw, end) for draw in split(random, arguments.threads)])


def handed(arguments, random):
    correct = Correct(arguments.implementation, arguments.primitives)
    pool = SimpleQueue()
    for number in range(arguments.threads + len(arguments.primitives)):
        primitive = arguments.primitives[number % len(arguments.primitives)]
        pool.put((primitive, make(arguments.implementation, primitive)))
    end = monotonic() + arguments.seconds
    run(
        [partial(correct.with_handed, pool, draw, end) for draw in split(random, arguments.threads)]
    )


def shared(arguments, random):
    correct = Correct(arguments.implementation, known(arguments.implementation))
    for primitive in arguments.primitives:
        heapq_crashes = not HEAPQ_IS_SAFE and arguments.implementation != "compiled"
        if primitive == "PriorityQueue" and heapq_crashes:
            print(f"{primitive}: left out, since heapq crashes")
            continue
        end = monotonic() + arguments.seconds
        while monotonic() < end and not failures:
            misuse = Misuse(arguments.implementation, primitive)
            until = min(end, monotonic() + random.choice([0.05, 0.3, 1]))
            run(
                [
                    partial(correct.with_own, random, until),
                    *(partial(misuse.thread, r, until) for r in split(random, arguments.threads)),
                ]
            )
            misuse.check()


def install(arguments, random):
    before = {name: getattr(asyncio, name) for name in known("asyncio")}
    end = monotonic() + arguments.seconds
    run([partial(install_and_uninstall, draw, end) for draw in split(random, arguments.threads)])
    aiofastlock.uninstall()
    assert before == {name: getattr(asyncio, name) for name in before}


COMMANDS = {"own": own, "handed": handed, "shared": shared, "keys": keys, "install": install}


def split(random, count):
    return [Random(random.random()) for _ in range(count)]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument(
        "--implementation", choices=IMPLEMENTATIONS, default=aiofastlock.IMPLEMENTATION
    )
    parser.add_argument("--threads", type=int, default=8, help="(default: 8)")
    parser.add_argument("--seconds", type=float, default=2, help="for `shared`: per primitive")
    parser.add_argument(
        "--patience", type=float, default=100, help="seconds until it counts as a hang"
    )
    parser.add_argument("--seed", type=int, help="(default: another one each time)")
    parser.add_argument("primitives", nargs="*", help="(default: all)")
    arguments = parser.parse_intermixed_args()
    arguments.primitives = arguments.primitives or known(arguments.implementation)
    seed = arguments.seed if arguments.seed is not None else Random().randrange(1_000_000)
    seconds = arguments.seconds * len(arguments.primitives)
    faulthandler.enable()
    faulthandler.dump_traceback_later(2 * seconds + arguments.patience, exit=True)
    sys.setswitchinterval(1e-6)
    # Exceptions that cannot be caught, such as those in a destructor.
    sys.unraisablehook = lambda unraisable: judge(unraisable.exc_value)
    sys.excepthook = lambda _type, error, _traceback: judge(error)
    warnings.simplefilter("ignore")  # awaitables that were never awaited
    logging.disable()
    print(
        f"{arguments.command}, {arguments.implementation}, {arguments.primitives}, seed {seed}",
        flush=True,
    )
    try:
        COMMANDS[arguments.command](arguments, Random(seed))
    except Exception as error:
        failures.append(error)
    for error in failures[:3]:
        traceback.print_exception(error)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
