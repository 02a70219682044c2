"""Statements that follow each other on a connection, each a transaction of its own.

They go in libpq's pipeline mode (https://www.postgresql.org/docs/current/libpq-pipeline-mode.html) with a
synchronization point after each, so that one that fails undoes none but itself. On the wire, a statement that has no
other beside it is as it would be without a pipeline. The socket stays registered with the event loop between
statements: to register it for each, and to wake twice, took two thirds of a statement's processor time.

Behind a pooler one is under way at a time. PgBouncer 1.18 gives the server of a client that leaves to another client
although a second statement of the first runs there, whose answer the other then reads
(https://github.com/pgbouncer/pgbouncer/pull/1034).
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import QueryCanceled, error_from_result
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from manifold.store import time_limit

MOST_UNDER_WAY = 64
"""On a connection without a pooler."""
_CANCELED = (QueryCanceled.sqlstate or "").encode()
_SERVER = "SELECT pg_backend_pid()::text"


class _Statement(NamedTuple):
    """A statement that is to be answered by `until`, a time of the event loop."""

    answer: asyncio.Future[str | None]
    until: float
    arguments: tuple[Any, ...]
    """Of libpq's call that sends it."""
    is_again: bool = False
    """Whether it was sent before."""

    def fail(self, error: Exception) -> None:
        """Raise the error where the answer is waited for, if it is."""
        if not self.answer.done():
            self.answer.set_exception(error)


