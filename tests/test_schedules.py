"""Random programs, whose traces on both of ours must equal the oracle's, step by step.

A program is a list of operations. A driver carries them out one after the other, on tasks and on
awaitables that it drives by hand; the tasks carry out operations of their own. All of them write
down what happens to them and what they see. Time is the loop's own and does not pass by itself, so
a trace repeats exactly.

`pytest tests/test_schedules.py --schedules 100000` runs more than the suite does.
"""

import asyncio
import contextlib
import selectors
import sys
from types import SimpleNamespace

import oracle
import pytest
from conftest import OURS
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

COUNTS_REFERENCES = sys.implementation.name == "cpython"


class Stuck(BaseException):
    """Nothing can run any more, and there is nothing to wait for."""


class Clockwork(asyncio.SelectorEventLoop):
    """A loop whose time stands still while anything can run, and then jumps to the next timer.

    Its methods that wake tasks are asyncio's, so that ours do there as in any other loop.
    """

    now = 0.0
    iteration = 0

    def __init__(self):
        super().__init__(Standstill(self))
        self.made = []

    def time(self):
        return self.now

    def create_task(self, *arguments, **keywords):
        self.made.append(super().create_task(*arguments, **keywords))
        return self.made[-1]


class Standstill(selectors.DefaultSelector):
    """What a loop asks in each iteration, and what jumps instead of waiting."""

    def __init__(self, loop):
        super().__init__()
        self.loop = loop

    def select(self, timeout=None):
        if timeout is None:
            raise Stuck
        self.loop.iteration += 1
        self.loop.now += timeout
        return super().select(0)


# ---- Carrying out a program ----


class Hand:
    """An awaitable that is driven by hand."""

    def __init__(self, awaitable):
        self.awaitable = awaitable
        self.future = None  # what it waits for
        self.ended = False


