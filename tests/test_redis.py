"""aiofastlock.redis, on a real server.

Where a lease is 1000 seconds, a test would not end if it were only the lease that helped.
"""

import asyncio
import gc
import shutil
import signal
import subprocess
import sys
import weakref
from contextlib import suppress
from itertools import count, groupby
from unittest import mock

import pytest
import servers
from helpers import Driven, examples, steps

pytest.importorskip("redis", reason="needs redis-py")
if shutil.which("redis-server") is None:
    pytest.skip("needs redis-server", allow_module_level=True)

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from aiofastlock import _holds
from aiofastlock.redis import KeyedLock, LockLost

LONG = 1000


@pytest.fixture(scope="module")
def shared_server():
    with servers.redis() as server:
        yield server


@pytest.fixture
async def client(shared_server):
    async with Redis(unix_socket_path=shared_server.address) as client:
        await client.flushall()
        yield client


@pytest.fixture
def server():
    """One to be stopped and killed."""
    with servers.redis() as server:
        yield server


def connected(server):
    return Redis(unix_socket_path=server.address)


async def left(client):
    """What is left on the server, but for the counter."""
    return [key for key in await client.keys("*") if key != b"aiofastlock:tokens"]


async def gone(client):
    """Wait until nothing is left: what was cancelled twice, or closed, is cleaned up later."""
    while await left(client):
        await asyncio.sleep(0.001)


async def cut(client, kind):
    """Cut the connections of all other clients."""
    await client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


async def enter(lock):
    async with lock as hold:
        return hold


async def until_queued(client, key, length=1):
    """Wait until so many processes wait for the key."""
    while await client.llen(f"aiofastlock:queue:{key}") < length:
        await asyncio.sleep(0.001)
        if asyncio.current_task().cancelling():  # redis-py can lose a CancelledError
            raise asyncio.CancelledError


# ---- As a lock ----


async def test_shape(client):
    locks = KeyedLock(client)
    assert bool(locks)  # `locks or KeyedLock(client)` does not make a second one
    lock = locks["a"]
    assert not lock.locked()
    hold = await lock.acquire()
    assert hold.key == b"a"
    assert lock.locked()
    assert locks["a"].locked()
    assert not locks["b"].locked()
    assert (list(locks), len(locks), "a" in locks, b"a" in locks, "b" in locks) == (
        [b"a"],
        1,
        True,
        True,
        False,
    )
    assert await locks["a"].try_acquire() is None
    assert repr(lock) == "<<aiofastlock.redis.KeyedLock 'aiofastlock:'>[b'a'] locked>"
    assert repr(hold) == "<aiofastlock.redis.Hold of b'a'>"
    await locks["a"].release()
    assert not lock.locked()
    with pytest.raises(RuntimeError, match="b'a' is not acquired"):
        await lock.release()
    hold = await lock.try_acquire()
    assert hold.token
    await lock.release()
    async with lock as hold:
        assert not hold.lost.is_set()
    assert not len(locks)
    assert not await left(client)


async def test_a_str_is_its_utf_8(client):
    locks, others = KeyedLock(client), KeyedLock(client)
    async with locks["ключ"]:
        assert await others["ключ".encode()].try_acquire() is None


async def test_other_prefixes_are_other_keys(client):
    async with KeyedLock(client)["a"], KeyedLock(client, prefix="b:")["a"]:
        assert await client.exists("aiofastlock:lock:a", "b:lock:a") == 2


async def test_a_client_that_decodes(shared_server, client):
    async with Redis(unix_socket_path=shared_server.address, decode_responses=True) as decoding:
        locks, others = KeyedLock(decoding, lease=LONG), KeyedLock(decoding, lease=LONG)
        await asyncio.gather(*[enter(which["a"]) for which in (locks, others) * 50])


