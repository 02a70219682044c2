"""The one connection of an environment: units of work take turns on it, and it is reopened after a loss."""

import asyncio
import time

import psycopg
import pytest

from manifold.errors import InvalidRequest, Unavailable
from manifold.store import Store, Tables
from manifold.store import connection as connection_module
from manifold.store.queries import fetch_text
from manifold.store.users import User
from tests.support.proxied_store_fixtures import count_users
from tests.support.stalling_proxy import StallingProxy

pytest_plugins = ("tests.support.proxied_store_fixtures",)


async def close_by_server(tables: Tables, database_url: str) -> None:
    """Make the server close this connection."""
    pid = tables.connection.info.backend_pid
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        await other.execute("SELECT pg_terminate_backend(%s)", (pid,))


async def test_concurrent_transactions_lose_no_write(store: Store) -> None:
    async def add(name: str) -> None:
        async with store.transaction() as tables:
            await tables.users.ensure(name)
            await asyncio.sleep(0)
            await tables.users.ensure(name + "'s twin")

    await asyncio.gather(*(add(f"user {number}") for number in range(10)))

    assert await count_users(store) == 20


async def test_an_exception_rolls_the_transaction_back(store: Store) -> None:
    async def fail() -> None:
        async with store.transaction() as tables:
            await tables.users.ensure("ann")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await count_users(store) == 0