class Driver:
    """What all primitives have in common."""

    # What a program can consist of: arguments to begin with, how a task gets hold of the thing,
    # what can be awaited, by hand and inside of tasks, what can be called, and further operations.
    setups = ((),)
    entries = ("with", "acquire", "wait_for", "task")
    awaitables = (("acquire",), ("__aenter__",), ("__aexit__",))
    awaitables_inside = awaitables
    calls = (("release",),)
    own_operations = ()

    sleep = staticmethod(asyncio.sleep)

    def __init__(self, primitive, implementation, *setup):
        self.trace = []
        self.tasks = []
        self.hands = []
        self.thrown = 0
        self.things = self.watched = self.make(getattr(implementation, primitive), *setup)

    def make(self, cls, *arguments):
        return [cls(*arguments)]

    def note(self, *event):
        self.trace.append(event)

    def note_error(self, name, error):
        # The number tells the very instance that was thrown from one made in its likeness.
        number, value = getattr(error, "number", None), getattr(error, "value", None)
        self.note(name, type(error).__name__, str(error), error.args, number, value)

    def look(self):
        for thing in self.watched:
            waiters = thing._waiters
            states = None if waiters is None else [(w.done(), w.cancelled()) for w in waiters]
            self.note("look", *self.state(thing), repr(thing).rpartition(" [")[2], states)

    def state(self, thing):
        return (thing.locked(),)

    def thing(self, which):
        return self.things[which % len(self.things)]

    def make_awaitable(self, which, method, *arguments):
        if method == "__aexit__":
            arguments = (None, None, None)
        return getattr(self.thing(which), method)(*arguments)

    async def carry_out(self, name, program):
        for operation, *arguments in program:
            result = getattr(self, operation)(*arguments)
            if result is not None:
                await result
            self.note(name, "did", operation)
            self.look()

    # What tasks do, and the driver.

    def call(self, which, method, *arguments):
        try:
            self.note(method, getattr(self.thing(which), method)(*arguments))
        except Exception as error:
            self.note_error(method, error)

    async def tick(self, count):
        for _ in range(count):
            await asyncio.sleep(0)

    # What tasks do.

    async def wait(self, which, how, timeout, awaitable):
        waiting = self.make_awaitable(which, *awaitable)
        if how == "wait_for":
            result = await asyncio.wait_for(waiting, timeout)
        elif how == "task":
            result = await asyncio.create_task(waiting)
        elif how == "stubborn":
            try:
                result = await waiting
            except asyncio.CancelledError as error:
                self.note_error(how, error)
                return
        else:
            result = await waiting
        self.note(*awaitable, result)

    async def work(self, name, which, entry, timeout, body):
        try:
            async with asyncio.timeout(None if entry == "wait_for" else timeout):
                if entry == "with":
                    async with self.thing(which):
                        await self.carry_out(name, body)
                elif entry == "bare":
                    await self.carry_out(name, body)
                else:
                    await self.wait(which, entry, timeout, ("acquire",))
                    try:
                        await self.carry_out(name, body)
                    finally:
                        self.thing(which).release()
        except BaseException as error:
            self.note_error(name, error)
            raise
        finally:
            self.note(name, "ends")
            self.look()

    # What the driver does.

    def spawn(self, which, entry, timeout, body):
        name = f"task {len(self.tasks)}"
        self.tasks.append(asyncio.create_task(self.work(name, which, entry, timeout, body)))

    def cancel(self, index, messages):
        tasks = [task for task in self.tasks if not task.done()] or self.tasks
        if tasks:
            task = tasks[index % len(tasks)]
            self.note("cancel", [task.cancel(message) for message in messages])

    def cancel_waiter(self, which, index):
        """As a task's cancel() does, also to what has no task."""
        waiters = list(self.watched[which % len(self.watched)]._waiters or ())
        if waiters:
            self.note("cancel", waiters[index % len(waiters)].cancel("by hand"))

    def by_hand(self, which, iterator, start, awaitable):
        found = self.make_awaitable(which, *awaitable)
        self.hands.append(Hand(found.__await__() if iterator else found))
        if start:
            self.drive_hand(self.hands[-1], "send")

    def drive(self, index, how, argument=None):
        hands = [hand for hand in self.hands if not hand.ended] or self.hands
        if hands:
            self.drive_hand(hands[index % len(hands)], how, argument)

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
                if how == "throw":
                    self.thrown += 1
                    argument = argument("thrown")
                    argument.number = self.thrown
                future = hand.awaitable.throw(argument)
            hand.future = future
            queues = [list(thing._waiters or ()) for thing in self.watched]
            places = [queue.index(future) if future in queue else None for queue in queues]
            self.note(how, "parked", future.done(), places)
        except BaseException as error:
            hand.ended = how != "close"  # else it has refused to end
            self.note_error(how, error)
            error.__traceback__ = None  # it refers to this frame, and so to the hand

    def drop(self, index):
        if self.hands:
            hand = self.hands.pop(index % len(self.hands))
            if hand.future is None:
                hand.awaitable.close()
            elif self.may_refuse_to_end():  # and when it is dropped, nobody can be told
                self.drive_hand(hand, "close")
                self.drive_hand(hand, "close")

    def may_refuse_to_end(self):
        """Whether what is closed may wait again."""
        return False

    async def run(self, program):
        for operation in program:
            await self.carry_out("driver", [operation])
        self.let_go()
        await self.carry_out("driver", [("sleep", 100)])
        # End what is left. Of those that take a lock back first, each round ends one.
        # (All tasks but this one, since wait_for() of Python 3.11 may leave its own behind.)
        made = asyncio.get_running_loop().made
        for _ in range(100):
            tasks = [task for task in made[1:] if not task.done()]
            hands = [hand for hand in self.hands if not hand.ended]
            if not tasks and not hands:
                break
            for task in tasks:
                task.cancel("end")
            for hand in hands:
                # One that is woken must take its turn: two could give it to each other for ever.
                if hand.future is not None and hand.future.done():
                    self.drive_hand(hand, "send")
                else:
                    self.drive_hand(hand, "throw", asyncio.CancelledError)
            self.let_go()
            await self.carry_out("driver", [("tick", 3)])
        await asyncio.gather(*made[1:], return_exceptions=True)

    def let_go(self):
        self.call(0, "release")


class EventDriver(Driver):
    entries = ("bare",)
    awaitables = awaitables_inside = (("wait",),)
    calls = (("set",), ("clear",))

    def state(self, event):
        return (event.is_set(),)

    def let_go(self):
        self.call(0, "set")


class SemaphoreDriver(Driver):
    setups = ((1,), (0,), (2,), (3,))
    own_operations = ("write",)

    def state(self, semaphore):
        return semaphore.locked(), semaphore._value

    def write(self, value):
        self.things[0]._value = value


