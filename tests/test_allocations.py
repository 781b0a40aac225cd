"""Every allocation of every operation fails: the result is a MemoryError and a lock that works.

Each operation is done again and again, with its first allocation failing, then its second, until it
makes no more allocations. This is done twice: one allocation fails alone, or the next 19 fail with
it. (If all of them fail, Python 3.11 crashes or hangs while it handles any exception.) Objects that
the locks and the interpreter keep in order to use them again are in use meanwhile. An operation may
raise only MemoryError. No permit may be lost or granted twice, and every task that waits, or comes
later, must have its turn. An operation that was interrupted can be tried again.

An interpreter can crash, so the operations run in a separate process:

    python tests/test_allocations.py asyncio|pure|compiled [OPERATION...]

It prints what went wrong, in which operation and at which allocations. It does so for asyncio too,
to compare. Code in Python allocates memory where a failure cannot be handled, such as for the
coroutine that would release the lock. More goes wrong there, and some interpreters crash: Python
3.11.7 and 3.13.0 do with the pure-Python implementation.
"""

# ruff: noqa: SIM105  contextlib.suppress() allocates

import argparse
import asyncio
import collections
import contextlib
import contextvars
import copy
import faulthandler
import gc
import itertools
import os
import subprocess
import sys
import threading
import types
import warnings

import pytest
from conftest import FREE_THREADED, IMPLEMENTATIONS, needs_compiled

from aiofastlock import QueueShutDown
from aiofastlock._implementation import recorder

OPERATIONS = {}  # by the name of the primitive, and of the operation
ENOUGH = 4  # successes in a row: each of its allocations has failed before


def operation(*kinds):
    def add(function):
        for kind in kinds:
            OPERATIONS[kind, function.__name__] = function
        return function

    return add


class Shortage:
    """While it is entered, the allocations from `first` to before `last` fail.

    `failed` says whether it has ended in a MemoryError, which it suppresses.
    """

    def __init__(self, namespace, first, last):
        self.namespace, self.first, self.last = namespace, first, last
        self.failed = False

    def __enter__(self):
        self.hoard = hoard(self.namespace)
        set_nomemory(self.first, self.last)

    def __exit__(self, kind, error, traceback):
        remove_mem_hooks()
        # A MemoryError can leave it locked: asyncio's classes would then block for ever.
        asyncio.mixins._global_lock = threading.Lock()
        self.failed = kind is not None
        self.hoard = None
        return kind is MemoryError


def hoard(namespace):
    """Use all objects that are kept in order to be used again."""
    event, condition = namespace.Event(), namespace.Condition()
    waiters = []
    for _ in range(40):
        condition._lock._locked = True
        waiters += [event.wait(), condition.wait()]
        waiters[-1].send(None)
        waiters[-2].send(None).add_done_callback(bool)
    event.set()  # the loop holds the handles
    return [
        waiters,
        [[namespace.Lock(), namespace.Event(), namespace.Condition()] for _ in range(70)],
        [contextvars.copy_context() for _ in range(300)],
        [[[], {"i": i}, 0.1 * i, (i, i), (i, i, i)] for i in range(100)],
        [(i,) for i in range(2100)],
    ]


# ---- Steps by hand: the allocations of a loop do not fail ----


@types.coroutine
def pause():
    yield


async def note(notes, awaitable, wait):
    """Await, note it, and wait. To note it allocates no memory."""
    await awaitable
    notes.done = True
    await wait


def noted(awaitable):
    notes = types.SimpleNamespace(done=False)
    return note(notes, awaitable, pause()), notes


def ended(awaitable):
    """Whether it ends or pauses in this step, and in no other way than it may."""
    try:
        return awaitable.send(None) is None
    except (StopIteration, asyncio.CancelledError, asyncio.BrokenBarrierError):
        return True


def park(awaitable):
    return awaitable, awaitable.send(None)


def is_held(lock, waiting=()):
    """Whether a task holds it; False while it is on its way to one of the waiters."""
    if not hasattr(lock, "_value"):
        return lock.locked()
    return lock._value == 0 and not any(
        future.done() and not future.cancelled() for _, future in waiting
    )


def lock_works(lock, waiting=()):
    """The waiters, and two newcomers, each get the free lock and release it."""
    assert not is_held(lock, waiting), "no task has it, and it is held"
    waiting = list(waiting)
    for _ in range(2):
        newcomer = lock.acquire()
        try:
            waiting.append((newcomer, newcomer.send(None)))
        except StopIteration:
            lock.release()
    for _ in range(len(waiting)):
        for pair in waiting:
            if pair[1].done():
                waiting.remove(pair)
                cancelled = pair[1].cancelled()
                assert ended(pair[0])
                assert is_held(lock, waiting) is not cancelled, "a cancelled waiter had a turn"
                if not cancelled:
                    lock.release()
                break
    hang = len(waiting)
    for awaitable, _ in waiting:
        awaitable.close()
    assert not hang, "some wait for ever"
    assert not lock.locked()
    assert getattr(lock, "_value", 1) == 1, "a permit is lost or gained"
    assert not queue_of(lock)


def queue_of(lock):
    return getattr(lock, "_turns", getattr(lock, "_lock", lock))._waiters


def held(new):
    lock = new()
    assert ended(lock.acquire())
    return lock


# ---- KeyedLock and KeyedSemaphore ----


@operation("KeyedLock", "KeyedSemaphore")
async def make_keyed(new, shortage):
    keyed = None
    with shortage:
        keyed = new()
    lock_works((new() if keyed is None else keyed)["a"])


