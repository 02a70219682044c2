"""One lazily opened Postgres connection for one Lambda environment.

Units of work take turns on the connection: concurrent `conn.transaction()` blocks on one psycopg connection lose each
other's writes. A lost connection is reopened only before a unit of work's first statement, so that no statement is sent
twice.

A unit of work has a time limit, also when the server is silent. Then its statement is cancelled and, if that does not
help, the socket is shut. The client does this, as a pooler in transaction mode takes no `statement_timeout`.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
from psycopg.rows import TupleRow

from manifold.errors import InvalidRequest, Unavailable

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
_CANCEL_SECONDS = 1.0
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
        self._turn = asyncio.Lock()
        self._used_at = 0.0  # by the wall's clock: a monotonic one may stand still while Lambda freezes us

    @asynccontextmanager
    async def session(self, seconds: float | None = None) -> AsyncIterator[Connection]:
        """The connection in autocommit: each statement is a transaction. The limit is `seconds`, or `UNIT_SECONDS`."""
        async with self._in_turn():
            until = asyncio.get_running_loop().time() + (seconds or UNIT_SECONDS)
            connection = await self._open()
            try:
                async with _ended_by(connection, until):
                    yield connection
            except psycopg.OperationalError as error:
                raise Unavailable("The database did not answer. Try again shortly.") from error
            except psycopg.DataError as error:
                raise InvalidRequest("The request holds what cannot be stored, such as a NUL character.") from error
            finally:
                self._used_at = time.time()

    @asynccontextmanager
    async def transaction(self, seconds: float | None = None) -> AsyncIterator[Connection]:
        """The connection inside one transaction: committed at the end, rolled back when an exception leaves it."""
        async with self.session(seconds) as connection, connection.transaction():
            yield connection

    async def close(self) -> None:
        """Close the connection; the next unit of work opens another."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turn.acquire()
        except TimeoutError as error:
            raise Unavailable("The database is too busy. Try again shortly.") from error
        try:
            yield
        finally:
            self._turn.release()

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
        if 0 <= time.time() - self._used_at < _IDLE_SECONDS:
            return True
        try:
            async with _ended_by(connection, asyncio.get_running_loop().time() + _CHECK_SECONDS):
                await connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                return await psycopg.AsyncConnection.connect(
                    self._url(),
                    autocommit=True,
                    prepare_threshold=self._prepare_threshold,
                    connect_timeout=_ADDRESS_SECONDS,
                    application_name="manifold",
                    **_SOCKET,
                )
        except (psycopg.OperationalError, TimeoutError) as error:
            raise Unavailable("The database cannot be reached. Try again shortly.") from error


@asynccontextmanager
async def _ended_by(connection: Connection, until: float) -> AsyncIterator[None]:
    """Make what runs on the connection fail with an `OperationalError` at `until`, a time of the event loop."""
    ending: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    watch = loop.call_at(until, lambda: ending.append(loop.create_task(_end(connection))))
    try:
        yield
    finally:
        watch.cancel()
        for task in ending:
            task.cancel()


async def _end(connection: Connection) -> None:
    with contextlib.suppress(psycopg.Error):
        await connection.cancel_safe(timeout=_CANCEL_SECONDS)
    await asyncio.sleep(_CANCEL_SECONDS)
    _shut(connection)


def _shut(connection: Connection) -> None:
    """Shut the socket, so that psycopg reads its end. The descriptor stays open: libpq owns it."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.pgconn.socket)) as same:
        same.shutdown(socket.SHUT_RDWR)