def test_bad_input():
    import redis

    client = Redis()
    for wrong in (redis.Redis(), None, "redis://", RedisCluster(host="localhost")):
        with pytest.raises(TypeError, match=r"must be a redis\.asyncio\.Redis"):
            KeyedLock(wrong)
    for wrong in ("30", None, True):
        with pytest.raises(TypeError, match="must be a number of seconds"):
            KeyedLock(client, lease=wrong)
    for wrong in (0, -1, 0.0009, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="between"):
            KeyedLock(client, lease=wrong)
    with pytest.raises(TypeError, match="prefix must be a str"):
        KeyedLock(client, prefix=b"a")
    locks = KeyedLock(client)
    for wrong in (1, None, ("a",)):
        with pytest.raises(TypeError, match="a key must be a str or bytes"):
            locks[wrong]
        with pytest.raises(TypeError, match="a key must be a str or bytes"):
            wrong in locks  # noqa: B015


def test_another_loop(shared_server):
    async def make():
        async with connected(shared_server) as client:
            locks = KeyedLock(client)
            await enter(locks["a"])
            return locks

    with asyncio.Runner() as first, asyncio.Runner() as second:
        locks = first.run(make())
        with pytest.raises(RuntimeError, match="is bound to a different event loop"):
            second.run(enter(locks["a"]))
    with asyncio.Runner() as third:  # those are closed
        third.run(enter(locks["a"]))
        third.run(locks._client.aclose())


def test_without_redis_py():
    program = "import sys; sys.modules['redis'] = None; import aiofastlock.redis"
    found = subprocess.run(
        [sys.executable, "-c", program], check=False, stderr=subprocess.PIPE, text=True
    )
    assert "pip install 'aiofastlock[redis]'" in found.stderr.splitlines()[-1]


async def test_the_examples_of_the_page(client, shared_server, capsys):
    page = examples("processes.md")
    await page.main(shared_server.address)
    assert "Only one process is here: <aiofastlock.redis.Hold of b'report:2026'>" in (
        capsys.readouterr().out
    )
    locks, others = KeyedLock(client), KeyedLock(client)
    done = []

    async def work():
        done.append(await page.once(others, "a", work))

    assert await page.once(locks, "a", work) is True
    assert done == [False]
    storage = mock.AsyncMock()
    for _ in range(2):
        await page.save(storage, locks, "a", mock.AsyncMock(return_value=1))
    first, second = (call.args for call in storage.update.call_args_list)
    assert first[:2] == second[:2] == ("a", 1)
    assert first[2] < second[2]


# ---- Who has it when ----


async def test_tokens_grow_whoever_asks(client):
    tokens = []

    async def work(locks):
        async with locks["a"] as hold:
            tokens.append(hold.token)

    several = [KeyedLock(client, lease=LONG) for _ in range(3)]
    await asyncio.gather(*[work(locks) for locks in several * 50])
    await client.flushall()
    await work(several[0])
    await client.incrby("aiofastlock:tokens", 10**12)  # the clock was set back
    await work(several[0])
    await work(several[1])
    assert tokens == sorted(set(tokens))


async def test_a_process_passes_the_key_on_until_others_had_their_turn(client):
    several = [KeyedLock(client, lease=LONG) for _ in range(3)]
    order = []

    async def work(number):
        async with several[number]["a"]:
            order.append(number)
            await asyncio.sleep(0)

    async with KeyedLock(client, lease=LONG)["a"]:
        tasks = [asyncio.create_task(work(number)) for number in (0, 1, 2) * 40]
        await until_queued(client, "a", 3)
        await client.config_resetstat()
    await asyncio.wait(tasks)
    turns = [(number, len(list(group))) for number, group in groupby(order)]
    assert [length for _, length in turns] == [_holds.TURNS] * 3 + [40 - _holds.TURNS] * 3
    assert [number for number, _ in turns[:3]] == [number for number, _ in turns[3:]]
    asked = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert asked < 30  # each asks twice for each of its turns, and releases once
    assert (await client.info("clients"))["connected_clients"] < 15


async def test_waiters_are_woken_by_the_server(client):
    locks, others = KeyedLock(client, lease=LONG), KeyedLock(client, lease=LONG)
    async with locks["a"]:
        task = asyncio.create_task(enter(others["a"]))
        await until_queued(client, "a")
    async with asyncio.timeout(20):
        await task


