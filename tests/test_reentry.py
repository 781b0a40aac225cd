"""Code that runs in the middle of a step: methods of a loop or a future, or a destructor.

Such code must not cause a crash, lose a turn or let two tasks in. It also runs with asyncio's own
loops: BaseEventLoop.is_closed() is written in Python, so a signal handler can run inside it.
"""

import asyncio
import contextlib
import functools
import gc
import signal
import threading
import weakref
from types import CoroutineType

import pytest
from conftest import FREE_THREADED, OURS, needs_refcounts
from helpers import failing, finish, length_of_chain, on_interrupted_loop, parked

import aiofastlock


async def works(lock):
    """Check that the lock is free, that its queue is empty, and that it serves tasks."""
    assert not lock.locked()
    assert not lock._waiters

    async def use():
        async with lock:
            await asyncio.sleep(0)

    await asyncio.gather(use(), use(), use())
    assert not lock.locked()


def test_a_waiter_closed_in_its_own_set_result(OurLock):
    async def main():
        lock = OurLock()
        await lock.acquire()
        coroutine, future = parked(lock.acquire())
        future.in_set_result = coroutine.close
        lock.release()
        assert future.done()
        await works(lock)

    on_interrupted_loop(main)


@pytest.mark.parametrize("asked_by", ["release", "newcomer"])
def test_a_waiter_closed_in_its_own_done(OurLock, asked_by):
    async def main():
        lock = OurLock()
        await lock.acquire()
        coroutine, future = parked(lock.acquire())
        future.in_done = coroutine.close
        if asked_by == "newcomer":
            lock._locked = False
            finish(lock.acquire())
            assert not lock._waiters
        lock.release()
        coroutine.close()
        await works(lock)

    on_interrupted_loop(main)


def test_a_waiter_closed_while_it_is_resumed(OurLock):
    async def main():
        lock = OurLock()
        await lock.acquire()
        coroutine, future = parked(lock.acquire())
        future.in_done = coroutine.close
        with pytest.raises((RuntimeError, ValueError)):  # finished already, or executing
            coroutine.send(None)
        assert not lock._waiters
        lock.release()
        await works(lock)

    on_interrupted_loop(main)


def test_another_waiter_closed_in_is_closed(OurLock):
    async def main():
        lock = OurLock()
        await lock.acquire()
        (first, _), (second, _) = parked(lock.acquire()), parked(lock.acquire())
        lock.release()
        asyncio.get_running_loop().in_is_closed = second.close
        first.close()
        await works(lock)

    on_interrupted_loop(main)