@operation("KeyedLock", "KeyedSemaphore")
async def look_up(new, shortage):
    """So many keys that the table grows, and then shrinks."""
    keyed = new()
    for key in range(20):
        if key != 5:
            keyed[key].try_acquire()
    lock = None
    with shortage:
        lock = keyed[5]
    assert (lock is None) is shortage.failed
    assert len(keyed) == 19
    with shortage:
        for key in keyed:
            keyed[key].release()
    for key in list(keyed):
        keyed[key].release()
    assert len(keyed) == 0
    lock_works(keyed[5])


@operation("KeyedLock", "KeyedSemaphore")
async def enter_and_leave_by_key(new, shortage):
    keyed = new()
    with shortage:
        async with keyed["a"]:
            pass
    assert len(keyed) == 0
    lock_works(keyed["a"])


@operation("KeyedLock", "KeyedSemaphore")
async def look_at_keys(new, shortage):
    keyed = new()
    keyed["a"].try_acquire()
    with shortage:
        repr(keyed)
    with shortage:
        repr(keyed["a"])
    with shortage:
        "a" in keyed, len(keyed)
    with shortage:
        copy.copy(new())
    keyed["a"].release()
    lock_works(keyed["a"])


# ---- Primitives that are acquired and released ----

OF_KEYS = ("KeyLock", "KeySemaphore")
RECORDED = ("RecordedLock", "RecordedSemaphore")  # by aiofastlock.watch
LOCKS = (
    *("Lock", "Semaphore", "BoundedSemaphore", "Condition", "Overridden", "WriterLock"),
    *OF_KEYS,
    *RECORDED,
)


@operation("Condition")
async def make_with_a_lock_by_name(new, shortage):
    condition, lock = None, new()._lock
    with shortage:
        condition = type(new())(lock=lock)
    lock_works(new() if condition is None else condition)
    lock_works(lock)


@operation(*LOCKS)
async def make(new, shortage):
    lock = None
    with shortage:
        lock = new()
    lock_works(new() if lock is None else lock)
    lock_works(new())  # what is kept of the one that could not be made still works


@operation("Semaphore")
async def make_with_too_many_arguments(new, shortage):
    """So many that Python keeps no tuple of that size for later use."""
    with shortage:
        try:
            type(new())(*range(21))
        except TypeError:
            pass
    lock_works(new())


@operation(*LOCKS)
async def drop(new, shortage):
    lock = new()
    lock.attribute = lock.acquire
    with shortage:
        lock.attribute = None
    with shortage:
        del lock
    lock_works(new())


@operation(*RECORDED)
async def make_many(new, shortage):
    many = []
    with shortage:
        while len(many) < 150:
            many.append(new())
    for lock in many:
        lock_works(lock)


@operation("RecordedSemaphore")
async def take_many_permits(new, shortage):
    semaphore = type(new())(12)
    with shortage:
        for _ in range(12):
            semaphore.try_acquire()
    while semaphore._value < 12:
        semaphore.release()
    assert not any(hold.primitive is semaphore for hold in recorder.holds())


@operation(*RECORDED)
async def acquire_in_a_new_task(new, shortage):
    """A reference to the task is recorded."""

    async def work():
        with shortage:
            await lock.acquire()

    lock = new()
    await asyncio.create_task(work())
    assert lock.locked() is not shortage.failed
    if not shortage.failed:
        lock.release()
    lock_works(lock)


@operation(*RECORDED)
async def look_at_what_is_recorded(new, shortage):
    lock = held(new)
    with shortage:
        recorder.holds()
    with shortage:
        recorder.counters()
    assert [hold.primitive for hold in recorder.holds()] == [lock]
    lock.release()
    lock_works(lock)


@operation("Lock")
async def show_a_method(new, shortage):
    lock = new()
    with shortage:
        repr(type(lock).acquire)
    lock_works(lock)


@operation(*LOCKS)
async def show(new, shortage):
    lock = held(new)
    waiter = park(lock.acquire())
    with shortage:
        repr(lock)
    with shortage:
        lock.locked()
    with shortage:
        list(queue_of(lock))
    with shortage:
        lock.attribute = 1
    lock.release()
    lock_works(lock, [waiter])


@operation("Lock", "Semaphore", "BoundedSemaphore", "Condition")
async def duplicate(new, shortage):
    lock, other = new(), None
    with shortage:
        other = copy.copy(lock)
    if other is not None:
        lock_works(other)
    lock_works(lock)


async def take(new, shortage, method):
    lock = new()
    with shortage:
        await getattr(lock, method)()
    assert lock.locked() is not shortage.failed
    if not shortage.failed:
        lock.release()
    lock_works(lock)


@operation(*LOCKS)
async def acquire(new, shortage):
    await take(new, shortage, "acquire")


@operation(*LOCKS)
async def try_to_acquire(new, shortage):
    lock = new()
    with shortage:
        lock.try_acquire()
    assert lock.locked() is not shortage.failed
    if not shortage.failed:
        with shortage:
            lock.try_acquire()
        lock.release()
    lock_works(lock)


@operation(*LOCKS)
async def acquire_while_the_exception_that_ended_the_last_is_kept(new, shortage):
    awaitable = new().acquire()
    try:
        # As `await` does: code that calls send() gets another exception.
        next(awaitable.__await__() if type(awaitable) is types.CoroutineType else awaitable)
    except StopIteration as stop:
        _kept = stop
        await take(new, shortage, "acquire")


@operation("Lock")
async def acquire_in_a_new_thread(new, shortage):
    """In free-threaded builds, a thread keeps what it uses again, unless there is no memory."""
    if type(shortage) is not Shortage:  # test_completeness sees nothing of other threads
        return
    lock, ends = new(), []

    def work():
        waiter, notes = noted(lock.acquire())
        set_nomemory(shortage.first, shortage.last)  # what is kept is not in use yet
        try:
            waiter.send(None)
        except MemoryError:
            pass
        remove_mem_hooks()
        ends.append(lock.locked() is notes.done)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ends == [True]
    lock._locked = False
    lock_works(lock)
    shortage.failed = shortage.first < 10  # that is not reported: there is no error


