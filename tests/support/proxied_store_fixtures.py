"""A store behind a proxy that can stall: `pytest_plugins = ("tests.support.proxied_store_fixtures",)`."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from manifold.store import Store, time_limit
from manifold.store import connection as connection_module
from tests.support.stalling_proxy import StallingProxy


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[StallingProxy]:
    there = psycopg.conninfo.conninfo_to_dict(database_url)
    async with StallingProxy.to(str(there["host"]), int(str(there["port"]))) as between:
        yield between


@pytest.fixture
async def proxied_store(
    proxy: StallingProxy, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Store]:
    """A store behind the proxy, with short timeouts."""
    for name in ("TURN_SECONDS", "UNIT_SECONDS"):
        monkeypatch.setattr(connection_module, name, 0.5)
    for name in ("_CHECK_SECONDS", "_CONNECT_SECONDS"):
        monkeypatch.setattr(connection_module, name, 0.2)
    monkeypatch.setattr(time_limit, "CANCEL_SECONDS", 0.2)
    opened = Store(lambda: psycopg.conninfo.make_conninfo(database_url, host="127.0.0.1", port=proxy.port))
    yield opened
    await opened.close()


async def count_users(store: Store) -> int:
    async with store.session() as tables:
        row = await (await tables.connection.execute("SELECT count(*) FROM users")).fetchone()
    assert row is not None
    return int(row[0])
