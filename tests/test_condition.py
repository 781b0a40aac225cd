"""What Condition does, in asyncio and in both implementations."""

import asyncio
import copy
import math
import random
import sys
from unittest import mock

import pytest
from conftest import IMPLEMENTATIONS, needs_refcounts
from helpers import ROUND_TRIPS, end, finish, park_on, queue_up, result, steps


async def parked(condition):
    """Return a wait() driven by hand, and the future that it waits on."""
    await condition.acquire()
    coroutine = condition.wait()
    return coroutine, coroutine.send(None)


async def taking_back(condition):
    """Return a wait() driven by hand that was notified, and now waits for the lock."""
    coroutine, _ = await parked(condition)
    await condition.acquire()
    condition.notify()
    coroutine.send(None)
    return coroutine


async def park_noting(condition, order, count):
    """Start tasks that wait for a notification, and then add their number to a list."""

    async def wait(number):
        async with condition:
            await condition.wait()
            order.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(count)]
    await asyncio.sleep(0)
    return tasks


async def works(condition):
    """Check that no task waits, that the lock is free, and that a notification arrives."""
    assert not condition._waiters
    assert not condition.locked()
    (task,) = await park_on(condition)
    async with condition:
        condition.notify()
    assert await result(task) is True
    assert not condition.locked()


# ---- The lock's methods ----


async def test_its_methods_are_the_locks(Condition, Lock):
    lock = Lock()
    for condition in (Condition(lock), Condition()):
        coroutine = condition.acquire()
        assert coroutine.__qualname__ == "Lock.acquire"
        assert await coroutine is True
        assert condition._lock.locked()
        assert condition._lock.release() is None
        assert not condition.locked()


async def test_without_an_argument_it_makes_a_lock(Condition, Lock):
    assert type(Condition()._lock) is Lock
    assert type(Condition(None)._lock) is Lock
    assert type(Condition(lock=None)._lock) is Lock
    assert Condition()._lock is not Condition()._lock


# ---- Waiting and notifying ----


async def test_wait_releases_the_lock_and_takes_it_back(Condition):
    condition = Condition()
    (task,) = await park_on(condition)
    assert not condition.locked()
    await condition.acquire()
    condition.notify()
    await steps()
    assert not task.done()
    condition.release()
    assert await task is True
    assert not condition.locked()


async def test_without_the_lock(Condition):
    condition = Condition()
    tasks = await park_on(condition, 2)
    with pytest.raises(RuntimeError, match="^cannot wait on un-acquired lock$"):
        await condition.wait()
    with pytest.raises(RuntimeError, match="^cannot wait on un-acquired lock$"):
        await condition.wait_for(lambda: False)
    with pytest.raises(RuntimeError, match="^cannot notify on un-acquired lock$"):
        condition.notify()
    with pytest.raises(RuntimeError, match="^cannot notify on un-acquired lock$"):
        condition.notify_all()
    assert len(condition._waiters) == 2
    assert not condition.locked()
    await steps()
    assert not any(task.done() for task in tasks)
    async with condition:
        condition.notify_all()
    await end(*tasks)