def test_the_lock_taken_in_is_closed(OurLock):
    async def main():
        lock = OurLock()
        await lock.acquire()
        (first, _), (second, future) = parked(lock.acquire()), parked(lock.acquire())
        lock.release()
        asyncio.get_running_loop().in_is_closed = lambda: setattr(lock, "_locked", True)
        first.close()
        assert not future.done()  # the lock is held
        lock.release()
        finish(second)
        lock.release()
        await works(lock)

    on_interrupted_loop(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_failing_set_result_loses_no_waiter(OurLock, error):
    async def main():
        lock = OurLock()
        await lock.acquire()
        (first, future), (second, _) = parked(lock.acquire()), parked(lock.acquire())
        future.in_set_result = failing(error)
        with pytest.raises(error, match="not now"):
            lock.release()
        assert not lock.locked()
        assert not future.done()
        lock._locked = True
        lock.release()
        finish(first)
        lock.release()
        finish(second)
        lock.release()
        await works(lock)

    on_interrupted_loop(main)


def test_a_head_whose_future_others_set_has_its_turn(Lock):
    async def main():
        lock = Lock()
        await lock.acquire()
        (first, future), (second, _) = parked(lock.acquire()), parked(lock.acquire())
        future.set_result(True)
        lock.release()
        newcomer, _ = parked(lock.acquire())
        assert not lock.locked()
        for coroutine in (first, second, newcomer):
            finish(coroutine)
            assert lock.locked()
            lock.release()
        assert not lock._waiters

    on_interrupted_loop(main)


def test_a_newcomer_waits_for_a_task_whose_future_others_set(Lock):
    async def main():
        lock = Lock()
        await lock.acquire()
        (first, cancelled), (second, future) = parked(lock.acquire()), parked(lock.acquire())
        cancelled.cancel()
        lock.release()
        future.set_result(True)
        newcomer, _ = parked(lock.acquire())
        finish(second)
        with pytest.raises(asyncio.CancelledError):
            first.send(None)
        lock.release()
        finish(newcomer)
        lock.release()
        await works(lock)

    on_interrupted_loop(main)


def test_a_task_whose_future_others_failed_takes_no_turn(OurLock):
    async def main():
        lock = OurLock()
        await lock.acquire()
        (first, future), (second, _) = parked(lock.acquire()), parked(lock.acquire())
        future.set_exception(KeyError("someone else's"))
        lock.release()
        with pytest.raises(KeyError, match="someone else's"):
            first.send(None)
        finish(second)
        lock.release()
        await works(lock)

    on_interrupted_loop(main)


def test_the_lock_taken_in_done(OurLock):
    async def main():
        lock, got = OurLock(), []

        def take(name):
            try:
                coroutine = lock.acquire()
                waiting.append((coroutine, coroutine.send(None)))
            except StopIteration:
                got.append(name)

        waiting = []
        await lock.acquire()
        (first, one), (second, two) = parked(lock.acquire()), parked(lock.acquire())
        one.cancel()
        two.cancel()
        lock.release()
        two.in_done = lambda: take("inner")
        take("outer")
        assert len(got) == 1
        first.close()
        second.close()
        lock.release()
        for coroutine, _ in waiting:
            finish(coroutine)
            lock.release()
        await works(lock)

    on_interrupted_loop(main)


def test_all_gone_in_done(OurLock):
    """A newcomer must not wait for tasks that leave while it looks for them."""

    async def main():
        lock = OurLock()
        await lock.acquire()
        (first, one), (second, two) = parked(lock.acquire()), parked(lock.acquire())
        one.cancel()
        lock.release()

        def leave():
            second.close()
            first.close()

        def arm():
            two.in_done = leave

        asyncio.get_running_loop().in_create_future = arm
        assert not lock.locked()
        coroutine = lock.acquire()
        try:
            coroutine.send(None)
        except StopIteration:
            pass
        else:  # it looked before they left, and parked: it has its turn nevertheless
            finish(coroutine)
        lock.release()
        await works(lock)

    on_interrupted_loop(main)


def test_an_attribute_set_on_a_lock_that_is_collected(OurLock):
    async def main():
        lock = OurLock()
        await lock.acquire()
        (first, _), (second, future) = parked(lock.acquire()), parked(lock.acquire())
        lock.release()
        future.in_done = lambda: setattr(lock, "seen", True)
        future.keep = second
        lock.first = first
        del first, second, future

    on_interrupted_loop(main)
    gc.collect()


@needs_refcounts
def test_parked_while_the_waiters_of_a_closed_loop_are_discarded(OurLock):
    lock, coroutines = OurLock(), []

    class Noisy:
        def __del__(self):
            coroutines.append(parked(lock.acquire())[0])

    async def leave_behind():
        await lock.acquire()
        stale, future = parked(lock.acquire())
        noisy = Noisy()
        future.add_done_callback(lambda _: noisy)
        return stale

    stale = asyncio.run(leave_behind())

    async def main():
        coroutines.append(parked(lock.acquire())[0])
        stale.close()
        gc.collect()
        assert len(coroutines) == len(lock._waiters) == 2
        # The destructor parked a waiter while the other one was about to park.
        for coroutine in coroutines:
            lock.release()
            finish(coroutine)
        lock.release()
        await works(lock)

    asyncio.run(main())


def take_by_hand(lock):
    coroutine = lock.acquire()
    try:
        coroutine.send(None)
    except StopIteration:
        assert lock.locked()


@needs_refcounts
def test_a_destructor_that_acquires(OurLock):
    """It runs when the StopIteration that refers to its frame goes, perhaps in the next step."""

    class Noisy:
        def __del__(self):
            for _ in range(2):
                take_by_hand(OurLock())

    def hold_a_frame():
        noisy = Noisy()
        take_by_hand(OurLock())
        coroutine = OurLock().acquire()
        try:
            coroutine.send(None)
        except StopIteration:
            assert noisy

    for _ in range(2000):
        hold_a_frame()
        take_by_hand(OurLock())


@needs_refcounts
async def test_a_stop_iteration_that_was_changed_is_not_used_again(OurLock):
    class Local:
        deleted = False

        def __del__(self):
            Local.deleted = True

    def catch():
        local = Local()
        coroutine = OurLock().acquire()
        try:
            coroutine.send(None)
        except StopIteration as stop:
            stop.args = ("changed",)
        return local is not None

    catch()
    assert Local.deleted
    for _ in range(3):
        stop = None
        try:
            next(OurLock().acquire().__await__())
        except StopIteration as raised:
            stop = raised
        assert (stop.value, stop.args) == (True, (True,))
        stop.args = ("changed",)
        stop.__suppress_context__ = True
        del stop
        assert await OurLock().acquire() is True


@needs_refcounts
@pytest.mark.parametrize("through", ["attributes", "waiters"])
def test_long_chains_are_deallocated_without_recursion(our_name, OurLock, through):
    async def main():
        previous = None
        for _ in range(length_of_chain(our_name)):
            lock = OurLock()
            lock.previous = previous
            if through == "waiters":
                await lock.acquire()
                previous = lock.acquire()
                previous.send(None)
            else:
                previous = lock
        del lock, previous

    asyncio.run(main())


@pytest.mark.skipif("compiled" not in OURS, reason="in Python a signal comes between any two steps")
@pytest.mark.skipif(FREE_THREADED, reason="there a signal also comes between any two steps")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_signals_at_any_point():
    """A handler closes waiters at any point of the main thread."""
    assert threading.current_thread() is threading.main_thread()

    async def main():
        lock, waiters = OURS["compiled"].Lock(), []

        def handler(*_):
            for waiter in waiters[::2]:
                waiter.close()
            waiters.clear()
            signal.setitimer(signal.ITIMER_REAL, 0.0005)  # also a slow machine goes on meanwhile

        old = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        try:
            end = asyncio.get_running_loop().time() + 2.0
            while asyncio.get_running_loop().time() < end:
                lock._locked = True
                for _ in range(4):
                    waiters.append(lock.acquire())
                    for waiter in waiters[-1:]:
                        waiter.send(None)
                lock._locked = True
                lock.release()
                for waiter in waiters:
                    waiter.close()
                waiters.clear()
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)  # drops a pending signal
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        waiter.close()
        lock._locked = False
        await works(lock)

    asyncio.run(main())


