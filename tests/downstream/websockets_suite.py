"""Queues beside websockets' server and client, since websockets' sdist has no tests.

They are used as its documentation proposes: a queue for each client of a broadcast, and a queue
between the task that receives and the task that sends.
"""

import asyncio
import contextlib

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

pytestmark = pytest.mark.asyncio


@contextlib.asynccontextmanager
async def clients(handler, count=1):
    async with serve(handler, "127.0.0.1", 0) as server, contextlib.AsyncExitStack() as stack:
        port = server.sockets[0].getsockname()[1]
        connections = [connect(f"ws://127.0.0.1:{port}") for _ in range(count)]
        yield [await stack.enter_async_context(connection) for connection in connections]


async def send_all(websocket, queue):
    while True:
        message = await queue.get()
        await websocket.send(message)
        queue.task_done()


@pytest.mark.parametrize("maxsize", [0, 1, 3])
async def test_a_queue_for_each_client_of_a_broadcast(maxsize):
    queues = []

    async def handler(websocket):
        queue = asyncio.Queue(maxsize)
        queues.append(queue)
        sender = asyncio.create_task(send_all(websocket, queue))
        await websocket.wait_closed()
        sender.cancel()

    async with clients(handler, 5) as connected:
        while len(queues) < len(connected):
            await asyncio.sleep(0)
        for number in range(50):
            for queue in queues:
                await queue.put(str(number))
        for queue in queues:
            await queue.join()
        for client in connected:
            assert [await client.recv() for _ in range(50)] == [str(n) for n in range(50)]


@pytest.mark.parametrize("kind", [asyncio.Queue, asyncio.LifoQueue, asyncio.PriorityQueue])
async def test_a_queue_between_the_task_that_receives_and_the_one_that_sends(kind):
    async def handler(websocket):
        queue = kind(2)
        sender = asyncio.create_task(send_all(websocket, queue))
        with contextlib.suppress(ConnectionClosed):
            async for message in websocket:
                await queue.put(message)
        sender.cancel()

    sent = [f"{number:03}" for number in range(200)]
    async with clients(handler) as (client,):
        receiver = asyncio.create_task(receive(client, len(sent)))
        for message in sent:
            await client.send(message)
        got = await receiver
    assert sorted(got) == sent
    if kind is asyncio.Queue:
        assert got == sent


async def receive(client, count):
    return [await client.recv() for _ in range(count)]


async def test_workers_that_are_cancelled_lose_no_message():
    queue, done = asyncio.Queue(), []

    async def handler(websocket):
        async for message in websocket:
            await queue.put(message)

    async def work():
        while True:
            done.append(await queue.get())
            queue.task_done()

    async with clients(handler, 3) as connected:
        workers = [asyncio.create_task(work()) for _ in range(4)]
        for number in range(100):
            await connected[number % 3].send(str(number))
            workers[number % 4].cancel()
            workers[number % 4] = asyncio.create_task(work())
        while len(done) < 100:
            await asyncio.sleep(0.001)
        await queue.join()
        for worker in workers:
            worker.cancel()
    assert sorted(done, key=int) == [str(number) for number in range(100)]


@pytest.mark.skipif(not hasattr(asyncio, "QueueShutDown"), reason="since Python 3.13")
async def test_a_queue_that_is_shut_down_closes_the_connection():
    queue = asyncio.Queue()

    async def handler(websocket):
        with contextlib.suppress(asyncio.QueueShutDown):
            await send_all(websocket, queue)

    async with clients(handler) as (client,):
        for number in range(10):
            queue.put_nowait(str(number))
        assert await client.recv() == "0"
        queue.shutdown()
        assert [message async for message in client] == [str(number) for number in range(1, 10)]


async def test_a_lock_and_a_semaphore_around_requests():
    lock, semaphore = asyncio.Lock(), asyncio.Semaphore(2)

    async def handler(websocket):
        async for message in websocket:
            await websocket.send(message)

    async def ask(client, message):
        async with semaphore, lock:
            await client.send(message)
            assert await client.recv() == message

    async with clients(handler) as (client,):
        await asyncio.gather(*(ask(client, str(number)) for number in range(50)))
