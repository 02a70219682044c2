"""A real Postgres for tests: embedded, or the server of `DATABASE_URL`, on which tests create their own databases.

Other databases of that server are not touched: each session creates its own, and drops it.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server, for as long as the context lasts."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a machine without XDG_RUNTIME_DIR
        from local.postgres import Postgres
    home = Path(tempfile.mkdtemp(prefix="manifold-postgres-"))
    embedded = Postgres(home)
    try:
        yield embedded.start("127.0.0.1")
    finally:
        embedded.stop()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def database(server_url: str) -> Iterator[str]:
    """The URL of a new, empty database on the server, dropped at the end."""
    name = f"manifold_test_{uuid4().hex}"
    url = psycopg.conninfo.make_conninfo(server_url, dbname=name)
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield url
        finally:
            close(url)
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


_OF_THE_CODE: LiteralString = (
    "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'manifold'"
)
_connections: dict[str, psycopg.Connection] = {}


def connection(database_url: str) -> psycopg.Connection:
    """The connection of the tests' own statements, in autocommit; closed when the database is dropped."""
    if database_url not in _connections:
        # A pooler keeps no prepared statements.
        _connections[database_url] = psycopg.connect(database_url, autocommit=True, prepare_threshold=None)
    return _connections[database_url]


def close(database_url: str) -> None:
    """Close that connection."""
    if database_url in _connections:
        _connections.pop(database_url).close()


def connections(database_url: str) -> int:
    """How many connections the code under test has to the database, as Postgres counts them."""
    [(count,)] = connection(database_url).execute(f"SELECT count(*) {_OF_THE_CODE}").fetchall()
    return int(count)


def disconnect(database_url: str) -> None:
    """End those connections, which tests before may have left, and wait until Postgres has noticed."""
    connection(database_url).execute(f"SELECT pg_terminate_backend(pid, 5000) {_OF_THE_CODE}")


def empty(database_url: str) -> None:
    """Delete every row of every table except `migrations`: with few rows, a tenth of the time of a TRUNCATE."""
    connection(database_url).execute(_emptying(database_url))


def age(database_url: str, seconds: float) -> None:
    """Let this many seconds pass for the database: move every time in it back."""
    updates = []
    for table, columns in _times(database_url):
        shift = sql.SQL("{0} = {0} - make_interval(secs => {1})")
        shifts = sql.SQL(", ").join(shift.format(sql.Identifier(name), sql.Literal(seconds)) for name in columns)
        updates.append(sql.SQL("UPDATE {} SET {}").format(sql.Identifier(table), shifts))
    connection(database_url).execute(sql.SQL("; ").join(updates))


@cache
def _emptying(database_url: str) -> sql.Composed:
    """A DELETE for each table, those that refer to others first."""
    tables = connection(database_url).execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    references = connection(database_url).execute(
        "SELECT confrelid::regclass::text, conrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"
    )
    order = TopologicalSorter({name: set[str]() for (name,) in tables})
    for referenced, referring in references:
        order.add(referenced, referring)
    names = (name for name in order.static_order() if name != "migrations")
    return sql.SQL("; ").join(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)) for name in names)


@cache
def _times(database_url: str) -> list[tuple[str, list[str]]]:
    """Each table, with its columns of type timestamp."""
    return (
        connection(database_url)
        .execute(
            """SELECT table_name::text, array_agg(column_name::text) FROM information_schema.columns
               WHERE table_schema = 'public' AND data_type = 'timestamp with time zone' GROUP BY 1"""
        )
        .fetchall()
    )
