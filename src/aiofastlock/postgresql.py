"""A lock per key for processes that share a PostgreSQL database.

    import asyncpg
    from aiofastlock.postgresql import KeyedLock

    async with asyncpg.create_pool("postgresql://...") as pool:
        locks = KeyedLock(pool)

        async with locks["report:2026"] as hold:
            await hold.connection.execute("INSERT INTO report ...")

It needs asyncpg (`pip install aiofastlock[postgresql]`) and PostgreSQL 11 or newer. The lock is an
advisory lock of the database, and belongs to a transaction, in which the block runs.

What the block writes through `hold.connection` is committed while its process has the key, or not
at all. Everything else that the block does has no such protection: if the connection is lost, the
server gives the key to the next, and only then is the block told. It is cancelled, and ends with
LockLost. There is no lease: a process that stops keeps its keys as long as its connection lives,
and a server that vanishes without closing the connection is noticed by what uses it.
"""

from __future__ import annotations

import math
from contextlib import AsyncExitStack
from typing import Any

from aiofastlock import Semaphore, _holds
from aiofastlock._holds import KeyLock, LockLost

try:
    import asyncpg
except ImportError as _error:
    raise ImportError(
        "aiofastlock.postgresql needs asyncpg: pip install 'aiofastlock[postgresql]'"
    ) from _error

__all__ = ["Hold", "KeyLock", "KeyedLock", "LockLost"]

_TAKE = "SELECT pg_advisory_xact_lock({})"
_TRY = "SELECT pg_try_advisory_xact_lock({})"


class Hold(_holds.Hold):
    """A key that a task holds.

    key is the key, a str or an int. lost is an Event, which is set when the connection is lost, and
    the key with it.
    """

    __slots__ = ("_grant",)

    key: str | int

    def __init__(self, grant: _Grant) -> None:
        super().__init__(grant.key)
        self._grant = grant

    @property
    def connection(self) -> Any:
        """The connection that has the key, an asyncpg.Connection in a transaction.

        The end of the block commits the transaction, or rolls it back if the block raises. The
        connection then goes back to the pool.
        """
        # What has been used goes back to the pool, which resets it.
        self._grant.turns = 0
        return self._grant.connection


class KeyedLock(_holds.KeyedLock[str | int, Hold]):
    """A lock per key, for all processes that use the same database.

    pool is an asyncpg.Pool. connections is the number of its connections that are used at once, for
    keys that are held or waited for: half of them if it is not given. The others are left to what
    the blocks do. cancel tells whether a block is cancelled when its key is lost; if not, only
    `hold.lost` is set meanwhile. In both cases the block ends with LockLost.

    `locks[key]` is the lock of a key: a str, of which the server takes hashtextextended(key, 0), or
    an int of 64 bits, which is the number of the advisory lock. `key in locks`, len() and iteration
    tell of the keys that tasks of this process hold or wait for; bool() is always True.

    Each key that is held or waited for uses a connection, however many tasks wait for it. A task
    that holds one key and asks for another needs two. Tasks that wait for each other's keys, or for
    each other's connections, wait for ever: PostgreSQL sees no deadlock between connections that
    are of one task.

    Processes get a key in the order in which they ask. A process has up to 32 turns, one task after
    another, before it gives the key to the next. After a block that has used its connection, the
    key is given back at once.

    Errors of asyncpg are raised when the key cannot be asked for, and when the transaction cannot
    be committed.
    """

    def __init__(
        self, pool: asyncpg.Pool, *, connections: int | None = None, cancel: bool = True
    ) -> None:
        if not isinstance(pool, asyncpg.Pool):
            raise TypeError(f"pool must be an asyncpg.Pool, not {type(pool).__name__}")
        size = pool.get_max_size()
        if connections is None:
            connections = max(1, size // 2)
        if isinstance(connections, bool) or not isinstance(connections, int):
            raise TypeError(f"connections must be an int, not {type(connections).__name__}")
        if not 1 <= connections <= size:
            raise ValueError(
                f"connections must be between 1 and the pool's {size}, not {connections}"
            )
        super().__init__(cancel)
        self._pool = pool
        self._connections = connections

    def __repr__(self) -> str:
        return f"<aiofastlock.postgresql.KeyedLock of {self._connections} connections>"

    def _checked(self, key: str | int) -> str | int:
        if isinstance(key, str):
            if "\0" in key:
                raise ValueError(f"PostgreSQL has no NUL in texts: {key!r}")
            key.encode()
        elif isinstance(key, bool) or not isinstance(key, int):
            raise TypeError(f"a key must be a str or an int, not {type(key).__name__}")
        elif not -(2**63) <= key < 2**63:
            raise ValueError(f"a key must fit 64 bits: {key}")
        return key

    def _bind(self) -> bool:
        new = super()._bind()
        if new:
            self._free = Semaphore(self._connections)
        return new

    async def _take(self, key: str | int, wait: bool) -> _Grant | None:
        lock = "hashtextextended($1, 0)" if isinstance(key, str) else "$1"
        grant = _Grant(key)
        try:
            await grant.stack.enter_async_context(self._free)
            grant.connection = await grant.stack.enter_async_context(self._pool.acquire())
            grant.connection.add_termination_listener(grant.terminated)
            grant.stack.callback(grant.connection.remove_termination_listener, grant.terminated)
            # With a snapshot for all of the transaction, which the server would take before it
            # waits, the block would not see what the previous holder has committed.
            await grant.stack.enter_async_context(
                grant.connection.transaction(isolation="read_committed")
            )
            if wait:  # for as long as it takes, whatever the pool's command_timeout is
                await grant.connection.execute(_TAKE.format(lock), key, timeout=math.inf)
            elif not await grant.connection.fetchval(_TRY.format(lock), key):
                await self._result(grant.give_back(None))
                return None
        except BaseException as error:
            await self._see_through(grant.drop(error), error)
            raise
        return grant


class _Grant(_holds.Grant[Hold]):
    """A connection with a transaction that has the key, or waits for it."""

    def __init__(self, key: str | int) -> None:
        super().__init__()
        self.key = key
        self.stack: AsyncExitStack[bool | None] = (
            AsyncExitStack()
        )  # everything that is to be undone
        self.connection: Any = None

    def new_hold(self) -> Hold:
        return Hold(self)

    def terminated(self, connection: object) -> None:
        self.lose(f"the connection that had {self.key!r} is closed")

    def lives(self) -> bool:
        return self.lost is None

    async def give_back(self, error: BaseException | None) -> None:
        try:
            # Any exception rolls back.
            await self.stack.__aexit__(type(error) if error else None, error, None)
        except Exception as failure:
            # The server's word that it cannot commit, or does not know what it has done. asyncpg
            # has errors of many kinds for a connection that has ended.
            if self.lost is None and getattr(failure, "severity_en", None) == "ERROR":
                raise
            self.lose(f"the connection that had {self.key!r} failed at the end", failure)
        if self.lost is not None:
            raise self.lost
