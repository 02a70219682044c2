"""A real Postgres for tests: embedded, or the server behind `DATABASE_URL`, on which databases of ours are made.

Nothing that is in the other server's databases is touched: each session makes its own, and drops it.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
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
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield psycopg.conninfo.make_conninfo(server_url, dbname=name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def empty(database_url: str) -> None:
    """Take every row out of every table but `migrations`: a tenth of the time of a TRUNCATE, where rows are few."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        references = connection.execute(
            "SELECT confrelid::regclass::text, conrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"
        )
        order = TopologicalSorter({name: set[str]() for (name,) in tables})
        for referenced, referring in references:
            order.add(referenced, referring)
        for name in order.static_order():
            if name != "migrations":
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))