class StatementQueue:
    """The statements of a connection, which nothing else may use until `leave` has returned.

    It is made, and used, in a running event loop. A statement that is late is cancelled (`manifold.store.time_limit`).
    If it is not answered then either, the connection is given up, and all statements fail.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._loop = asyncio.get_running_loop()
        self._adapted = Transformer(connection)
        self._waiting: deque[_Statement] = deque()
        self._under_way: deque[_Statement] = deque()
        self._most_under_way = 1
        self._asks_server = False
        self._result: PGresult | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._late: _Statement | None = None
        """The last one that was late."""
        self._cancelling: asyncio.Task[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._is_lost = False
        self._pgconn.enter_pipeline_mode()
        self._socket = self._pgconn.socket
        self._loop.add_reader(self._socket, self._read)

    @property
    def is_open(self) -> bool:
        """Whether statements can be sent on it."""
        return not self._is_lost and not self._connection.closed

    @property
    def is_busy(self) -> bool:
        """Whether a statement is under way, or a request to cancel one."""
        return bool(self._under_way) or self._cancelling is not None

    def send(self, query: str, parameters: Sequence[object], until: float) -> asyncio.Future[str | None]:
        """Send a statement after those before it, and return its only row's only column, a text, to wait for.

        The future, and this, raise what a cursor raises. A future may be cancelled; the statement goes on.
        """
        adapted = self._adapted
        values = adapted.dump_sequence(parameters, [PyFormat.AUTO] * len(parameters))
        answer: asyncio.Future[str | None] = self._loop.create_future()
        self._waiting.append(_Statement(answer, until, (query.encode(), values, adapted.types, adapted.formats)))
        if self._under_way and not self._asks_server:
            self._ask_server(until)
        self._send_waiting()
        return answer

    async def leave(self) -> None:
        """Wait for the statements, and leave the connection as it was."""
        if self.is_busy:
            self._idle = self._idle or self._loop.create_future()
            await asyncio.shield(self._idle)
        if not self._is_lost:
            self._unwatch()
            self._loop.remove_reader(self._socket)
            self._pgconn.exit_pipeline_mode()

    def close(self) -> None:
        """Give up the connection, and the statements."""
        self._fail(psycopg.OperationalError("the connection was closed"))

    def _ask_server(self, until: float) -> None:
        """Find out whether the server is the one that the connection was made to: a pooler is, or gives, another."""

        def learn(answer: asyncio.Future[str | None]) -> None:
            if answer.exception() is None and answer.result() == str(self._pgconn.backend_pid):
                self._most_under_way = MOST_UNDER_WAY

        self._asks_server = True
        answer: asyncio.Future[str | None] = self._loop.create_future()
        answer.add_done_callback(learn)
        self._waiting.appendleft(_Statement(answer, until, (_SERVER.encode(), None)))

    def _send_waiting(self) -> None:
        """Send what waits, as far as it may be under way. One that has waited too long fails.

        Nothing is sent while a request to cancel is, which could end it.
        """
        while self._waiting and len(self._under_way) < self._most_under_way and self._cancelling is None:
            statement = self._waiting.popleft()
            if statement.until <= self._loop.time():
                statement.fail(psycopg.OperationalError("the statement waited too long for others"))
                continue
            self._under_way.append(statement)
            if self._watch is None or self._watch.when() > statement.until:
                self._watch_until(statement.until)
            try:
                self._pgconn.send_query_params(*statement.arguments)
                self._pgconn.pipeline_sync()
                self._flush()
            except psycopg.OperationalError as error:
                self._fail(error)
        if self._idle is not None and not self.is_busy:
            self._set_idle()

    def _read(self) -> None:
        """Take in what the server has sent, and answer each statement whose transaction has ended."""
        pgconn = self._pgconn
        try:
            pgconn.consume_input()
            self._flush()
            while self._under_way and not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:  # after the statement's result, and at the end of a connection
                    if self._connection.closed:
                        raise psycopg.OperationalError("the connection was lost")
                elif result.status != ExecStatus.PIPELINE_SYNC:
                    self._result = result
                else:
                    self._end(self._under_way[0])
            self._send_waiting()
        except Exception as error:  # whatever it is, nobody waits for ever
            self._fail(error)

    def _end(self, oldest: _Statement) -> None:
        """Answer the oldest statement under way by its last result, which may be an error of its commit.

        One that was cancelled, and so undone, by a request that was for another before it, is sent again.
        """
        result = self._result
        if self._late not in (None, oldest) and not oldest.is_again and _is_cancelled(result):
            self._waiting.appendleft(oldest._replace(is_again=True))
        elif not oldest.answer.done():  # else nobody waits for it any more
            if result is None:
                raise psycopg.OperationalError("the statement was not answered")
            if result.status == ExecStatus.TUPLES_OK:
                value = result.get_value(0, 0)
                oldest.answer.set_result(None if value is None else value.decode())
            else:
                oldest.answer.set_exception(error_from_result(result, self._connection.info.encoding))
        self._result = None
        self._under_way.popleft()
        if oldest is self._late:
            self._end_late()

    def _flush(self) -> None:
        """Send what the socket takes now, and the rest when it takes more."""
        if self._pgconn.flush():
            self._loop.add_writer(self._socket, self._write)

    def _write(self) -> None:
        try:
            if not self._pgconn.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.OperationalError as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """The connection is lost, and with it every statement."""
        if self._is_lost:
            return  # and another connection may have the same descriptor by now
        self._is_lost = True
        self._unwatch()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._pgconn.finish()
        for statement in (*self._under_way, *self._waiting):
            statement.fail(error)
        self._under_way.clear()
        self._waiting.clear()
        self._set_idle()

    def _set_idle(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        self._idle = None

    def _end_late(self) -> None:
        """Cancel the oldest statement if it is late, and give the connection up if that did not end it in time."""
        self._unwatch()
        if not self._under_way:
            return
        oldest, now = self._under_way[0], self._loop.time()
        gives_up_at = oldest.until + 2 * time_limit.CANCEL_SECONDS
        if oldest.until > now:
            self._watch_until(oldest.until)
        elif gives_up_at <= now:
            self._fail(psycopg.OperationalError("the statement was not answered in time"))
        else:
            self._watch_until(gives_up_at)
            if self._cancelling is None and self._late is not oldest:
                self._late = oldest
                self._cancelling = time_limit.cancel(self._connection)
                self._cancelling.add_done_callback(self._go_on)

    def _go_on(self, _: asyncio.Task[None]) -> None:
        """A request to cancel has been sent. Whether it was for one that had ended by itself, nobody knows."""
        self._cancelling = None
        self._end_late()
        self._send_waiting()

    def _watch_until(self, time: float) -> None:
        self._unwatch()
        self._watch = self._loop.call_at(time, self._end_late)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


def _is_cancelled(result: PGresult | None) -> bool:
    return result is not None and result.error_field(DiagnosticField.SQLSTATE) == _CANCELED
