"""What aiomqtt does with queues: its own tests of that need a broker on the Internet.

A mosquitto runs on this machine. The queue of a client may be of any class, as aiomqtt documents.
"""

import asyncio
import itertools
import uuid

import aiomqtt
import pytest

pytestmark = pytest.mark.asyncio


class Important(asyncio.PriorityQueue):
    """What is urgent comes first; the rest in order of arrival."""

    count = 0

    def _put(self, item):
        Important.count += 1
        super()._put((not item.topic.matches("+/urgent"), Important.count, item))

    def _get(self):
        return super()._get()[-1]


class Latest(asyncio.Queue):
    """Keeps one message of each topic."""

    def _init(self, maxsize):
        self._queue = {}

    def _put(self, item):
        self._queue.pop(str(item.topic), None)
        self._queue[str(item.topic)] = item

    def _get(self):
        return self._queue.pop(next(iter(self._queue)))


async def publish(client, *topics):
    for number, topic in enumerate(topics):
        await client.publish(f"{client.identifier}/{topic}", str(number), qos=1)


def client(**options):
    return aiomqtt.Client("127.0.0.1", identifier=uuid.uuid4().hex, timeout=20, **options)


async def arrived(queue, count):
    """Wait until messages have been put: the broker sends them back at any time."""
    async with asyncio.timeout(20):
        while queue._unfinished_tasks < count:
            await asyncio.sleep(0.005)


async def read(client, count):
    messages = client.messages
    return [int((await anext(messages)).payload) for _ in range(count)]


ORDERS = {
    asyncio.Queue: [0, 1, 2, 3, 4],
    asyncio.LifoQueue: [4, 3, 2, 1, 0],
    Important: [1, 3, 0, 2, 4],
    Latest: [3, 4],
}


@pytest.mark.parametrize("kind", ORDERS)
async def test_the_order_of_messages_that_wait(kind):
    async with client(queue_type=kind) as connected:
        await connected.subscribe(f"{connected.identifier}/#", qos=1)
        await publish(connected, "other", "urgent", "other", "urgent", "other")
        await arrived(connected._queue, 5)
        assert await read(connected, len(ORDERS[kind])) == ORDERS[kind]
        assert len(connected.messages) == 0


async def test_messages_that_are_awaited_one_by_one():
    async with client() as connected:
        await connected.subscribe(f"{connected.identifier}/#", qos=1)
        reader = asyncio.create_task(read(connected, 100))
        await publish(connected, *["topic"] * 100)
        assert await asyncio.wait_for(reader, 20) == list(range(100))


async def test_a_full_queue_discards_messages():
    async with client(max_queued_incoming_messages=3) as connected:
        await connected.subscribe(f"{connected.identifier}/#", qos=1)
        await publish(connected, *["topic"] * 5)
        await arrived(connected._queue, 3)
        assert await read(connected, 3) == [0, 1, 2]


async def test_several_readers():
    async with client() as connected:
        await connected.subscribe(f"{connected.identifier}/#", qos=1)
        readers = [asyncio.create_task(read(connected, 15)) for _ in range(4)]
        await publish(connected, *["topic"] * 60)
        got = await asyncio.wait_for(asyncio.gather(*readers), 20)
    assert sorted(itertools.chain.from_iterable(got)) == list(range(60))
    assert all(messages == sorted(messages) for messages in got)


async def test_calls_at_the_same_time():
    async with client(max_concurrent_outgoing_calls=2) as connected:
        await connected.subscribe(f"{connected.identifier}/#", qos=1)
        await asyncio.gather(*(publish(connected, "topic", "topic") for _ in range(10)))
        assert sorted(await read(connected, 20)) == sorted([0, 1] * 10)