@operation(*LOCKS)
async def enter(new, shortage):
    await take(new, shortage, "__aenter__")


@operation(*LOCKS)
async def leave(new, shortage):
    lock = held(new)
    with shortage:
        await lock.__aexit__(None, None, None)
    lock_works(lock)


@operation(*LOCKS)
async def enter_and_leave(new, shortage):
    lock = new()
    with shortage:
        async with lock:
            pass
    lock_works(lock)


@operation(*LOCKS)
async def begin_to_wait(new, shortage):
    lock, future = held(new), None
    waiter, notes = noted(lock.acquire())
    with shortage:
        future = waiter.send(None)
    lock.release()
    if not shortage.failed:
        assert future.done()
        waiter.send(None)
        assert notes.done
        lock.release()
    waiter.close()
    lock_works(lock)


@operation("Lock")
async def begin_to_wait_on_a_new_loop(new, shortage):
    """Its attributes have not been read yet, so that their dict does not exist."""
    lock = held(new)
    waiter, notes = noted(lock.acquire())
    running, loop = asyncio.get_running_loop(), asyncio.new_event_loop()
    try:
        with shortage:
            asyncio._set_running_loop(loop)
            waiter.send(None)
        lock.release()
        if not shortage.failed:
            waiter.send(None)
            assert notes.done
            lock.release()
        waiter.close()
        lock_works(lock)
    finally:
        asyncio._set_running_loop(running)
        loop.close()


@operation(*LOCKS)
async def end_to_wait(new, shortage):
    lock = held(new)
    waiter, notes = noted(lock.acquire())
    waiter.send(None)
    behind = park(lock.acquire())
    lock.release()
    with shortage:
        waiter.send(None)
    waiter.close()
    assert is_held(lock, [behind]) is notes.done
    if notes.done:
        lock.release()
    lock_works(lock, [behind])


@operation(*LOCKS)
async def come_after_a_cancelled_one(new, shortage):
    lock = held(new)
    cancelled = park(lock.acquire())
    cancelled[1].cancel()
    lock.release()
    waiter, notes = noted(lock.acquire())
    with shortage:
        waiter.send(None)
    waiter.close()
    assert is_held(lock, [cancelled]) is notes.done
    if notes.done:
        lock.release()
    lock_works(lock, [cancelled])


@operation(*LOCKS)
async def release(new, shortage):
    lock = held(new)
    waiters = [park(lock.acquire()), park(lock.acquire())]
    with shortage:
        lock.release()
    assert not waiters[1][1].done()
    if is_held(lock, waiters):
        lock.release()
    lock_works(lock, waiters)


@operation(*LOCKS)
async def release_past_a_cancelled_one(new, shortage):
    lock = held(new)
    waiters = [park(lock.acquire()), park(lock.acquire())]
    waiters[0][1].cancel()
    with shortage:
        lock.release()
    if is_held(lock, waiters):
        lock.release()
    lock_works(lock, waiters)


async def use(lock):
    async with lock:
        await asyncio.sleep(0)


async def end_tasks(*tasks):
    """Let tasks run; return how many of them did not end."""
    for _ in range(12):
        await asyncio.sleep(0)
    hang = [task for task in tasks if not task.done()]
    for task in hang:
        task.cancel()
    await asyncio.wait(tasks, timeout=0.01)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()
    return len(hang)


async def park_tasks(lock):
    tasks = [asyncio.create_task(use(lock)) for _ in range(2)]
    await asyncio.sleep(0)
    return tasks


@operation(*LOCKS)
async def release_to_a_task(new, shortage):
    lock = held(new)
    tasks = await park_tasks(lock)
    with shortage:
        lock.release()
    if is_held(lock, [(None, task._fut_waiter) for task in tasks]):
        lock.release()
    tasks.append(asyncio.create_task(use(lock)))
    assert not await end_tasks(*tasks), "tasks wait for ever"
    lock_works(lock)


@operation(*LOCKS)
async def run_the_wake_up(new, shortage):
    """What the loop calls to resume a woken task. It may fail, but must report it."""
    lock = held(new)
    tasks, reports = await park_tasks(lock), []
    loop = asyncio.get_running_loop()
    lock.release()
    handle = loop._ready.pop()
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    current = asyncio.current_task()
    asyncio.tasks._leave_task(loop, current)
    with shortage:
        handle._run()
    asyncio.tasks._enter_task(loop, current)
    loop.set_exception_handler(None)
    if not shortage.failed and not reports:
        await end_tasks(tasks[0])
        assert tasks[0].done()
        if tasks[0].exception() is None:
            assert not await end_tasks(*tasks)
            lock_works(lock)
    await end_tasks(*tasks)


def leaving(how, when):
    async def leave(new, shortage):
        lock = held(new)
        waiter = park(lock.acquire())
        behind = park(lock.acquire())
        if when == "woken":
            lock.release()
        error = asyncio.CancelledError()
        with shortage:
            if how == "close":
                waiter[0].close()
            elif how == "drop":
                waiter = None
            else:
                try:
                    waiter[0].throw(error)
                except asyncio.CancelledError:
                    pass
        error = waiter = None
        if when == "parked":
            lock.release()
        lock_works(lock, [behind])

    leave.__name__ = f"{how}_{when}"
    return operation(*LOCKS)(leave)


for how, when in itertools.product(("close", "throw", "drop"), ("parked", "woken")):
    leaving(how, when)


# ---- Readers and writers ----


def rwlock_works(lock, readers=(), writers=()):
    """The waiters end: the readers if a writer is not inside with them, and then the writers."""
    for reader, future in readers:
        assert future.done(), "a reader waits for ever"
        assert ended(reader)
        lock.reader_lock.release()
    assert not lock.reader_lock.locked(), "no task reads, and it is held"
    lock_works(lock.writer_lock, writers)
    assert lock.reader_lock.try_acquire()
    assert lock.reader_lock.try_acquire()
    lock.reader_lock.release()
    lock.reader_lock.release()
    lock_works(lock.writer_lock)