@pytest.mark.parametrize(
    ("n", "woken"),
    [(-1, 0), (0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (True, 1), (2.0, 2), (0.5, 1)]
    + [(n, 3) for n in (sys.maxsize, 2**100, math.inf)],
)
async def test_notify_wakes_n_in_order(Condition, n, woken):
    condition, order = Condition(), []
    tasks = await park_noting(condition, order, 3)
    async with condition:
        assert condition.notify(n) is None
    await steps()
    assert order == list(range(woken))
    assert len(condition._waiters) == 3 - woken
    async with condition:
        condition.notify(n=3)
    await end(*tasks)
    assert order == [0, 1, 2]


async def test_notify_wakes_one_by_default(Condition):
    condition, order = Condition(), []
    tasks = await park_noting(condition, order, 3)
    async with condition:
        condition.notify()
        condition.notify()  # the first task has been notified already
    await steps()
    assert order == [0, 1]
    async with condition:
        condition.notify()
    await end(*tasks)


async def test_notify_all(Condition):
    condition, order = Condition(), []
    tasks = await park_noting(condition, order, 20)
    async with condition:
        assert condition.notify_all() is None
        assert all(future.done() for future in condition._waiters)
    await end(*tasks)
    assert order == list(range(20))


async def test_a_notification_without_waiters_is_not_remembered(Condition):
    condition = Condition()
    async with condition:
        condition.notify()
        condition.notify_all()
    (task,) = await park_on(condition)
    await steps()
    assert not task.done()
    async with condition:
        condition.notify()
    assert await task


async def test_a_task_that_comes_after_notify_all_is_not_notified(Condition):
    condition = Condition()
    first, second = await park_on(condition, 2)
    async with condition:
        condition.notify_all()
    (late,) = await park_on(condition)
    await end(first, second)
    await steps()
    assert not late.done()
    late.cancel()
    await end(late)


async def test_a_task_that_waits_again_goes_to_the_end(Condition):
    condition, order = Condition(), []

    async def wait(name):
        async with condition:
            while True:
                await condition.wait()
                order.append(name)

    tasks = [asyncio.create_task(wait(name)) for name in range(3)]
    await asyncio.sleep(0)
    for _ in range(7):
        async with condition:
            condition.notify()
        await steps()
    assert order == [0, 1, 2, 0, 1, 2, 0]
    for task in tasks:
        task.cancel()
    await end(*tasks)


async def test_notified_tasks_wait_for_the_lock_in_its_queue(Condition):
    condition, order = Condition(), []

    async def wait(name):
        async with condition:
            await condition.wait()
            order.append(name)

    async def take(name):
        async with condition:
            order.append(name)

    tasks = [asyncio.create_task(wait("first")), asyncio.create_task(wait("second"))]
    await asyncio.sleep(0)
    await condition.acquire()
    tasks.append(asyncio.create_task(take("earlier")))
    await asyncio.sleep(0)
    condition.notify_all()
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(take("later")))
    await asyncio.sleep(0)
    condition.release()
    await take("newcomer")
    await end(*tasks)
    assert order == ["earlier", "first", "second", "later", "newcomer"]


async def test_a_newcomer_may_come_before_one_just_notified(Condition):
    condition = Condition()
    (task,) = await park_on(condition)
    await condition.acquire()
    condition.notify()
    condition.release()
    assert await condition.acquire()  # the notified task is not in the lock's queue yet
    await steps()
    assert not task.done()
    condition.release()
    assert await task


# ---- wait_for ----


async def test_wait_for_what_is_true_already(Condition):
    condition, value = Condition(), ["the value itself"]
    assert await condition.wait_for(lambda: value) is value  # the lock is not needed
    async with condition:
        assert await condition.wait_for(predicate=lambda: value) is value
        assert condition.locked()


async def test_wait_for_what_comes_true_later(Condition):
    condition, values, asked = Condition(), [0, "", None, [], "the value"], []

    def predicate():
        asked.append(condition.locked())
        return values[len(asked) - 1]

    async def wait():
        async with condition:
            return await condition.wait_for(predicate)

    task = asyncio.create_task(wait())
    for _ in range(4):
        await steps()
        assert not task.done()
        async with condition:
            condition.notify_all()
    assert await task is values[-1]
    assert asked == [True] * 5
    assert not condition.locked()


async def test_wait_for_a_predicate_that_raises(Condition):
    condition, asked = Condition(), []

    def predicate():
        asked.append(condition.locked())
        if len(asked) > 1:
            raise KeyError("predicate")

    async def wait():
        await condition.acquire()
        await condition.wait_for(predicate)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    (other,) = await park_on(condition)
    async with condition:
        condition.notify()
    await end(task)
    with pytest.raises(KeyError, match="predicate"):
        task.result()
    assert asked == [True, True]
    assert condition.locked()
    condition.release()
    await steps()
    assert not other.done()  # the notification was for the task that raised
    other.cancel()
    await end(other)


class NoTruth:
    def __bool__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize("predicate", [lambda: 1 / 0, NoTruth])
async def test_wait_for_a_predicate_that_raises_at_once(Condition, predicate):
    condition = Condition()
    with pytest.raises(ZeroDivisionError):
        await condition.wait_for(predicate)
    with pytest.raises(TypeError):
        await condition.wait_for(None)
    async with condition:
        with pytest.raises(ZeroDivisionError):
            await condition.wait_for(predicate)
        assert condition.locked()


# ---- Nothing happens at the call ----


