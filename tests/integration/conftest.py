"""Fixtures on a real Postgres: one server and one migrated database a session, emptied before each test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from manifold.gateway import Gateway
from manifold.store import Store, migrations
from tests.support import gateways, pgbouncer, postgres


@pytest.fixture(scope="session")
def database_server() -> Iterator[str]:
    """The URL of a server on which tests create databases."""
    with postgres.server() as url:
        yield url


@pytest.fixture(scope="session")
def pooled(database_server: str, pytestconfig: pytest.Config) -> Iterator[Callable[[str], str]]:
    """Turns the URL of a database into that behind a pooler, if the tests are to run behind one."""
    if not pytestconfig.getoption("--pooled"):
        yield lambda url: url
        return
    with pgbouncer.pooler(database_server) as pooler:
        yield lambda url: make_conninfo(pooler, dbname=conninfo_to_dict(url)["dbname"])


@pytest.fixture(scope="session")
def migrated_database(database_server: str, pooled: Callable[[str], str]) -> Iterator[str]:
    with postgres.database(database_server) as url:
        asyncio.run(_migrate(pooled(url)))
        yield pooled(url)
        postgres.close(pooled(url))


@pytest.fixture
def database_url(migrated_database: str) -> str:
    """A database with every table, and no row in them."""
    postgres.empty(migrated_database)
    return migrated_database


@pytest.fixture
def empty_database_url(database_server: str, pooled: Callable[[str], str]) -> Iterator[str]:
    """A database without any table."""
    with postgres.database(database_server) as url:
        yield pooled(url)
        postgres.close(pooled(url))


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    opened = Store(lambda: database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def gateway(database_url: str) -> AsyncIterator[Gateway]:
    """A gateway on the test's database and the tests' `config.yaml`."""
    made = gateways.gateway(database_url)
    yield made
    await made.store.close()


async def _migrate(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await migrations.apply(connection)