# ---- The other primitives ----


class FutureWithDestructor(asyncio.Future):
    """A future that runs a given callable when it is deallocated."""

    in_del = None

    def __del__(self):
        if self.in_del is not None:
            interrupt, self.in_del = self.in_del, None
            interrupt()


class LoopWithDestructors(asyncio.SelectorEventLoop):
    def create_future(self):
        return FutureWithDestructor(loop=self)


def send(coroutine):
    """Return what the next step yields, returns or raises."""
    try:
        return coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    except BaseException as error:
        return error


async def waiting_without_the_lock(ours):
    lock = ours.Lock()
    condition = ours.Condition(lock)
    await lock.acquire()
    wait = condition.wait()
    future = wait.send(None)
    await lock.acquire()
    return lock, condition, wait, future


@needs_refcounts
def test_a_wait_is_thrown_into_when_its_future_is_deallocated(our_name):
    ours = OURS[our_name]

    async def main():
        lock, condition, wait, future = await waiting_without_the_lock(ours)
        condition.notify()
        refused = []

        def throw():
            with pytest.raises((ValueError, RuntimeError)) as caught:
                wait.throw(asyncio.CancelledError())
            refused.append(caught.value)

        future.in_del = throw
        del future
        assert asyncio.isfuture(send(wait))
        lock.release()
        assert send(wait) is True
        lock.release()
        assert len(refused) == 1
        await works(lock)

    with asyncio.Runner(loop_factory=LoopWithDestructors) as runner:
        runner.run(main())


