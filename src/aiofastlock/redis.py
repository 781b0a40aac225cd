"""A lock per key for processes that share a Redis server.

    from redis.asyncio import Redis
    from aiofastlock.redis import KeyedLock

    locks = KeyedLock(Redis())

    async with locks["report:2026"] as hold:
        ...

It needs redis-py (`pip install aiofastlock[redis]`), Redis 6.0.6 or newer, and one server, or one
that Sentinel names: a cluster is refused.

Redis lends a key for a time, the lease. While a task holds the key, its process renews the lease;
when the process ends, the key is free once the lease has run out. If the lease cannot be renewed,
the key is lost: the block is cancelled, and ends with LockLost. Such a lock cannot promise that
only one process is inside:

- A process that stops for longer than the lease, or a block that does not await for so long, goes
  on when others may be inside. It is told as soon as its event loop runs.
- A machine that was suspended may learn it only when it next renews the lease: its clock stood
  still.
- If Redis restarts without its data or fails over to a replica that does not have all of it, if the
  key is deleted or evicted, or if the server's clock is set forward, then others may get the key at
  once. The holder is told when its process next talks to the server: soon after its connection was
  cut, and after a third of the lease at the latest.

So use it to avoid doing work twice. Where doing it twice is wrong, let the storage refuse what
comes late: `hold.token` is a number that is larger for each later hold of a key. It grows across
restarts, too, unless data was lost and the server's clock was set back.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import weakref
from contextlib import suppress
from itertools import count
from typing import Any, cast

from aiofastlock import Event, Semaphore, _holds
from aiofastlock._holds import KeyLock, LockLost

try:
    from redis.asyncio import Redis
    from redis.exceptions import RedisError
except ImportError as _error:
    raise ImportError(
        "aiofastlock.redis needs redis-py: pip install 'aiofastlock[redis]'"
    ) from _error

__all__ = ["Hold", "KeyLock", "KeyedLock", "LockLost"]

_logger = logging.getLogger(__name__)

_CONNECTIONS = 8  # at once, so that many keys do not use up the client's

# What the server has:
# - at `lock`, the owner that has the key, with the lease as its time to live. An owner is one task
#   that asks, "process:number".
# - in `queue`, the owners that wait. A process has one of a key there at most.
# - at `tokens`, the last token of all keys. Kept for each, they would never be removed.
#
# Invariant: a key with a queue is given to the first in it, whether it was released, as its owner
# does, or has run out, as anybody does who asks. The new owner is told through the channel of its
# process, and has the lease to ask for its token. An owner whose process does not listen is gone,
# or will ask again when it does.
#
# redis-py runs a command again when the connection is cut, so each script may run twice.

_COMMON = """
local lock, queue, tokens = KEYS[1], KEYS[2], KEYS[3]
local owner, lease, channels = ARGV[1], tonumber(ARGV[2]), ARGV[3]

local function give_to_next()
  local waiter = redis.call('LPOP', queue)
  while waiter and waiter ~= owner
      and redis.call('PUBLISH', channels .. waiter:match('^[^:]*'), waiter) == 0 do
    waiter = redis.call('LPOP', queue)
  end
  if waiter then redis.call('SET', lock, waiter, 'PX', lease) end
  return waiter
end
"""

# Gives {token, 0}, or {0, milliseconds that the holder has left}.
_ASK = f"""{_COMMON}
local turns, wait = tonumber(ARGV[4]), ARGV[5] == '1'
local holder = redis.call('GET', lock) or give_to_next()
if holder and holder ~= owner then
  if wait then
    if not redis.call('LPOS', queue, owner) then redis.call('RPUSH', queue, owner) end
    -- Who waits asks once in a lease. A queue that nobody asks about is forgotten.
    if redis.call('PTTL', queue) < 3 * lease then redis.call('PEXPIRE', queue, 3 * lease) end
  end
  return {{0, redis.call('PTTL', lock)}}
