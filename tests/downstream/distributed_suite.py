"""dask's distributed uses asyncio's primitives for what these tests do.

The package has no tests in its sdist. These are short: a scheduler and workers in one process.
"""

import asyncio

import pytest
from distributed import Actor, Client, Event, Lock, MultiLock, Queue, Scheduler, Semaphore, Variable
from distributed.batched import BatchedSend
from distributed.core import ConnectionPool, Server
from distributed.deploy.local import LocalCluster
from distributed.utils_test import gen_cluster, gen_test, inc, slowinc


@gen_test()
async def test_a_scheduler_starts_and_closes():
    async with Scheduler(dashboard_address=":0", port=0) as scheduler:
        assert scheduler.status.name == "running"
    assert scheduler.status.name == "closed"


@gen_test()
async def test_a_local_cluster_is_scaled():
    options = {"processes": False, "dashboard_address": ":0", "asynchronous": True}
    async with (
        LocalCluster(n_workers=1, **options) as cluster,
        Client(cluster, asynchronous=True) as c,
    ):
        cluster.scale(3)
        await c.wait_for_workers(3)
        assert await c.gather(c.map(inc, range(50))) == list(range(1, 51))
        cluster.scale(1)
        await cluster
        assert len(cluster.workers) == 1


@gen_cluster(client=True)
async def test_results_and_errors(c, s, a, b):
    futures = c.map(slowinc, range(20), delay=0.001)
    failed = c.submit(lambda: 1 / 0)
    assert await c.submit(sum, futures) == 210
    with pytest.raises(ZeroDivisionError):
        await failed
    await c.cancel(futures)
    assert all(future.cancelled() for future in futures)


@gen_cluster(client=True)
async def test_a_worker_closes_during_the_work(c, s, a, b):
    futures = c.map(slowinc, range(40), delay=0.01)
    await asyncio.sleep(0.05)
    await a.close()
    assert await c.gather(futures) == list(range(1, 41))


@gen_cluster(client=True)
async def test_its_lock_event_semaphore_queue_and_variable(c, s, a, b):
    lock, event, semaphore = Lock("l"), Event("e"), await Semaphore(2, "s")
    queue, variable = await Queue("q", maxsize=1), Variable("v")
    inside, most = 0, 0

    async def work(index):
        nonlocal inside, most
        await event.wait()
        async with semaphore:
            inside += 1
            most = max(most, inside)
            async with lock:
                await queue.put(index)
            inside -= 1

    tasks = [asyncio.create_task(work(index)) for index in range(8)]
    await event.set()
    assert sorted([await queue.get() for _ in tasks]) == list(range(8))
    await asyncio.gather(*tasks)
    assert most == 2
    await variable.set("x")
    assert await variable.get() == "x"
    async with MultiLock(["x", "y"]):
        assert not await MultiLock(["y", "z"]).acquire(timeout=0.1)


@gen_cluster(client=True)
async def test_locks_inside_tasks(c, s, a, b):
    def add(number):
        with Lock("total"):
            total = Variable("total")
            total.set(total.get() + number)

    await Variable("total").set(0)
    await c.gather(c.map(add, range(5)))
    assert await Variable("total").get() == 10


@gen_cluster(client=True)
async def test_an_actor(c, s, a, b):
    class Counter:
        def __init__(self):
            self.lock = asyncio.Lock()
            self.count = 0

        async def add(self):
            async with self.lock:
                count = self.count
                await asyncio.sleep(0)
                self.count = count + 1
            return self.count

    counter = await c.submit(Counter, actor=True)
    assert isinstance(counter, Actor)
    assert sorted(await asyncio.gather(*(counter.add() for _ in range(10)))) == list(range(1, 11))


@gen_test()
async def test_a_pool_limits_its_connections():
    """Its limit may be a float: the scheduler takes half of the files that may be open."""

    async def ping(delay=0.01):
        await asyncio.sleep(delay)
        return "pong"

    servers = [Server({"ping": ping}) for _ in range(4)]
    for server in servers:
        await server.listen("tcp://127.0.0.1:0")
    pool = await ConnectionPool(limit=4 / 2)
    try:
        answers = await asyncio.gather(
            *(pool(server.address).ping() for server in servers for _ in range(5))
        )
        assert answers == ["pong"] * 20
        assert pool.open <= 2
    finally:
        await pool.close()
        for server in servers:
            await server.close()


@gen_test()
async def test_batched_messages():
    received = []

    async def take(comm, **_):
        while len(received) < 100:
            received.extend(await comm.read())

    server = Server({}, stream_handlers={})
    server.handle_comm = take
    await server.listen("tcp://127.0.0.1:0")
    pool = await ConnectionPool()
    comm = await pool.connect(server.address)
    batched = BatchedSend(interval="1 ms")
    batched.start(comm)
    for number in range(100):
        batched.send(number)
        if number % 10 == 0:
            await asyncio.sleep(0.002)
    while len(received) < 100:
        await asyncio.sleep(0.001)
    assert received == list(range(100))
    await batched.close()
    await pool.close()
    await server.close()