async def test_nothing_is_released_before_the_await(Condition):
    condition = Condition()
    async with condition:
        awaitable = condition.wait()
        assert condition.locked()
        assert not condition._waiters
        awaitable.close()
        with pytest.raises(KeyError):
            condition.wait().throw(KeyError("unstarted"))
        assert condition.locked()


async def test_the_lock_is_looked_at_when_awaited(Condition):
    condition = Condition()
    awaitable = condition.wait()
    await condition.acquire()
    future = awaitable.send(None)
    assert list(condition._waiters) == [future]
    assert not condition.locked()
    awaitable.close()


async def test_the_predicate_is_called_when_awaited(Condition):
    predicate = mock.Mock(return_value=True)
    awaitable = Condition().wait_for(predicate)
    predicate.assert_not_called()
    await awaitable
    predicate.assert_called_once_with()


@needs_refcounts
async def test_dropped_without_being_awaited(Condition):
    condition = Condition()
    async with condition:
        with pytest.warns(RuntimeWarning, match="^coroutine 'Condition.wait' was never awaited$"):
            condition.wait()
        assert condition.locked()


# ---- Driven by hand ----


async def test_by_hand(Condition):
    condition = Condition()
    coroutine, future = await parked(condition)
    assert not condition.locked()
    await condition.acquire()
    condition.notify()
    assert list(condition._waiters) == [future]  # it leaves the queue when it runs
    second = coroutine.send("ignored")
    assert not condition._waiters
    assert list(condition._lock._waiters) == [second]
    assert second._asyncio_future_blocking is True
    condition.release()
    assert second.result() is True
    finish(coroutine)
    assert condition.locked()
    assert future.result() is False


async def test_by_hand_with_the_lock_free(Condition):
    condition = Condition()
    coroutine, _ = await parked(condition)
    async with condition:
        condition.notify()
    finish(coroutine)
    assert condition.locked()


async def test_without_the_lock_by_hand(Condition):
    condition = Condition()
    coroutine = condition.wait()
    with pytest.raises(RuntimeError, match="un-acquired"):
        coroutine.send(None)
    with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
        coroutine.send(None)


async def test_resumed_before_it_is_notified(Condition):
    condition = Condition()
    coroutine, _ = await parked(condition)
    await condition.acquire()
    coroutine.send(None)
    condition.release()
    with pytest.raises(RuntimeError, match="^await wasn't used with future$"):
        coroutine.send(None)
    assert condition.locked()
    assert not condition._waiters


async def test_resumed_before_it_can_have_the_lock(Condition):
    condition = Condition()
    coroutine = await taking_back(condition)
    with pytest.raises(RuntimeError, match="^await wasn't used with future$"):
        coroutine.send(None)
    assert not condition._lock._waiters
    condition.release()
    await works(condition)


# ---- Cancelled ----


async def test_cancelled_while_it_waits_and_another_has_the_lock(Condition):
    condition = Condition()
    (task,) = await park_on(condition)
    async with condition:
        task.cancel("message")
        await steps()
        assert not condition._waiters
        assert len(condition._lock._waiters) == 1
        assert not task.done()
    await end(task)
    with pytest.raises(asyncio.CancelledError, match="message"):
        task.result()
    await works(condition)


async def test_cancelled_before_the_notification(Condition):
    condition = Condition()
    cancelled, task, other = await park_on(condition, 3)
    async with condition:
        cancelled.cancel()
        condition.notify()  # this wakes the second task, since the first is cancelled
        assert [future.done() for future in condition._waiters] == [True, True, False]
    await end(cancelled, task)
    assert cancelled.cancelled()
    other.cancel()
    await end(other)


@pytest.mark.usefixtures("gh_112202")
@pytest.mark.parametrize("when", ["before", "at once", "taking back"])
async def test_a_cancelled_task_notifies_another(Condition, when):
    condition = Condition()
    cancelled, task, other = await park_on(condition, 3)
    async with condition:
        if when != "before":
            condition.notify()
        if when == "taking back":
            await steps()
        cancelled.cancel()
    await end(cancelled, task)
    assert cancelled.cancelled()
    assert task.result() is True  # "before": without a notification
    await steps()
    assert not other.done()
    other.cancel()
    await end(other)
    await works(condition)