async def test_try_acquire_does_not_overtake(client):
    locks, others = KeyedLock(client, lease=LONG), KeyedLock(client, lease=LONG)
    async with locks["a"]:
        task = asyncio.create_task(enter(others["a"]))
        await until_queued(client, "a")
        await client.delete("aiofastlock:lock:a")  # free, and not yet given to who waits
        assert await KeyedLock(client)["a"].try_acquire() is None
        await task
        await client.set("aiofastlock:lock:a", "others", ex=LONG)
        with pytest.raises(LockLost):
            await locks["a"].release()
        await client.delete("aiofastlock:lock:a")
        await locks["a"].acquire()


async def test_a_queue_that_nobody_asks_about_is_forgotten(client):
    await client.set("aiofastlock:lock:a", "others")
    locks = KeyedLock(client, lease=0.5)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), locks["a"]:
            pytest.fail("entered")
    assert await left(client) == [b"aiofastlock:lock:a"]
    task = asyncio.create_task(enter(locks["a"]))
    await until_queued(client, "a")
    assert 0 < await client.pttl("aiofastlock:queue:a") <= 1500
    await client.delete("aiofastlock:lock:a")
    await task  # it asks again, as what others have set may have no end


# ---- Lost ----


async def lose(client, key="a"):
    """Let the server know nothing of the key, and the holder hear of it."""
    await client.delete(f"aiofastlock:lock:{key}")
    await cut(client, "pubsub")


async def test_a_lost_key_cancels_the_block(client):
    locks = KeyedLock(client, lease=LONG)
    task = asyncio.current_task()
    with pytest.raises(LockLost, match="no more") as raised:
        async with locks["a"] as hold:
            await lose(client)
            await asyncio.sleep(LONG)
    assert isinstance(raised.value.__context__, asyncio.CancelledError)
    assert hold.lost.is_set()
    assert repr(hold) == "<aiofastlock.redis.Hold of b'a' lost>"
    assert not task.cancelling()
    assert not len(locks)
    await asyncio.sleep(0)  # nothing is pending
    await enter(locks["a"])


async def test_a_lost_key_is_told_at_the_end(client):
    locks = KeyedLock(client, lease=LONG)
    with pytest.raises(LockLost, match="at the end"):
        async with locks["a"]:
            await client.delete("aiofastlock:lock:a")
    await locks["a"].acquire()
    await client.delete("aiofastlock:lock:a")
    with pytest.raises(LockLost, match="at the end"):
        await locks["a"].release()
    assert not len(locks)


async def test_a_lost_key_is_found_by_the_renewal(client):
    with pytest.raises(LockLost, match="no more"):
        async with KeyedLock(client, lease=0.3)["a"]:
            await client.delete("aiofastlock:lock:a")
            await asyncio.sleep(LONG)


async def test_asked_for_a_lost_key_cancels_nothing(client):
    locks = KeyedLock(client, lease=LONG, cancel=False)
    seen = []
    with pytest.raises(LockLost):
        async with locks["a"] as hold:
            await lose(client)
            await hold.lost.wait()
            await asyncio.sleep(0)
            seen.append("still there")
    assert seen
    hold = await KeyedLock(client, lease=LONG)["b"].acquire()  # without a block, neither
    await lose(client, "b")
    await hold.lost.wait()
    await asyncio.sleep(0)


async def test_a_block_that_goes_on_all_the_same(client):
    with pytest.raises(LockLost):
        async with KeyedLock(client, lease=LONG)["a"]:
            await lose(client)
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(LONG)
            await asyncio.sleep(0)
    assert not asyncio.current_task().cancelling()


async def test_what_a_block_raises_is_not_replaced(client):
    locks = KeyedLock(client, lease=LONG)
    with pytest.raises(ZeroDivisionError):
        async with locks["a"] as hold:
            await lose(client)
            try:
                await asyncio.sleep(LONG)
            finally:
                raise ZeroDivisionError
    assert hold.lost.is_set()
    assert not asyncio.current_task().cancelling()
    with pytest.raises(ZeroDivisionError):
        async with locks["a"]:
            await client.delete("aiofastlock:lock:a")
            raise ZeroDivisionError
    async with locks["a"]:
        pass