class ConditionDriver(Driver):
    """One that has made its lock, or two that share one. What wait_for() waits for is a stage."""

    setups = (("its own",), ("shared",), ("asyncio's",))
    awaitables_inside = (*[("wait",)] * 3, *[("wait_for", stage) for stage in range(4)])
    awaitables = (*[("acquire",)] * 4, ("__aenter__",), ("__aexit__",), *[("wait",)] * 3)
    if COUNTS_REFERENCES:  # a wait() that does not end when wait_for() is closed is dropped
        awaitables += awaitables_inside
    calls = (("release",), ("notify_all",), ("notify",), *[("notify", n) for n in range(-1, 4)])
    own_operations = ("set_stage", "call_inside", "call_inside")

    def __init__(self, primitive, implementation, lock):
        makers = {"its own": lambda: None, "shared": implementation.Lock, "asyncio's": oracle.Lock}
        super().__init__(primitive, implementation, makers[lock]())
        self.stage = 0
        self.lock = self.things[0]._lock
        self.watched = [self.lock, *self.things]

    def make(self, cls, lock):
        return [cls()] if lock is None else [cls(lock), cls(lock)]

    def make_awaitable(self, which, method, *arguments):
        if method == "wait_for":
            (stage,) = arguments
            arguments = (lambda: self.has_reached(stage),)
        return super().make_awaitable(which, method, *arguments)

    def has_reached(self, stage):
        self.note("asked for", stage, self.stage)
        if self.stage == 4:
            raise KeyError("predicate")
        return self.stage >= stage and f"stage {self.stage}"

    def set_stage(self, stage):
        self.stage = stage

    def call_inside(self, which, method, *arguments):
        """As a task that found the lock free."""
        if not self.may_refuse_to_end():
            with contextlib.suppress(StopIteration):
                self.lock.acquire().send(None)
            self.call(which, method, *arguments)
            self.call(which, "release")

    def may_refuse_to_end(self):
        return self.lock.locked() or oracle.anybody_in(self.lock._waiters)


DRIVERS = {
    "Lock": Driver,
    "Event": EventDriver,
    "Semaphore": SemaphoreDriver,
    "BoundedSemaphore": SemaphoreDriver,
    "Condition": ConditionDriver,
}


def trace(primitive, implementation, setup, program):
    driver = DRIVERS[primitive](primitive, implementation, *setup)
    try:
        with asyncio.Runner(loop_factory=Clockwork) as runner:
            runner.run(driver.run(program))
    except Stuck:
        driver.note("stuck")
    return driver.trace


# ---- Programs at random ----

# Hypothesis draws bytes and no more, since to draw each choice takes it ten times as long as to run
# the program. Each operation has bytes of its own, and zeros mean none, so that a program that
# fails can be made shorter at any place.
LONGEST = 40
SIZE = 20

INDICES = tuple(range(7))
TIMEOUTS = (None, None, None, 0, 1, 2)
OPERATIONS_INSIDE = (None, "wait", "wait", "wait", "wait", "tick", "tick", "call")
OPERATIONS = (
    *(None, "tick", "tick", "sleep", "call", "call"),
    *("spawn", "spawn", "spawn", "cancel", "cancel", "cancel_waiter"),
    *("by_hand", "by_hand", "by_hand", "drive", "drive", "drive"),
)
DEADLY = (KeyError, GeneratorExit, KeyboardInterrupt)


def operation(driver, pick, name, deadly):
    match name:
        case "tick" | "sleep":
            return name, pick(1, 2)
        case "call":
            return name, pick(0, 1), *pick(*driver.calls)
        case "call_inside":
            return name, pick(0, 1), "notify", pick(1, 2, 3)
        case "set_stage":
            return name, pick(*range(5))
        case "write":
            return name, pick(*range(-1, 4))
        case "wait":
            how = pick("plain", "wait_for", "task", "stubborn")
            return name, pick(0, 1), how, pick(*TIMEOUTS), pick(*driver.awaitables_inside)
        case "spawn":
            head = name, pick(0, 1), pick(*driver.entries), pick(*TIMEOUTS)
            names = [pick(*OPERATIONS_INSIDE, *driver.own_operations) for _ in range(3)]
            return *head, [operation(driver, pick, name, deadly) for name in names if name]
        case "cancel":
            return name, pick(*INDICES), pick((None,), ("once",), ("first", "second"))
        case "cancel_waiter":
            return name, pick(*INDICES), pick(*INDICES)
        case "by_hand":
            awaitable = pick(*driver.awaitables)
            return name, pick(0, 1), pick(False, True), pick(True, True, False), awaitable
        case "drive":
            how = pick("send", "throw", "throw class", *(["close", "drop"] if deadly else []))
            index = pick(*INDICES)
            if how == "drop" and COUNTS_REFERENCES:
                return how, index
            if how == "send":
                return name, index, how, pick(None, 5)
            if how in ("throw", "throw class"):
                return name, index, how, pick(asyncio.CancelledError, *(DEADLY if deadly else []))
            return name, index, "close"


def programs(primitive, deadly):
    """Setups and programs, with or without deaths that are not of a CancelledError."""
    driver = DRIVERS[primitive]

    def decode(drawn):
        program = []
        for start in range(2, 2 + drawn[1] % LONGEST * SIZE, SIZE):
            choices = iter(drawn[start : start + SIZE])

            def pick(*options, choices=choices):
                return options[next(choices) % len(options)]

            name = pick(*OPERATIONS, *driver.own_operations)
            if name:
                program.append(operation(driver, pick, name, deadly))
        return driver.setups[drawn[0] % len(driver.setups)], program

    size = 2 + LONGEST * SIZE
    return st.binary(min_size=size, max_size=size).map(decode)