@pytest.mark.usefixtures("gh_112202")
async def test_a_cancelled_task_notifies_one_that_is_not_notified_yet(Condition):
    condition = Condition()
    cancelled, notified, task = await park_on(condition, 3)
    async with condition:
        condition.notify(2)
        cancelled.cancel()
    await end(cancelled, notified, task)
    assert (notified.result(), task.result()) == (True, True)


@pytest.mark.usefixtures("gh_112202")
async def test_a_cancelled_task_may_notify_one_that_came_later(Condition):
    condition = Condition()
    (cancelled,) = await park_on(condition)
    await condition.acquire()
    condition.notify()
    await steps()
    coroutine = condition.wait()
    future = coroutine.send(None)
    cancelled.cancel()
    await end(cancelled)
    assert future.done()
    finish(coroutine)


@pytest.mark.usefixtures("gh_112202")
async def test_a_cancelled_task_does_not_call_an_overridden_notify(Condition):
    class Noting(Condition):
        def notify(self, n=1):
            noted.append(n)
            super().notify(n)

    noted, condition = [], Noting()
    cancelled, task = await park_on(condition, 2)
    async with condition:
        condition.notify()
        cancelled.cancel()
    await end(cancelled, task)
    assert noted == [1]


async def test_cancelled_when_the_lock_is_on_its_way(Condition):
    """The tasks behind it in the lock's queue get the lock first."""
    condition, order = Condition(), []

    async def wait():
        async with condition:
            try:
                await condition.wait()
            finally:
                order.append(("cancelled", condition.locked()))

    async def take():
        async with condition:
            order.append("behind")
            await asyncio.sleep(0)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await condition.acquire()
    condition.notify()
    await asyncio.sleep(0)
    taking = asyncio.create_task(take())
    await asyncio.sleep(0)
    condition.release()
    waiting.cancel()
    await end(waiting, taking)
    assert waiting.cancelled()
    assert order == ["behind", ("cancelled", True)]
    await works(condition)


async def test_a_cancelled_wait_without_other_waiters_does_not_use_the_loop(Condition):
    condition = Condition()

    async def wait():
        async with condition:
            await condition.wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    with mock.patch.object(asyncio.get_running_loop(), "is_closed") as is_closed:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not is_closed.called


# ---- Other exceptions, and close() ----


@pytest.mark.parametrize("error", [KeyError, GeneratorExit, asyncio.CancelledError])
async def test_throw_while_it_waits_and_another_has_the_lock(Condition, error):
    condition = Condition()
    coroutine, _ = await parked(condition)
    await condition.acquire()
    thrown = error("thrown")
    future = coroutine.throw(thrown)
    assert list(condition._lock._waiters) == [future]
    assert not condition._waiters
    condition.release()
    with pytest.raises(error) as raised:
        coroutine.send(None)
    assert raised.value is thrown
    assert condition.locked()
    condition.release()
    await works(condition)


@pytest.mark.parametrize("error", [KeyError, GeneratorExit])
@pytest.mark.parametrize("cancelled", [False, True])
async def test_throw_while_it_takes_the_lock_back(Condition, error, cancelled):
    """Only a CancelledError makes it try again."""
    condition = Condition()
    coroutine = await taking_back(condition)
    if cancelled:
        assert asyncio.isfuture(coroutine.throw(asyncio.CancelledError))
    thrown = error("thrown")
    with pytest.raises(error) as raised:
        coroutine.throw(thrown)
    assert raised.value is thrown
    assert not condition._lock._waiters
    condition.release()
    await works(condition)


async def test_throw_after_another_exception(Condition):
    condition = Condition()
    coroutine, _ = await parked(condition)
    await condition.acquire()
    first = KeyError("first")
    coroutine.throw(first)
    with pytest.raises(ValueError, match="second") as raised:
        coroutine.throw(ValueError("second"))
    condition.release()
    await works(condition)
    assert raised.value.__context__ is first


@pytest.mark.usefixtures("gh_111693")
async def test_a_cancellation_after_another_exception(Condition):
    condition = Condition()
    coroutine, _ = await parked(condition)
    await condition.acquire()
    coroutine.throw(KeyError("first"))
    cancellation = asyncio.CancelledError("second")
    coroutine.throw(cancellation)
    condition.release()
    with pytest.raises(asyncio.CancelledError) as raised:
        coroutine.send(None)
    assert raised.value is cancellation
    assert condition.locked()