async def test_a_task_that_is_cancelled_too_stays_cancelled(client):
    locks = KeyedLock(client, lease=LONG)
    entered = asyncio.Event()

    async def block():
        async with locks["a"] as hold:
            entered.set()
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                await hold.lost.wait()
                raise

    task = asyncio.create_task(block())
    await entered.wait()
    task.cancel()
    await asyncio.sleep(0)
    await lose(client)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not len(locks)


async def test_a_task_that_was_being_cancelled_before(client):
    async def block():
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(LONG)
        with pytest.raises(LockLost):
            async with KeyedLock(client, lease=LONG)["a"]:
                await lose(client)
                await asyncio.sleep(LONG)
        return asyncio.current_task().cancelling()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == 1


async def test_blocks_in_blocks_and_groups(client):
    locks = KeyedLock(client, lease=LONG)
    order = []
    with pytest.raises(LockLost):
        async with locks["a"] as outer:
            try:
                async with locks["b"] as inner, asyncio.timeout(LONG), asyncio.TaskGroup() as group:
                    group.create_task(asyncio.sleep(LONG))
                    await client.delete("aiofastlock:lock:a", "aiofastlock:lock:b")
                    await cut(client, "pubsub")
                    try:
                        await asyncio.sleep(LONG)
                    finally:
                        while not (outer.lost.is_set() and inner.lost.is_set()):
                            with suppress(asyncio.CancelledError):
                                await asyncio.sleep(0)
            except BaseException as error:
                order.append(type(error))
                raise
    assert order == [asyncio.CancelledError]  # for the outer one
    assert not asyncio.current_task().cancelling()
    assert not len(locks)


# ---- Cancelled ----


async def free(client, locks, others):
    """A key that nobody has."""
    return locks["a"], None


async def heard(client, locks, others):
    """The same, where the process already listens."""
    await enter(locks["b"])
    return locks["a"], None


async def held(client, locks, others):
    """Another process has it, and releases it while this one waits."""
    await others["a"].acquire()

    async def let_in():
        await until_queued(client, "a")
        await others["a"].release()

    return locks["a"], let_in()


async def passed_on(client, locks, others):
    """Another task of the process has it."""
    await locks["a"].acquire()

    async def let_in():
        await steps(3)
        await locks["a"].release()

    return locks["a"], let_in()


@pytest.mark.parametrize("when", ["before", "as it ends"])
@pytest.mark.parametrize("scene", [free, heard, held, passed_on])
async def test_cancelled_at_every_wait(client, scene, when):
    """Nothing is left, on the server or here, and the key can be had."""
    for n in count(1):  # pragma: no branch
        locks, others = KeyedLock(client, lease=LONG), KeyedLock(client, lease=LONG)
        lock, let_in = await scene(client, locks, others)
        entered = []

        async def visit(lock=lock, entered=entered):
            async with lock:
                entered.append(True)

        driven = Driven(visit(), n, when)
        task = asyncio.create_task(driven.drive())
        helper = asyncio.create_task(let_in) if let_in else None
        await asyncio.wait([task])
        if driven.waits >= n:
            assert task.cancelled()
        if helper is not None:
            if scene is held and not helper.done():  # it was cancelled before it was queued
                helper.cancel()
                await asyncio.wait([helper])
                if others["a"].locked():
                    await others["a"].release()
            else:
                await helper
        if entered or scene is held:  # a release that is cancelled goes on
            await gone(client)
        assert not await left(client)
        assert not len(locks)
        assert await others["a"].try_acquire()
        await others["a"].release()
        if driven.waits < n:
            await task
            return


@pytest.mark.parametrize("command", ["EVALSHA", "SUBSCRIBE"])
async def test_cancelled_twice(shared_server, command):
    """Then it ends at once, and what it asked for is given back later."""

    class Slow(Redis):
        async def execute_command(self, *arguments, **options):
            answer = await super().execute_command(*arguments, **options)
            if arguments[0] == "EVALSHA":
                asked.set()
                await go_on.wait()
            return answer

    asked, go_on = asyncio.Event(), asyncio.Event()
    async with Slow(unix_socket_path=shared_server.address) as client:
        await client.flushall()
        locks = KeyedLock(client, lease=LONG)
        task = asyncio.create_task(enter(locks["a"]))
        await asked.wait()
        for _ in range(2):
            task.cancel()
            await steps(3)
        assert task.cancelled()
        assert not len(locks)
        assert await left(client) == [b"aiofastlock:lock:a"]
        go_on.set()
        await gone(client)


