"""One lazily opened Postgres connection for one Lambda environment.

Units of work take turns on the connection: concurrent `conn.transaction()` blocks on one psycopg connection lose each
other's writes. Statements that are units of work by themselves take no turns: they go through a queue, which a unit of
several waits for. A lost connection is reopened only before a unit of work's first statement. No statement is sent
twice, unless the server says that it cancelled it, and so undid it.

A unit of work has a time limit, also when the server is silent (`manifold.store.time_limit`).
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
from psycopg.rows import TupleRow

from manifold.errors import InvalidRequest, Unavailable
from manifold.store.statement_queue import StatementQueue
from manifold.store.time_limit import ended_by

Connection = psycopg.AsyncConnection[TupleRow]
Query = LiteralString

PREPARE_AFTER = 5
"""Executions of a statement after which it is prepared."""
TURN_SECONDS = 10.0
"""How long a unit of work waits for its turn."""
UNIT_SECONDS = 12.0
"""Time limit of a unit of work, with a connect if one is needed. With the turn it is well below API Gateway's 29 s."""
_ADDRESS_SECONDS = 5  # for each address that the host's name has
_CONNECT_SECONDS = 8.0
_CHECK_SECONDS = 2.0
_SOCKET: Mapping[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""The kernel notices a peer that is gone, also while nothing is awaited."""
_IDLE_SECONDS = 10.0  # a connection that was idle for longer (a frozen environment, a pooler) is checked first


class Database:
    """A connection that opens when it is first needed. `url` is called for each connect, so that a secret may rotate.

    With `prepared`, frequent statements are prepared; most poolers in transaction mode do not support that. Units of
    work raise `Unavailable` if Postgres does not answer in time, and `InvalidRequest` for a value that it cannot store.
    """

    def __init__(self, url: Callable[[], str], *, prepared: bool = False) -> None:
        self._url = url
        self._prepare_threshold = PREPARE_AFTER if prepared else None
        self._connection: Connection | None = None
        self._queue: StatementQueue | None = None
        self._turn = asyncio.Lock()
        self._used_at = 0.0  # by the wall's clock: a monotonic one may stand still while Lambda freezes us

    async def fetch_text(self, query: Query, parameters: Sequence[object]) -> str | None:
        """The text that a function of the schema returns, by a statement that is a unit of work by itself.

        The query names its parameters as Postgres does: `$1`.
        """
        with _errors():
            queue = None if self._turn.locked() else self._usable_queue()
            if queue is not None:
                answer = queue.send(query, parameters, _until())
            else:
                async with self._in_turn():
                    until = _until()
                    answer = (await self._opened_queue(until)).send(query, parameters, until)
            self._used_at = time.time()
            try:
                return await answer
            finally:
                self._used_at = time.time()

    @asynccontextmanager
    async def session(self, seconds: float | None = None) -> AsyncIterator[Connection]:
        """The connection in autocommit: each statement is a transaction. The limit is `seconds`, or `UNIT_SECONDS`."""
        async with self._in_turn():
            until = _until(seconds)
            with _errors():
                await self._leave_queue(until)
                connection = await self._open()
                try:
                    async with ended_by(connection, until):
                        yield connection
                finally:
                    self._used_at = time.time()

    @asynccontextmanager
    async def transaction(self, seconds: float | None = None) -> AsyncIterator[Connection]:
        """The connection inside one transaction: committed at the end, rolled back when an exception leaves it."""
        async with self.session(seconds) as connection, connection.transaction():
            yield connection

    async def close(self) -> None:
        """Close the connection; the next unit of work opens another."""
        if self._queue is not None:
            self._queue.close()
            self._queue = None
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turn.acquire()
        except TimeoutError as error:
            raise _busy() from error
        try:
            yield
        finally:
            self._turn.release()

    def _usable_queue(self) -> StatementQueue | None:
        queue = self._queue
        return queue if queue and queue.is_open and self._is_fresh else None

    async def _opened_queue(self, until: float) -> StatementQueue:
        """The connection's queue, which whoever had the turn before may have opened."""
        queue = self._usable_queue()
        if queue is None:
            await self._leave_queue(until)
            queue = self._queue = StatementQueue(await self._open())
        return queue

    async def _leave_queue(self, until: float) -> None:
        """Have the connection without a queue, whose statements have ended.

        Where the environment was frozen meanwhile, nobody knows whether they will: they are given up.
        """
        if self._queue is None:
            return
        if self._queue.is_busy and time.time() - self._used_at >= _IDLE_SECONDS:
            self._queue.close()
        try:
            async with asyncio.timeout_at(until):
                await self._queue.leave()
        except TimeoutError as error:
            raise _busy() from error
        self._queue = None

    async def _open(self) -> Connection:
        connection = self._connection
        if connection is not None and not await self._alive(connection):
            await connection.close()
            connection = None
        if connection is None:
            connection = await self._connect()
        self._connection = connection
        return connection

    async def _alive(self, connection: Connection) -> bool:
        if connection.closed:
            return False
        if self._is_fresh:
            return True
        try:
            async with ended_by(connection, _until(_CHECK_SECONDS)):
                await connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    @property
    def _is_fresh(self) -> bool:
        return 0 <= time.time() - self._used_at < _IDLE_SECONDS

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                return await psycopg.AsyncConnection.connect(
                    self._url(),
                    autocommit=True,
                    prepare_threshold=self._prepare_threshold,
                    connect_timeout=_ADDRESS_SECONDS,
                    application_name="manifold",
                    client_encoding="utf8",
                    **_SOCKET,
                )
        except (psycopg.OperationalError, TimeoutError) as error:
            raise Unavailable("The database cannot be reached. Try again shortly.") from error


def _until(seconds: float | None = None) -> float:
    """When a unit of work ends that begins now, by the event loop's clock."""
    return asyncio.get_running_loop().time() + (seconds or UNIT_SECONDS)


def _busy() -> Unavailable:
    return Unavailable("The database is too busy. Try again shortly.")


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """What units of work raise for psycopg's errors."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise Unavailable("The database did not answer. Try again shortly.") from error
    except (psycopg.DataError, UnicodeEncodeError) as error:
        message = (
            "The request holds what cannot be stored: a NUL character, half a surrogate pair, or a number such as NaN."
        )
        raise InvalidRequest(message) from error
