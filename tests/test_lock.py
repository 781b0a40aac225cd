"""What Lock does, in asyncio and in both implementations."""

import asyncio
import collections
import subprocess
import sys

import pytest
from conftest import FREE_THREADED, OURS, needs_compiled
from helpers import queue_up

# ---- Acquiring and releasing ----


async def test_a_newcomer_does_not_overtake(Lock):
    lock, order = Lock(), []
    await lock.acquire()

    async def take_turn(name):
        async with lock:
            order.append(name)

    waiter = asyncio.create_task(take_turn("waiter"))
    await asyncio.sleep(0)
    lock.release()
    newcomer = asyncio.create_task(take_turn("newcomer"))
    assert not lock.locked()  # as in asyncio: the lock is on its way to the waiter
    await take_turn("releaser")
    await asyncio.gather(waiter, newcomer)
    assert order == ["waiter", "releaser", "newcomer"]


async def test_one_task_at_a_time(Lock):
    lock, inside, most = Lock(), 0, 0

    async def work():
        nonlocal inside, most
        for _ in range(20):
            async with lock:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

    await asyncio.gather(*(work() for _ in range(10)))
    assert (inside, most) == (0, 1)


# ---- A Python object like any other ----


def test_repr(Lock):
    async def main():
        lock = Lock()
        plain = object.__repr__(lock)[1:-1]
        assert repr(lock) == f"<{plain} [unlocked]>"
        await lock.acquire()
        assert repr(lock) == f"<{plain} [locked]>"
        tasks = await queue_up(lock, 2)
        assert repr(lock) == f"<{plain} [locked, waiters:2]>"
        lock.release()
        assert repr(lock) == f"<{plain} [unlocked, waiters:2]>"
        await asyncio.gather(*tasks)
        assert repr(lock) == f"<{plain} [unlocked]>"

    asyncio.run(main())


async def test_a_future_set_by_others(Lock):
    lock = Lock()
    await lock.acquire()
    (task,) = await queue_up(lock)
    lock._waiters[0].set_result(True)
    lock._locked = False
    newcomer = asyncio.create_task(lock.acquire())  # it waits behind the other task
    await task
    assert await newcomer
    assert lock.locked()


async def test_private_state_is_writable(Lock):
    lock = Lock()
    lock._locked = True
    assert lock.locked()
    lock.release()
    async with lock:
        pass


async def test_a_queue_that_was_set(Lock):
    lock = Lock()
    await lock.acquire()
    future = asyncio.get_running_loop().create_future()
    lock._waiters = collections.deque([future])
    assert list(lock._waiters) == [future]
    lock.release()
    assert future.result() is True


# ---- What calls C ----


@needs_compiled
@pytest.mark.parametrize("primitive", ["Lock", "Condition"])
async def test_a_value_sent_from_c_before_the_first_step(primitive):
    ctypes = pytest.importorskip("ctypes")
    one = getattr(OURS["compiled"], primitive)()
    await one.acquire()
    awaitable = one.acquire() if primitive == "Lock" else one.wait()
    send = ctypes.PYFUNCTYPE(
        ctypes.c_int, ctypes.py_object, ctypes.py_object, ctypes.POINTER(ctypes.c_void_p)
    )(("PyIter_Send", ctypes.pythonapi))
    with pytest.raises(TypeError, match="non-None value to a just-started coroutine"):
        send(awaitable, "value", ctypes.byref(ctypes.c_void_p()))
    awaitable.close()
    one.release()
    async with one:
        pass


@needs_compiled
async def test_what_an_awaitable_awaits():
    """`_awaited` is a future while it waits."""
    lock = OURS["compiled"].Lock()
    await lock.acquire()
    awaitable = lock.acquire()
    assert awaitable._awaited is None
    future = awaitable.send(None)
    assert awaitable._awaited is future
    awaitable.close()
    assert awaitable._awaited is None


REPLACED = """
import weakref
import aiofastlock

gone = []
reference = weakref.ref(aiofastlock.Lock.try_acquire, gone.append)
aiofastlock.Lock.try_acquire = lambda self: "replaced"
assert aiofastlock.Lock().try_acquire() == "replaced"
assert aiofastlock.KeyedLock()["key"].try_acquire() == "replaced"
print(gone == [reference], reference())
"""


@needs_compiled
@pytest.mark.skipif(FREE_THREADED, reason="methods are immortal there")
def test_a_method_that_is_replaced_for_good_is_freed():
    command = [sys.executable, "-c", REPLACED]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.stderr, run.stdout) == ("", "True None\n")


@needs_compiled
@pytest.mark.parametrize("name", ["__module__", "__qualname__", "__code__"])
def test_what_a_method_says_of_itself_cannot_be_changed(name):
    method = OURS["compiled"].Lock.acquire
    before = getattr(method, name)
    with pytest.raises(AttributeError):
        setattr(method, name, None)
    assert getattr(method, name) == before
    method.note = "any other attribute"
    assert method.note == "any other attribute"
    del method.note


@needs_compiled
async def test_the_base_class_implements_no_primitive():
    import aiofastlock._compiled._lock

    nothing = aiofastlock._compiled._lock.ContextManager()
    future = asyncio.get_running_loop().create_future()
    waiter = nothing._enqueue(future, False)
    with pytest.raises(NotImplementedError):  # hand_off()
        waiter.throw(asyncio.CancelledError())
    waiter = nothing._enqueue(future, False)
    future.set_result(True)
    with pytest.raises(NotImplementedError):  # acquire_woken()
        waiter.send(None)
    assert not nothing._waiters
