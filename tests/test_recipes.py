"""The recipes of docs/processes.md, as they stand there, on real servers."""

import asyncio
import gc
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from conftest import OURS, SWITCHES

PAGE = Path(__file__).parent.parent / "docs" / "processes.md"
TASKS = 20


def recipe(module):
    """The code of the page that uses that module."""
    if not PAGE.exists():
        pytest.skip("the tests are not run from a source tree")
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (code,) = [block for block in blocks if f"{module}." in block and "def exclusive" in block]
    return code


def define(module, implementation):
    """What a recipe defines, with the locks of one implementation."""
    names = {}
    exec(recipe(module), names)
    names["Lock"] = OURS[implementation].Lock
    return SimpleNamespace(**names)


def keys(recipe):
    """Those that a process still has a lock for, but for what tracebacks keep in cycles."""
    gc.collect()
    return list(recipe.here)


# ---- Redis ----


@pytest.fixture
def redis_server():
    """The socket of a Redis that keeps nothing."""
    pytest.importorskip("redis", reason="needs redis-py")
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("needs redis-server")
    with TemporaryDirectory() as directory:
        address = f"{directory}/redis"
        options = ["--port", "0", "--unixsocket", address, "--save", "", "--dir", directory]
        with subprocess.Popen([server, *options], stdout=subprocess.DEVNULL) as process:
            try:
                with socket.socket(socket.AF_UNIX) as client:
                    while client.connect_ex(address):
                        assert process.poll() is None, "redis-server has ended"
                        time.sleep(0.01)
                yield address
            finally:
                process.kill()


@pytest.fixture
def redis_recipe(redis_server, our_name):
    return define("redis", our_name)


# Each process goes on until both have had the key five times. What they count is not atomic.
COUNT = """
import collections, os, sys
from redis.asyncio import Redis

async def count(client):
    who = collections.Counter()
    while len(who) < 2 or min(who.values()) < 5:
        async with exclusive(client, "key", retry=0.01):
            entered = int(await client.get("entered") or 0)
            await client.rpush("who", os.getpid())
            await asyncio.sleep(0.001)
            await client.set("entered", entered + 1)
        who.update(await client.lrange("who", sum(who.values()), -1))
        await asyncio.sleep(0.01)

async def main():
    async with Redis(unix_socket_path=sys.argv[1]) as client:
        await asyncio.gather(*[count(client) for _ in range(5)])

asyncio.run(main())
"""


def test_redis_keeps_processes_apart(redis_server, our_name):
    from redis import Redis

    command = [sys.executable, "-c", recipe("redis") + COUNT, redis_server]
    environment = os.environ | {"AIOFASTLOCK_EXTENSIONS": SWITCHES[our_name]}
    processes = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    with Redis(unix_socket_path=redis_server) as client:
        assert int(client.get("entered")) == client.llen("who")


async def test_redis_is_asked_by_one_task_of_a_process(redis_server, redis_recipe):
    from redis.asyncio import Redis

    async def connections(exclusive):
        """How many are opened where many tasks want one key."""

        async def enter(client):
            async with exclusive(client):
                await asyncio.sleep(0.001)

        before = (await observer.info("stats"))["total_connections_received"]
        async with Redis(unix_socket_path=redis_server) as client:
            await asyncio.gather(*[enter(client) for _ in range(TASKS)])
        return (await observer.info("stats"))["total_connections_received"] - before

    async with Redis(unix_socket_path=redis_server) as observer:
        assert await connections(lambda client: client.lock("key", sleep=0.001)) >= TASKS
        assert await connections(lambda client: redis_recipe.exclusive(client, "key")) == 1
    assert not keys(redis_recipe)


@pytest.fixture
async def redis(redis_server):
    """A client that can be told to stop before or after a command."""
    from redis.asyncio import Redis

    class Client(Redis):
        stop_at = None

        async def execute_command(self, *arguments, **options):
            await self.stop(("before", arguments[0]))
            answer = await super().execute_command(*arguments, **options)
            await self.stop(("after", arguments[0]))
            return answer

        async def stop(self, place):
            if place == self.stop_at:
                self.stop_at = None
                self.stopped.set()
                await asyncio.sleep(0.01)

    async with Client(unix_socket_path=redis_server) as client:
        client.stopped = asyncio.Event()
        yield client


async def cancelled_at(redis, place, exclusive):
    """Cancel who wants the key at that place, and wait for its end."""

    async def enter():
        async with exclusive:
            pass

    redis.stop_at = place
    task = asyncio.create_task(enter())
    await redis.stopped.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_redis_alone_keeps_a_key_that_is_cancelled(redis):
    await cancelled_at(redis, ("after", "SET"), redis.lock("key", timeout=1000))
    assert await redis.exists("key")