@pytest.mark.parametrize("notified", [False, True])
async def test_close_with_the_lock_free(Condition, notified):
    """It ends at once, with the lock held, as wait() always does."""
    condition = Condition()
    coroutine, _ = await parked(condition)
    if notified:
        async with condition:
            condition.notify()
    assert coroutine.close() is None
    assert condition.locked()
    assert not condition._waiters
    condition.release()
    with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
        coroutine.send(None)
    await works(condition)


async def test_close_while_another_has_the_lock(Condition):
    condition = Condition()
    coroutine, _ = await parked(condition)
    await condition.acquire()
    with pytest.raises(RuntimeError, match="^coroutine ignored GeneratorExit$"):
        coroutine.close()
    assert not condition._waiters
    assert len(condition._lock._waiters) == 1  # it takes the lock back first
    condition.release()
    with pytest.raises(GeneratorExit):
        coroutine.send(None)
    assert condition.locked()
    condition.release()
    await works(condition)


async def test_closed_twice_while_another_has_the_lock(Condition):
    condition = Condition()
    coroutine, _ = await parked(condition)
    await condition.acquire()
    with pytest.raises(RuntimeError, match="^coroutine ignored GeneratorExit$"):
        coroutine.close()
    coroutine.close()
    assert not condition._lock._waiters
    condition.release()
    await works(condition)


@needs_refcounts
async def test_dropped_while_it_waits(Condition):
    condition = Condition()
    coroutine, future = await parked(condition)
    del coroutine
    assert not condition._waiters
    assert condition.locked()
    assert not future.done()
    condition.release()
    await works(condition)


# ---- Over another lock ----


class Plain:
    """Has only what a Condition needs of a lock, and is false."""

    def __init__(self):
        self.held = False

    def __bool__(self):
        return False

    def locked(self):
        return self.held

    async def acquire(self):
        while self.held:
            await asyncio.sleep(0)
        self.held = True
        return True

    def release(self):
        self.held = False


class Slow(Plain):
    """Its acquire() always pauses."""

    async def acquire(self):
        await asyncio.sleep(0)
        return await super().acquire()


class Awaitable(Plain):
    """Its acquire() returns an awaitable that is not a coroutine."""

    def acquire(self):
        return Acquisition(self)


class Acquisition:
    def __init__(self, lock):
        self.lock = lock

    def __await__(self):
        while self.lock.held:
            yield
        self.lock.held = True
        return True


def recording(cls):
    class Recording(cls):
        def __init__(self):
            super().__init__()
            self.calls = []

        async def acquire(self):
            self.calls.append("acquire")
            return await super().acquire()

        def release(self):
            self.calls.append("release")
            super().release()

    return Recording


LOCKS = {"plain": Plain, "slow": Slow, "awaitable": Awaitable, "plain's child": recording(Plain)}
KINDS = [f"{name}'s {kind}" for name in IMPLEMENTATIONS for kind in ("Lock", "child", "Semaphore")]


@pytest.fixture(params=[*LOCKS, *KINDS])
def lock(request):
    if request.param in LOCKS:
        return LOCKS[request.param]()
    name, _, kind = request.param.partition("'s ")
    found = IMPLEMENTATIONS[name]
    return recording(found.Lock)() if kind == "child" else getattr(found, kind)()


async def test_over_any_lock(Condition, lock):
    condition = Condition(lock)
    assert condition._lock is lock
    assert Condition(lock=lock)._lock is lock
    tasks = await park_on(condition, 3)
    await steps()
    assert len(condition._waiters) == 3
    assert not lock.locked()
    async with condition:
        assert lock.locked()
        condition.notify(2)
        await steps()
        assert not any(task.done() for task in tasks)
    await end(*tasks[:2])
    assert tasks[0].result() is tasks[1].result() is True
    assert not tasks[2].done()
    await lock.acquire()
    assert condition.locked()
    condition.notify()
    lock.release()
    await end(tasks[2])
    assert not lock.locked()


async def test_cancelled_over_any_lock(Condition, lock):
    condition = Condition(lock)
    waiting, notified = await park_on(condition, 2)
    await steps()
    async with condition:
        waiting.cancel()
        await steps()
        condition.notify()
        await steps()
        notified.cancel()
        await steps()
        assert not waiting.done()
        assert not notified.done()
    await end(waiting, notified)
    assert waiting.cancelled()
    assert notified.cancelled()
    assert not lock.locked()
    assert not condition._waiters