end
redis.call('SET', lock, owner, 'PX', lease)
local now = redis.call('TIME')
local token = math.max(tonumber(redis.call('GET', tokens) or 0) + 1, now[1] * 1000000 + now[2])
redis.call('SET', tokens, string.format('%.0f', token + turns - 1))
return {{token, 0}}
"""

# Gives 1, or 0 if the owner did not have the key.
_RELEASE = f"""{_COMMON}
redis.call('LREM', queue, 0, owner)
if redis.call('GET', lock) ~= owner then return 0 end
redis.call('DEL', lock)
give_to_next()
return 1
"""

_RENEW = f"""{_COMMON}
if redis.call('GET', lock) ~= owner then return 0 end
return redis.call('PEXPIRE', lock, lease)
"""


class Hold(_holds.Hold):
    """A key that a task holds.

    key is the key, as bytes. token is a fencing token: larger than that of every earlier hold of
    the key, whichever process had it. lost is an Event, which is set when the key is lost.
    """

    __slots__ = ("token",)

    key: bytes
    token: int

    def __init__(self, key: bytes, token: int) -> None:
        super().__init__(key)
        self.token = token


class KeyedLock(_holds.KeyedLock[bytes, Hold]):
    """A lock per key, for all processes that use the same server and prefix.

    client is a redis.asyncio.Redis. One connection of its pool stays in use, to hear from the
    server, and up to eight are used at once to ask it. lease is the number of seconds for which a
    key remains taken if its holder's process ends or cannot reach the server; it is renewed after
    a third of it, so that blocks may take longer. prefix is what the names of all keys and channels
    on the server begin with. cancel tells whether a block is cancelled when its key is lost; if
    not, only `hold.lost` is set meanwhile. In both cases the block ends with LockLost.

    `locks[key]` is the lock of a key, a str or bytes; a str is the same key as its UTF-8 bytes.
    `key in locks`, len() and iteration tell of the keys that tasks of this process hold or wait
    for; bool() is always True.

    Processes get a key in the order in which they ask. When it is released, the server tells the
    next. A process has up to 32 turns, one task after another, before it gives the key to the
    next.

    Errors of redis-py are raised when the key cannot be asked for. If it cannot be released, that
    is logged, and its lease ends it.
    """

    def __init__(
        self,
        client: Redis,
        *,
        lease: float = 30.0,
        prefix: str = "aiofastlock:",
        cancel: bool = True,
    ) -> None:
        if not isinstance(client, Redis):
            raise TypeError(f"client must be a redis.asyncio.Redis, not {type(client).__name__}")
        if isinstance(lease, bool) or not isinstance(lease, (int, float)):
            raise TypeError(f"lease must be a number of seconds, not {type(lease).__name__}")
        if not 0.001 <= lease <= 1e9:
            raise ValueError(f"lease must be between 0.001 and 1e9 seconds, not {lease!r}")
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str, not {type(prefix).__name__}")
        super().__init__(cancel)
        self._client = client
        self._lease = lease
        self._prefix = prefix.encode()
        self._scripts = {text: client.register_script(text) for text in (_ASK, _RELEASE, _RENEW)}

    def __repr__(self) -> str:
        return f"<aiofastlock.redis.KeyedLock {self._prefix.decode()!r}>"

    def _checked(self, key: str | bytes) -> bytes:
        if isinstance(key, str):
            return key.encode()
        if isinstance(key, bytes):
            return key
        raise TypeError(f"a key must be a str or bytes, not {type(key).__name__}")

    def __getitem__(self, key: str | bytes) -> KeyLock[bytes, Hold]:
        return super().__getitem__(cast("bytes", key))

    def __contains__(self, key: object) -> bool:
        return super().__contains__(cast("bytes", key))

    def _bind(self) -> bool:
        new = super()._bind()
        if new:
            self._process = secrets.token_hex(8)
            self._numbers = count()
            self._free = Semaphore(_CONNECTIONS)
            self._grants: dict[str, _Grant] = {}  # by owner, those that wait too
            self._listener: asyncio.Task[None] | None = None
        return new

    async def _run(self, text: str, grant: _Grant, *arguments: Any) -> Any:
        keys = [self._prefix + kind + grant.key for kind in (b"lock:", b"queue:")]
        keys.append(self._prefix + b"tokens")
        channels = self._prefix + b"process:"
        milliseconds = int(self._lease * 1000)
        async with self._free:
            return await self._scripts[text](
                keys, [grant.owner, milliseconds, channels, *arguments]
            )

    async def _take(self, key: bytes, wait: bool) -> _Grant | None:
        grant = _Grant(self, key, f"{self._process}:{next(self._numbers)}")
        asking = None
        self._grants[grant.owner] = grant
        try:
            while True:
                # Without it, the server would take this process for one that is gone.
                await self._listening()
                grant.news.clear()  # what comes from now on may be newer than the answer
                asking = self._start(grant.ask(wait))
                assert asking is not None
                pause = await self._result(asking)
                if pause is None:
                    return grant
                if not wait:
                    grant.end()
                    return None
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await grant.news.wait()
        except BaseException as error:
            await self._see_through(grant.forget(asking), error)
            raise

    async def _listening(self) -> None:
        """Wait until this process hears from the server."""
        if self._listener is None or self._listener.done():
            assert self._loop is not None
            self._subscribed = self._loop.create_future()
            channel = self._prefix + b"process:" + self._process.encode()
            self._listener = self._start(
                _listen(weakref.ref(self), self._client, channel, self._lease, self._subscribed)
            )
        if not self._subscribed.done():
            await asyncio.wait([self._subscribed])
        self._subscribed.result()

    def _notice_all(self) -> None:
        for grant in list(self._grants.values()):
            grant.notice()


async def _listen(
    reference: weakref.ref[KeyedLock],
    client: Redis,
    channel: bytes,
    lease: float,
    subscribed: asyncio.Future[None],
) -> None:
    """Tell the owners of a process what the server says to them, as long as its KeyedLock lives."""
    task = asyncio.current_task()
    assert task is not None
    try:
        async with client.pubsub() as pubsub:
            await pubsub.subscribe(channel)
            while not task.cancelling():  # redis-py can lose a CancelledError when it reconnects
                message = await pubsub.get_message(timeout=lease)
                locks = reference()
                if locks is None:
                    return
                if message is not None and message["type"] == "message":
                    owner = message["data"]
                    grant = locks._grants.get(owner if isinstance(owner, str) else owner.decode())
                    if grant is not None:
                        grant.notice()
                elif message is not None and message["type"] == "subscribe":
                    if not subscribed.done():
                        subscribed.set_result(None)
                    # After a new connection: the server may have told them something meanwhile, or
                    # may have lost what they have.
                    locks._notice_all()
                del locks
    except RedisError as error:
        if not subscribed.done():
            subscribed.set_exception(error)
            subscribed.exception()  # it need not be retrieved
    finally:
        subscribed.cancel()
        locks = reference()
        if locks is not None:
            locks._notice_all()  # they see whether the server is there


class _Grant(_holds.Grant[Hold]):
    """What an owner has, or waits for."""

    def __init__(self, locks: KeyedLock, key: bytes, owner: str) -> None:
        super().__init__()
        self.locks = locks
        self.key = key
        self.owner = owner
        self.news = Event()  # while it waits
        self.token = 0  # the next one
        self.until = 0.0  # when its lease ends, before it does on the server
        self.timer: asyncio.TimerHandle | None = None
        self.renewal: asyncio.Task[None] | None = None
        self.error: RedisError | None = None  # of the last try to renew

    # Invariant: the server began to count a lease after it was asked for, so that a lease which is
    # counted from then on ends first. The timer runs while this owner has the key: it starts the
    # renewal after a third of the lease, and, unless that stops it, finds the key lost at its end.

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        assert self.locks._loop is not None
        return self.locks._loop

    def new_hold(self) -> Hold:
        self.token += 1
        return Hold(self.key, self.token - 1)

    def lives(self) -> bool:
        return self.lost is None and self.loop.time() < self.until

    def ended(self) -> bool:
        return self.locks._grants.get(self.owner) is not self

    def end(self) -> None:
        self.locks._grants.pop(self.owner, None)
        if self.timer is not None:
            self.timer.cancel()

    def lose(self, reason: str, cause: BaseException | None = None) -> None:
        self.end()
        super().lose(reason, cause)

    async def ask(self, wait: bool) -> float | None:
        """Ask for the key; return None if it is there, or for how long to wait for news."""
        while True:
            sent = self.loop.time()
            token, left = await self.locks._run(_ASK, self, _holds.TURNS, int(wait))
            if not token:
                lease = self.locks._lease  # if the key has no time to live: others have set it
                return lease if left < 0 else min(left / 1000, lease)
            if self.ended() or self.loop.time() < sent + self.locks._lease:
                self.token = token
                self.extend(sent)
                return None
            # The answer came too late: nobody knows who has the key now.

    def extend(self, sent: float) -> None:
        if not self.ended():
            self.until = sent + self.locks._lease
            self.set_timer(sent + self.locks._lease / 3)

    def set_timer(self, when: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_at(when, self.tick)

    def tick(self) -> None:
        if self.lives():
            self.renew()
        else:
            self.lose(f"the lease of {self.key!r} has ended before it could be renewed", self.error)

    def notice(self) -> None:
        self.news.set()
        if self.timer is not None:
            self.renew()

    def renew(self) -> None:
        self.set_timer(self.until)
        if self.renewal is None or self.renewal.done():
            self.renewal = self.locks._start(self.keep())

    async def keep(self) -> None:
        """Renew the lease, or find out that it cannot be renewed."""
        while not self.ended():
            sent = self.loop.time()
            try:
                kept = await self.locks._run(_RENEW, self)
            except RedisError as error:
                self.error = error
                await asyncio.sleep(self.locks._lease / 20)
                continue
            if kept:
                return self.extend(sent)
            if not self.ended():
                self.lose(f"the server has {self.key!r} for this process no more")
        return None

    async def give_back(self, error: BaseException | None) -> None:
        self.end()
        if self.lost is not None:
            raise self.lost
        try:
            released = await self.locks._run(_RELEASE, self)
        except RedisError:
            _logger.warning("%r is not released before its lease ends", self.key, exc_info=True)
            return
        if not released:
            raise LockLost(f"the server had {self.key!r} for this process no more at the end")

    async def forget(self, asking: asyncio.Task[float | None] | None) -> None:
        """Take back that it was asked for. The answer may be on its way, or the key."""
        self.end()
        if asking is not None:
            await asyncio.wait([asking])
            with suppress(RedisError):  # the lease ends it
                await self.locks._run(_RELEASE, self)