@pytest.mark.parametrize("command", ["SET", "EVALSHA", "SCRIPT LOAD"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_redis_has_the_key_back_after_a_cancellation(redis, redis_recipe, when, command):
    await cancelled_at(redis, (when, command), redis_recipe.exclusive(redis, "key", lease=1000))
    while await redis.exists("key"):  # what was cancelled in giving it back goes on
        await asyncio.sleep(0.001)
    assert not keys(redis_recipe)


async def test_redis_leaves_alone_what_others_have(redis, redis_recipe):
    await redis.set("key", "theirs")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), redis_recipe.exclusive(redis, "key", retry=0.01):
            pytest.fail("entered")
    assert await redis.get("key") == b"theirs"
    assert not keys(redis_recipe)


async def test_redis_has_the_key_back_after_an_exception(redis, redis_recipe):
    with pytest.raises(ZeroDivisionError):
        async with redis_recipe.exclusive(redis, "key"):
            raise ZeroDivisionError
    assert not await redis.exists("key")


async def test_redis_tells_that_the_lease_has_ended(redis, redis_recipe):
    from redis.exceptions import LockNotOwnedError

    async with redis_recipe.exclusive(redis, "key", lease=0.1) as lock:
        await lock.extend(10, replace_ttl=True)
        await asyncio.sleep(0.2)
    with pytest.raises(LockNotOwnedError):
        async with redis_recipe.exclusive(redis, "key", lease=0.01):
            await asyncio.sleep(0.05)


# ---- PostgreSQL ----

ADVISORY = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"


@pytest.fixture(scope="module")
def postgres():
    """The directory with the socket of a PostgreSQL that is thrown away."""
    pytest.importorskip("asyncpg", reason="needs asyncpg")
    path = os.pathsep.join(
        [os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    )
    initdb, pg_ctl = (shutil.which(name, path=path) for name in ("initdb", "pg_ctl"))
    if not initdb or not pg_ctl:
        pytest.skip("needs PostgreSQL's initdb and pg_ctl")
    user = "nobody" if os.geteuid() == 0 else None  # it does not run as root
    with TemporaryDirectory() as home:
        if user:
            shutil.chown(home, user)

        def run(*command):
            quiet = subprocess.DEVNULL
            subprocess.run(command, check=True, cwd=home, user=user, stdout=quiet, stderr=quiet)

        run(initdb, "--no-sync", "--auth=trust", "--username=postgres", "data")
        run(pg_ctl, "-D", "data", "-o", f"-k {home} -c listen_addresses= -F", "start")
        try:
            yield home
        finally:
            run(pg_ctl, "-D", "data", "-m", "immediate", "stop")


@pytest.fixture
async def pool(postgres):
    """Two connections: one for who waits or has the key, and one for what it does meanwhile."""
    import asyncpg

    async with asyncpg.create_pool(
        host=postgres, user="postgres", database="postgres", min_size=1, max_size=2
    ) as pool:
        yield pool


@pytest.fixture
def postgres_recipe(postgres, our_name):
    return define("asyncpg", our_name)


async def test_postgres_keeps_processes_apart(pool, postgres_recipe, our_name):
    other = define("asyncpg", our_name)  # to the server, another process
    inside = entered = 0

    async def enter(recipe):
        nonlocal inside, entered
        async with recipe.exclusive(pool, "key"):
            inside += 1
            assert inside == 1
            entered += 1
            await asyncio.sleep(0.001)
            inside -= 1

    await asyncio.gather(*[enter(recipe) for recipe in (postgres_recipe, other) * TASKS])
    assert entered == 2 * TASKS
    assert await pool.fetchval(ADVISORY) == 0
    assert not keys(postgres_recipe)


async def test_postgres_is_asked_by_one_task_of_a_process(pool, postgres_recipe):
    most = 0

    async def enter():
        nonlocal most
        async with postgres_recipe.exclusive(pool, "key"):
            most = max(most, await pool.fetchval(ADVISORY))

    async with asyncio.timeout(20):  # the pool's other connection is left to who has the key
        await asyncio.gather(*[enter() for _ in range(TASKS)])
    assert most == 1


async def test_postgres_has_the_key_back_whatever_happens(pool, postgres_recipe, our_name):
    other = define("asyncpg", our_name)
    async with postgres_recipe.exclusive(pool, "key"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), other.exclusive(pool, "key"):
                pytest.fail("entered")
        assert await pool.fetchval(ADVISORY) == 1

    async def create_and_fail():
        async with postgres_recipe.exclusive(pool, "key") as connection:
            await connection.execute("CREATE TABLE never (id int)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await create_and_fail()
    assert await pool.fetchval("SELECT to_regclass('never')") is None
    assert await pool.fetchval(ADVISORY) == 0
    assert not keys(postgres_recipe)
    assert not keys(other)