async def test_a_release_that_is_cancelled_goes_on(client):
    locks = KeyedLock(client, lease=LONG)
    await locks["a"].acquire()
    task = asyncio.create_task(locks["a"].release())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not len(locks)
    await gone(client)


async def test_closed_while_it_waits(client):
    locks, others = KeyedLock(client, lease=LONG), KeyedLock(client, lease=LONG)
    await others["a"].acquire()
    coroutine = enter(locks["a"])

    async def start():
        """Drive it by hand until it waits for the key."""
        while await client.llen("aiofastlock:queue:a") == 0:
            coroutine.send(None)
            await asyncio.sleep(0.01)

    await start()
    coroutine.close()
    assert not len(locks)
    while await client.exists("aiofastlock:queue:a"):
        await asyncio.sleep(0.001)
    await others["a"].release()


async def test_closed_in_the_block(client):
    locks = KeyedLock(client, lease=LONG)

    async def block():
        async with locks["a"]:
            await asyncio.sleep(LONG)

    coroutine = block()
    while not locks["a"].locked():
        coroutine.send(None)
        await asyncio.sleep(0.01)
    coroutine.close()
    assert not len(locks)
    await gone(client)


def test_closed_in_the_block_once_its_loop_is_closed(shared_server):
    """Nothing can be sent any more: the key is free when its lease has ended."""
    locks = KeyedLock(connected(shared_server), lease=LONG)

    async def block(entered):
        async with locks["a"]:
            entered.set()
            await asyncio.sleep(LONG)

    async def begin():
        entered = asyncio.Event()
        task = asyncio.create_task(block(entered))
        await entered.wait()
        others = asyncio.all_tasks() - {asyncio.current_task(), task}
        for other in others:  # those that renew and listen
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await locks._client.aclose()
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(begin())
    loop.close()
    task._log_destroy_pending = False
    assert locks["a"].locked()
    task.get_coro().close()
    assert not locks["a"].locked()
    assert not len(locks)


async def test_whoever_is_behind_a_cancelled_task_gets_the_key(client):
    locks = KeyedLock(client, lease=LONG)
    await locks["a"].acquire()
    first, second, third = [asyncio.create_task(enter(locks["a"])) for _ in range(3)]
    await steps()
    second.cancel()
    await locks["a"].release()
    first.cancel()
    await asyncio.wait([first, second])
    await third
    assert not await left(client)


# ---- Servers and connections that fail ----


@pytest.mark.parametrize("kind", ["normal", "pubsub"])
async def test_connections_are_cut(client, kind):
    locks, others = KeyedLock(client, lease=LONG), KeyedLock(client, lease=LONG)
    async with locks["a"] as hold:
        waiting = [asyncio.create_task(enter(others["a"])) for _ in range(3)]
        await until_queued(client, "a")
        await cut(client, kind)
        await client.ping()
        assert not hold.lost.is_set()
    async with asyncio.timeout(60):
        await asyncio.gather(*waiting)
    assert not await left(client)


async def test_cut_all_the_time(client):
    several = [KeyedLock(client, lease=LONG) for _ in range(2)]
    entered = 0

    async def work(locks):
        nonlocal entered
        async with locks["a"]:
            before = entered
            await asyncio.sleep(0)
            entered = before + 1

    async def disturb():
        while True:
            await cut(client, "pubsub")
            await cut(client, "normal")
            await asyncio.sleep(0.05)

    disturbing = asyncio.create_task(disturb())
    results = await asyncio.gather(
        *[work(locks) for locks in several * 100], return_exceptions=True
    )
    disturbing.cancel()
    # A release that ran twice, since its answer was cut off, found nothing: it counts as lost.
    lost = [error for error in results if error is not None]
    assert all(isinstance(error, LockLost) for error in lost), lost
    assert entered == 200
    await gone(client)