@pytest.mark.parametrize("cls", [Plain, *(found.Lock for found in IMPLEMENTATIONS.values())])
async def test_an_overridden_acquire_and_release_are_used(Condition, cls):
    lock = recording(cls)()
    condition = Condition(lock)
    (task,) = await park_on(condition)
    assert lock.calls == ["acquire", "release"]
    await condition.acquire()
    condition.notify()
    lock.calls.clear()
    await steps()
    assert lock.calls == ["acquire"]
    condition.release()
    await task
    assert lock.calls == ["acquire", "release", "release"]


async def test_two_conditions_over_one_lock(Condition, Lock):
    lock = Lock()
    full, empty = Condition(lock), Condition(lock)
    (filler,), (taker,) = await park_on(full), await park_on(empty)
    async with full:
        assert empty.locked()
        empty.notify()
    await end(taker)
    assert not filler.done()
    async with empty:
        full.notify_all()
    await end(filler)
    await works(full)
    await works(empty)


async def test_a_condition_as_the_lock_of_another(Condition):
    inner = Condition()
    outer = Condition(inner)
    (task,) = await park_on(outer)
    async with inner:
        assert outer.locked()
        outer.notify()
    assert await task
    await works(inner)
    await works(outer)


async def test_a_semaphore_as_the_lock(Condition, Semaphore):
    semaphore = Semaphore(2)
    condition = Condition(semaphore)
    async with condition:
        assert not condition.locked()  # there is another permit
        with pytest.raises(RuntimeError, match="^cannot wait on un-acquired lock$"):
            await condition.wait()
        with pytest.raises(RuntimeError, match="^cannot notify on un-acquired lock$"):
            condition.notify()
        await condition.acquire()
        coroutine = condition.wait()
        coroutine.send(None)
        assert semaphore._value == 1
        async with condition:
            condition.notify()
        finish(coroutine)
        assert semaphore._value == 0
        condition.release()
    assert semaphore._value == 2


async def test_a_lock_that_cannot_be_released(Condition):
    class Failing(Plain):
        def release(self):
            raise OSError("release")

    condition = Condition(Failing())
    await condition.acquire()
    with pytest.raises(OSError, match="release"):
        await condition.wait()
    assert not condition._waiters
    assert condition.locked()


@pytest.mark.usefixtures("gh_112202")
async def test_a_lock_that_cannot_be_taken_back(Condition):
    class Failing(Plain):
        failing = False

        async def acquire(self):
            if self.failing:
                raise OSError("acquire")
            return await super().acquire()

    lock = Failing()
    condition = Condition(lock)
    failing, task = await park_on(condition, 2)
    await condition.acquire()
    condition.notify()
    lock.failing = True
    await asyncio.sleep(0)  # now the other task is notified, and has not run yet
    lock.failing = False
    await steps()
    condition.release()
    await end(failing, task)
    with pytest.raises(OSError, match="acquire"):
        failing.result()
    assert task.result() is True


@pytest.mark.parametrize("missing", ["locked", "acquire", "release"])
def test_a_lock_that_lacks_a_method(Condition, missing):
    names = [name for name in ("locked", "acquire", "release") if name != missing]
    lock = type("Lacking", (), dict.fromkeys(names, print))()
    with pytest.raises(AttributeError, match=f"^'Lacking' object has no attribute '{missing}'"):
        Condition(lock)
    condition = Condition.__new__(Condition)
    with pytest.raises(AttributeError):
        condition.__init__(lock)
    assert missing not in vars(condition)
    condition.__init__(asyncio.Lock())
    assert vars(condition)[missing].__self__ is condition._lock


@pytest.mark.parametrize("found", [object(), 0, False, ""])
def test_an_argument_that_is_not_a_lock(Condition, found):
    text = f"^'{type(found).__name__}' object has no attribute 'locked'"
    with pytest.raises(AttributeError, match=text):
        Condition(found)


# ---- Loops ----