@needs_refcounts
def test_a_wait_that_cannot_take_its_lock_does_not_keep_it(our_name):
    ours = OURS[our_name]

    async def main():
        lock, condition, wait, future = await waiting_without_the_lock(ours)
        blocked, ahead = parked(lock.acquire())
        future.set_result(True)
        lock._locked = False
        ahead.in_done = failing(ZeroDivisionError)
        assert isinstance(send(wait), ZeroDivisionError)
        blocked.close()
        reference = weakref.ref(lock)
        del condition, wait, future, blocked, ahead, lock
        gc.collect()
        await ours.Lock().acquire()  # it may reuse the waiter of that wait
        assert reference() is None

    on_interrupted_loop(main)


def test_a_waiter_that_parks_again_in_done_is_not_passed_over(our_name):
    ours = OURS[our_name]

    async def main():
        lock, condition, wait, _future = await waiting_without_the_lock(ours)
        condition.notify()
        future = send(wait)  # in the lock's queue
        behind, _ = parked(lock.acquire())
        future.cancel()
        future.in_done = lambda: again.append(wait.throw(cancelled))
        again, cancelled = [], asyncio.CancelledError()
        lock._locked = False
        newcomer, _ = parked(lock.acquire())
        assert not again[0].done()
        finish(behind)  # woken in place of the cancelled one
        lock.release()
        assert send(wait) is cancelled
        lock.release()
        finish(newcomer)
        lock.release()
        await works(lock)

    on_interrupted_loop(main)


async def test_a_wait_is_closed_by_what_is_thrown_into_it(OurCondition):
    wait = OurCondition().wait()

    class ClosingError(Exception):
        def __init__(self):
            wait.close()

    with pytest.raises((RuntimeError, ValueError, ClosingError)):  # depends on the Python version
        wait.throw(ClosingError)
    wait.close()
    assert isinstance(send(wait), RuntimeError)


@pytest.mark.parametrize("new", [None, asyncio.Lock()])
async def test_a_condition_is_initialised_again_while_tasks_wait(OurCondition, OurLock, new):
    lock = OurLock()
    condition = OurCondition(lock)
    waits = []
    for _ in range(3):
        await lock.acquire()
        waits.append(condition.wait())
        waits[-1].send(None)
    condition._notify(3)
    condition.__init__(new)
    assert send(waits[0]) is True
    assert lock.locked() != condition.locked()  # the compiled wait() takes the old lock back
    for wait in waits[1:]:
        assert asyncio.isfuture(send(wait))
        wait.close()
    (lock if lock.locked() else condition).release()
    await works(lock)


async def test_the_last_waiter_leaves_while_notify_compares_its_argument(OurCondition):
    condition = OurCondition()
    await condition.acquire()
    wait = condition.wait()
    wait.send(None)
    await condition.acquire()
    asked = []

    class Number(int):
        def __gt__(self, other):
            if not asked:
                asked.append(wait.throw(KeyError))  # now it waits for the lock
            return super().__gt__(other)

    condition.notify(Number(1))
    assert asked
    assert not condition._waiters
    condition.release()
    assert isinstance(send(wait), KeyError)


def test_a_barrier_is_aborted_and_reset_while_it_is_refilled(OurBarrier):
    async def main():
        barrier = OurBarrier(2)
        first = barrier.wait()
        first.send(None)
        assert send(barrier.wait()) == 1
        blocked = barrier.wait()
        future = blocked.send(None)
        assert send(first) == 0
        future.cancel()
        future.in_done = lambda: (send(barrier.abort()), send(barrier.reset()))
        await asyncio.sleep(0)
        blocked.close()
        assert barrier.n_waiting == 0
        again = barrier.wait()
        again.send(None)
        assert barrier.n_waiting == 1
        assert send(barrier.wait()) == 1
        assert send(again) == 0

    on_interrupted_loop(main)