async def test_a_restart_without_the_data(server):
    async with connected(server) as client:
        locks = KeyedLock(client, lease=LONG)
        with pytest.raises(LockLost, match="no more"):
            async with locks["a"]:
                server.kill()
                server.start()
                await asyncio.sleep(LONG)
        async with locks["a"]:
            assert locks["a"].locked()


async def test_a_restart_with_the_data():
    with servers.redis("--appendonly", "yes", "--appendfsync", "always") as server:
        async with connected(server) as client:
            locks, others = KeyedLock(client, lease=LONG), KeyedLock(client, lease=LONG)
            async with locks["a"] as hold:
                waiting = asyncio.create_task(enter(others["a"]))
                await until_queued(client, "a")
                server.kill()
                server.start()
                assert await client.exists("aiofastlock:lock:a")
            assert hold.token < (await waiting).token


async def test_a_server_that_stops_for_longer_than_the_lease(server):
    async with connected(server) as client:
        locks = KeyedLock(client, lease=0.3)
        with pytest.raises(LockLost, match="lease"):
            async with locks["a"]:
                server.stop()
                await asyncio.sleep(LONG)
        server.go_on()
        await enter(locks["a"])


async def test_an_answer_that_comes_after_the_lease(server):
    async with connected(server) as client:
        locks = KeyedLock(client, lease=0.3)
        await enter(locks["a"])
        server.stop()
        acquiring = asyncio.create_task(locks["a"].acquire())
        await asyncio.sleep(0.5)
        server.go_on()
        hold = await acquiring
        await client.ping()
        assert not hold.lost.is_set()  # it was asked once more
        await locks["a"].release()


async def test_a_server_that_is_gone(server, caplog):
    retry = Retry(NoBackoff(), 0)
    async with Redis(unix_socket_path=server.address, retry=retry) as client:
        locks = KeyedLock(client, lease=LONG)
        async with locks["a"]:
            server.kill()
        assert "b'a' is not released before its lease ends" in caplog.text
        for _ in range(2):
            tasks = [asyncio.create_task(enter(locks["a"])) for _ in range(3)]
            await asyncio.wait(tasks)
            assert all(isinstance(task.exception(), RedisError) for task in tasks)
            assert not len(locks)
        server.start()
        await enter(locks["a"])
        with pytest.raises(LockLost) as raised:
            async with KeyedLock(client, lease=0.3)["a"]:
                server.kill()
                await asyncio.sleep(LONG)
        assert isinstance(raised.value.__cause__, RedisError)


# ---- Several processes ----

HEAD = """
import asyncio, sys
from redis.asyncio import Redis
from aiofastlock.redis import KeyedLock, LockLost

async def main(address, lease):
    async with Redis(unix_socket_path=address) as client:
        await work(client, KeyedLock(client, lease=float(lease)))
"""
TAIL = """
asyncio.run(main(*sys.argv[1:]))
"""

# What it counts under a lock is not atomic, and what it writes late is refused.
COUNT = """
WRITE = '''
local last = tonumber(redis.call('LINDEX', KEYS[2], -1) or 0)
if tonumber(ARGV[1]) <= last then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('SET', KEYS[1], ARGV[2])
return 1
'''

async def count(client, locks, key):
    while True:
        try:
            async with locks[str(key)] as hold:
                number = int(await client.get(f"count:{key}") or 0)
                await asyncio.sleep(0.0005)
                keys = f"count:{key}", f"tokens:{key}"
                if await client.eval(WRITE, 2, *keys, hold.token, number + 1):
                    return
        except LockLost:
            pass

async def rounds(client, locks, n):
    for step in range(2):
        await count(client, locks, (n * 7 + step) % 10)

async def work(client, locks):
    await asyncio.gather(*[rounds(client, locks, n) for n in range(50)])
"""

# Says what it has, and has it until the input ends.
HOLD = """
async def work(client, locks):
    reading = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    try:
        print("waits", flush=True)
        async with locks["a"] as hold:
            print(hold.token, flush=True)
            await asyncio.shield(reading)
    except LockLost:
        print("lost", flush=True)
        await reading
"""


