"""Connections to the simulated database, which the scheduler interleaves, drops and kills.

psycopg makes each exchange with the server in one method, `wait`. Here it is done at once, without an event loop: it
either ends within milliseconds, or waits for a lock, and then others go on.
"""

import asyncio
import contextlib
import select
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from manifold.errors import Unavailable
from manifold.store import Store
from manifold.store.connection import Connection, Database, Query
from manifold.store.queries import fetch_text
from tests.faults.database import ServerDatabase
from tests.faults.environments import Environment, Killed, current, name_of
from tests.faults.faults import Faults
from tests.faults.scheduler import Scheduler

RV = TypeVar("RV")
_READABLE, _WRITABLE = 1, 2
_WAIT_MS = 4
_NAMES = {"enter": "begin", "exit": "commit"}
_OF_TRANSACTIONS = frozenset({"begin", "commit", "rollback"})


class SimulatedConnection(psycopg.AsyncConnection[TupleRow]):
    """A connection whose every exchange with the server is a point of the scheduler, and may fail there."""

    database: ServerDatabase
    scheduler: Scheduler
    faults: Faults
    environment: Environment | None
    gone = True

    @classmethod
    def open(cls, database: ServerDatabase, scheduler: Scheduler, faults: Faults) -> "SimulatedConnection":
        """A connection for the environment that runs now. It ends with the environment."""
        pgconn, prepared = database.take()
        connection = cls(pgconn)
        connection.database, connection.scheduler, connection.faults = (database, scheduler, faults)
        connection.environment = current()
        connection._autocommit, connection._prepared = True, prepared
        connection.gone = False
        if connection.environment is not None:
            connection.environment.on_kill.append(connection.drop)
        return connection

    def __del__(self, _: object = None) -> None:
        """No warning: the connections of a run are ended together."""

    @property
    def closed(self) -> bool:
        return self.gone

    async def close(self) -> None:
        self.drop()

    def drop(self) -> None:
        """Break the connection. The server rolls back what was not committed."""
        if not self.gone:
            self.gone = True
            self.database.end(self.pgconn)

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:  # noqa: ASYNC109 (psycopg's signature)
        self.scheduler.trace.add(name_of(self.environment), "its unit of work has taken too long")
        if not self.gone and self.pgconn.transaction_status == TransactionStatus.ACTIVE:
            self.database.cancel(self.pgconn)
        else:
            self.drop()

    async def wait(
        self,
        gen: PQGen[RV],
        interval: float = 0.1,
        timeout: float | None = None,  # noqa: ASYNC109 (psycopg's signature)
    ) -> RV:
        what = _described(gen)
        try:
            await self._reach(what, gen)
        except asyncio.CancelledError:
            if what in _OF_TRANSACTIONS and not self.gone:  # psycopg has sent it by then, and waits for its end
                await self._drive(gen, what)
            raise
        fault = self.faults.of("database")
        if fault == "before":
            self._fail(f"FAULT: connection dropped before {what}", gen)
        idle = self.pgconn.transaction_status == TransactionStatus.IDLE
        result = await self._drive(gen, what)
        if idle and self.pgconn.transaction_status == TransactionStatus.INTRANS:
            self.pgconn.exec_(b"SELECT now()")  # a transaction's time is that of its begin
        if fault == "after":
            self._fail(f"FAULT: connection dropped after {what}", gen)
        return result

    async def _reach(self, what: str, gen: PQGen[Any]) -> None:
        """Wait for the turn. A connection that is gone by then fails, as psycopg's does."""
        if self.environment is not None and self.environment.dead:
            gen.close()
            raise Killed(what)
        if not self.gone:
            await self.scheduler.point(what)
        if self.gone:
            gen.close()
            raise psycopg.OperationalError("the connection is closed")

    def _fail(self, what: str, gen: PQGen[Any]) -> None:
        self.scheduler.trace.add(name_of(self.environment), what)
        gen.close()
        self.drop()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    async def _drive(self, gen: PQGen[RV], what: str) -> RV:
        """Run the exchange to its end. While it waits for a lock, others go on."""
        try:
            state = next(gen)
            while True:
                ready = self._ready(state, _WAIT_MS)
                if ready:
                    state = gen.send(ready)
                elif self.database.is_blocked(self.pgconn):
                    try:
                        await self.scheduler.point(f"has the lock: {what}", partial(self._unblocked, state))
                    except asyncio.CancelledError:
                        self._cancel(gen, state)
                        raise
                    if self.gone:
                        raise psycopg.OperationalError("the connection is closed")
        except StopIteration as end:
            result: RV = end.value
            return result

    def _cancel(self, gen: PQGen[Any], state: int) -> None:
        """Cancel what waits for a lock, and read its end, as psycopg does where a task is cancelled."""
        if self.gone:
            return
        self.database.cancel(self.pgconn)
        with contextlib.suppress(StopIteration, psycopg.errors.QueryCanceled):
            while True:
                state = gen.send(self._ready(state, _WAIT_MS))

    def _unblocked(self, state: int) -> bool:
        return self.gone or bool(self._ready(state, 0)) or not self.database.is_blocked(self.pgconn)

    def _ready(self, state: int, milliseconds: int) -> int:
        """What the socket is ready for, of what the exchange waits for."""
        poll = select.poll()
        wanted = (select.POLLIN if state & _READABLE else 0) | (select.POLLOUT if state & _WRITABLE else 0)
        poll.register(self.pgconn.socket, wanted)
        happened = next((event for _, event in poll.poll(milliseconds)), 0)
        return (_READABLE if happened & ~select.POLLOUT else 0) | (_WRITABLE if happened & select.POLLOUT else 0)


class SimulatedStore(Store):
    """A store on such connections."""

    def __init__(self, database: ServerDatabase, scheduler: Scheduler, faults: Faults) -> None:
        super().__init__(lambda: database.url)
        self.database = _SimulatedDatabase(database, scheduler, faults)


class _SimulatedDatabase(Database):
    def __init__(self, database: ServerDatabase, scheduler: Scheduler, faults: Faults) -> None:
        super().__init__(lambda: database.url)
        self._parts = (database, scheduler, faults)

    async def fetch_text(self, query: Query, parameters: Sequence[object]) -> str | None:
        """As one of several statements: the simulated event loop has no sockets, which the queue reads."""
        async with self.session() as connection:
            return await fetch_text(connection, query, parameters)

    async def _connect(self) -> Connection:
        _, scheduler, faults = self._parts
        await scheduler.point("connect")
        if faults.noted("connect", scheduler.trace):
            raise Unavailable("The database cannot be reached. Try again shortly.")
        return SimulatedConnection.open(*self._parts)


def _described(gen: PQGen[Any]) -> str:
    """What an exchange is for: the first words of its statement, or `begin` and the like."""
    assert isinstance(gen, Generator)
    frame = getattr(gen, "gi_frame", None)
    local = frame.f_locals if frame else {}
    query = local.get("query")
    if query is not None:
        return " ".join(str(query).split()[:9])
    name = str(getattr(gen, "__name__", "")).strip("_").removesuffix("_gen")
    return "rollback" if name == "exit" and local.get("exc_val") else _NAMES.get(name, name)
