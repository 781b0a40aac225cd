"""Code that runs in the middle of a step: a loop's or a future's methods, a destructor.

None of it may crash, lose a turn or let two in. asyncio's own futures and loops run Python code
there too: BaseEventLoop.is_closed() is Python, so that a signal handler can run inside it.
"""

import asyncio
import gc
import signal
import threading
import weakref

import pytest
from conftest import FREE_THREADED, OURS, needs_refcounts
from helpers import finish, on_interrupted_loop, parked


async def works(lock):
    """The lock is free, has nobody in its queue, and serves two tasks."""
    assert not lock.locked()
    assert not lock._waiters

    async def use():
        async with lock:
            await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(use(), use(), use()), 1)
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
        assert not future.done()  # the lock is held: nobody else's turn
        lock.release()
        finish(second)
        lock.release()
        await works(lock)

    on_interrupted_loop(main)


def test_released_while_the_future_is_made(OurLock):
    """asyncio parks for ever there: what would have woken it has gone by."""

    async def main():
        lock = OurLock()
        await lock.acquire()
        asyncio.get_running_loop().in_create_future = lock.release
        assert await asyncio.wait_for(lock.acquire(), 1)
        lock.release()
        await works(lock)

    on_interrupted_loop(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_set_result_that_fails_can_be_tried_again(OurLock, error):
    def fail():
        raise error("not now")

    async def main():
        lock = OurLock()
        await lock.acquire()
        (first, future), (second, _) = parked(lock.acquire()), parked(lock.acquire())
        future.in_set_result = fail
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


def test_a_head_set_by_other_hands_has_its_turn(Lock):
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


def test_a_newcomer_waits_for_one_set_by_other_hands(Lock):
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


def test_one_failed_by_other_hands_takes_nothing(OurLock):
    async def main():
        lock = OurLock()
        await lock.acquire()
        (first, future), (second, _) = parked(lock.acquire()), parked(lock.acquire())
        future.set_exception(KeyError("by other hands"))
        lock.release()
        with pytest.raises(KeyError, match="by other hands"):
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
    """Whoever asks whether anybody comes first must not wait for one that left meanwhile."""

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
        else:  # parked, because it looked before they left: then it has its turn all the same
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
def test_parked_while_a_closed_loops_waiters_are_let_go(OurLock):
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
        # The one that the destructor parked came while the other was about to.
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
    """It runs when the StopIteration goes that holds its frame, perhaps while the next is made."""

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
async def test_a_stop_iteration_that_was_marked_is_not_used_again(OurLock):
    class Local:
        dead = False

        def __del__(self):
            Local.dead = True

    def catch():
        local = Local()
        coroutine = OurLock().acquire()
        try:
            coroutine.send(None)
        except StopIteration as stop:
            stop.args = ("changed",)
        return local is not None

    catch()
    assert Local.dead
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
def test_long_chains_die_without_recursion(OurLock, through):
    async def main():
        previous = None
        # In debug mode a future writes down where it was made, which takes long.
        for _ in range(20_000 if asyncio.get_running_loop().get_debug() else 200_000):
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
    """A handler closes waiters wherever the main thread happens to be."""
    assert threading.current_thread() is threading.main_thread()

    async def main():
        lock, waiters = OURS["compiled"].Lock(), []

        def handler(*_):
            for waiter in waiters[::2]:
                waiter.close()
            waiters.clear()

        old = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
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
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)  # drops one that is still on its way
            signal.signal(signal.SIGALRM, old)
        waiter.close()
        lock._locked = False
        await works(lock)

    asyncio.run(main())


# ---- The other primitives ----


class DyingFuture(asyncio.Future):
    """A future that does what it is told when it dies."""

    in_death = None

    def __del__(self):
        if self.in_death is not None:
            interrupt, self.in_death = self.in_death, None
            interrupt()


class LoopOfTheDying(asyncio.SelectorEventLoop):
    def create_future(self):
        return DyingFuture(loop=self)


def send(coroutine):
    """What a step comes to: what it yields, returns or raises."""
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
def test_a_wait_is_thrown_into_when_its_future_dies(our_name):
    ours = OURS[our_name]

    async def main():
        lock, condition, wait, future = await waiting_without_the_lock(ours)
        condition.notify()
        refused = []

        def throw():
            with pytest.raises((ValueError, RuntimeError)) as caught:
                wait.throw(asyncio.CancelledError())
            refused.append(caught.value)

        future.in_death = throw
        del future
        assert asyncio.isfuture(send(wait))
        lock.release()
        assert send(wait) is True
        lock.release()
        assert len(refused) == 1
        await works(lock)

    with asyncio.Runner(loop_factory=LoopOfTheDying) as runner:
        runner.run(main())


@needs_refcounts
def test_a_wait_that_cannot_take_its_lock_does_not_keep_it(our_name):
    ours = OURS[our_name]

    def fail():
        raise ZeroDivisionError

    async def main():
        lock, condition, wait, future = await waiting_without_the_lock(ours)
        blocked, ahead = parked(lock.acquire())
        future.set_result(True)  # by other hands
        lock._locked = False
        ahead.in_done = fail
        assert isinstance(send(wait), ZeroDivisionError)
        blocked.close()
        died = weakref.ref(lock)
        del condition, wait, future, blocked, ahead, lock
        gc.collect()
        await ours.Lock().acquire()  # takes what was kept of that wait for use again
        assert died() is None

    on_interrupted_loop(main)


def test_one_that_stands_anew_in_done_is_not_passed_over(our_name):
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
        finish(behind)  # which has been woken for it
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

    with pytest.raises((RuntimeError, ValueError, ClosingError)):  # as the version of Python has it
        wait.throw(ClosingError)
    wait.close()
    assert isinstance(send(wait), RuntimeError)


@pytest.mark.parametrize("new", [None, asyncio.Lock()])
async def test_a_condition_is_made_anew_while_tasks_wait(OurCondition, OurLock, new):
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
    assert lock.locked() != condition.locked()  # ours in C takes the old lock, as it was made for
    for wait in waits[1:]:
        assert asyncio.isfuture(send(wait))
        wait.close()
    (lock if lock.locked() else condition).release()
    await works(lock)


async def test_the_last_waiter_leaves_while_it_is_asked_how_many_to_notify(OurCondition):
    condition = OurCondition()
    await condition.acquire()
    wait = condition.wait()
    wait.send(None)
    await condition.acquire()
    asked = []

    class Number(int):
        def __gt__(self, other):
            if not asked:
                asked.append(wait.throw(KeyError))  # waits for the lock from here on
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


@pytest.mark.skipif("compiled" not in OURS, reason="the pure half counts the cancelled one")
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
        futures[2].cancel()  # is still to be noticed: it is no party
        await asyncio.sleep(0)
        assert barrier.n_waiting == 1
        assert send(barrier.wait()) == 1
        assert send(blocked[0]) == 0
        assert isinstance(send(blocked[2]), asyncio.CancelledError)

    on_interrupted_loop(main)


@pytest.mark.parametrize("more", [0, 2])
def test_a_waiter_leaves_while_it_is_asked_whether_it_is_done(OurLock, more):
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
