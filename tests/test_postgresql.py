"""aiofastlock.postgresql, on a real server."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from itertools import count, groupby

import pytest
import servers
from helpers import Driven, examples, steps

pytest.importorskip("asyncpg", reason="needs asyncpg")
if None in servers.postgresql_programs():
    pytest.skip("needs PostgreSQL's initdb and pg_ctl", allow_module_level=True)

import asyncpg

from aiofastlock import _holds
from aiofastlock.postgresql import KeyedLock, LockLost

ADVISORY = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
HAS = f"{ADVISORY} AND granted"
WAITS = f"{ADVISORY} AND NOT granted"
CUT = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"


@pytest.fixture(scope="module")
def server():
    with servers.postgresql() as server:
        yield server


def create_pool(server, size=8, **options):
    return asyncpg.create_pool(
        host=server.address,
        user="postgres",
        database="postgres",
        min_size=1,
        max_size=size,
        **options,
    )


@pytest.fixture
async def pool(server):
    async with create_pool(server) as pool:
        yield pool


@pytest.fixture
async def observer(server):
    connection = await asyncpg.connect(host=server.address, user="postgres", database="postgres")
    await connection.execute("DROP TABLE IF EXISTS written; CREATE TABLE written (number int)")
    yield connection
    await connection.close()


async def until(observer, query, number):
    while await observer.fetchval(query) != number:
        await asyncio.sleep(0.001)


async def enter(lock):
    async with lock as hold:
        return hold


def write(hold, number=1):
    return hold.connection.execute("INSERT INTO written VALUES ($1)", number)


def written(observer):
    return observer.fetchval("SELECT coalesce(sum(number), 0) FROM written")


# ---- As a lock ----


async def test_shape(pool, observer):
    locks = KeyedLock(pool)
    assert bool(locks)  # `locks or KeyedLock(pool)` does not make a second one
    lock = locks["a"]
    hold = await lock.acquire()
    assert hold.key == "a"
    assert lock.locked()
    assert locks["a"].locked()
    assert (list(locks), len(locks), "a" in locks, "b" in locks) == (["a"], 1, True, False)
    assert await locks["a"].try_acquire() is None
    assert repr(lock) == "<<aiofastlock.postgresql.KeyedLock of 4 connections>['a'] locked>"
    assert repr(hold) == "<aiofastlock.postgresql.Hold of 'a'>"
    assert await observer.fetchval(HAS) == 1
    await locks["a"].release()
    assert not lock.locked()
    with pytest.raises(RuntimeError, match="'a' is not acquired"):
        await lock.release()
    assert await lock.try_acquire()
    assert await KeyedLock(pool)["a"].try_acquire() is None
    await lock.release()
    assert not len(locks)
    assert await observer.fetchval(ADVISORY) == 0


async def test_the_same_locks_in_sql(pool, observer):
    locks = KeyedLock(pool)
    async with locks["ключ"], locks[-(2**63)]:
        for key in ("hashtextextended('ключ', 0)", str(-(2**63))):
            assert await observer.fetchval(f"SELECT pg_try_advisory_lock({key})") is False
    assert await observer.fetchval("SELECT pg_try_advisory_lock(hashtextextended('ключ', 0))")
    assert await locks["ключ"].try_acquire() is None
    await observer.execute("SELECT pg_advisory_unlock_all()")


async def test_bad_input(server):
    for wrong in (None, "postgresql://", object()):
        with pytest.raises(TypeError, match=r"must be an asyncpg\.Pool"):
            KeyedLock(wrong)
    pool = create_pool(server, 8)
    for wrong in ("3", 2.0, True):
        with pytest.raises(TypeError, match="connections must be an int"):
            KeyedLock(pool, connections=wrong)
    for wrong in (0, -1, 9):
        with pytest.raises(ValueError, match="between 1 and the pool's 8"):
            KeyedLock(pool, connections=wrong)
    locks = KeyedLock(pool)
    for wrong in (b"a", None, 1.0, True):
        with pytest.raises(TypeError, match="a key must be a str or an int"):
            locks[wrong]
    for wrong in ("a\0", 2**63, "\ud800"):
        with pytest.raises(ValueError):  # noqa: PT011 - the last one is Python's
            locks[wrong]
    with pytest.raises(asyncpg.InterfaceError, match="pool is not initialized"):
        await locks["a"].acquire()
    async with pool:
        await enter(locks["a"])
    with pytest.raises(asyncpg.InterfaceError, match="pool is closed"):
        await locks["a"].acquire()
    assert not len(locks)


def test_another_loop(server):
    async def make():
        async with create_pool(server) as pool:
            locks = KeyedLock(pool)
            await enter(locks["a"])
            return locks

    with asyncio.Runner() as first, asyncio.Runner() as second:
        locks = first.run(make())
        with pytest.raises(RuntimeError, match="is bound to a different event loop"):
            second.run(enter(locks["a"]))


def test_without_asyncpg():
    program = "import sys; sys.modules['asyncpg'] = None; import aiofastlock.postgresql"
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    assert "pip install 'aiofastlock[postgresql]'" in found.stderr.splitlines()[-1]


# ---- Connections and transactions ----


async def test_tasks_that_wait_for_a_key_use_one_connection(server, observer):
    async with create_pool(server, 2) as pool:  # the other one is left to who has the key
        locks = KeyedLock(pool)
        most = 0

        async def work():
            nonlocal most
            async with locks["a"]:
                most = max(most, await pool.fetchval(ADVISORY))

        await asyncio.gather(*[work() for _ in range(40)])
        assert most == 1


async def test_so_many_connections_at_once(pool):
    locks = KeyedLock(pool, connections=2)
    two = asyncio.Barrier(2)
    inside = []

    async def work(key):
        async with locks[key]:
            inside.append(key)
            await asyncio.sleep(0.01)  # long enough for more to come
            assert len(inside) <= 2
            await two.wait()
            inside.remove(key)

    await asyncio.gather(*[work(key) for key in range(10)])


async def test_a_process_passes_the_key_on_until_others_had_their_turn(pool, observer):
    several = [KeyedLock(pool, connections=1) for _ in range(3)]
    order = []

    async def work(number):
        async with several[number]["a"]:
            order.append(number)
            await asyncio.sleep(0)

    async with KeyedLock(pool, connections=1)["a"]:
        tasks = [asyncio.create_task(work(number)) for number in (0, 1, 2) * 40]
        await until(observer, WAITS, 3)
    await asyncio.wait(tasks)
    turns = [(number, len(list(group))) for number, group in groupby(order)]
    assert [length for _, length in turns] == [_holds.TURNS] * 3 + [40 - _holds.TURNS] * 3


async def test_what_a_block_writes_is_there_when_the_next_begins(pool, observer):
    several = [KeyedLock(pool, connections=2) for _ in range(3)]

    async def work(locks):
        async with locks["a"] as hold:
            number = await hold.connection.fetchval("SELECT count(*) FROM written")
            await write(hold, number)

    await asyncio.gather(*[work(locks) for locks in several * 10])
    numbers = [number for (number,) in await observer.fetch("SELECT number FROM written")]
    assert numbers == list(range(30))


async def test_a_connection_that_was_used_is_not_passed_on(pool, observer):
    locks = KeyedLock(pool)
    async with locks["a"] as hold:
        await write(hold)
        connection = hold.connection
        task = asyncio.create_task(locks["a"].acquire())
        await steps()
    await task
    assert await written(observer) == 1
    with pytest.raises(asyncpg.InterfaceError, match="released"):
        await connection.fetchval("SELECT 1")
    await locks["a"].release()


async def test_with_another_isolation_by_default(server, observer):
    settings = {"default_transaction_isolation": "serializable"}
    async with create_pool(server, server_settings=settings) as pool:
        await test_what_a_block_writes_is_there_when_the_next_begins(pool, observer)


async def test_a_block_that_raises_is_rolled_back(pool, observer):
    locks = KeyedLock(pool)
    with pytest.raises(ZeroDivisionError):
        async with locks["a"] as hold:
            await write(hold)
            raise ZeroDivisionError
    assert await written(observer) == 0
    await enter(locks["a"])
    with pytest.raises(asyncpg.InterfaceError, match="released"):
        await hold.connection.fetchval("SELECT 1")


async def test_a_transaction_that_cannot_be_committed(pool, observer):
    await observer.execute("ALTER TABLE written ADD UNIQUE (number) DEFERRABLE INITIALLY DEFERRED")
    locks = KeyedLock(pool)
    with pytest.raises(asyncpg.UniqueViolationError):
        async with locks["a"] as hold:
            await write(hold)
            await write(hold)
    assert await written(observer) == 0
    assert not len(locks)
    await enter(locks["a"])


async def test_waiting_has_no_time_limit_of_the_pool(server):
    async with create_pool(server, command_timeout=0.05) as pool:
        locks, others = KeyedLock(pool), KeyedLock(pool)
        async with locks["a"]:
            task = asyncio.create_task(enter(others["a"]))
            await asyncio.sleep(0.2)
        await task


async def test_errors_of_the_server_while_waiting(server, observer):
    settings = {"lock_timeout": "50ms"}
    async with create_pool(server, server_settings=settings) as pool:
        locks, others = KeyedLock(pool), KeyedLock(pool)
        async with locks["a"]:
            for _ in range(5):  # more often than there are connections
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await others["a"].acquire()
                assert not len(others)
        await enter(others["a"])


async def test_the_example_of_the_page(pool, observer):
    page = examples("processes.md")
    await observer.execute(
        """DROP TABLE IF EXISTS accounts; CREATE TABLE accounts (account int, balance int);
        INSERT INTO accounts VALUES (1, 10)"""
    )
    locks = KeyedLock(pool)
    results = await asyncio.gather(
        *[page.book(locks, 1, 3) for _ in range(4)], return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None)] * 3 + [ValueError]
    assert await observer.fetchval("SELECT balance FROM accounts") == 1


# ---- Lost ----


async def test_a_lost_connection_cancels_the_block(pool, observer):
    locks = KeyedLock(pool)
    with pytest.raises(LockLost, match="is closed") as raised:
        async with locks["a"] as hold:
            await write(hold)
            await observer.execute(CUT)
            await asyncio.sleep(1000)
    assert isinstance(raised.value.__context__, asyncio.CancelledError)
    assert hold.lost.is_set()
    assert not asyncio.current_task().cancelling()
    assert not len(locks)
    assert await written(observer) == 0
    for _ in range(10):  # more often than there are connections
        with pytest.raises(LockLost):
            async with locks["a"]:
                await observer.execute(CUT)
                await asyncio.sleep(1000)
    await enter(locks["a"])


def without_the_loop(pid):
    """Wait for the end of a process."""
    with suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)


async def test_a_connection_lost_at_the_end(pool, observer):
    locks = KeyedLock(pool)
    with pytest.raises(LockLost):
        async with locks["a"] as hold:
            await write(hold)
            pid = hold.connection.get_server_pid()
            os.kill(pid, signal.SIGTERM)
            without_the_loop(pid)
    assert await written(observer) == 0
    await enter(locks["a"])


async def test_asked_for_a_lost_key_cancels_nothing(pool, observer):
    locks = KeyedLock(pool, cancel=False)
    with pytest.raises(LockLost):
        async with locks["a"] as hold:
            await observer.execute(CUT)
            await hold.lost.wait()
            await asyncio.sleep(0)


async def test_what_a_block_raises_is_not_replaced(pool, observer):
    locks = KeyedLock(pool)
    with pytest.raises(ZeroDivisionError):
        async with locks["a"]:
            cut = asyncio.create_task(observer.execute(CUT))
            with suppress(asyncio.CancelledError):  # maybe before the observer has its answer
                await asyncio.sleep(1000)
            await cut
            raise ZeroDivisionError
    assert not asyncio.current_task().cancelling()
    await enter(locks["a"])


async def test_a_connection_lost_while_it_waits(pool, observer):
    locks, others = KeyedLock(pool), KeyedLock(pool)
    async with locks["a"]:
        tasks = [asyncio.create_task(enter(others["a"])) for _ in range(2)]
        await until(observer, WAITS, 1)
        await observer.execute(f"{CUT} AND NOT granted")
        await asyncio.wait(tasks[:1])
        assert isinstance(tasks[0].exception(), asyncpg.PostgresError)
    await tasks[1]


async def test_a_lost_connection_that_nobody_holds(pool, observer):
    """It is lost between two tasks of the process."""
    locks = KeyedLock(pool)
    await locks["a"].acquire()
    task = asyncio.create_task(enter(locks["a"]))
    await steps()
    await locks["a"].release()
    locks._entries["a"].grant.terminated(None)
    await task
    await until(observer, ADVISORY, 0)


# ---- Cancelled ----


async def free(observer, locks, others):
    return None


async def held(observer, locks, others):
    await others["a"].acquire()

    async def let_in():
        await until(observer, WAITS, 1)
        await others["a"].release()

    return let_in()


async def passed_on(observer, locks, others):
    await locks["a"].acquire()

    async def let_in():
        await steps(3)
        await locks["a"].release()

    return let_in()


@pytest.mark.parametrize("when", ["before", "as it ends"])
@pytest.mark.parametrize("scene", [free, held, passed_on])
async def test_cancelled_at_every_wait(pool, observer, scene, when):
    for n in count(1):  # pragma: no branch
        locks, others = KeyedLock(pool, connections=1), KeyedLock(pool, connections=1)
        let_in = await scene(observer, locks, others)
        entered = []

        async def visit(locks=locks, entered=entered):
            async with locks["a"]:
                entered.append(True)

        driven = Driven(visit(), n, when)
        task = asyncio.create_task(driven.drive())
        helper = asyncio.create_task(let_in) if let_in else None
        await asyncio.wait([task])
        if driven.waits >= n:
            assert task.cancelled()
        if helper is not None:
            if scene is held and not helper.done():  # it was cancelled before it waited there
                helper.cancel()
                await asyncio.wait([helper])
                if others["a"].locked():
                    await others["a"].release()
            else:
                await helper
        while entered and locks._tasks:  # a release that is cancelled goes on
            await asyncio.sleep(0.001)
        await until(observer, ADVISORY, 0)
        assert not len(locks)
        assert not locks._free.locked()
        assert await others["a"].try_acquire()
        await others["a"].release()
        if driven.waits < n:
            await task
            return


# ---- Several processes ----

HEAD = """
import asyncio, sys, asyncpg
from aiofastlock.postgresql import KeyedLock, LockLost

