"""Subclass hooks, patches, replaced queues and unusual numbers, as with asyncio's own classes."""

import asyncio
import collections
import copy
import functools
import gc
import subprocess
import sys

import pytest
from conftest import IMPLEMENTATIONS, needs_compiled
from helpers import state, steps


@pytest.fixture
def logic_of_3_13(implementation):
    if implementation == "asyncio" and sys.version_info < (3, 13):
        pytest.skip("asyncio's own logic is another one before Python 3.13")


IN_C = "a condition acquires its lock again in C once its wait() has begun"
DIFFERENCES_OF_C = {
    "test_a_locks_queue_is_replaced_while_a_task_waits_for_the_condition": IN_C,
    "test_a_notified_task_calls_the_acquire_that_the_condition_has_now": IN_C,
    "test_a_lock_is_unlocked_by_hand_while_tasks_wait": "a newcomer wakes the first waiter",
    "test_a_lock_is_patched_after_its_condition_was_created": "the lock is created when it is used",
}


@pytest.fixture(autouse=True)
def expected_difference(request):
    reason = DIFFERENCES_OF_C.get(request.node.originalname)
    if reason and "compiled" in request.node.callspec.id:
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))


async def park_tasks(function, count):
    """Return tasks that wait, and the list to which each adds its number when it goes on."""
    arrived = []

    async def wait(number):
        await function()
        arrived.append(number)

    tasks = [asyncio.ensure_future(wait(number)) for number in range(count)]
    await steps(3)
    return tasks, arrived


def waiting_on(condition):
    async def wait():
        async with condition:
            await condition.wait()

    return wait


