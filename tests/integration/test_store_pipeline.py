"""Statements that are units of work by themselves, and follow each other without waiting for answers."""

import asyncio

import psycopg
import pytest

from manifold.errors import InvalidRequest, Unavailable
from manifold.store import Store
from manifold.store import connection as connection_module
from tests.support.proxied_store_fixtures import count_users
from tests.support.stalling_proxy import StallingProxy

pytest_plugins = ("tests.support.proxied_store_fixtures",)


async def test_statements_are_answered_in_their_order_each_with_its_own_transaction(store: Store) -> None:
    queries = ["SELECT $1::text", "SELECT no_function($1)", "SELECT txid_current()::text || $1"]
    answers = await asyncio.gather(
        *(store.database.fetch_text(query, ["a"]) for query in queries * 20), return_exceptions=True
    )

    assert answers[::3] == ["a"] * 20
    assert {type(one) for one in answers[1::3]} == {psycopg.errors.UndefinedFunction}
    assert len(set(answers[2::3])) == 20


async def test_they_are_under_way_together(store: Store) -> None:
    database = store.database
    await database.fetch_text("SELECT $1::text", ["a"])
    pipeline = database._pipeline
    assert pipeline is not None

    waiting = [asyncio.create_task(database.fetch_text("SELECT $1::text", [str(n)])) for n in range(10)]
    await asyncio.sleep(0)
    assert len(pipeline._sent) == 10
    assert await asyncio.gather(*waiting) == [str(n) for n in range(10)]
    assert database._pipeline is pipeline


async def test_a_unit_of_several_waits_for_them_and_they_for_it(store: Store) -> None:
    order: list[str] = []

    async def alone(name: str) -> None:
        await store.database.fetch_text("SELECT pg_sleep(0.02)::text", [])
        order.append(name)

    async def several() -> None:
        async with store.transaction() as tables:
            await tables.users.ensure("ann")
            await asyncio.sleep(0.02)
            order.append("several")

    before = [asyncio.create_task(alone("before")) for _ in range(3)]
    await asyncio.sleep(0.01)
    transaction = asyncio.create_task(several())
    await asyncio.sleep(0)
    after = [asyncio.create_task(alone("after")) for _ in range(3)]
    await asyncio.gather(*before, transaction, *after)

    assert order == ["before"] * 3 + ["several"] + ["after"] * 3
    assert await count_users(store) == 1


async def test_a_large_statement_is_sent_as_the_socket_takes_it(store: Store) -> None:
    large = "é" * 20_000_000
    echo, length, small = await asyncio.gather(
        store.database.fetch_text("SELECT $1::text", [large]),
        store.database.fetch_text("SELECT length($1)::text", [large]),
        store.database.fetch_text("SELECT $1::text", ["a"]),
    )

    assert (len(echo or ""), length, small) == (len(large), str(len(large)), "a")


async def test_a_slow_one_is_cancelled_and_those_behind_it_are_answered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = store.database.fetch_text
    assert await fetch("SELECT $1::text", ["a"]) == "a"
    monkeypatch.setattr(connection_module, "UNIT_SECONDS", 0.2)
    slow = asyncio.create_task(fetch("SELECT pg_sleep(60)::text", []))
    await asyncio.sleep(0.1)
    monkeypatch.setattr(connection_module, "UNIT_SECONDS", 5.0)

    answers = await asyncio.gather(slow, fetch("SELECT $1::text", ["a"]), return_exceptions=True)

    assert isinstance(answers[0], Unavailable)
    assert answers[1] == "a"


async def test_several_slow_ones_are_cancelled_one_after_the_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "UNIT_SECONDS", 0.2)
    fetch = store.database.fetch_text
    async with asyncio.timeout(5):
        answers = await asyncio.gather(
            *(fetch("SELECT pg_sleep(60)::text", []) for _ in range(3)), return_exceptions=True
        )

    assert {type(one) for one in answers} == {Unavailable}
    assert await fetch("SELECT $1::text", ["a"]) == "a"


async def test_one_that_nobody_waits_for_leaves_the_others_their_answers(store: Store) -> None:
    fetch = store.database.fetch_text
    left = asyncio.create_task(fetch("SELECT pg_sleep(0.05)::text", []))
    await asyncio.sleep(0.01)
    left.cancel()
    other = await fetch("SELECT $1::text", ["a"])

    assert other == "a"
    with pytest.raises(asyncio.CancelledError):
        await left


async def test_a_stalled_connection_fails_them_in_time_and_is_replaced(
    proxied_store: Store, proxy: StallingProxy
) -> None:
    fetch = proxied_store.database.fetch_text
    assert await fetch("SELECT $1::text", ["a"]) == "a"
    proxy.stalled = True
    async with asyncio.timeout(10):
        answers = await asyncio.gather(
            *(fetch("SELECT $1::text", ["a"]) for _ in range(3)), count_users(proxied_store), return_exceptions=True
        )
    proxy.stalled = False

    assert {type(one) for one in answers} == {Unavailable}
    assert await fetch("SELECT $1::text", ["a"]) == "a"


async def test_a_value_that_cannot_be_sent_fails_only_its_own(store: Store) -> None:
    fetch = store.database.fetch_text
    answers = await asyncio.gather(
        fetch("SELECT $1::text", ["a"]), fetch("SELECT $1::text", ["a\0b"]), fetch("SELECT $1::text", ["c"]),
        return_exceptions=True,
    )  # fmt: skip

    assert (answers[0], answers[2]) == ("a", "c")
    assert isinstance(answers[1], InvalidRequest)


async def test_a_store_that_is_closed_gives_up_what_is_under_way(store: Store) -> None:
    waiting = asyncio.create_task(store.database.fetch_text("SELECT pg_sleep(60)::text", []))
    await asyncio.sleep(0.05)
    await store.close()

    with pytest.raises(Unavailable):
        await waiting
    assert await count_users(store) == 0