@operation("RWLock")
async def make_an_rwlock(new, shortage):
    lock = None
    with shortage:
        lock = new()
    rwlock_works(new() if lock is None else lock)


@operation("RWLock")
async def show_and_copy_an_rwlock(new, shortage):
    lock, other = new(), None
    with shortage:
        repr(lock), repr(lock.reader_lock), repr(lock.writer_lock)
    with shortage:
        other = copy.copy(lock)
    rwlock_works(lock)
    if other is not None:
        rwlock_works(other)


@operation("RWLock")
async def read(new, shortage):
    lock = new()
    with shortage:
        async with lock.reader_lock:
            pass
    rwlock_works(lock)


@operation("RWLock")
async def leave_readers(new, shortage):
    lock = new()
    assert ended(lock.reader_lock.acquire())
    with shortage:
        await lock.reader_lock.__aexit__(None, None, None)
    rwlock_works(lock)


@operation("RWLock")
async def try_both(new, shortage):
    lock = new()
    with shortage:
        if lock.reader_lock.try_acquire() and not lock.writer_lock.try_acquire():
            lock.reader_lock.release()
    with shortage:
        lock.reader_lock.locked()
    with shortage:
        if lock.writer_lock.try_acquire() and not lock.reader_lock.try_acquire():
            lock.writer_lock.release()
    for side in (lock.reader_lock, lock.writer_lock):
        if side.locked():
            side.release()
    rwlock_works(lock)


@operation("RWLock")
async def let_readers_in(new, shortage):
    lock = new()
    assert ended(lock.writer_lock.acquire())
    readers = [park(lock.reader_lock.acquire()) for _ in range(3)]
    writers = [park(lock.writer_lock.acquire())]
    for _, future in (*readers, *writers):
        future.add_done_callback(bool)
    with shortage:
        lock.writer_lock.release()
    assert not lock.writer_lock.locked()
    assert not writers[0][1].done()
    newcomer = park(lock.reader_lock.acquire())  # it wakes those that were forgotten
    for reader, future in readers:
        assert future.done(), "a reader waits for ever"
        assert ended(reader)
        lock.reader_lock.release()
    assert ended(writers[0][0])
    lock.writer_lock.release()
    rwlock_works(lock, [newcomer])


@operation("RWLock")
async def end_to_read(new, shortage):
    lock = new()
    assert ended(lock.writer_lock.acquire())
    reader, notes = noted(lock.reader_lock.acquire())
    reader.send(None)
    writer = park(lock.writer_lock.acquire())
    lock.writer_lock.release()
    with shortage:
        reader.send(None)
    reader.close()
    assert lock.reader_lock.locked() is notes.done
    if notes.done:
        lock.reader_lock.release()
    rwlock_works(lock, writers=[writer])


@operation("RWLock")
async def cancel_a_writer_before_readers(new, shortage):
    lock = new()
    assert ended(lock.reader_lock.acquire())
    writer = park(lock.writer_lock.acquire())
    readers = [park(lock.reader_lock.acquire()) for _ in range(2)]
    with shortage:
        try:
            writer[0].throw(asyncio.CancelledError)
        except asyncio.CancelledError:
            pass
    writer[0].close()
    lock.reader_lock.release()
    rwlock_works(lock, readers)


# ---- Event ----


def event_works(event):
    event.clear()
    waiters = [park(event.wait()) for _ in range(2)]
    event.set()
    assert all(future.done() for _, future in waiters)
    assert all(ended(waiter) for waiter, _ in waiters)
    assert ended(event.wait())
    assert not event._waiters


@operation("Event")
async def set_with_a_new_block_of_handles(new, shortage):
    """More handles than a block of the loop's deque holds, which keeps no spare block."""
    event = new()
    waiters = [park(event.wait()) for _ in range(70)]
    for _, future in waiters:
        future.add_done_callback(bool)
    loop = asyncio.get_running_loop()
    loop._ready = collections.deque(loop._ready)
    with shortage:
        event.set()
    event.set()
    assert all(future.done() for _, future in waiters), "some wait for ever"
    assert all(ended(waiter) for waiter, _ in waiters)


@operation("Event")
async def make_an_event(new, shortage):
    event = None
    with shortage:
        event = new()
    event_works(event or new())
    event_works(new())


@operation("Event")
async def wait_for_an_event(new, shortage):
    event = new()
    event.set()
    with shortage:
        await event.wait()
    event_works(event)


@operation("Event")
async def park_at_an_event(new, shortage):
    event = new()
    waiter, _ = noted(event.wait())
    with shortage:
        waiter.send(None)
    assert bool(event._waiters) is not shortage.failed
    waiter.close()
    event_works(event)


@operation("Event")
async def set_an_event(new, shortage):
    event = new()
    waiters = [park(event.wait()) for _ in range(3)]
    waiters[1][1].cancel()
    with shortage:
        event.set()
    event.set()
    assert all(future.done() for _, future in waiters), "some wait for ever"
    assert all(ended(waiter) for waiter, _ in waiters)
    event_works(event)


@operation("Event")
async def set_an_event_on_a_new_loop(new, shortage):
    """So many wait that the loop's queue, which is still short, must grow."""
    event, loop = new(), asyncio.new_event_loop()
    futures = [asyncio.Future(loop=loop) for _ in range(40)]
    for future in futures:
        future.add_done_callback(bool)
        event._waiters.append(future)
    with shortage:
        event.set()
    event.set()
    assert all(future.done() for future in futures), "some wait for ever"
    loop.close()