@pytest.mark.skipif("compiled" not in OURS, reason="the pure-Python one counts cancelled waiters")
def test_a_blocked_one_leaves_while_a_barrier_is_refilled():
    async def main():
        barrier = OURS["compiled"].Barrier(2)
        first = barrier.wait()
        first.send(None)
        assert send(barrier.wait()) == 1
        blocked = [barrier.wait() for _ in range(3)]
        futures = [coroutine.send(None) for coroutine in blocked]
        assert send(first) == 0
        futures[1].in_done = blocked[1].close
        futures[2].cancel()  # not found yet when the other leaves: it is no party
        await asyncio.sleep(0)
        assert barrier.n_waiting == 1
        assert send(barrier.wait()) == 1
        assert send(blocked[0]) == 0
        assert isinstance(send(blocked[2]), asyncio.CancelledError)

    on_interrupted_loop(main)


@pytest.mark.parametrize("more", [0, 2])
def test_a_waiter_leaves_in_its_done(OurLock, more):
    async def main():
        lock = OurLock()
        await lock.acquire()
        first, future = parked(lock.acquire())
        second, asked = parked(lock.acquire())
        others = [parked(lock.acquire())[0] for _ in range(more)]
        future.cancel()
        lock.release()
        asked.cancel()
        asked.in_done = second.close
        newcomer = lock.acquire()
        send(newcomer)
        for coroutine in (first, newcomer, *others):
            coroutine.close()
        lock._locked = False
        await works(lock)

    on_interrupted_loop(main)


def test_a_waiter_that_others_have_set_is_closed_while_it_is_resumed(OurLock):
    async def main():
        lock = OurLock()
        await lock.acquire()
        coroutine, future = parked(lock.acquire())
        future.set_result("by others")
        future.in_done = coroutine.close
        with pytest.raises((RuntimeError, ValueError)):
            coroutine.send(None)
        assert not lock._waiters
        lock.release()
        await works(lock)

    on_interrupted_loop(main)


def test_a_waiter_of_a_closed_loop_is_closed_while_it_is_discarded(OurLock):
    lock = OurLock()

    async def leave_behind():
        await lock.acquire()
        waiting = [parked(lock.acquire()) for _ in range(3)]
        for coroutine, future in waiting[:2]:
            future.in_done = coroutine.close
        lock._locked = False  # wakes nobody
        return waiting

    waiting = on_interrupted_loop(leave_behind)

    async def main():
        async with asyncio.timeout(5), lock:
            assert not lock._waiters
        await works(lock)

    asyncio.run(main())
    for coroutine, _ in waiting:
        coroutine.close()


@pytest.mark.parametrize("ends", ["raises", "is cancelled"])
@pytest.mark.parametrize("leaves", [False, True])
def test_a_permit_comes_back_once_from_a_wake_up_that_fails(OurSemaphore, leaves, ends):
    async def main():
        semaphore = OurSemaphore(1)
        await semaphore.acquire()
        coroutine, future = parked(semaphore.acquire())

        def interrupt():
            if leaves:
                coroutine.close()
            if ends == "is cancelled":
                future.cancel()
            else:
                raise KeyError("not now")

        future.in_set_result = interrupt
        with contextlib.suppress(KeyError):
            semaphore.release()
        assert semaphore._value == 1
        coroutine.close()
        assert semaphore._value == 1
        await works(semaphore)

    on_interrupted_loop(main)


# ---- Queues ----


async def queue_works(queue):
    """Check that nobody waits, that the items are there, and that it serves tasks."""
    assert not queue._getters
    assert not queue._putters
    while not queue.empty():
        queue.get_nowait()
    getters = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    for item in range(3):
        await queue.put(item)
    assert sorted(await asyncio.gather(*getters)) == [0, 1, 2]
    assert not queue._getters


@pytest.fixture(params=["get", "put"])
def direction(request):
    return request.param