async def cancel(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def logging(log, cls, name, monkeypatch):
    """Patch a method of a class with one that logs its calls."""
    original = getattr(cls, name)

    @functools.wraps(original)
    def logged(self, *args):
        log.append(name)
        return original(self, *args)

    monkeypatch.setattr(cls, name, logged)


def hooked(cls, name):
    """A subclass that overrides a method and calls it, which rules out the methods in C."""

    def hook(self, *args):
        return getattr(super(subclass, self), name)(*args)

    subclass = type("Hooked", (cls,), {name: hook})
    return subclass


# ---- Queues that are replaced ----


class Newest:
    """A queue that serves the last waiter first, with what asyncio uses of a deque."""

    def __init__(self, futures=()):
        self.futures = list(futures)

    def append(self, future):
        self.futures.insert(0, future)

    def remove(self, future):
        self.futures.remove(future)

    def __iter__(self):
        return iter(self.futures)

    def __len__(self):
        return len(self.futures)


QUEUES = pytest.mark.parametrize("new_queue", [collections.deque, Newest])


@QUEUES
async def test_a_locks_queue_is_replaced_while_tasks_wait(Lock, new_queue):
    lock = Lock()
    await lock.acquire()
    tasks, arrived = await park_tasks(lock.acquire, 3)
    lock._waiters = new_queue(reversed(list(lock._waiters)))
    for _ in range(3):
        lock.release()
        await steps()
    left = len(lock._waiters)
    await cancel(tasks)
    assert (arrived, left) == ([2, 1, 0], 0)


@QUEUES
async def test_a_waiter_that_is_cancelled_leaves_the_new_queue(Lock, new_queue):
    lock = Lock()
    await lock.acquire()
    tasks, _ = await park_tasks(lock.acquire, 2)
    lock._waiters = new_queue(lock._waiters)
    await cancel(tasks)
    assert not lock._waiters


async def test_an_events_queue_is_replaced_while_tasks_wait(Event):
    event = Event()
    tasks, arrived = await park_tasks(event.wait, 2)
    event._waiters = collections.deque(event._waiters)
    event.set()
    await asyncio.gather(*tasks)
    assert (arrived, len(event._waiters)) == ([0, 1], 0)


@pytest.mark.usefixtures("logic_of_3_13")
async def test_a_permit_is_not_lost_with_a_replaced_queue(Semaphore):
    semaphore = Semaphore(1)
    await semaphore.acquire()
    tasks, arrived = await park_tasks(semaphore.acquire, 2)
    semaphore._waiters = collections.deque(semaphore._waiters)
    semaphore.release()
    tasks[0].cancel()  # after it was woken
    await steps()
    await cancel(tasks)
    assert arrived == [1]


async def test_a_lock_of_a_condition_gets_a_queue_of_its_own(Condition, Lock):
    lock = Lock()
    condition = Condition(lock)
    lock._waiters = collections.deque()
    await condition.acquire()
    tasks, arrived = await park_tasks(lock.acquire, 1)
    condition.release()
    await steps()
    await cancel(tasks)
    assert arrived == [0]


async def test_a_locks_queue_is_replaced_while_a_task_waits_for_the_condition(Condition, Lock):
    lock = Lock()
    condition = Condition(lock)

    (task,), arrived = await park_tasks(waiting_on(condition), 1)
    lock._waiters = collections.deque()
    await lock.acquire()
    condition.notify()
    await steps()
    tasks, others = await park_tasks(lock.acquire, 1)
    lock.release()
    await steps()
    lock._locked = False  # or a task that still waits for it could not even be cancelled
    await cancel([task, *tasks])
    assert (arrived, others) == ([0], [0])


def test_a_permit_that_a_hook_gave_on_a_closed_loop_is_taken_back(OurSemaphore):
    semaphore = hooked(OurSemaphore, "_wake_up_next")(1)

    async def park():
        await semaphore.acquire()
        waiting = semaphore.acquire()
        waiting.send(None)
        return waiting

    waiting = asyncio.run(park())
    semaphore.release()  # wakes the waiter, which never runs
    assert semaphore.locked()
    assert asyncio.run(asyncio.wait_for(semaphore.acquire(), 5))
    waiting.close()


def test_no_future_of_a_closed_loop_is_kept(OurLock):
    lock = hooked(OurLock, "_wake_up_first")()

    async def park():
        waiting = lock.acquire()
        waiting.send(None)
        return waiting

    asyncio.run(lock.acquire())
    waiting = [asyncio.run(park()) for _ in range(3)]
    assert len(vars(lock).get("_appended", ())) <= 1
    for coroutine in waiting:
        coroutine.close()


async def test_a_queues_getters_are_replaced_while_tasks_wait(Queue):
    queue = Queue()
    tasks, arrived = await park_tasks(queue.get, 3)
    queue._getters = collections.deque(reversed(list(queue._getters)))
    for number in range(3):
        queue.put_nowait(number)
        await steps()
    left = len(queue._getters)
    await cancel(tasks)
    assert (arrived, left) == ([2, 1, 0], 0)


@pytest.mark.parametrize("waiters", ["_getters", "_putters"])
@pytest.mark.parametrize("replaced", ["before", "while they wait"])
async def test_a_waiter_that_is_cancelled_leaves_a_queues_new_queue(Queue, waiters, replaced):
    queue = Queue(1)
    if waiters == "_putters":
        queue.put_nowait(0)
    wait = queue.get if waiters == "_getters" else functools.partial(queue.put, 1)
    if replaced == "before":
        setattr(queue, waiters, collections.deque())
    tasks, _ = await park_tasks(wait, 2)
    if replaced != "before":
        setattr(queue, waiters, collections.deque(getattr(queue, waiters)))
    await cancel(tasks[:1])
    left = len(getattr(queue, waiters))
    await cancel(tasks[1:])
    assert (left, len(getattr(queue, waiters))) == (1, 0)


async def test_an_item_is_not_lost_with_replaced_getters(Queue):
    queue = Queue()
    tasks, arrived = await park_tasks(queue.get, 2)
    queue._getters = collections.deque(queue._getters)
    queue.put_nowait(1)
    tasks[0].cancel()  # after it was woken
    await steps()
    await cancel(tasks)
    assert (arrived, queue.qsize()) == ([1], 0)


def test_a_replaced_queue_of_a_closed_loop_is_emptied(OurLock):
    lock = OurLock()

    async def park():
        await lock.acquire()
        waiting = lock.acquire()
        waiting.send(None)
        lock._waiters = collections.deque(lock._waiters)
        return waiting

    waiting = asyncio.run(park())
    lock.release()
    assert asyncio.run(asyncio.wait_for(lock.acquire(), 5))
    assert not lock._waiters
    waiting.close()


@pytest.mark.parametrize("waiters", ["_getters", "_putters"])
def test_replaced_waiters_of_a_queue_of_a_closed_loop_are_dropped(our_name, waiters):
    queue = IMPLEMENTATIONS[our_name].Queue(1)
    if waiters == "_putters":
        queue.put_nowait(0)
    wait = queue.get if waiters == "_getters" else functools.partial(queue.put, 1)
    setattr(queue, waiters, collections.deque())

    async def park():
        waiting = wait()
        waiting.send(None)
        assert len(getattr(queue, waiters)) == 1
        return waiting

    async def main():
        task = asyncio.ensure_future(wait())
        await steps()
        assert len(getattr(queue, waiters)) == 1
        if waiters == "_getters":
            queue.put_nowait(1)
        else:
            queue.get_nowait()
        await task
        assert not getattr(queue, waiters)

    waiting = asyncio.run(park())
    asyncio.run(main())
    waiting.close()


async def test_a_getter_waits_again_though_its_queue_is_patched_meanwhile(Queue):
    queue, log = Queue(), []
    _, arrived = await park_tasks(queue.get, 1)

    def get_nowait():
        log.append("get_nowait")
        return type(queue).get_nowait(queue)

    queue.put_nowait(1)  # wakes the task
    assert queue.get_nowait() == 1
    queue.get_nowait = get_nowait
    await steps()
    assert (log, arrived, len(queue._getters)) == ([], [], 1)
    queue.put_nowait(2)
    await steps()
    assert (log, arrived) == (["get_nowait"], [0])


# ---- What changes while tasks wait ----


@pytest.mark.usefixtures("logic_of_3_13")
@pytest.mark.parametrize("change", ["by hand", "class", "instance", "float"])
async def test_a_permit_that_python_gave_is_not_lost(Semaphore, change, monkeypatch):
    semaphore = Semaphore(1)
    await semaphore.acquire()
    (task,), _ = await park_tasks(semaphore.acquire, 1)
    if change == "by hand":
        semaphore._waiters[0].set_result(True)
    else:
        if change == "class":
            logging([], Semaphore, "_wake_up_next", monkeypatch)
        elif change == "instance":
            wake_up_next = semaphore._wake_up_next
            semaphore._wake_up_next = functools.partial(wake_up_next)
        else:
            semaphore._value = 0.0
        semaphore.release()
    await cancel([task])  # after it was woken
    assert (semaphore._value, semaphore.locked()) == (1, False)


async def test_a_cancelled_waiter_calls_the_hook_that_the_lock_has_now(Lock, monkeypatch):
    lock = Lock()
    await lock.acquire()
    (first, second), _ = await park_tasks(lock.acquire, 2)
    first.cancel()
    lock.release()
    log = []
    logging(log, Lock, "_wake_up_first", monkeypatch)
    await steps()
    await cancel([second])
    assert log[:1] == ["_wake_up_first"]


@pytest.mark.usefixtures("logic_of_3_13")
@pytest.mark.parametrize("on", ["class", "instance", "__class__"])
async def test_a_cancelled_wait_notifies_by_the_hook_that_the_condition_has_now(
    Condition, on, monkeypatch
):
    condition = Condition()

    tasks, _ = await park_tasks(waiting_on(condition), 1)
    log = []
    if on == "class":
        logging(log, Condition, "_notify", monkeypatch)
    elif on == "instance":
        monkeypatch.setattr(condition, "_notify", lambda n: log.append("_notify"), raising=True)
    else:
        condition.__class__ = hooked(Condition, "_notify")
        logging(log, type(condition), "_notify", monkeypatch)
    await cancel(tasks)
    assert log == ["_notify"]


@pytest.mark.parametrize("on", ["class", "instance", "__class__"])
@pytest.mark.parametrize("method", ["get", "put"])
async def test_a_cancelled_waiter_calls_the_hook_that_the_queue_has_now(
    Queue, method, on, monkeypatch
):
    queue, log = Queue(1), []
    if method == "put":
        queue.put_nowait(0)
    wait = queue.get if method == "get" else functools.partial(queue.put, 1)
    (first, second), _ = await park_tasks(wait, 2)
    if method == "get":
        queue.put_nowait(0)
    else:
        queue.get_nowait()
    first.cancel()  # after it was woken
    if on == "class":
        logging(log, Queue, "_wakeup_next", monkeypatch)
    elif on == "instance":
        wakeup_next = queue._wakeup_next
        queue._wakeup_next = lambda waiters: (log.append("_wakeup_next"), wakeup_next(waiters))
    else:
        queue.__class__ = hooked(Queue, "_wakeup_next")
        logging(log, type(queue), "_wakeup_next", monkeypatch)
    await steps(1)
    assert log == ["_wakeup_next"]
    await steps()
    assert second.done()


@pytest.mark.parametrize("method", ["get", "put"])
async def test_a_woken_waiter_calls_the_methods_that_the_queue_has_now(Queue, method, monkeypatch):
    queue, log = Queue(1), []
    if method == "put":
        queue.put_nowait(0)
    wait = queue.get if method == "get" else functools.partial(queue.put, 1)
    (task,), _ = await park_tasks(wait, 1)
    if method == "get":
        queue.put_nowait(0)
    else:
        queue.get_nowait()
    logging(log, Queue, f"{method}_nowait", monkeypatch)
    logging(log, Queue, {"get": "empty", "put": "full"}[method], monkeypatch)
    await steps(1)
    await task
    assert log[0] in ("empty", "full")
    assert f"{method}_nowait" in log


async def test_a_notified_task_calls_the_acquire_that_the_condition_has_now(Condition):
    condition = Condition()

    tasks, _ = await park_tasks(waiting_on(condition), 1)
    acquire, log = condition.acquire, []

    async def logged():
        log.append("acquire")
        return await acquire()

    async with condition:
        condition.notify()
        condition.acquire = logged
    await asyncio.gather(*tasks)
    assert log == ["acquire"]


async def test_a_lock_is_unlocked_by_hand_while_tasks_wait(Lock):
    lock = Lock()
    await lock.acquire()
    tasks, arrived = await park_tasks(lock.acquire, 1)
    lock._locked = False
    newcomers, newly = await park_tasks(lock.acquire, 1)
    state = arrived + newly, lock.locked()
    await cancel([*tasks, *newcomers])
    assert state == ([], False)


# ---- What classes and patches override ----


@pytest.mark.parametrize("arguments", [(), (2,)])
async def test_a_class_between_bounded_semaphore_and_semaphore(
    BoundedSemaphore, Semaphore, arguments
):
    log = []

    class Between(Semaphore):
        def __init__(self, value=1):
            log.append("init")
            super().__init__(value)

        def release(self):
            log.append("release")
            super().release()

    class Diamond(BoundedSemaphore, Between):
        pass

    semaphore = Diamond(*arguments)
    await semaphore.acquire()
    semaphore.release()
    async with semaphore:
        pass
    assert log == ["init", "release", "release"]


async def test_a_patch_of_semaphore_is_one_of_bounded_semaphore(
    BoundedSemaphore, Semaphore, monkeypatch
):
    log = []
    logging(log, Semaphore, "release", monkeypatch)
    logging(log, Semaphore, "__init__", monkeypatch)
    semaphore = BoundedSemaphore()
    await semaphore.acquire()
    semaphore.release()
    async with semaphore:
        pass
    assert log == ["__init__", "release", "release"]


@pytest.mark.parametrize("name", ["LifoQueue", "PriorityQueue"])
async def test_a_patch_of_queue_is_one_of_its_subclasses(implementation, name, monkeypatch):
    module, log = IMPLEMENTATIONS[implementation], []
    for method in ("__init__", "put_nowait", "get_nowait", "_wakeup_next", "full"):
        logging(log, module.Queue, method, monkeypatch)
    queue = getattr(module, name)(1)
    await queue.put(1)
    assert await queue.get() == 1
    assert log == [
        *("__init__", "full", "put_nowait", "full", "_wakeup_next"),
        *("get_nowait", "_wakeup_next"),
    ]


@pytest.mark.parametrize("name", ["LifoQueue", "PriorityQueue"])
async def test_a_class_between_queue_and_another(implementation, name):
    module, log = IMPLEMENTATIONS[implementation], []

    class Between(module.Queue):
        def __init__(self, maxsize=0):
            log.append("init")
            super().__init__(maxsize)

        def _put(self, item):
            log.append("Between._put")
            super()._put(item)

        def get_nowait(self):
            log.append("get_nowait")
            return super().get_nowait()

    class Diamond(getattr(module, name), Between):
        pass

    queue = Diamond(3)
    for item in (2, 1, 3):
        await queue.put(item)
    assert [await queue.get() for _ in range(3)] == (
        [3, 1, 2] if name == "LifoQueue" else [1, 2, 3]
    )
    assert log == ["init", *["get_nowait"] * 3]


async def test_a_new_condition_calls_the_patched_methods_of_its_lock(Condition, Lock, monkeypatch):
    log = []
    logging(log, Lock, "release", monkeypatch)
    condition = Condition()
    await condition.acquire()
    condition.release()
    async with condition:
        pass
    assert log == ["release", "release"]


USES_OF_A_CONDITION = {
    "locked": ["locked"],
    "acquire": ["acquire"],
    "release": ["release"],
    "wait": ["locked"],
    "notify": ["locked"],
    "notify_all": ["locked"],
    "async with": ["acquire", "release"],
}


@pytest.mark.parametrize("use", USES_OF_A_CONDITION)
async def test_the_first_call_of_a_condition_is_of_its_patched_lock(
    Condition, Lock, use, monkeypatch
):
    log = []
    for name in ("locked", "acquire", "release"):
        logging(log, Lock, name, monkeypatch)
    condition = Condition()
    if use == "async with":
        async with condition:
            pass
    elif use in ("release", "wait", "notify", "notify_all"):
        with pytest.raises(RuntimeError):
            await getattr(condition, use)()
    else:
        result = getattr(condition, use)()
        assert result is False or await result
    assert log == USES_OF_A_CONDITION[use]


async def test_a_lock_is_patched_after_its_condition_was_created(Condition, Lock, monkeypatch):
    condition, log = Condition(), []
    logging(log, Lock, "acquire", monkeypatch)
    async with condition:
        pass
    assert log == []


async def test_what_a_condition_does_once_its_lock_is_patched(Condition, Lock, monkeypatch):
    lock, log = Lock(), []
    condition = Condition(lock)
    logging(log, Lock, "_wake_up_first", monkeypatch)

    async def wait():
        async with condition:
            return await condition.wait()

    task = asyncio.ensure_future(wait())
    await steps()
    if hasattr(condition, "try_acquire"):
        assert condition.try_acquire()
        assert not condition.try_acquire()
    else:
        await condition.acquire()
    condition.notify()
    condition.release()
    assert await task is True
    assert log == ["_wake_up_first"] * 3
    assert not lock._locked


async def test_the_lock_of_a_condition_gets_another_class(Condition, Lock, monkeypatch):
    lock, log = Lock(), []
    condition = Condition(lock)
    lock.__class__ = hooked(Lock, "_wake_up_first")
    logging(log, type(lock), "_wake_up_first", monkeypatch)
    await condition.acquire()
    condition.release()
    assert log == ["_wake_up_first"]


@pytest.mark.skipif(
    sys.implementation.name == "pypy", reason="PyPy never calls a __del__ that is added to a class"
)
@pytest.mark.parametrize("primitive", ["Lock", "Event", "Condition", "Semaphore", "Queue"])
def test_a_del_that_is_patched_in_is_called(implementation, primitive, monkeypatch):
    cls, log = getattr(IMPLEMENTATIONS[implementation], primitive), []
    gc.collect()  # what earlier tests have left
    monkeypatch.setattr(cls, "__del__", lambda self: log.append("del"), raising=False)
    for count in range(1, 4):
        cls()
        gc.collect()
        assert log == ["del"] * count


@pytest.mark.skipif(
    sys.implementation.name == "pypy", reason="PyPy never calls a __del__ that is added to a class"
)
@pytest.mark.parametrize("primitive", ["Lock", "Event", "Condition", "Queue"])
async def test_a_del_that_is_patched_in_keeps_the_object(implementation, primitive, monkeypatch):
    cls, kept = getattr(IMPLEMENTATIONS[implementation], primitive), []
    gc.collect()

    def keep(self):
        kept.append(self)

    with monkeypatch.context() as patch:
        patch.setattr(cls, "__del__", keep, raising=False)
        cls().attribute = 1
        gc.collect()
        (one,) = kept
        kept.clear()
    assert one.attribute == 1
    assert state(cls()) == state(one)
    if primitive == "Lock":
        await one.acquire()
        one.release()


@pytest.mark.usefixtures("logic_of_3_13")
async def test_acquire_asks_a_subclass_once_whether_it_is_locked(Semaphore):
    calls = []

    class Counting(Semaphore):
        def locked(self):
            calls.append(self)
            return super().locked()

    semaphore = Counting(0)
    tasks, _ = await park_tasks(semaphore.acquire, 1)
    assert len(calls) == 1
    await cancel(tasks)


# ---- Attributes and numbers ----


@pytest.mark.parametrize("locked", [1, "yes"])
async def test_a_condition_sees_that_its_lock_is_locked_by_another_value(Condition, Lock, locked):
    lock = Lock()
    condition = Condition(lock)
    lock._locked = locked
    assert condition.locked() == locked
    condition.notify()
    condition.release()
    assert lock.locked() is False


async def test_a_waiter_locks_a_lock_that_was_unlocked_by_another_value(Lock):
    lock = Lock()
    await lock.acquire()
    tasks, _ = await park_tasks(lock.acquire, 1)
    lock._locked = 0
    lock._wake_up_first()
    await asyncio.gather(*tasks)
    assert lock.locked() is True


@pytest.mark.parametrize("value", [sys.maxsize + 2, 1.5])
@pytest.mark.parametrize("way", ["acquire", "__aenter__"])
async def test_a_number_beyond_those_of_c_is_set_before_the_await(Semaphore, way, value):
    semaphore = Semaphore(0)
    awaitable = getattr(semaphore, way)()
    semaphore._value = value
    await awaitable
    assert semaphore._value == value - 1


@pytest.mark.usefixtures("logic_of_3_13")
async def test_locked_is_overridden_before_the_await(Semaphore):
    semaphore = Semaphore(0)
    awaitable = semaphore.acquire()
    semaphore.locked = lambda: True
    task = asyncio.create_task(awaited(awaitable))
    await steps()
    semaphore.release()
    assert await task is True
    assert semaphore._value == 0


async def awaited(awaitable):
    return await awaitable


@pytest.mark.parametrize("way", ["release", "__aexit__"])
async def test_a_permit_beyond_the_largest_number_of_c(Semaphore, way):
    semaphore = Semaphore(sys.maxsize)
    if way == "release":
        semaphore.release()
    else:
        await semaphore.__aexit__(None, None, None)
    assert semaphore._value == sys.maxsize + 1


async def test_the_loop_is_deleted(Lock):
    lock = Lock()
    await lock.acquire()
    tasks, _ = await park_tasks(lock.acquire, 1)
    del lock._loop
    assert lock._loop is None
    await cancel(tasks)


COPIED = {
    "Lock": (),
    "Event": (),
    "Condition": (),
    "Semaphore": (5,),
    "BoundedSemaphore": (5,),
    "Barrier": (3,),
    "Queue": (2,),
    "LifoQueue": (2,),
    "PriorityQueue": (2,),
}


@pytest.mark.parametrize("primitive", COPIED)
def test_a_subclass_copies_its_dict_as_state(implementation, primitive):
    cls = getattr(IMPLEMENTATIONS[implementation], primitive)
    subclass = type("Sub", (cls,), {"__getstate__": lambda self: self.__dict__.copy()})
    original = subclass(*COPIED[primitive])
    if primitive == "Lock":
        original._locked = True
    elif primitive == "Event":
        original.set()
    elif hasattr(original, "put_nowait"):
        original.put_nowait("item")
    copied = copy.copy(original)
    assert state(copied) == state(original)


# Since Python 3.13, a class that has changed 1,000 times has no version tag any more.
CHANGED_OFTEN = """
from aiofastlock import Condition, Lock

for number in range(1200):
    Lock.number = number
    Lock().number
Lock.locked = lambda lock: "patched"
print(Condition().locked())
"""


@needs_compiled
def test_a_class_that_has_changed_too_often_to_be_told_apart():
    """The class stays so, so in another process."""
    command = [sys.executable, "-c", CHANGED_OFTEN]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr, run.stdout) == (0, "", "patched\n")


# ---- Memory ----

AWAITED = """
import aiofastlock
wait = aiofastlock.Condition().wait()
print(getattr(wait, "_awaited", None))
wait.close()
print(getattr(type(wait)(), "_awaited", None))
"""


@needs_compiled
def test_a_wait_that_is_not_started_waits_for_nothing():
    """A crash, so in another process."""
    command = [sys.executable, "-c", AWAITED]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr, run.stdout.split()) == (0, "", ["None", "None"])