async def test_a_lock_bound_to_another_loop(Condition, Lock, other_loop):
    lock = Lock()
    lock._loop = other_loop
    condition = Condition(lock)
    async with lock:
        with pytest.raises(RuntimeError) as raised:
            await condition.acquire()
        assert str(raised.value) == f"{lock!r} is bound to a different event loop"
        assert condition._loop is None


@pytest.mark.usefixtures("gh_112202")
async def test_a_wait_that_is_refused_keeps_the_lock(Condition, other_loop):
    condition = Condition()
    condition._loop = other_loop
    async with condition:
        (task,) = await queue_up(condition)
        coroutine = condition.wait()
        with pytest.raises(RuntimeError) as raised:
            coroutine.send(None)
        assert str(raised.value) == f"{condition!r} is bound to a different event loop"
        assert condition.locked()
        await steps()
        assert not task.done()
    await end(task)


# ---- A Python object like any other ----


def test_repr(Condition):
    async def main():
        condition = Condition()
        plain = object.__repr__(condition)[1:-1]
        assert repr(condition) == f"<{plain} [unlocked]>"
        await condition.acquire()
        assert repr(condition) == f"<{plain} [locked]>"
        condition.release()
        tasks = await park_on(condition, 2)
        assert repr(condition) == f"<{plain} [unlocked, waiters:2]>"
        await condition.acquire()
        assert repr(condition) == f"<{plain} [locked, waiters:2]>"
        condition.notify()
        assert repr(condition) == f"<{plain} [locked, waiters:2]>"
        await steps()
        assert repr(condition) == f"<{plain} [locked, waiters:1]>"
        condition.notify()
        condition.release()
        await end(*tasks)
        assert repr(condition) == f"<{plain} [unlocked]>"

    asyncio.run(main())


async def test_patched_methods_are_used(Condition):
    condition = Condition()
    with (
        mock.patch.object(condition, "acquire", mock.AsyncMock()) as acquire,
        mock.patch.object(condition, "release") as release,
        mock.patch.object(condition, "locked", return_value=True) as locked,
    ):
        async with condition:
            acquire.assert_awaited_once_with()
            release.assert_not_called()
        release.assert_called_once_with()
        coroutine = condition.wait()
        coroutine.send(None)
        assert release.call_count == 2
        condition.notify()
        finish(coroutine)
        assert acquire.await_count == 2
        assert locked.call_count == 2
        assert repr(condition).endswith(" [locked]>")
    assert repr(condition).endswith(" [unlocked]>")
    await works(condition)


async def test_instance_attributes_are_used(Condition):
    condition, other = Condition(), Condition()
    condition.acquire, condition.release = other.acquire, other.release
    condition.locked = other.locked
    (task,) = await park_on(condition)
    async with condition:
        assert condition.locked()
        assert other.locked()
        assert not condition._lock.locked()
        condition.notify()
    assert await task


async def test_a_lock_that_is_patched_later_is_used_unpatched(Condition, Lock):
    lock = Lock()
    condition = Condition(lock)
    with mock.patch.object(lock, "release") as release, mock.patch.object(lock, "acquire"):
        async with condition:
            assert lock.locked()
        assert not lock.locked()
        release.assert_not_called()


async def test_a_lock_that_was_patched_before_is_used_patched(Condition, Lock):
    lock = Lock()
    with mock.patch.object(lock, "release") as release:
        condition = Condition(lock)
    async with condition:
        pass
    release.assert_called_once_with()
    assert lock.locked()


async def test_patched_wait_and_notify_are_used(Condition):
    condition = Condition()
    answers = iter([False, False, "now"])
    with mock.patch.object(condition, "wait", mock.AsyncMock()) as wait:
        assert await condition.wait_for(lambda: next(answers)) == "now"
        assert wait.await_count == 2
    with mock.patch.object(condition, "notify") as notify:
        condition.notify_all()
        notify.assert_called_once_with(0)
    await works(condition)


async def test_the_locks_methods_hide_overriding_ones(Condition):
    """As in asyncio, where a condition keeps its lock's methods as instance attributes."""

    class Overriding(Condition):
        async def acquire(self):
            raise AssertionError

        def release(self):
            raise AssertionError

        def locked(self):
            raise AssertionError

    await works(Overriding())


# ---- Copied and pickled ----


@pytest.fixture(params=ROUND_TRIPS)
def round_trip(request, importable):
    return ROUND_TRIPS[request.param]


