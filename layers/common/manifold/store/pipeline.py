"""Statements that follow each other without waiting for answers, each a transaction of its own.

This is libpq's pipeline mode (https://www.postgresql.org/docs/current/libpq-pipeline-mode.html) with a synchronization
point after each statement, so that one that fails undoes none but itself. On the wire, a statement that has no other
beside it is as it would be without a pipeline. The socket stays registered with the event loop between statements: to
register it for each, and to wake twice, took two thirds of a statement's processor time.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from manifold.store import time_limit


class _Sent(NamedTuple):
    """A statement that has been sent. It is to be answered by `until`, a time of the event loop."""

    answer: asyncio.Future[str | None]
    until: float


class Pipeline:
    """The statements under way on a connection, which nothing else may use until `leave` has returned.

    It is made, and used, in a running event loop. At its time limit a statement is ended (`manifold.store.time_limit`).
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._loop = asyncio.get_running_loop()
        self._adapted = Transformer(connection)
        self._sent: deque[_Sent] = deque()
        self._result: PGresult | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None
        self._empty: asyncio.Future[None] | None = None
        self._pgconn.enter_pipeline_mode()
        self._socket = self._pgconn.socket
        self._loop.add_reader(self._socket, self._read)

    @property
    def is_open(self) -> bool:
        """Whether statements can be sent on it."""
        return not self._connection.closed

    @property
    def is_busy(self) -> bool:
        """Whether a statement is under way."""
        return bool(self._sent)

    def send(self, query: str, parameters: Sequence[object], until: float) -> asyncio.Future[str | None]:
        """Send a statement, and return its only row's only column, a text, to wait for.

        The future, and this, raise what a cursor raises. A future may be cancelled; the statement goes on.
        """
        adapted = self._adapted
        values = adapted.dump_sequence(parameters, [PyFormat.AUTO] * len(parameters))
        self._pgconn.send_query_params(query.encode(), values, adapted.types, adapted.formats)
        answer: asyncio.Future[str | None] = self._loop.create_future()
        self._sent.append(_Sent(answer, until))
        if self._watch is None:
            self._watch = self._loop.call_at(until, self._end_late)
        try:
            self._pgconn.pipeline_sync()
            self._flush()
        except psycopg.OperationalError as error:
            self._fail(error)
        return answer

    async def leave(self) -> None:
        """Wait for the statements that are under way, and leave the connection as it was."""
        while self._sent:
            self._empty = self._empty or self._loop.create_future()
            await asyncio.shield(self._empty)
        self._unwatch()
        if self.is_open:
            self._loop.remove_reader(self._socket)
            self._pgconn.exit_pipeline_mode()

    def close(self) -> None:
        """Give up what is under way, as the connection will be closed."""
        self._unwatch()
        self._fail(psycopg.OperationalError("the connection was closed"))

    def _read(self) -> None:
        """Take in what the server has sent, and answer each statement whose transaction has ended."""
        pgconn = self._pgconn
        try:
            pgconn.consume_input()
            self._flush()
            while self._sent and not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:  # after the statement's result, and at the end of a connection
                    if self._connection.closed:
                        raise psycopg.OperationalError("the connection was lost")
                elif result.status != ExecStatus.PIPELINE_SYNC:
                    self._result = result
                else:
                    self._answer(self._sent.popleft().answer)
        except psycopg.OperationalError as error:
            self._fail(error)
        else:
            if not self._sent:
                self._set_empty()

    def _answer(self, answer: asyncio.Future[str | None]) -> None:
        result, self._result = self._result, None
        if self._ending is not None:
            self._stop_ending()
            self._end_late()
        if answer.done():  # nobody waits for it any more
            return
        if result is None or result.status != ExecStatus.TUPLES_OK:
            lost = psycopg.OperationalError("the statement was not answered")
            answer.set_exception(lost if result is None else error_from_result(result, self._connection.info.encoding))
            return
        value = result.get_value(0, 0)
        answer.set_result(None if value is None else value.decode())

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

    def _fail(self, error: psycopg.OperationalError) -> None:
        """The connection is lost, and with it every statement under way."""
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._pgconn.finish()
        self._stop_ending()
        while self._sent:
            answer = self._sent.popleft().answer
            if not answer.done():
                answer.set_exception(error)
        self._set_empty()

    def _set_empty(self) -> None:
        if self._empty is not None and not self._empty.done():
            self._empty.set_result(None)
        self._empty = None

    def _end_late(self) -> None:
        """End the oldest statement if its time is over; else watch again until then."""
        self._watch = None
        if not self._sent:
            return
        until = self._sent[0].until
        if until > self._loop.time():
            self._watch = self._loop.call_at(until, self._end_late)
        elif self._ending is None:
            self._ending = self._loop.create_task(time_limit.end(self._connection))

    def _stop_ending(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