def but_for(primitive, cls):
    """The oracle with another class."""
    return SimpleNamespace(**{**vars(oracle), primitive: cls})


def check_traces(primitive, implementations, drawn_from, count):
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn_from)
    def check(drawn):
        expected = trace(primitive, oracle, *drawn)
        for name, implementation in implementations.items():
            assert trace(primitive, implementation, *drawn) == expected, name

    check()


@pytest.mark.timeout(0)  # it takes as long as --schedules asks
@pytest.mark.parametrize("primitive", DRIVERS)
def test_traces_equal_the_oracles(request, primitive):
    drawn_from = programs(primitive, deadly=True)
    check_traces(primitive, OURS, drawn_from, request.config.getoption("schedules"))


class OverTheMendedLock(asyncio.Condition):
    def __init__(self, lock=None):
        super().__init__(oracle.Lock() if lock is None else lock)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio's own has more faults there")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("primitive", [*DRIVERS, "Condition over the mended lock"])
def test_the_oracle_is_asyncio_but_for_what_it_mends(request, primitive):
    """Nothing is thrown but CancelledError; at a Condition anything, if the lock is mended."""
    count = request.config.getoption("schedules") // 4 or 1
    if primitive in DRIVERS:
        check_traces(primitive, {"asyncio": asyncio}, programs(primitive, deadly=False), count)
    else:
        mended = but_for("Condition", OverTheMendedLock)
        check_traces("Condition", {"asyncio": mended}, programs("Condition", deadly=True), count)


# ---- What the traces can tell ----


class OvertakingLock(oracle.Lock):
    async def acquire(self):
        if self._locked:
            return await super().acquire()
        self._locked = True
        return True


class RecheckingEvent(asyncio.Event):
    async def wait(self):
        while not self._value:
            await super().wait()
        return True


class OvertakingSemaphore(oracle.Semaphore):
    async def acquire(self):
        if self._value == 0:
            return await super().acquire()
        self._value -= 1
        return True


class DeafCondition(oracle.Condition):
    """Notifies one who has been notified, so that the other is not."""

    def _notify(self, n):
        for waiter in list(self._waiters)[:n]:
            if not waiter.done():
                waiter.set_result(False)


class SilentCondition(oracle.Condition):
    """Tells nobody that the one who was notified has died."""

    def notify(self, n=1):
        super()._notify(n)

    def _notify(self, n):
        pass


def by_hand(method):
    return "by_hand", 0, False, True, (method,)


RELEASE, TICK, NOTIFY = ("call", 0, "release"), ("tick", 1), ("call_inside", 0, "notify", 1)
HOLD = ("spawn", 0, "with", None, [TICK])
OVERTAKE = [HOLD, HOLD, ("tick", 2), by_hand("acquire"), TICK]
DIE_WOKEN = [*[by_hand("acquire")] * 3, RELEASE, ("drive", 0, "throw", KeyError)]
RELEASE_TWICE = [by_hand("acquire"), RELEASE, RELEASE]
SET_AND_CLEAR = [by_hand("wait"), ("call", 0, "set"), ("call", 0, "clear"), ("drive", 0, "send")]
TWO_WAIT = [*[("spawn", 0, "with", None, [("wait", 0, "plain", None, ("wait",))])] * 2, TICK]
WRONG = [
    ("Lock", OvertakingLock, (), OVERTAKE),
    ("Lock", asyncio.Lock, (), DIE_WOKEN),
    ("Event", RecheckingEvent, (), SET_AND_CLEAR),
    ("Semaphore", OvertakingSemaphore, (1,), [*OVERTAKE, ("write", 1), by_hand("acquire")]),
    ("Semaphore", asyncio.Semaphore, (1,), DIE_WOKEN),
    ("BoundedSemaphore", oracle.Semaphore, (1,), RELEASE_TWICE),
    ("Condition", DeafCondition, ("its own",), [*TWO_WAIT, NOTIFY, NOTIFY, TICK]),
    ("Condition", SilentCondition, ("its own",), [*TWO_WAIT, NOTIFY, ("cancel", 0, ("once",))]),
]


@pytest.mark.parametrize(("primitive", "Wrong", "setup", "program"), WRONG)
def test_traces_tell_right_from_wrong(primitive, Wrong, setup, program):
    right = trace(primitive, oracle, setup, program)
    assert trace(primitive, oracle, setup, program) == right
    assert trace(primitive, but_for(primitive, Wrong), setup, program) != right