async def test_a_deep_copy_shares_nothing(Condition, round_trip):
    condition = Condition()
    condition.note = ["kept"]
    copied = round_trip(condition)
    assert type(copied) is Condition
    assert copied.note == ["kept"]
    assert copied.note is not condition.note
    assert copied._lock is not condition._lock
    assert type(copied._lock) is type(condition._lock)
    async with copied:
        assert copied._lock.locked()
        assert not condition.locked()
    await works(copied)


async def test_a_deep_copy_is_locked_as_its_original(Condition, round_trip):
    condition = Condition()
    await condition.acquire()
    copied = round_trip(condition)
    assert copied.locked()
    copied.release()
    assert condition.locked()
    await works(copied)


async def test_copied_together_they_share_their_lock(Condition, Lock, round_trip):
    lock = Lock()
    copied, first, second = round_trip((lock, Condition(lock), Condition(lock)))
    assert copied is not lock
    assert first._lock is second._lock is copied
    async with first:
        assert second.locked()
        assert copied.locked()
    await works(first)
    await works(second)


async def test_a_users_lock_is_copied_with_it(Condition, round_trip):
    condition = Condition(Plain())
    copied = round_trip(condition)
    assert type(copied._lock) is Plain
    assert copied._lock is not condition._lock
    async with copied:
        assert copied._lock.held
        assert not condition._lock.held
    await works(copied)


async def test_a_shallow_copy_shares_the_lock(Condition):
    condition = Condition()
    condition.note = ["shared"]
    copied = copy.copy(condition)
    assert type(copied) is Condition
    assert copied._lock is condition._lock
    assert copied.note is condition.note
    async with copied:
        assert condition.locked()
    await works(copied)


async def test_a_subclass_that_overrides_a_method_of_the_lock_is_copied(OurCondition):
    """The lock's method hides the overriding one. In the copy, that is the method of its lock."""

    class Counted(OurCondition):
        released = 0

        def release(self):
            self.released += 1
            super().release()

    condition = Counted()
    copied = copy.deepcopy(condition)
    assert type(copied) is Counted
    assert copied._lock is not condition._lock
    await condition.acquire()
    await copied.acquire()
    copied.release()
    assert condition.locked()
    assert not copied.locked()
    condition.release()
    await works(copied)


# ---- All together ----


class Buffer:
    """Holds a few items. put() and get() wait until they can succeed."""

    def __init__(self, Condition, lock, size):
        self.not_full, self.not_empty = Condition(lock), Condition(lock)
        self.size, self.items, self.put_in, self.got = size, [], [], []

    async def put(self, item):
        async with self.not_full:
            await self.not_full.wait_for(lambda: len(self.items) < self.size)
            self.items.append(item)
            self.put_in.append(item)
            self.not_empty.notify()

    async def get(self):
        async with self.not_empty:
            await self.not_empty.wait_for(lambda: self.items)
            self.got.append(self.items.pop(0))
            self.not_full.notify()


async def trade(Condition, lock, choices):
    """Run as many tasks that put an item as tasks that get one, and cancel some of them."""
    buffer, tasks = Buffer(Condition, lock, choices.randint(1, 3)), []
    to_do = [buffer.get] * 10 + [lambda item=item: buffer.put(item) for item in range(10)]
    choices.shuffle(to_do)
    while to_do:
        count = choices.randint(0, min(4, len(to_do)))
        tasks.extend(asyncio.create_task(to_do.pop()()) for _ in range(count))
        if tasks and choices.random() < 0.5:
            choices.choice(tasks).cancel()
        for _ in range(choices.randint(0, 2)):
            await asyncio.sleep(0)
    await steps(100)
    assert buffer.put_in == buffer.got + buffer.items
    assert not buffer.items or not buffer.not_empty._waiters
    assert len(buffer.items) == buffer.size or not buffer.not_full._waiters
    assert not lock.locked()
    for task in tasks:
        task.cancel()
    await end(*tasks)
    assert len(buffer.got) + len(buffer.put_in) == sum(not task.cancelled() for task in tasks)
    await works(buffer.not_full)
    await works(buffer.not_empty)


@pytest.mark.usefixtures("gh_112202")
async def test_no_task_waits_for_an_item_that_is_there(Condition, Lock):
    for seed in range(200):
        await trade(Condition, Lock(), random.Random(seed))
