"""Thousands of tasks use shared locks for minutes and are cancelled at random: is anything lost?

    python tests/soak.py [--minutes 10] [--tasks 10000] [--loop asyncio|uvloop]
                         [--implementation compiled|pure|asyncio] [--seed N]

The number of tasks is constant; one that ends is replaced. Each is a small random program over the
primitives of a group: it holds a lock, or a semaphore and then a lock, waits for an event, takes an
item under one of two conditions that share a lock, meets others at a barrier, or breaks it, puts an
item into a queue, or gets one and works on it. Tasks are cancelled at any time, and in the step in
which they are woken, with a message or without; their operations time out. These invariants are
checked all the time:

- A lock has one holder, and a semaphore no more holders than permits. No task passes an event that
  was not set. A barrier returns no index more often than its parties have met.
- Waiters get their turns in the order in which they came. So do the items of a queue, in its order:
  no item is lost, or got twice.
- A CancelledError has the message that was sent to this task.
- No wake-up is lost: while a lock is free, an event is set, or there is a permit, an item or a free
  slot, the first waiter for it is on the way. No wait takes more than a bounded number of turns of
  the event loop. (Each group has a driver that sets, notifies, resets, puts and gets. Tasks hold
  locks for turns, not for a time.)

At the end every task ends, all permits are back, nobody waits, no lock is locked, and no more
objects exist than before. Memory is sampled meanwhile, and must not grow.

The seed determines the programs. How they run also depends on time, and does not repeat.
"""

import argparse
import asyncio
import collections
import contextlib
import gc
import importlib
import itertools
import operator
import random
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from conftest import IMPLEMENTATIONS

MEMBERS = 50  # of a group; in one group it is a twentieth of all
LONGEST_WAIT = 100  # turns of the loop, for each member of the group
DRAIN = 50_000  # turns in which all must have ended
# Types of objects that must not outlive the tasks.
LEAVE_NOTHING = (
    "Waiter", "Queue", "Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier",
    "Transfer", "Parked", "LifoQueue", "PriorityQueue",
    "Task", "Future", "Handle", "TimerHandle", "Timeout", "coroutine", "CancelledError",
)  # fmt: skip
# So many objects of a type may be kept to be used again. PyPy keeps finished tasks.
KEPT = 50 if sys.implementation.name == "cpython" else 500


class SoakError(AssertionError):
    pass


def expect(condition, *what):
    if not condition:
        raise SoakError(" ".join(map(str, what)))


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


class Thing:
    """A primitive, and what is known of it: which tasks wait for it, and which hold it."""

    def __init__(self, group, name, *arguments, permits=1):
        cls = getattr(group.soak.implementation, name)
        if group.soak.random.random() < 0.2:  # subclasses take other code paths
            cls = type(name, (cls,), {})
        self.primitive = cls(*arguments)
        self.soak = group.soak
        self.bound = group.bound
        self.permits = permits
        self.inside = self.taken = self.given = 0
        self.items = 0  # under a condition
        self.sets = 0  # of an event
        self.arrivals = 0  # at a barrier
        self.passed = collections.Counter()
        self.waits = {}  # task: the turn in which it came, in that order
        self.last = 0

    def __str__(self):
        return f"{self.primitive!r}, turn {self.soak.turn}:"

    async def wait(self, awaitable, in_order=True):
        ticket = next(self.soak.tickets)
        task = asyncio.current_task()
        self.waits[task] = self.soak.turn
        try:
            result = await awaitable
        except asyncio.CancelledError as error:
            expect(error.args in ((), (message_for(task),)), self, task, "cancelled by", error.args)
            raise
        finally:
            turn = self.waits.pop(task)
            self.soak.longest = max(self.soak.longest, self.soak.turn - turn)
        if in_order:
            expect(ticket > self.last, self, f"ticket {ticket} came after {self.last}")
            self.last = ticket
        return result

    def enter(self):
        self.inside += 1
        self.taken += 1
        expect(self.inside <= self.permits, self, f"{self.inside} inside of {self.permits}")

    def leave(self):
        self.inside -= 1
        self.given += 1

    @contextlib.asynccontextmanager
    async def held(self, primitive=None):
        """Hold it: acquire and release it in one of several ways, such as through a condition."""
        primitive = primitive or self.primitive
        way_in = primitive.acquire if self.soak.often(0.5) else primitive.__aenter__
        await self.wait(way_in())
        self.enter()
        try:
            yield
        finally:
            self.leave()
            self.soak.provoke(self)
            if self.soak.often(0.5):
                primitive.release()
            else:
                await primitive.__aexit__(None, None, None)
            self.soak.provoke(self)

    def check_turns(self):
        if self.waits:
            task, came = next(iter(self.waits.items()))
            expect(self.soak.turn - came <= self.bound, self, task, f"waits since turn {came}")

    def nobody_comes(self):
        """Whether there are waiters, and none of them is on the way."""
        waiters = self.primitive._waiters
        return bool(waiters) and not any(waiter.done() for waiter in waiters)

    def check_given(self):
        expect(self.taken == self.given, self, f"{self.taken} taken, {self.given} given")
        expect(not self.inside and not self.primitive._waiters, self, "still waited for")


