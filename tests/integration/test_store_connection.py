"""The one connection of an environment: units of work take turns on it, and it comes back when it was lost."""

import asyncio

import psycopg
import pytest

from manifold.errors import InvalidRequest, Unavailable
from manifold.store import Store, Tables
from manifold.store import connection as connection_module
from manifold.store.users import User


async def lose(tables: Tables, database_url: str) -> None:
    """Have the server end this connection."""
    pid = tables.connection.info.backend_pid
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        await other.execute("SELECT pg_terminate_backend(%s)", (pid,))


async def count_users(store: Store) -> int:
    async with store.session() as tables:
        row = await (await tables.connection.execute("SELECT count(*) FROM users")).fetchone()
    assert row is not None
    return int(row[0])


async def test_concurrent_transactions_lose_no_write(store: Store) -> None:
    async def add(name: str) -> None:
        async with store.transaction() as tables:
            await tables.users.ensure(name)
            await asyncio.sleep(0)
            await tables.users.ensure(name + "'s twin")

    await asyncio.gather(*(add(f"user {number}") for number in range(10)))

    assert await count_users(store) == 20


async def test_an_exception_takes_the_transaction_back(store: Store) -> None:
    async def fail() -> None:
        async with store.transaction() as tables:
            await tables.users.ensure("ann")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await count_users(store) == 0


async def test_a_connection_that_was_lost_while_it_rested_is_opened_again(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_IDLE_SECONDS", 0.0)
    async with store.session() as tables:
        await lose(tables, database_url)

    assert await count_users(store) == 0


async def test_a_connection_that_is_lost_in_a_unit_of_work_fails_it_and_not_the_next(
    store: Store, database_url: str
) -> None:
    async def work() -> None:
        async with store.transaction() as tables:
            await tables.users.ensure("ann")
            await lose(tables, database_url)
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
        found = await tables.connection.execute(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%FROM users'", prepare=False
        )
        assert await found.fetchone() == (kept,)
    await store.close()


async def test_what_postgres_cannot_store_is_the_requests_fault(store: Store) -> None:
    with pytest.raises(InvalidRequest, match="NUL"):
        async with store.session() as tables:
            await tables.users.insert(User(id="ann", metadata={"note": "\0"}))
