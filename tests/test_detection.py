"""Random programs show what is wrong: with primitives, and with hooks that are ignored."""

import asyncio
import subprocess
import sys
import weakref
from collections import deque
from pathlib import Path

import oracle
import pytest
import schedules
from conftest import OURS
from helpers import but_for
from schedules import COUNTS_REFERENCES, ORACLE, SCENES, Machine, trace

from aiofastlock import _pure

# ---- Traces show what is wrong ----


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
    """Notifies a waiter that has been notified, instead of the next one."""

    def _notify(self, n):
        for waiter in list(self._waiters)[:n]:
            if not waiter.done():
                waiter.set_result(False)


class SilentCondition(oracle.Condition):
    """Does not pass a notification on if the notified waiter is cancelled."""

    def notify(self, n=1):
        super()._notify(n)

    def _notify(self, n):
        pass


class WeakQueue(weakref.WeakSet):
    append = weakref.WeakSet.add


class ForgetfulEvent(asyncio.Event):
    """Does not keep its waiters alive."""

    def __init__(self):
        super().__init__()
        self._waiters = WeakQueue()


class MixedUpCondition(oracle.Condition):
    """Wakes the waiters of other conditions on the same lock."""

    def __init__(self, lock=None):
        super().__init__(lock)
        self._waiters = vars(self._lock).setdefault("queue", deque())


class LateEvent(asyncio.Event):
    """Wakes its waiters only in the next iteration of the loop."""

    def set(self):
        asyncio.get_running_loop().call_soon(super().set)


class OvertakingTurns(oracle.Turns):
    """A reader joins the readers, though a writer waits."""

    def come(self, writes):
        may_enter = self.may_enter(writes)
        if may_enter:
            self.inside.append(writes)
        return may_enter


class StrandingTurns(oracle.Turns):
    """A writer that is cancelled does not let in the readers behind it."""

    def wake_up(self):
        if not self.inside:
            super().wake_up()


class SingleTurns(oracle.Turns):
    """Readers are woken one by one."""

    def wake_up(self):
        if not any(future.done() for future in self.queue):
            for future in oracle.asleep_in(self.queue)[:1]:
                if self.may_enter(self.queue[future]):
                    future.set_result(True)


def rwlock_with(turns):
    return type("RWLock", (oracle.RWLock,), {"turns": turns})


class DeafBarrier(_pure.Barrier):
    async def abort(self):
        pass


def by_hand(method, which=0):
    return "by_hand", False, True, which, method


def spawn(*body, how="task", count=1):
    return "spawn", how, count, [*body]


RELEASE, TICK, NOTIFY = ("call", 0, "release"), ("tick", 1), ("call_inside", 0, "notify", 1)
HOLD = ("enter", 0, None, [TICK])
OVERTAKE = [spawn(HOLD, count=2), ("tick", 2), by_hand("acquire"), TICK]
DIE_WOKEN = [*[by_hand("acquire")] * 3, RELEASE, ("drive", 0, "throw", "KeyError")]
RELEASE_TWICE = [by_hand("acquire"), RELEASE, RELEASE]
SET_AND_CLEAR = [by_hand("wait"), ("call", 0, "set"), ("call", 0, "clear"), ("drive", 0, "send")]
TWO_WAIT = [spawn(("wait_inside", 0, None, "wait"), count=2), TICK]
ONE, OWN = [("Semaphore", 1)], [("Condition",)]
SHARED = [("Lock",), ("Condition", 0), ("Condition", 0)]
RWLOCK = [("ReaderLock",), ("WriterLock",)]
READ, WRITE = by_hand("acquire"), by_hand("acquire", 1)
STOP_WRITER = ("drive", 0, "throw", "CancelledError")
WRONG = [
    ("Lock", OvertakingLock, [("Lock",)], OVERTAKE),
    ("Lock", asyncio.Lock, [("Lock",)], DIE_WOKEN),
    ("Event", RecheckingEvent, [("Event",)], SET_AND_CLEAR),
    ("Semaphore", OvertakingSemaphore, ONE, [*OVERTAKE, ("write", 0, 1), by_hand("acquire")]),
    ("Semaphore", asyncio.Semaphore, ONE, DIE_WOKEN),
    ("BoundedSemaphore", oracle.Semaphore, [("BoundedSemaphore", 1)], RELEASE_TWICE),
    ("Condition", DeafCondition, OWN, [*TWO_WAIT, NOTIFY, NOTIFY, TICK]),
    ("Condition", SilentCondition, OWN, [*TWO_WAIT, NOTIFY, ("cancel", 0, ("once",))]),
    ("Condition", MixedUpCondition, SHARED, [TWO_WAIT[0], ("call_inside", 1, "notify", 2)]),
    ("Event", LateEvent, [("Event",)], [by_hand("wait"), ("later", None, 0, "set"), TICK]),
    ("RWLock", rwlock_with(OvertakingTurns), RWLOCK, [READ, WRITE, READ]),
    ("RWLock", rwlock_with(StrandingTurns), RWLOCK, [READ, WRITE, READ, STOP_WRITER]),
    ("RWLock", rwlock_with(SingleTurns), RWLOCK, [WRITE, READ, READ, ("call", 1, "release")]),
    ("Barrier", DeafBarrier, [("Barrier", 2)], [by_hand("wait"), by_hand("abort")]),
]
if COUNTS_REFERENCES:
    orphan = spawn(("wait", "plain", None, 0, "wait"), how="orphan")
    WRONG.append(("Event", ForgetfulEvent, [("Event",)], [orphan, TICK, ("collect",), TICK]))