NEXT = {"Queue": operator.itemgetter(0), "LifoQueue": operator.itemgetter(-1), "PriorityQueue": min}


class Stock(Thing):
    """A queue, and which items must be in it."""

    def __init__(self, group, name, maxsize):
        super().__init__(group, name, maxsize)
        self.next_of = NEXT[name]
        self.items = []  # in the order in which they were put
        self.getting = set()  # those of the waiting tasks that get

    async def get(self):
        task = asyncio.current_task()
        self.getting.add(task)
        try:
            item = await self.wait(self.primitive.get(), in_order=False)
        finally:
            self.getting.discard(task)
        self.take(item)

    def get_nowait(self):
        self.take(self.primitive.get_nowait())

    def take(self, item):
        expect(item == self.next_of(self.items), self, f"{item} was got of {self.items}")
        self.items.remove(item)

    async def put(self):
        item = next(self.soak.tickets)
        await self.wait(self.primitive.put(item), in_order=False)
        self.items.append(item)

    def put_nowait(self):
        item = next(self.soak.tickets)
        self.primitive.put_nowait(item)
        self.items.append(item)

    def check(self):
        expect(sorted(self.primitive._queue) == sorted(self.items), self, "not", self.items)
        maxsize, size = self.primitive.maxsize, len(self.items)
        expect(size <= maxsize, self, "too many items")
        expect(not size or someone_comes(self.getting), self, "has items, and nobody comes")
        putting = self.waits.keys() - self.getting
        expect(size == maxsize or someone_comes(putting), self, "is not full, and nobody comes")

    def check_end(self):
        while self.items:
            self.get_nowait()
            self.primitive.task_done()
        expect(not self.primitive._unfinished_tasks, self, "is not finished")
        waiters = *self.primitive._getters, *self.primitive._putters
        expect(not waiters, self, "still waited for")


def someone_comes(tasks):
    """Whether none of these tasks waits, or one of them was woken or cancelled."""
    waiters = [task._fut_waiter for task in tasks]
    return not waiters or any(waiter is None or waiter.done() for waiter in waiters)