@operation("Event")
async def set_an_event_for_tasks(new, shortage):
    event = new()
    tasks = [asyncio.create_task(event.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    with shortage:
        event.set()
    event.set()
    assert not await end_tasks(*tasks), "tasks wait for ever"
    event_works(event)


@operation("Event")
async def the_rest_of_an_event(new, shortage):
    event = new()
    waiters = [park(event.wait()) for _ in range(3)]
    with shortage:
        repr(event)
    with shortage:
        event.is_set()
    with shortage:
        event._waiters[0]
    with shortage:
        waiters[0][0].close()
    waiters.pop(0)[0].close()
    dropped = waiters.pop()
    with shortage:
        dropped = None  # noqa: F841
    with shortage:
        event.clear()
    event.set()
    assert all(ended(waiter) for waiter, _ in waiters)
    event_works(event)


# ---- Condition ----


def notify(condition, number):
    condition._lock._locked = True
    condition.notify(number)
    condition.release()


def condition_works(condition, waiting=()):
    waiting = list(waiting)
    for _ in range(2):
        assert ended(condition.acquire())
        waiting.append(park(condition.wait()))
    notify(condition, len(waiting))
    assert all(future.done() for _, future in waiting), "some wait for ever"
    for waiter, _ in waiting:
        assert ended(waiter)
        condition.release()
    assert not condition._waiters
    lock_works(condition)


def waiting_on(condition, number):
    waiters = []
    for _ in range(number):
        assert ended(condition.acquire())
        waiters.append(park(condition.wait()))
    return waiters


@operation("Condition")
async def begin_to_wait_for_a_notification(new, shortage):
    condition, future = held(new), None
    waiting, _ = noted(condition.wait())
    with shortage:
        future = waiting.send(None)
    assert condition.locked() is shortage.failed
    assert bool(condition._waiters) is not shortage.failed
    if condition.locked():
        condition.release()
        condition_works(condition)
    else:
        condition_works(condition, [(waiting, future)])


@operation("Condition")
async def begin_to_wait_for_a_predicate(new, shortage):
    condition, future = held(new), None
    waiting, _ = noted(condition.wait_for(iter([False, True]).__next__))
    with shortage:
        future = waiting.send(None)
    assert condition.locked() is shortage.failed
    if condition.locked():
        condition.release()
        condition_works(condition)
    else:
        condition_works(condition, [(waiting, future)])


@operation("Condition")
async def begin_to_wait_for_a_notification_and_wake_another(new, shortage):
    condition, future = held(new), None
    behind = park(condition.acquire())
    waiting, _ = noted(condition.wait())
    with shortage:
        future = waiting.send(None)
    if condition.locked():
        condition.release()
    lock_works(condition, [behind])
    assert bool(condition._waiters) is not shortage.failed
    condition_works(condition, [] if shortage.failed else [(waiting, future)])


@operation("Condition")
async def notify_some(new, shortage):
    condition = new()
    waiters = waiting_on(condition, 4)
    waiters[0][1].cancel()
    assert ended(condition.acquire())
    with shortage:
        condition.notify(2)
    condition.release()
    notify(condition, 4)
    assert all(future.done() for _, future in waiters)
    for waiter, _ in waiters:
        assert ended(waiter)
        if condition.locked():
            condition.release()
    condition_works(condition)


@operation("Condition")
async def notify_tasks(new, shortage):
    condition = new()

    async def wait():
        async with condition:
            await condition.wait()

    tasks = [asyncio.create_task(wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert ended(condition.acquire())
    with shortage:
        condition.notify_all()
    condition.notify_all()
    condition.release()
    assert not await end_tasks(*tasks), "tasks wait for ever"
    condition_works(condition)


def notified(how, lock):
    """A notified waiter goes on, or is ended: then another one is notified."""

    async def go_on(new, shortage):
        condition = held(new)
        waiter, notes = condition.wait(), None
        if how == "resume":
            waiter, notes = noted(waiter)
        waiter.send(None)
        others = waiting_on(condition, 1)
        assert ended(condition.acquire())
        condition.notify(1)
        if lock == "free":
            condition.release()
        error = asyncio.CancelledError()
        with shortage:
            if how == "resume":
                waiter.send(None)
            elif how == "close":
                try:
                    waiter.close()
                except RuntimeError:  # it ignored the GeneratorExit: the lock is taken
                    pass
            elif how == "drop":
                waiter = None
            else:
                try:
                    waiter.throw(error)
                except asyncio.CancelledError:
                    pass
        if lock == "free":
            if how == "resume":
                assert condition.locked() is notes.done
            if condition.locked():
                condition.release()
        else:
            assert condition.locked()
            condition.release()
        with contextlib.suppress(RuntimeError):
            if waiter is not None:
                waiter.close()
        error = waiter = None
        if condition.locked():
            condition.release()
        if others[0][1].done():
            assert ended(others[0][0])
            condition.release()
            others = []
        condition_works(condition, others)

    go_on.__name__ = f"{how}_notified_with_the_lock_{lock}"
    return operation("Condition")(go_on)


for how, when in itertools.product(("resume", "close", "throw", "drop"), ("free", "held")):
    notified(how, when)


# ---- Barrier ----


def barrier_works(barrier, waiting=()):
    """Three parties go on: the waiters and the newcomers."""
    waiting = list(waiting)
    while len(waiting) < 2:
        waiting.append(park(barrier.wait()))
    assert ended(barrier.wait()), "it does not trip"
    assert all(future.done() for _, future in waiting), "some wait for ever"
    assert all(ended(waiter) for waiter, _ in waiting)
    assert (barrier.n_waiting, barrier.broken) == (0, False)
    assert not getattr(barrier, "_cond", barrier)._waiters  # asyncio's has a _cond


@operation("Barrier")
async def make_a_barrier(new, shortage):
    barrier = None
    with shortage:
        barrier = new()
    barrier_works(barrier or new())


@operation("Barrier")
async def wait_at_a_barrier(new, shortage):
    barrier, future = new(), None
    waiting, _ = noted(barrier.wait())
    with shortage:
        future = waiting.send(None)
    barrier_works(barrier, [] if shortage.failed else [(waiting, future)])


@operation("Barrier")
async def trip_a_barrier(new, shortage):
    barrier = new()
    waiters = [park(barrier.wait()) for _ in range(2)]
    for _, future in waiters:
        future.add_done_callback(bool)
    waiting, notes = noted(barrier.wait())
    with shortage:
        waiting.send(None)
    if not notes.done:
        # Those that were woken already have gone on, and the others wait for the next party.
        assert all(ended(waiter) for waiter, future in waiters if future.done())
        await asyncio.sleep(0)
        barrier_works(barrier, [waiter for waiter in waiters if not waiter[1].done()])
    else:
        assert all(ended(waiter) for waiter, _ in waiters)
        barrier_works(barrier)
    waiting.close()


@operation("Barrier")
async def enter_and_leave_a_barrier(new, shortage):
    barrier = new()
    waiters = [park(barrier.wait()) for _ in range(2)]
    for _, future in waiters:
        future.add_done_callback(bool)

    async def enter_and_leave():
        async with barrier:
            pass

    last = enter_and_leave()
    with shortage:
        try:
            last.send(None)
        except StopIteration:
            pass
    last.close()
    woken = [waiter for waiter, future in waiters if future.done()]
    assert shortage.failed or len(woken) == 2
    assert all(ended(waiter) for waiter in woken)
    await asyncio.sleep(0)
    barrier_works(barrier, [waiter for waiter in waiters if not waiter[1].done()])


@operation("Barrier")
async def leave_a_barrier(new, shortage):
    """The last to leave admits those that have come meanwhile."""
    barrier = new()
    last, other = (park(barrier.wait()) for _ in range(2))
    assert ended(barrier.wait())
    blocked = [park(barrier.wait()) for _ in range(3)]
    assert ended(other[0])
    with shortage:
        try:
            last[0].send(None)
        except StopIteration:
            pass
    for _ in range(3):
        await asyncio.sleep(0)
    if not blocked[0][1].done():
        assert ended(barrier.wait()), "it does not trip"
    assert all(future.done() for _, future in blocked[:2]), "some wait for ever"


@operation("Barrier")
async def reset_a_barrier(new, shortage):
    barrier = new()
    waiters = [park(barrier.wait()) for _ in range(2)]
    with shortage:
        await barrier.reset()
    if not waiters[0][1].done():
        await barrier.reset()
    assert all(future.done() for _, future in waiters), "some wait for ever"
    assert all(ended(waiter) for waiter, _ in waiters)
    barrier_works(barrier)


@operation("Barrier")
async def abort_a_barrier(new, shortage):
    barrier = new()
    waiters = [park(barrier.wait()) for _ in range(2)]
    with shortage:
        await barrier.abort()
    await barrier.abort()
    assert all(future.done() for _, future in waiters), "some wait for ever"
    assert all(ended(waiter) for waiter, _ in waiters)
    assert ended(barrier.wait())
    await barrier.reset()
    barrier_works(barrier)


@operation("Barrier")
async def the_rest_of_a_barrier(new, shortage):
    barrier = new()
    waiters = [park(barrier.wait()) for _ in range(2)]
    with shortage:
        repr(barrier)
    with shortage:
        barrier.parties, barrier.n_waiting, barrier.broken  # noqa: B018
    with shortage:
        waiters[0][0].close()
    waiters[0][0].close()
    dropped = waiters.pop()
    with shortage:
        dropped = None  # noqa: F841
    barrier_works(barrier)


# ---- The command ----


# ---- Queues ----

OF_ITEMS = ("Queue", "LifoQueue", "PriorityQueue")


def pass_items(queue, waiting=()):
    """End those that wait to put or to get, and return the items that came out."""
    items = []
    waiting = list(waiting)
    for _ in range(3 * len(waiting) + 3):
        for pair in list(waiting):
            if pair[1].done():
                waiting.remove(pair)
                try:
                    waiting.append((pair[0], pair[0].send(None)))  # it must wait once more
                except StopIteration as stop:
                    items.append(stop.value)
                except asyncio.CancelledError:
                    pass
        if queue._putters and not queue.full():
            queue._wakeup_next(
                queue._putters
            )  # a wake-up that failed: the next one makes up for it
        if any(pair[1] in queue._putters for pair in waiting) and queue.full():
            items.append(queue.get_nowait())
        elif any(pair[1] in queue._getters for pair in waiting):
            queue.put_nowait(99)
    hang = len(waiting)
    for awaitable, _ in waiting:
        awaitable.close()
    assert not hang, "some wait for ever"
    while not queue.empty():
        items.append(queue.get_nowait())
    return sorted(item for item in items if item not in (None, 99))


def queue_works(queue):
    assert not queue._getters
    assert not queue._putters
    assert queue.empty()
    getter, putter = queue.get(), queue.put(1)
    future = getter.send(None)
    assert ended(putter)
    assert future.done()
    assert pass_items(queue, [(getter, future)]) == [1]
    for item in range(queue.maxsize):
        queue.put_nowait(item)
    assert queue.full()
    assert pass_items(queue, [park(queue.put(5))])[-1] == 5


def items_of(queue):
    return sorted(queue._queue)


@operation(*OF_ITEMS)
async def make_a_queue(new, shortage):
    queue = None
    with shortage:
        queue = new()
    queue_works(queue or new())
    queue_works(new())


@operation(*OF_ITEMS)
async def make_a_queue_with_a_size_by_name(new, shortage):
    queue, cls = None, type(new())
    with shortage:
        queue = cls(maxsize=2)
    queue_works(queue or new())


@operation(*OF_ITEMS)
async def put_without_a_wait(new, shortage):
    queue = new()
    with shortage:
        queue.put_nowait(1)
    assert items_of(queue) == ([] if shortage.failed else [1])
    assert pass_items(queue) == ([] if shortage.failed else [1])
    queue_works(queue)


@operation(*OF_ITEMS)
async def get_without_a_wait(new, shortage):
    queue, item = new(), None
    queue.put_nowait(1)
    with shortage:
        item = queue.get_nowait()
    assert [item] == [1] if not shortage.failed else pass_items(queue) == [1]
    queue_works(queue)


@operation(*OF_ITEMS)
async def refuse_without_a_wait(new, shortage):
    queue = new()
    with shortage:
        try:
            queue.get_nowait()
        except asyncio.QueueEmpty:
            pass
    queue.put_nowait(1)
    queue.put_nowait(2)
    shortage.failed = False
    with shortage:
        try:
            queue.put_nowait(3)
        except asyncio.QueueFull:
            pass
    assert pass_items(queue) == [1, 2]
    queue_works(queue)


@operation(*OF_ITEMS)
async def await_put(new, shortage):
    queue = new()
    with shortage:
        await queue.put(1)
    assert pass_items(queue) == ([] if shortage.failed else [1])
    queue_works(queue)


@operation(*OF_ITEMS)
async def await_get(new, shortage):
    queue, item = new(), None
    queue.put_nowait(1)
    with shortage:
        item = await queue.get()
    assert item == 1 if not shortage.failed else pass_items(queue) == [1]
    queue_works(queue)


@operation(*OF_ITEMS)
async def begin_to_get(new, shortage):
    queue, waiting = new(), []
    getter, notes = noted(queue.get())
    with shortage:
        getter.send(None)
    assert bool(queue._getters) is not shortage.failed
    queue.put_nowait(1)
    if not shortage.failed:
        getter.send(None)
        assert notes.done
    getter.close()
    assert pass_items(queue, waiting) == ([1] if shortage.failed else [])
    queue_works(queue)


@operation(*OF_ITEMS)
async def begin_to_put(new, shortage):
    queue = new()
    queue.put_nowait(1)
    queue.put_nowait(2)
    putter, notes = noted(queue.put(3))
    with shortage:
        putter.send(None)
    assert bool(queue._putters) is not shortage.failed
    queue.get_nowait()
    if not shortage.failed:
        putter.send(None)
        assert notes.done
    putter.close()
    assert len(pass_items(queue)) == 2 - shortage.failed
    queue_works(queue)


@operation(*OF_ITEMS)
async def wake_a_getter(new, shortage):
    queue = new()
    waiting = [park(queue.get()) for _ in range(3)]
    for _, future in waiting:
        future.add_done_callback(bool)
    waiting[0][1].cancel()
    with shortage:
        queue.put_nowait(1)
    there = items_of(queue) == [1]
    assert there or shortage.failed
    assert pass_items(queue, waiting) == [1] * there
    queue_works(queue)


@operation(*OF_ITEMS)
async def wake_a_putter(new, shortage):
    queue, items = new(), []
    queue.put_nowait(1)
    queue.put_nowait(2)
    waiting = [park(queue.put(3 + number)) for number in range(3)]
    for _, future in waiting:
        future.add_done_callback(bool)
    waiting[0][1].cancel()
    with shortage:
        items.append(queue.get_nowait())
    # As in asyncio, an item is lost with a wake-up that fails.
    assert len(pass_items(queue, waiting)) + len(items) in ((4, 3) if shortage.failed else (4,))
    queue_works(queue)


@operation(*OF_ITEMS)
async def end_to_get(new, shortage):
    queue = new()
    getter, notes = noted(queue.get())
    getter.send(None)
    queue.put_nowait(1)
    with shortage:
        getter.send(None)
    getter.close()
    assert pass_items(queue) == ([] if notes.done else [1])
    queue_works(queue)


@operation(*OF_ITEMS)
async def cancel_a_getter_that_was_woken(new, shortage):
    queue = new()
    waiting = [park(queue.get()) for _ in range(2)]
    queue.put_nowait(1)
    with shortage:
        try:
            waiting[0][0].throw(asyncio.CancelledError)
        except asyncio.CancelledError:
            pass
    del waiting[0]
    assert pass_items(queue, waiting) == [1]
    queue_works(queue)


@operation(*OF_ITEMS)
async def drop_a_getter(new, shortage):
    queue = new()
    getter = queue.get()
    getter.send(None)
    with shortage:
        del getter
    queue_works(queue)


@operation(*OF_ITEMS)
async def look_at_getters_of_which_some_have_left(new, shortage):
    queue = new()
    waiting = [park(queue.get()) for _ in range(7)]
    for number in (4, 2):
        with shortage:
            waiting[number][0].close()
        waiting.pop(number)[0].close()
    with shortage:
        repr(queue)
    assert [*queue._getters] == [future for _, future in waiting]
    queue.put_nowait(1)
    assert pass_items(queue, waiting) == [1]
    queue_works(queue)


@operation(*OF_ITEMS)
async def join_a_queue(new, shortage):
    queue = new()
    queue.put_nowait(1)
    joiner, _ = noted(queue.join())
    with shortage:
        joiner.send(None)
    with shortage:
        queue.task_done()
    queue._finished.set()
    joiner.close()
    queue.get_nowait()
    assert queue._unfinished_tasks in (0, 1)
    queue_works(queue)


@operation(*OF_ITEMS)
async def shut_a_queue_down(new, shortage):
    queue = new()
    waiting = [park(queue.get()) for _ in range(2)]
    for _, future in waiting:
        future.add_done_callback(bool)
    with shortage:
        queue.shutdown()
    queue.shutdown()
    assert all(future.done() for _, future in waiting), "some wait for ever"
    for getter, _ in waiting:
        with pytest.raises(QueueShutDown):
            getter.send(None)


@operation(*OF_ITEMS)
async def show_a_queue(new, shortage):
    queue = new()
    waiting = [park(queue.get())]
    with shortage:
        repr(queue)
    with shortage:
        list(queue._getters)
    with shortage:
        assert (queue.qsize(), queue.maxsize, queue.empty(), queue.full()) == (0, 2, True, False)
    with shortage:
        queue._finished.is_set()
    with shortage:
        queue.attribute = 1
    queue.put_nowait(1)
    assert pass_items(queue, waiting) == [1]
    queue_works(queue)


def makers(namespace):
    class Overridden(namespace.Lock):
        async def acquire(self):
            return await super().acquire()

        def release(self):
            super().release()

    own = {}
    if namespace is not asyncio:
        own = {
            "RecordedLock": namespace.Lock,
            "RecordedSemaphore": lambda: namespace.Semaphore(1),
            "RWLock": namespace.RWLock,
            "WriterLock": lambda: namespace.RWLock().writer_lock,
            "KeyedLock": namespace.KeyedLock,
            "KeyedSemaphore": lambda: namespace.KeyedSemaphore(1),
            "KeyLock": lambda: namespace.KeyedLock()["key"],
            "KeySemaphore": lambda: namespace.KeyedSemaphore(1)["key"],
        }
    return own | {
        "Lock": namespace.Lock,
        "Semaphore": lambda: namespace.Semaphore(1),
        "BoundedSemaphore": namespace.BoundedSemaphore,
        "Condition": namespace.Condition,
        "Overridden": Overridden,
        "Event": namespace.Event,
        "Barrier": lambda: namespace.Barrier(3),
        "Queue": lambda: namespace.Queue(2),
        "LifoQueue": lambda: namespace.LifoQueue(2),
        "PriorityQueue": lambda: namespace.PriorityQueue(2),
    }


async def starve(namespace, function, new, failing, recorded):
    """Return what goes wrong in an operation, and at which of its allocations."""
    wrong, successes, count = collections.defaultdict(list), 0, 0
    while successes < ENOUGH:
        await asyncio.sleep(0)
        shortage = Shortage(namespace, count, count + failing)
        if recorded:
            recorder.start(lambda primitive: None)
        try:
            # asyncio's locks may stay locked for ever after a MemoryError.
            async with asyncio.timeout(1 if namespace is asyncio else None):
                await function(new, shortage)
        except BaseException as error:
            wrong[f"{type(error).__name__}: {error}"].append(count)
        if recorded:
            recorder.stop()
        successes = 0 if shortage.failed else successes + 1
        count += 1
    return wrong


async def starve_all(name, only):
    namespace = IMPLEMENTATIONS[name]
    kinds = makers(namespace)
    chosen = {
        (kind, name): found
        for (kind, name), found in OPERATIONS.items()
        if kind in kinds and (not only or name in only)
        # asyncio has none
        if name != "try_to_acquire" or hasattr(kinds[kind](), "try_acquire")
    }
    for (kind, operation), function in chosen.items():
        for failing in (1, 20):
            os.write(2, f"{kind} {operation}\n".encode())  # if it crashes, this says where
            wrong = await starve(
                namespace, function, kinds[kind], failing, recorded=kind in RECORDED
            )
            for error, counts in wrong.items():
                print(kind, operation, failing, counts, error, flush=True)
    print(f"{len(chosen)} operations", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("implementation", choices=IMPLEMENTATIONS)
    parser.add_argument("operations", nargs="*", metavar="OPERATION")
    options = parser.parse_args()
    known = {name for _, name in OPERATIONS}
    if unknown := {*options.operations} - known:
        parser.error(f"no operation {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    faulthandler.enable()
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda report: None
    gc.disable()  # or it could run in the middle of an operation
    with asyncio.Runner() as runner:
        runner.run(starve_all(options.implementation, options.operations))
        sys.stdout.flush()
        os._exit(0)  # with asyncio's locks, some tasks can't even be cancelled


# ---- The tests ----

# What still goes wrong in the compiled implementation.
KNOWN = {
    # No awaitable can be made that would call release(), which is written in Python.
    "Overridden leave",
    "Overridden enter_and_leave",
    # The permit is there, but a waiter gets it only after the next release(), as in asyncio.
    "Semaphore release_to_a_task",
    "BoundedSemaphore release_to_a_task",
    "KeySemaphore release_to_a_task",
    "RecordedSemaphore release_to_a_task",
}


# Free-threaded Python 3.13 crashes in copy.copy() and others. These have code of their own there.
FREE_THREADED_3_13 = ["acquire_in_a_new_thread", "await_get"]


@needs_compiled
def test_a_memory_error_and_a_lock_that_still_works():
    pytest.importorskip("_testcapi")
    only = FREE_THREADED_3_13 if FREE_THREADED and sys.version_info < (3, 14) else []
    # Debug mode keeps tracebacks, and a debug build of Python crashes there without memory.
    switches = {"AIOFASTLOCK_EXTENSIONS": "1", "PYTHONASYNCIODEBUG": "", "PYTHONDEVMODE": ""}
    ran = subprocess.run(
        [sys.executable, __file__, "compiled", *only],
        env={**os.environ, **switches},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    wrong = [line.split() for line in ran.stdout.splitlines()]
    # Coroutines of Python 3.12 and 3.13 raise it; the methods of the subclass are such coroutines.
    assert all(words[0] == "Overridden" for words in wrong if "SystemError:" in words), ran.stdout
    assert {" ".join(words[:2]) for words in wrong if "SystemError:" not in words} == (
        set() if only else KNOWN
    ), ran.stdout


if __name__ == "__main__":
    from _testcapi import remove_mem_hooks, set_nomemory

    main()