@pytest.mark.parametrize(("primitive", "Wrong", "setup", "program"), WRONG)
def test_traces_tell_right_from_wrong(primitive, Wrong, setup, program):
    right = trace(ORACLE, setup, program)
    assert trace(ORACLE, setup, program) == right
    assert trace(but_for(ORACLE, **{primitive: Wrong}), setup, program) != right


class LeakySemaphore(oracle.Semaphore):
    async def acquire(self):
        try:
            return await super().acquire()
        except asyncio.CancelledError:
            self._value -= 1
            raise


class HoardingEvent(asyncio.Event):
    async def wait(self):
        self._waiters.append(oracle.new_waiter(self))


class SlowLock(oracle.Lock):
    async def acquire(self):
        await asyncio.sleep(0)
        return await super().acquire()


class SlowSemaphore(oracle.Semaphore):
    acquire = SlowLock.acquire


class SlowEvent(asyncio.Event):
    async def wait(self):
        await asyncio.sleep(0)
        return await super().wait()


class UnkemptLock(oracle.Lock):
    async def __aexit__(self, *_):
        pass


class EvenBarrier(_pure.Barrier):
    async def wait(self):
        return await super().wait() // 2


CANCEL_SECOND = [spawn(("enter", 0, None, [("sleep", 1)]), count=2), TICK, ("cancel", 1, (None,))]


@pytest.mark.parametrize(
    ("primitive", "Wrong", "arguments", "program", "fault"),
    [
        ("Semaphore", LeakySemaphore, (1,), [("tidy",), *CANCEL_SECOND], "permits: [0] of [1]"),
        ("Semaphore", SlowSemaphore, (1,), [], "a permit that cannot be acquired"),
        ("Lock", UnkemptLock, (), [("tidy",), spawn(HOLD)], "a lock that is still held"),
        ("Lock", SlowLock, (), [], "it can't be acquired"),
        ("Event", HoardingEvent, (), [by_hand("wait")], "a waiter is left"),
        ("Event", SlowEvent, (), [], "set, and wait() parks"),
        ("Barrier", EvenBarrier, (2,), [], "indices [0, 0]"),
    ],
)
def test_what_does_not_work_at_the_end_is_a_fault(primitive, Wrong, arguments, program, fault):
    """It is one even if the oracle has it, too."""
    setup = [(primitive, *arguments)]
    assert trace(ORACLE, setup, program)[-1] == ("faults", [])
    name, (first, *_) = trace(but_for(ORACLE, **{primitive: Wrong}), setup, program)[-1]
    assert name == "faults"
    assert first.endswith(fault)


# ---- Hooks ----

RECORDS = ("asked", "awaited", "called", "stored")


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene in schedules.METHODS])
def test_every_hook_is_called(scene):
    hooks = {*schedules.METHODS[scene], *schedules.ATTRIBUTES[scene]} - {*schedules.QUEUES}
    missing = {schedules.OVERRIDES.get(hook, (hook, None))[0] for hook in hooks}
    with Machine() as machine:
        for index in range(2000):
            for event in machine.trace(ORACLE, *schedules.program_of(1, index, scene)):
                if event[0] in RECORDS:
                    missing.discard(event[2])
            if not missing:
                return
    pytest.fail(f"not called: {missing}")


class IgnoresAcquire(oracle.Lock):
    async def __aenter__(self):
        await oracle.Lock.acquire(self)