class Group:
    """Primitives of each kind for a number of tasks, which acquire them in this order."""

    def __init__(self, soak, members):
        self.soak = soak
        self.bound = LONGEST_WAIT * members
        permits = 3 + members // 50
        self.semaphore = Thing(self, "Semaphore", permits, permits=permits)
        self.bounded = Thing(self, "BoundedSemaphore", permits, permits=permits)
        self.lock = Thing(self, "Lock")
        self.event = Thing(self, "Event")
        self.shared = Thing(self, "Lock")
        self.conditions = [Thing(self, "Condition", self.shared.primitive) for _ in range(2)]
        self.barrier = Thing(self, "Barrier", 2 + members // 25)
        self.things = [self.semaphore, self.bounded, self.lock, self.event, self.shared]
        self.things += [*self.conditions, self.barrier]
        self.stock = Stock(self, next(soak.kinds), 1 + members // 50)

    # ---- Operations of tasks ----

    async def hold_lock(self):
        async with self.lock.held():
            await turns(self.soak.random.randrange(3))

    async def hold_permit(self):
        async with self.soak.random.choice([self.semaphore, self.bounded]).held():
            await turns(self.soak.random.randrange(6))

    async def hold_permit_and_lock(self):
        async with self.bounded.held():
            await self.hold_lock()

    async def hold_permit_and_take(self):
        async with self.semaphore.held():
            await self.take_item()

    async def wait_for_event(self):
        event = self.event
        at_once, sets = event.primitive.is_set(), event.sets
        expect(await event.wait(event.primitive.wait(), in_order=not at_once) is True, event)
        expect(at_once or event.sets > sets, event, "was not set")

    async def take_item(self):
        condition = self.soak.random.choice(self.conditions)
        async with self.shared.held(condition.primitive):
            if self.soak.often(0.5):
                wait = condition.primitive.wait_for(lambda: condition.items)
                await self.wait_under(condition, wait, in_order=False)
                expect(condition.items, condition, "there is nothing")
            elif not condition.items:
                await self.wait_under(condition, condition.primitive.wait(), in_order=True)
            # A notified task takes an item, if there is one: the others need not come.
            if condition.items:
                condition.items -= 1
            await turns(self.soak.random.randrange(2))

    async def wait_under(self, condition, wait, in_order):
        self.shared.leave()
        try:
            await condition.wait(wait, in_order)
        finally:  # however it ends, it has the lock again
            self.shared.enter()

    async def bring_item(self, count=1):
        condition = self.soak.random.choice(self.conditions)
        async with self.shared.held(condition.primitive):
            condition.items += count
            self.soak.provoke(condition)
            if self.soak.often(0.1):
                condition.primitive.notify_all()
            else:
                condition.primitive.notify(count)
            self.soak.provoke(condition)

    async def meet(self):
        barrier, made = self.barrier, self.soak.implementation
        barrier.arrivals += 1
        way_in = barrier.primitive.wait if self.soak.often(0.5) else barrier.primitive.__aenter__
        self.soak.provoke(barrier)
        try:
            index = await barrier.wait(way_in(), in_order=False)
        except asyncio.BrokenBarrierError:
            self.soak.done["broken barriers met"] += 1
            return
        self.soak.provoke(barrier)
        barrier.passed[index] += 1
        parties = barrier.primitive.parties
        expect(index in range(parties), barrier, "index", index)
        often = barrier.passed[index]
        enough = often * parties <= barrier.arrivals or made is asyncio  # which has that fault
        expect(enough, barrier, f"index {index} given {often} times")

    async def break_barrier(self):
        barrier = self.barrier.primitive
        try:
            if self.soak.often(0.5):
                await barrier.abort()
                self.soak.provoke(self.barrier)
                await turns(2)
        finally:
            await barrier.reset()

    async def put_item(self):
        await self.stock.put()
        self.soak.provoke(self.stock)

    async def get_item(self):
        await self.stock.get()
        self.soak.provoke(self.stock)
        try:
            await turns(self.soak.random.randrange(3))
        finally:
            self.stock.primitive.task_done()

    async def use_own(self):
        """Use locks of this task only, which are dropped with a waiter in the queue."""
        made = self.soak.implementation
        lock, condition, event, queue = made.Lock(), made.Condition(), made.Event(), made.Queue()
        async with lock, made.Semaphore(), condition:
            waits = (lock.acquire, event.wait, queue.get)
            tasks = [asyncio.create_task(wait()) for wait in waits]
            try:
                await turns(1)
            finally:
                for task in tasks:
                    task.cancel()

    programs = (
        (hold_lock, 4), (hold_permit, 4), (hold_permit_and_lock, 2), (hold_permit_and_take, 1),
        (wait_for_event, 4), (take_item, 4), (bring_item, 2), (meet, 4), (break_barrier, 0.2),
        (put_item, 4), (get_item, 4), (use_own, 0.2),
    )  # fmt: skip

    # ---- Drivers ----

    def drive(self):
        # One task for each: a task that waits for a permit may wait for one that waits for an item.
        ways = (self.pulse, self.supply, self.lend, self.break_barrier, self.carry)
        return [asyncio.create_task(self.again_and_again(way)) for way in ways]

    async def again_and_again(self, way):
        while not self.soak.ended:
            await turns(self.soak.random.randrange(100))
            await way()

    async def pulse(self):
        event = self.event
        self.soak.provoke(event)
        event.primitive.set()
        event.sets += 1
        self.soak.provoke(event)
        if self.soak.often(0.5):
            await turns(2)
        event.primitive.clear()

    async def supply(self):
        await self.bring_item(1 + max(len(condition.waits) for condition in self.conditions) // 2)

    async def lend(self):
        """Add permits to the semaphore for a while."""
        semaphore = self.semaphore
        semaphore.permits += 2
        for _ in range(2):
            semaphore.primitive.release()
        await turns(5)
        for _ in range(2):
            await semaphore.wait(semaphore.primitive.acquire())
            semaphore.permits -= 1

    async def carry(self):
        """Put for those who wait to get, and get for those who wait to put."""
        stock = self.stock
        with contextlib.suppress(asyncio.QueueEmpty, asyncio.QueueFull):
            while stock.waits:
                self.soak.provoke(stock)
                if stock.getting:
                    stock.put_nowait()
                else:
                    stock.get_nowait()
                    stock.primitive.task_done()
                self.soak.provoke(stock)

    # ---- Invariants between any two turns ----

    def check(self):
        self.stock.check()
        for thing in (*self.things, self.stock):
            thing.check_turns()
        for lock in (self.lock, self.shared):
            lost = not lock.primitive.locked() and lock.nobody_comes()
            expect(not lost, lock, "free, and nobody comes")
        for semaphore in (self.semaphore, self.bounded):
            lost = semaphore.primitive._value > 0 and semaphore.nobody_comes()
            expect(not lost, semaphore, "has permits, and nobody comes")
        lost = self.event.primitive.is_set() and self.event.nobody_comes()
        expect(not lost, self.event, "set, and nobody comes")
        nobody_has_it = not self.shared.primitive.locked() and not self.shared.primitive._waiters
        for condition in self.conditions:
            lost = nobody_has_it and condition.items and condition.nobody_comes()
            expect(not lost, condition, "has items, and nobody comes")

    def check_end(self):
        for thing in self.things[:-1]:
            thing.check_given()
        self.stock.check_end()
        for thing in (*self.things, self.stock):
            expect(not thing.waits, thing, "still waited for")
        for lock in (self.lock, self.shared, *self.conditions):
            expect(not lock.primitive.locked(), lock, "still locked")
        for semaphore in (self.semaphore, self.bounded):
            expect(semaphore.primitive._value == semaphore.permits, semaphore, "permits lost")
        expect(self.barrier.primitive.n_waiting == 0, self.barrier, "still waited for")
        with contextlib.suppress(ValueError):
            self.bounded.primitive.release()
            expect(False, self.bounded, "took one permit too many")


class Sample(NamedTuple):
    """Memory of the process, blocks of Python's allocator, references, objects by type."""

    rss: int
    blocks: int
    references: int
    types: collections.Counter

    @classmethod
    def take(cls):
        gc.collect()
        statm = Path("/proc/self/statm")  # only Linux has it
        rss = int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0
        blocks = getattr(sys, "getallocatedblocks", int)()  # PyPy has none
        references = getattr(sys, "gettotalrefcount", int)()  # only debug builds count them
        types = collections.Counter(type(found).__qualname__ for found in gc.get_objects())
        return cls(rss, blocks, references, types)


def message_for(task):
    return f"for {task.get_name()}"


class Soak:
    def __init__(
        self, implementation, *, tasks, seed, seconds=None, turns=None, report=lambda line: None
    ):
        self.implementation = implementation
        self.count = tasks
        self.seconds, self.turns = seconds, turns  # how long it takes: one of the two
        self.random = random.Random(seed)
        self.report = report
        self.turn = self.longest = 0
        self.tickets = itertools.count(1)
        self.names = itertools.count(1)
        self.done = collections.Counter()
        self.live = {}  # task: whether it may be cancelled
        self.drivers = []
        self.faults = []
        self.samples = []
        self.closing = self.ended = False
        self.sizes = [max(tasks // 20, MEMBERS)] + [MEMBERS] * (tasks * 19 // 20 // MEMBERS)
        self.kinds = itertools.cycle(NEXT)  # of queues: each group has the next one
        self.groups = [Group(self, size) for size in self.sizes]

    def often(self, probability):
        return self.random.random() < probability

    # ---- Tasks ----

    def begin(self):
        task = asyncio.create_task(self.life(), name=f"program {next(self.names)}")
        self.live[task] = self.often(0.8)
        task.add_done_callback(self.end)

    def end(self, task):
        del self.live[task]
        self.done["tasks ended"] += 1
        if not task.cancelled() and task.exception():
            self.faults.append(task.exception())
        if not self.closing:
            self.begin()

    async def life(self):
        (group,) = self.random.choices(self.groups, self.sizes)
        programs, weights = zip(*Group.programs, strict=True)
        for program in self.random.choices(programs, weights, k=self.random.randrange(1, 20)):
            if self.closing:
                break
            try:
                await self.limited(program, group)
                self.done[program.__name__] += 1
            except TimeoutError:
                self.done["timed out"] += 1
            except asyncio.CancelledError:
                if self.often(0.5):
                    raise
                self.done["went on after being cancelled"] += 1
            if self.often(0.2):
                await asyncio.sleep(self.random.random() / 10)

    async def limited(self, program, group):
        chance = self.random.random()
        limit = self.random.random() / 5
        if chance < 0.2:
            async with asyncio.timeout(limit):
                await program(group)
        elif chance < 0.25:
            await asyncio.wait_for(program(group), limit)
        else:
            await program(group)

    def cancel(self, task):
        if self.live.get(task) and not self.closing:
            task.cancel(*[message_for(task)] * self.often(0.5))
            return True
        return False

    def provoke(self, thing):
        """Cancel the next waiters, in the step in which they are woken."""
        if self.often(0.05):
            for task in list(itertools.islice(thing.waits, self.random.randrange(1, 4))):
                self.done["cancelled at their wake-up"] += self.cancel(task)

    # ---- The soak ----

    def step(self):
        """Between two turns."""
        self.turn += 1
        if self.faults:
            raise SoakError(repr(self.faults[0])) from self.faults[0]
        for group in self.groups[self.turn % 4 :: 4]:
            group.check()
        for driver in self.drivers:
            expect(not driver.done(), driver)

    async def run(self):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: self.faults.append(SoakError(context)))
        before = Sample.take()
        self.drivers += [task for group in self.groups for task in group.drive()]
        for _ in range(self.count):
            self.begin()
        try:
            await self.keep_going()
        finally:
            self.closing = True
        for _ in range(DRAIN):
            if not self.live:
                break
            await asyncio.sleep(0)
            self.step()
        expect(not self.live, len(self.live), "are left behind:", *itertools.islice(self.live, 5))
        self.ended = True
        await asyncio.gather(*self.drivers)
        self.drivers.clear()
        await turns(1)  # the step that gather() woke holds its future, which holds all of them
        for group in self.groups:
            group.check_end()
        expect(asyncio.all_tasks() == {asyncio.current_task()}, asyncio.all_tasks())
        self.check_flat()
        self.samples.clear()
        self.check_left_behind(before)

    async def keep_going(self):
        start = time.monotonic()
        samples = 12 if self.turns else min(40, int(self.seconds * 2))
        passed = 0.0
        while passed < 1:
            await asyncio.sleep(0)
            self.step()
            expect(len(self.live) == self.count, len(self.live), "tasks live")
            for task in self.random.choices(list(self.live), k=1 + self.count // 1000):
                self.done["cancelled"] += self.cancel(task)
            elapsed = time.monotonic() - start
            passed = self.turn / self.turns if self.turns else elapsed / self.seconds
            if passed * samples >= len(self.samples) + 1:
                self.sample(elapsed)

    def sample(self, elapsed):
        sample = Sample.take()
        self.samples.append(sample)
        self.report(
            f"{elapsed:6.0f} s  turn {self.turn:,}  tasks ended {self.done['tasks ended']:,}  "
            f"{sample.rss / 2**20:.1f} MiB  {sample.blocks:,} blocks"
        )

    def check_left_behind(self, before):
        after = Sample.take()
        for name in LEAVE_NOTHING:
            left = after.types[name] - before.types[name]
            expect(left <= KEPT, left, "of type", name, "are left")
        left = after.references - before.references
        expect(left <= 2_000, left, "references are left")

    def check_flat(self):
        """Compare the last third of the samples to the one before: a leak has grown by 50 %."""
        third = len(self.samples) // 3
        early, late = self.samples[third : 2 * third], self.samples[-third:]
        if not third:
            return
        for field, slack in (("rss", 8 << 20), ("blocks", 5_000)):
            was, now = (median(getattr(s, field) for s in part) for part in (early, late))
            expect(now <= was * 1.05 + slack, field, f"grew from {was:,.0f} to {now:,.0f}")
        for name in {name for sample in late for name in sample.types}:
            was, now = (median(s.types[name] for s in part) for part in (early, late))
            expect(now <= was * 1.1 + 500, name, f"{was:,.0f} objects, and then {now:,.0f}")


def soak(implementation, loop="asyncio", **keywords):
    made = Soak(implementation, **keywords)
    event_loop = importlib.import_module(loop).new_event_loop()
    try:
        event_loop.run_until_complete(made.run())
    finally:  # not asyncio.Runner, which would wait for tasks that a fault has left stuck
        event_loop.close()
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument(
        "--implementation", choices=IMPLEMENTATIONS, default=list(IMPLEMENTATIONS)[-1]
    )
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    print(f"{options.implementation} on {options.loop}, Python {sys.version.split()[0]}, {options}")
    done = soak(
        IMPLEMENTATIONS[options.implementation],
        options.loop,
        tasks=options.tasks,
        seconds=options.minutes * 60,
        seed=options.seed,
        report=lambda line: print(line, flush=True),
    )
    for what, count in sorted(done.done.items()):
        print(f"{count:12,}  {what}")
    print(f"{done.longest:12,}  turns of {done.turn:,} was the longest wait")
    print("nothing lost")


if __name__ == "__main__":
    main()
