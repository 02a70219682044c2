"""A real Postgres whose clock is simulated, and which writes down every state that a row has had.

`now()` and `clock_timestamp()` in the schema `public`, which is searched before `pg_catalog`, read a sequence. It holds
microseconds, goes on by one whenever it is read, and moves as the run's clock does. `now()` stays the same within a
transaction, as in Postgres. How often it is read depends on plans, so a run rounds what it learns from it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import sql
from psycopg._preparing import PrepareManager
from psycopg.pq import PGconn, TransactionStatus, abc
from psycopg.rows import TupleRow

from manifold.store import migrations
from tests.support import postgres

CLOCK = """
CREATE SEQUENCE clock;
CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    $$ SELECT to_timestamp(nextval('public.clock') / 1000000.0) $$;
CREATE FUNCTION now() RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
    DECLARE fixed text := current_setting('clock.now', true);
    BEGIN
        IF fixed IS NULL OR fixed = '' THEN
            fixed := set_config('clock.now', nextval('public.clock')::text, true);
        END IF;
        RETURN to_timestamp(fixed::bigint / 1000000.0);
    END $$;
"""
HISTORY = """
CREATE TABLE history (number bigserial PRIMARY KEY, kind text, id text, before text, after text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO history (kind, id, before, after)
        VALUES (TG_TABLE_NAME, NEW.id, to_jsonb(OLD) ->> TG_ARGV[0], to_jsonb(NEW) ->> TG_ARGV[0]);
        RETURN NULL;
    END $$;
"""
STATES = {"batches": "status", "jobs": "state", "shards": "state"}
"""The column that holds the state of each of these tables."""
SETTINGS = ("search_path = public, pg_catalog", "deadlock_timeout = '50ms'", "synchronous_commit = off")
MOST_PREPARED = 100_000
Server = tuple[abc.PGconn, PrepareManager]
"""A connection of libpq, and what was prepared on it: nearly half of Postgres' time for a run would be planning."""


class ServerDatabase:
    """A migrated database on the tests' server. It serves one run after the other, each of which empties it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._control = postgres.connection(url)
        self._idle: list[Server] = []
        self._taken: dict[abc.PGconn, PrepareManager] = {}

    @classmethod
    @contextmanager
    def create(cls, server_url: str) -> "Iterator[ServerDatabase]":
        """A database of this server, dropped at the end."""
        with postgres.database(server_url) as url:
            _prepare(url)
            database = cls(url)
            try:
                yield database
            finally:
                database.end_all()
                for pgconn, _ in database._idle:
                    pgconn.finish()

    def empty(self, microseconds: int) -> None:
        """Delete every row, and set the clock."""
        self.end_all()
        postgres.empty(self.url)
        self._control.execute("SELECT setval('clock', %s)", (microseconds,))

    def advance(self, seconds: float) -> None:
        """Let the database's time pass."""
        self._control.execute("SELECT setval('clock', (SELECT last_value FROM clock) + %s)", (int(seconds * 1e6),))

    def execute(self, query: str, parameters: Any = None) -> list[TupleRow]:
        """The rows of a statement of the harness's own, which no other interrupts."""
        cursor = self._control.execute(query.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def take(self) -> Server:
        """A connection that nothing else uses."""
        pgconn, prepared = self._idle.pop() if self._idle else self._connect()
        self._taken[pgconn] = prepared
        return pgconn, prepared

    def end(self, pgconn: abc.PGconn) -> None:
        """End a connection, as far as the code under test can tell: what was not committed is rolled back."""
        if pgconn.transaction_status == TransactionStatus.ACTIVE:  # a statement that waits for a lock
            self.cancel(pgconn)
            while pgconn.get_result():
                pass
        if pgconn.transaction_status != TransactionStatus.IDLE:
            pgconn.exec_(b"ROLLBACK")
        self._idle.append((pgconn, self._taken.pop(pgconn)))

    def end_all(self) -> None:
        for pgconn in [*self._taken]:
            self.end(pgconn)

    def is_blocked(self, pgconn: abc.PGconn) -> bool:
        """Whether the statement of this connection waits for a lock."""
        [(blocked,)] = self.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", (pgconn.backend_pid,))
        return bool(blocked)

    def cancel(self, pgconn: abc.PGconn) -> None:
        """Cancel the statement of this connection."""
        self.execute("SELECT pg_cancel_backend(%s)", (pgconn.backend_pid,))

    def _connect(self) -> Server:
        pgconn = PGconn.connect(self.url.encode())
        assert not pgconn.error_message, pgconn.error_message
        prepared = PrepareManager()
        prepared.prepare_threshold, prepared.prepared_max = 0, MOST_PREPARED
        return pgconn, prepared


def _prepare(url: str) -> None:
    """The clock first, so that the defaults of columns read it; then the tables, then the triggers."""
    with psycopg.connect(url, autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        for setting in SETTINGS:
            connection.execute(sql.SQL("ALTER DATABASE {} SET {}").format(name, sql.SQL(setting)))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(CLOCK)
        for migration in migrations.names():
            connection.execute((files(migrations) / migration).read_bytes())
        connection.execute(HISTORY)
        known = {table for (table,) in connection.execute("SELECT tablename FROM pg_tables")}
        for table in STATES.keys() & known:
            connection.execute(
                sql.SQL(
                    "CREATE TRIGGER note AFTER INSERT OR UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION note({})"
                ).format(sql.Identifier(table), sql.Literal(STATES[table]))
            )