async def main(host):
    async with asyncpg.create_pool(
        host=host, user="postgres", database="postgres", min_size=1, max_size=12
    ) as pool:
        await work(pool, KeyedLock(pool, connections=10))
"""
TAIL = """
asyncio.run(main(*sys.argv[1:]))
"""

# What it counts under a lock is not atomic.
COUNT = """
async def count(pool, locks, key):
    async with locks[f"count {key}"] as hold:
        number = await pool.fetchval("SELECT number FROM counts WHERE key = $1", key)
        await hold.connection.execute(
            "UPDATE counts SET number = $2, times = times + 1 WHERE key = $1", key, number + 1
        )

async def work(pool, locks):
    await asyncio.gather(*[count(pool, locks, n % 10) for n in range(50)])
"""

# Says that it has the key, and has it until the input ends.
HOLD = """
async def work(pool, locks):
    reading = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    try:
        async with locks["a"]:
            print("holds", flush=True)
            await asyncio.shield(reading)
    except LockLost:
        print("lost", flush=True)
        await reading
"""


@pytest.fixture
def start(server):
    processes = []

    def start(program):
        command = [sys.executable, "-c", HEAD + program + TAIL, server.address]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
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


async def test_eight_processes(observer, start):
    await observer.execute(
        """DROP TABLE IF EXISTS counts; CREATE TABLE counts (key int, number int, times int);
        INSERT INTO counts SELECT key, 0, 0 FROM generate_series(0, 9) key"""
    )
    processes = [start(COUNT) for _ in range(8)]
    assert [await ended(process) for process in processes] == [0] * 8
    counted = await observer.fetch("SELECT number, times FROM counts")
    assert [tuple(row) for row in counted] == [(40, 40)] * 10


async def test_a_holder_that_is_killed(pool, start):
    process = start(HOLD)
    assert await line(process) == "holds"
    process.kill()
    await enter(KeyedLock(pool)["a"])


async def test_a_waiter_that_is_killed(pool, observer, start):
    locks, others = KeyedLock(pool), KeyedLock(pool)
    async with locks["a"]:
        process = start(HOLD)
        await until(observer, WAITS, 1)
        behind = asyncio.create_task(enter(others["a"]))
        await until(observer, WAITS, 2)
        process.kill()
    await behind


async def test_a_holder_that_stops_and_is_cut_off(pool, observer, start):
    process = start(HOLD)
    assert await line(process) == "holds"
    process.send_signal(signal.SIGSTOP)
    assert await KeyedLock(pool)["a"].try_acquire() is None
    await observer.execute(CUT)
    await enter(KeyedLock(pool)["a"])
    process.send_signal(signal.SIGCONT)
    assert await line(process) == "lost"
    assert await ended(process) == 0


async def test_a_server_that_restarts():
    with servers.postgresql() as server:
        async with create_pool(server) as pool:
            locks, others = KeyedLock(pool), KeyedLock(pool)
            with pytest.raises(LockLost):
                async with locks["a"]:
                    waiting = asyncio.create_task(enter(others["a"]))
                    await until(pool, WAITS, 1)
                    server.kill()
                    await asyncio.sleep(1000)
            with pytest.raises((asyncpg.PostgresError, OSError)):
                await waiting
            with pytest.raises((asyncpg.PostgresError, OSError)):
                await locks["a"].acquire()
            server.start()
            await enter(locks["a"])
            assert not len(locks)