async def test_a_connection_lost_while_idle_is_reopened(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_IDLE_SECONDS", 0.0)
    async with store.session() as tables:
        await close_by_server(tables, database_url)

    assert await count_users(store) == 0


async def test_a_connection_that_is_lost_in_a_unit_of_work_fails_it_and_not_the_next(
    store: Store, database_url: str
) -> None:
    async def work() -> None:
        async with store.transaction() as tables:
            await tables.users.ensure("ann")
            await close_by_server(tables, database_url)
            await tables.users.ensure("bob")

    with pytest.raises(Unavailable):
        await work()
    assert await count_users(store) == 0


async def test_a_rotated_address_is_asked_for_at_the_next_connect(database_url: str) -> None:
    addresses = iter(["postgresql://nobody@127.0.0.1:1/nothing", database_url])
    store = Store(lambda: next(addresses))

    with pytest.raises(Unavailable):
        await count_users(store)
    assert await count_users(store) == 0
    await store.close()


@pytest.mark.parametrize(("prepared", "kept"), [(False, 0), (True, 1)])
async def test_statements_are_prepared_where_that_is_asked_for(database_url: str, prepared: bool, kept: int) -> None:
    store = Store(lambda: database_url, prepared=prepared)
    for _ in range(connection_module.PREPARE_AFTER + 1):
        await count_users(store)

    async with store.session() as tables:
        cursor = await tables.connection.execute(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%FROM users'", prepare=False
        )
        assert await cursor.fetchone() == (kept,)
    await store.close()


async def test_text_that_postgres_cannot_store_is_an_invalid_request(store: Store) -> None:
    with pytest.raises(InvalidRequest, match="NUL"):
        async with store.session() as tables:
            await tables.users.insert(User(id="ann", metadata={"note": "\0"}))


async def test_a_connection_that_stalls_fails_its_unit_of_work_in_time_and_is_closed(
    proxied_store: Store, proxy: StallingProxy
) -> None:
    assert await count_users(proxied_store) == 0
    proxy.stalled = True
    with pytest.raises(Unavailable):
        async with asyncio.timeout(10):
            await count_users(proxied_store)

    proxy.stalled = False
    assert await count_users(proxied_store) == 0


async def test_units_of_work_that_wait_behind_a_stalled_one_fail_in_time(
    proxied_store: Store, proxy: StallingProxy
) -> None:
    assert await count_users(proxied_store) == 0
    proxy.stalled = True

    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*(count_users(proxied_store) for _ in range(5)), return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {Unavailable}


async def test_a_transaction_that_stalls_is_not_committed(proxied_store: Store, proxy: StallingProxy) -> None:
    async def work() -> None:
        async with asyncio.timeout(10), proxied_store.transaction() as tables:
            await tables.users.ensure("ann")
            proxy.stalled = True
            await tables.users.ensure("bob")

    with pytest.raises(Unavailable):
        await work()
    proxy.stalled = False
    assert await count_users(proxied_store) == 0


async def test_a_server_that_accepts_a_connection_and_sends_nothing(proxied_store: Store, proxy: StallingProxy) -> None:
    proxy.stalled = True
    with pytest.raises(Unavailable):
        async with asyncio.timeout(10):
            await count_users(proxied_store)


async def test_a_slow_statement_is_cancelled_and_its_connection_serves_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store.session() as tables:
        pid = tables.connection.info.backend_pid
    monkeypatch.setattr(connection_module, "UNIT_SECONDS", 0.2)
    with pytest.raises(Unavailable):
        async with store.session() as tables:
            await tables.connection.execute("SELECT pg_sleep(60)")

    async with store.session() as tables:
        assert tables.connection.info.backend_pid == pid
        running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"
        assert await (await tables.connection.execute(running)).fetchone() == (0,)


async def test_an_idle_connection_is_checked_whatever_the_monotonic_clock_says(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with store.session() as tables:
        await close_by_server(tables, database_url)
    frozen = time.monotonic()
    thawed = time.time() + 60
    monkeypatch.setattr("time.monotonic", lambda: frozen)
    monkeypatch.setattr("time.time", lambda: thawed)

    assert await count_users(store) == 0


async def test_a_text_is_fetched_with_parameters_of_any_kind(store: Store) -> None:
    async with store.session() as tables:
        query = "SELECT jsonb_build_array($1::text, $2::text[], $3::boolean, $4::bigint, $5::float8, $6::text)::text"
        fetched = await fetch_text(tables.connection, query, ["é", ['a"b', "c,d"], True, 2**40, 0.5, None])
        nothing = await fetch_text(tables.connection, "SELECT $1::text", [None])

    assert fetched == '["é", ["a\\"b", "c,d"], true, 1099511627776, 0.5, null]'
    assert nothing is None


async def test_a_text_that_is_fetched_fails_as_a_query_does(store: Store, database_url: str) -> None:
    with pytest.raises(InvalidRequest, match="NUL"):
        async with store.session() as tables:
            await fetch_text(tables.connection, "SELECT $1::text", ["a\0b"])
    with pytest.raises(psycopg.errors.UndefinedFunction):
        async with store.session() as tables:
            await fetch_text(tables.connection, "SELECT no_function($1)", ["a"])
    with pytest.raises(Unavailable):
        async with store.database.session(0.01) as connection:
            await fetch_text(connection, "SELECT pg_sleep(60)::text", [])
    async with store.session() as tables:
        await close_by_server(tables, database_url)
        with pytest.raises(psycopg.OperationalError):
            await fetch_text(tables.connection, "SELECT $1::text", ["a"])

    assert await count_users(store) == 0


async def test_a_fetch_that_is_cancelled_leaves_the_connection_usable(store: Store) -> None:
    async with store.session() as tables:
        waiting = asyncio.create_task(fetch_text(tables.connection, "SELECT pg_sleep(60)::text", []))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await fetch_text(tables.connection, "SELECT $1::text", ["a"]) == "a"


async def test_a_lost_connection_fails_every_single_statement_under_way_and_not_the_next(
    store: Store, database_url: str
) -> None:
    fetch = store.database.fetch_text
    pid = await fetch("SELECT pg_backend_pid()::text", [])
    under_way = [asyncio.create_task(fetch("SELECT pg_sleep(60)::text", [])) for _ in range(3)]
    await asyncio.sleep(0.05)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        await other.execute("SELECT pg_terminate_backend(%s)", (int(pid or ""),))
    answers = await asyncio.gather(*under_way, return_exceptions=True)

    assert {type(one) for one in answers} == {Unavailable}
    assert await fetch("SELECT $1::text", ["a"]) == "a"
    assert await count_users(store) == 0


async def test_a_connection_lost_while_idle_is_reopened_for_a_single_statement(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = store.database.fetch_text
    assert await fetch("SELECT $1::text", ["a"]) == "a"
    pid = await fetch("SELECT pg_backend_pid()::text", [])
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        await other.execute("SELECT pg_terminate_backend(%s)", (int(pid or ""),))
    frozen = time.time() + 60
    monkeypatch.setattr("time.time", lambda: frozen)

    assert await fetch("SELECT $1::text", ["a"]) == "a"