class IgnoresQueue(oracle.Lock):
    @property
    def _waiters(self):
        return self.own

    @_waiters.setter
    def _waiters(self, waiters):
        self.own = deque() if isinstance(waiters, schedules.PriorityQueue) else waiters


class IgnoresGetLoop(asyncio.Event):
    def __init_subclass__(cls):
        if "_get_loop" in vars(cls):
            del cls._get_loop


class IgnoresLocked(oracle.Semaphore):
    async def acquire(self):
        if oracle.Semaphore.locked(self):
            return await super().acquire()
        self._value -= 1
        return True


class IgnoresPatches(oracle.Semaphore):
    def __init__(self, value=1):
        super().__init__(value)
        self.wake_up_next = self._wake_up_next

    def release(self):
        self._value += 1
        self.wake_up_next()


class IgnoresValue(oracle.BoundedSemaphore):
    def __init_subclass__(cls):
        if "_value" in vars(cls):
            del cls._value


class IgnoresNotify(oracle.Condition):
    def notify(self, n=1):
        if not self.locked():
            raise RuntimeError("cannot notify on un-acquired lock")
        oracle.Condition._notify(self, n)


class IgnoresRelease(oracle.Condition):
    async def __aexit__(self, *_):
        self._lock.release()


class IgnoresWait(_pure.Barrier):
    async def __aenter__(self):
        return await _pure.Barrier.wait(self)


@pytest.mark.parametrize(
    ("primitive", "Ignoring", "hook"),
    [
        ("Lock", IgnoresAcquire, "acquire"),
        ("Lock", IgnoresQueue, "a priority queue"),
        ("Event", IgnoresGetLoop, "_get_loop"),
        ("Semaphore", IgnoresLocked, "locked"),
        ("Semaphore", IgnoresPatches, "patch"),
        ("BoundedSemaphore", IgnoresValue, "_value"),
        ("Condition", IgnoresNotify, "_notify"),
        ("Condition", IgnoresRelease, "release"),
        ("Barrier", IgnoresWait, "wait"),
    ],
)
def test_an_ignored_hook_is_found(primitive, Ignoring, hook):
    _, small = find_planted({"ignoring": but_for(ORACLE, **{primitive: Ignoring})}, primitive)
    assert hook in repr([small.setup, [it for it in small.program if it[0] == "patch"]])


# ---- A failing program is made small, and shown ----


class SelfishSemaphore(_pure.Semaphore):
    """A permit is lost if the waiter that was woken for it is cancelled."""

    def _wake_up_next(self):
        return sys._getframe(2).f_code.co_name != "hand_off" and super()._wake_up_next()


@pytest.fixture
def planted(monkeypatch):
    planted = but_for(_pure, Semaphore=SelfishSemaphore)
    monkeypatch.setitem(OURS, "planted", planted)
    return {"pure": _pure, "planted": planted}


def find_planted(planted, scene="world", seed=6):
    with Machine() as machine:
        for index in range(2000):
            program = schedules.program_of(seed, index, scene)
            found = schedules.find_difference(machine, planted, *program)
            if found:
                return found, schedules.shrunk(machine, planted, found)
    pytest.fail("not found")


def test_what_fails_is_found_and_made_small(planted):
    found, small = find_planted(planted)
    assert found.name == small.name == "planted"
    assert len(small.program) <= 4 < len(found.program)
    assert [kind for kind, *_ in small.setup] == ["Semaphore"]
    with Machine() as machine:
        assert schedules.find_difference(machine, planted, *small[1:]) == small


def test_the_script_shows_the_difference(planted, capsys):
    _, small = find_planted(planted)
    with pytest.raises(SystemExit) as raised:
        exec(schedules.script(small), {})
    assert raised.value.code == 1
    *_, of_oracle, of_planted = capsys.readouterr().out.splitlines()
    assert of_oracle.startswith("  oracle: ")
    assert of_planted.startswith("  planted: ")
    assert of_oracle.partition(":")[2] != of_planted.partition(":")[2]


def run_python(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, **options
    )


def test_the_script_of_what_is_right_says_so():
    right = schedules.Difference("pure", [("Lock",)], [*OVERTAKE])
    ran = run_python("-", input=schedules.script(right))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.endswith("the traces are equal\n")


def test_the_command():
    tool = Path(schedules.__file__)
    ran = run_python(tool, "--programs", "30", "--implementation", "pure", "--seed", "1")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ", pure, seed 1\n" in ran.stdout
    assert ran.stdout.endswith("no difference\n")