class Side:
    """A queue for whose items, or slots, others wait: how to wait, and to let one go on."""

    def __init__(self, cls, direction):
        self.queue, self.direction = cls(1), direction
        if direction == "put":
            self.queue.put_nowait("first")

    def wait(self):
        return self.queue.get() if self.direction == "get" else self.queue.put("item")

    def wake(self):
        if self.direction == "get":
            self.queue.put_nowait("item")
        else:
            self.queue.get_nowait()

    def waiters(self):
        return self.queue._getters if self.direction == "get" else self.queue._putters

    def finish(self, waiter):
        with pytest.raises(StopIteration):
            waiter.send(None)


@pytest.mark.parametrize("where", ["in_set_result", "in_done"])
def test_a_queues_waiter_closed_in_its_own(OurQueue, direction, where):
    async def main():
        side = Side(OurQueue, direction)
        first, future = parked(side.wait())
        second, behind = parked(side.wait())
        setattr(future, where, first.close)
        side.wake()
        assert future.done()
        if not behind.done():  # it was woken before it was closed, or the interrupt never came
            first.close()
        assert behind.done()
        side.finish(second)
        await queue_works(side.queue)

    on_interrupted_loop(main)


def test_a_queues_waiter_closed_while_it_is_resumed(OurQueue, direction):
    async def main():
        side = Side(OurQueue, direction)
        waiter, future = parked(side.wait())
        future.in_done = waiter.close
        with pytest.raises((RuntimeError, ValueError)):
            waiter.send(None)
        assert not side.waiters()
        side.wake()
        await queue_works(side.queue)

    on_interrupted_loop(main)


def test_another_of_a_queues_waiters_is_closed_in_is_closed(OurQueue, direction):
    async def main():
        side = Side(OurQueue, direction)
        (first, _), (second, _), (third, behind) = [parked(side.wait()) for _ in range(3)]
        side.wake()
        asyncio.get_running_loop().in_is_closed = second.close
        first.close()
        assert behind.done()
        side.finish(third)
        await queue_works(side.queue)

    on_interrupted_loop(main)


