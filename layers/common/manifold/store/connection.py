"""One lazily opened Postgres connection for one Lambda environment.

Units of work take turns on it: concurrent `conn.transaction()` blocks on one psycopg connection lose each other's
writes. It is reconnected only before a unit of work's first statement, so no statement is ever sent twice.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow

from manifold.errors import InvalidRequest, Unavailable

Connection = psycopg.AsyncConnection[TupleRow]
Query = LiteralString

PREPARE_AFTER = 5
"""How often a statement has come when it is prepared."""
_IDLE_SECONDS = 10.0  # a connection that rested longer (a frozen environment, a pooler) is asked before it is used


class Database:
    """A connection that opens when it is first needed. `url` is called for each connect, so a secret may rotate.

    With `prepared`, statements that come often are prepared. Poolers in transaction mode mostly do not keep them.
    """

    def __init__(self, url: Callable[[], str], *, prepared: bool = False) -> None:
        self._url = url
        self._prepare_threshold = PREPARE_AFTER if prepared else None
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        self._used_at = 0.0

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """The connection in autocommit: each statement is its own transaction."""
        async with self._turn:
            connection = await self._open()
            try:
                yield connection
            except psycopg.OperationalError as error:
                raise Unavailable("The database did not answer. Try again shortly.") from error
            except psycopg.DataError as error:
                raise InvalidRequest("The request holds what cannot be stored, such as a NUL character.") from error
            finally:
                self._used_at = time.monotonic()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """The connection inside one transaction: committed at the end, rolled back when an exception leaves it."""
        async with self.session() as connection, connection.transaction():
            yield connection

    async def close(self) -> None:
        """Close the connection; the next unit of work opens another."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

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
        if time.monotonic() - self._used_at < _IDLE_SECONDS:
            return True
        try:
            await connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    async def _connect(self) -> Connection:
        try:
            return await psycopg.AsyncConnection.connect(
                self._url(),
                autocommit=True,
                prepare_threshold=self._prepare_threshold,
                connect_timeout=5,
                keepalives_idle=30,
                application_name="manifold",
            )
        except psycopg.OperationalError as error:
            raise Unavailable("The database cannot be reached. Try again shortly.") from error