@pytest.fixture
def start():
    """Start a process that runs a program of these, to be ended by its input."""
    processes = []

    def start(program, server, lease):
        command = [sys.executable, "-c", HEAD + program + TAIL, server.address, str(lease)]
        processes.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


async def line(process):
    return (await asyncio.to_thread(process.stdout.readline)).strip()


async def ended(process):
    await asyncio.to_thread(process.communicate)
    return process.returncode


async def counted(client):
    """How often was each of the keys counted, and were those who counted alone?"""
    numbers = []
    for key in range(10):
        tokens = await client.lrange(f"tokens:{key}", 0, -1)
        numbers.append(int(await client.get(f"count:{key}")))
        assert numbers[-1] == len(tokens)
    return sum(numbers)


async def test_eight_processes(client, shared_server, start):
    processes = [start(COUNT, shared_server, LONG) for _ in range(8)]
    assert [await ended(process) for process in processes] == [0] * 8
    assert await counted(client) == 8 * 50 * 2


async def test_eight_processes_killed_and_stopped(client, shared_server, start):
    processes = [start(COUNT, shared_server, 0.3) for _ in range(8)]
    while await client.exists(*[f"count:{key}" for key in range(10)]) < 10:
        await asyncio.sleep(0.01)
    for process in processes[:2]:
        process.kill()
    for process in processes[2:5]:
        process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.5)  # longer than the lease
    for process in processes[2:5]:
        process.send_signal(signal.SIGCONT)
    assert [await ended(process) for process in processes[2:]] == [0] * 6
    assert 6 * 50 * 2 <= await counted(client) <= 8 * 50 * 2


async def test_a_holder_that_is_killed(client, shared_server, start):
    process = start(HOLD, shared_server, 0.3)
    assert await line(process) == "waits"
    token = int(await line(process))
    process.kill()
    assert (await enter(KeyedLock(client, lease=LONG)["a"])).token > token


async def test_a_waiter_that_is_killed(client, shared_server, start):
    locks, others = KeyedLock(client, lease=LONG), KeyedLock(client, lease=LONG)
    async with locks["a"]:
        process = start(HOLD, shared_server, LONG)
        await until_queued(client, "a")
        behind = asyncio.create_task(enter(others["a"]))
        await until_queued(client, "a", 2)
        process.kill()
        while len(await client.pubsub_channels("aiofastlock:*")) > 2:
            await asyncio.sleep(0.001)
    await behind


async def test_a_holder_that_stops(client, shared_server, start):
    process = start(HOLD, shared_server, 0.3)
    assert await line(process) == "waits"
    token = int(await line(process))
    process.send_signal(signal.SIGSTOP)
    async with KeyedLock(client, lease=LONG)["a"] as hold:
        assert hold.token > token
        process.send_signal(signal.SIGCONT)
        assert await line(process) == "lost"
    assert await ended(process) == 0


async def test_a_waiter_that_stops(client, shared_server, start):
    locks, others = KeyedLock(client, lease=0.3), KeyedLock(client, lease=0.3)
    async with locks["a"]:
        process = start(HOLD, shared_server, 0.3)
        assert await line(process) == "waits"
        await until_queued(client, "a")
        process.send_signal(signal.SIGSTOP)
        behind = asyncio.create_task(enter(others["a"]))
        await until_queued(client, "a", 2)
    hold = await behind  # when the stopped one has had the key for a lease
    process.send_signal(signal.SIGCONT)
    assert int(await line(process)) > hold.token
    assert await ended(process) == 0


# ---- Memory ----


async def test_a_lock_that_is_dropped(client):
    """Its connection is given up when the server next has nothing to say for a lease."""
    locks = KeyedLock(client, lease=0.1)
    await enter(locks["a"])
    (listener,) = locks._tasks
    reference = weakref.ref(locks)
    del locks
    gc.collect()
    assert reference() is None
    await asyncio.wait([listener])
    assert not await client.pubsub_channels()


async def test_many_keys(client):
    locks = KeyedLock(client)
    await asyncio.gather(*[enter(locks[str(key)]) for key in range(300)])  # the pool has 100
    assert not locks._entries
    assert not locks._grants
    assert len(locks._tasks) == 1
    assert not await left(client)