def test_the_item_is_taken_while_a_woken_getter_ends(OurQueue):
    async def main():
        queue, taken = OurQueue(), []
        (first, _), (second, behind) = parked(queue.get()), parked(queue.get())
        queue.put_nowait("item")
        asyncio.get_running_loop().in_is_closed = lambda: taken.append(queue.get_nowait())
        first.close()
        assert taken == ["item"]
        assert not behind.done()  # there is nothing for it
        queue.put_nowait("another")
        with pytest.raises(StopIteration, match="another"):
            second.send(None)
        await queue_works(queue)

    on_interrupted_loop(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_failing_set_result_loses_no_waiter_of_a_queue(OurQueue, direction, error):
    async def main():
        side = Side(OurQueue, direction)
        (first, future), (second, behind) = parked(side.wait()), parked(side.wait())
        future.in_set_result = failing(error)
        with pytest.raises(error, match="not now"):
            side.wake()
        assert list(side.waiters()) == [future, behind]
        side.queue._wakeup_next(side.waiters())
        assert future.done()
        side.finish(first)
        side.wake()
        side.finish(second)
        await queue_works(side.queue)

    on_interrupted_loop(main)


def test_all_that_wait_are_closed_while_a_queue_is_shut_down(OurQueue):
    async def main():
        queue = OurQueue()
        (first, future), (second, _), (third, _) = [parked(queue.get()) for _ in range(3)]
        future.in_set_result = lambda: (second.close(), third.close())
        queue.shutdown()
        assert not queue._getters
        assert isinstance(send(first), aiofastlock.QueueShutDown)

    on_interrupted_loop(main)


@needs_refcounts
@pytest.mark.parametrize("name", ["Queue", "LifoQueue"])
def test_a_destructor_of_an_item_uses_the_queue(our_name, name):
    class Item:
        def __init__(self, act):
            self.act = act

        def __del__(self):
            self.act()

    async def main():
        queue = getattr(OURS[our_name], name)()
        getter = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.put_nowait(Item(lambda: queue.put_nowait("from the first")))
        await asyncio.sleep(0)
        del getter  # and with its result, the item
        await asyncio.sleep(0)
        assert queue.get_nowait() == "from the first"
        queue.put_nowait(Item(lambda: queue.put_nowait("from the second")))
        queue._queue = type(queue._queue)(["replaced"])
        assert sorted([queue.get_nowait(), queue.get_nowait()]) == ["from the second", "replaced"]
        for number in range(3):
            queue.put_nowait(Item(lambda number=number: number or queue.put_nowait("from one")))
        queue.__init__()
        assert queue.get_nowait() == "from one"
        for _ in range(3):
            queue.put_nowait(Item(queue.task_done))
        queue._unfinished_tasks = 6
        queue.shutdown(immediate=True)
        assert queue._unfinished_tasks == 0
        assert queue._finished.is_set()

    asyncio.run(main())


@needs_refcounts
def test_a_destructor_of_a_cancelled_putters_item_uses_the_queue(OurQueue):
    class Item:
        def __del__(self):
            got.append(queue.get_nowait())

    got, queue = [], OurQueue(1)

    async def main():
        queue.put_nowait("first")
        putter = queue.put(Item())
        putter.send(None)
        _, future = parked(queue.put("behind"))
        putter.close()
        del putter
        assert got == ["first"]
        assert future.done()

    asyncio.run(main())


@needs_refcounts
def test_parked_while_a_queues_waiters_of_a_closed_loop_are_discarded(OurQueue):
    queue, getters = OurQueue(), []

    class Noisy:
        def __del__(self):
            getters.append(parked(queue.get())[0])

    async def leave_behind():
        stale, future = parked(queue.get())
        noisy = Noisy()
        future.add_done_callback(lambda _: noisy)
        return stale

    stale = asyncio.run(leave_behind())

    async def main():
        getters.append(parked(queue.get())[0])
        stale.close()
        gc.collect()
        assert len(getters) == len(queue._getters) == 2
        for item, getter in enumerate(getters):
            queue.put_nowait(item)
            with pytest.raises(StopIteration):
                getter.send(None)
        await queue_works(queue)

    asyncio.run(main())


def stop_with(queue):
    """Return the StopIteration that an item comes with."""
    try:
        next(queue.get().__await__())
    except StopIteration as stop:
        return stop


@needs_refcounts
async def test_a_stop_iteration_with_an_item_that_was_changed_is_not_used_again(OurQueue):
    queue = OurQueue()

    def catch(item):
        queue.put_nowait(item)
        stop = stop_with(queue)
        assert stop.value is item
        stop.args, stop.value = ("changed",), "changed"
        stop.__suppress_context__ = True
        stop.attribute = stop.__cause__ = KeyError()
        return stop

    kept = [catch(object()) for _ in range(3)]
    catch(object())
    for _ in range(3):
        item = object()
        queue.put_nowait(item)
        assert await queue.get() is item
        queue.put_nowait(item)
        stop = stop_with(queue)
        assert (stop.value, stop.__cause__, stop.__suppress_context__) == (item, None, False)
        assert not hasattr(stop, "attribute")
        del stop
    assert [stop.value for stop in kept] == ["changed"] * 3


@needs_refcounts
def test_a_destructor_that_gets(OurQueue):
    """It runs when the StopIteration that refers to its frame goes, perhaps in the next step."""

    def get_by_hand():
        queue, item = OurQueue(), object()
        queue.put_nowait(item)
        assert stop_with(queue).value is item

    class Noisy:
        def __del__(self):
            for _ in range(2):
                get_by_hand()

    def hold_a_frame():
        noisy = Noisy()
        queue = OurQueue()
        queue.put_nowait(noisy)
        try:
            queue.get().send(None)
        except StopIteration:
            assert noisy

    for _ in range(2000):
        hold_a_frame()
        get_by_hand()


@needs_refcounts
@pytest.mark.parametrize("through", ["items", "getters", "putters", "items of putters"])
def test_long_chains_of_queues_are_deallocated_without_recursion(our_name, OurQueue, through):
    async def main():
        previous = None
        for _ in range(length_of_chain(our_name)):
            queue = OurQueue(1)
            if through == "items":
                queue.put_nowait(previous)
                previous = queue
                continue
            if through == "items of putters":
                queue.put_nowait(None)
                previous = queue.put(previous)
            else:
                queue.previous = previous
                if through == "putters":
                    queue.put_nowait(None)
                previous = queue.get() if through == "getters" else queue.put(None)
            previous.send(None)
        del queue, previous

    asyncio.run(main())


@needs_refcounts
@pytest.mark.parametrize("method", ["get", "put"])
def test_a_weak_reference_to_a_queues_awaitable_that_has_ended(OurQueue, method):
    """It is not one to the next awaitable."""
    gc.collect()  # what earlier tests have left may refer to what is used again
    queue = OurQueue()
    queue.put_nowait("item")
    call = queue.get if method == "get" else functools.partial(queue.put, "item")
    first = call()
    with contextlib.suppress(StopIteration):
        first.send(None)
    reference = weakref.ref(first)
    del first
    second = call()
    assert reference() is not second
    second.close()


@needs_refcounts
async def test_two_stop_iterations_with_items_are_kept(OurQueue):
    class Item:
        pass

    queue, stops = OurQueue(), []
    gone = []
    for _ in range(3):
        item = Item()
        gone.append(weakref.ref(item))
        queue.put_nowait(item)
        del item
        awaitable = queue.get()
        try:
            # As `await` does: code that calls send() gets another exception.
            next(awaitable.__await__() if type(awaitable) is CoroutineType else awaitable)
        except StopIteration as stop:
            stops.append(stop)
    assert [stop.value for stop in stops] == [reference() for reference in gone]
    del awaitable, stops[:]
    assert [reference() for reference in gone] == [None] * 3
    queue.put_nowait("item")
    assert await queue.get() == "item"


async def test_a_woken_getter_ends_once_its_queue_is_initialised_again(OurQueue):
    queue = OurQueue()
    getter, _ = parked(queue.get())
    queue.put_nowait(1)
    queue.__init__()
    queue.put_nowait(2)
    getter.close()  # it would wake another one
    assert queue.get_nowait() == 2
    await queue_works(queue)


@pytest.mark.parametrize(("arguments", "keywords"), [([3], {}), ([], {"maxsize": 3})])
async def test_a_queue_is_initialised_again_while_tasks_wait(OurQueue, arguments, keywords):
    queue = OurQueue(1)
    getters = [parked(queue.get())[0] for _ in range(2)]
    queue.__init__(*arguments, **keywords)
    assert not queue._getters
    assert queue.maxsize == 3
    queue.put_nowait(1)  # wakes nobody
    for getter in getters:
        getter.close()
    await queue_works(queue)


@pytest.mark.skipif("compiled" not in OURS, reason="in Python a signal comes between any two steps")
@pytest.mark.skipif(FREE_THREADED, reason="there a signal also comes between any two steps")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_signals_at_any_point_of_a_queue():
    """A handler closes waiters, puts and gets at any point of the main thread."""

    async def main():
        queue, waiters = OURS["compiled"].Queue(2), []

        def handler(*_):
            for waiter in waiters[::2]:
                with contextlib.suppress(ValueError):  # it runs
                    waiter.close()
            for call in (queue.get_nowait, lambda: queue.put_nowait("by the handler")):
                with contextlib.suppress(asyncio.QueueEmpty, asyncio.QueueFull):
                    call()
            signal.setitimer(signal.ITIMER_REAL, 0.0005)

        old = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        try:
            for _ in range(8_000):
                for wait in (queue.get, queue.get, lambda: queue.put("item")) * 2:
                    waiters.append(wait())
                    with contextlib.suppress(StopIteration, RuntimeError):
                        waiters[-1].send(None)
                for waiter in waiters:
                    waiter.close()
                waiters.clear()
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)  # drops a pending signal
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        del waiter
        await queue_works(queue)

    asyncio.run(main())
