"""Statements that are units of work by themselves, and follow each other on one connection."""

import asyncio
import socket
from typing import Any, LiteralString

import psycopg
import pytest

from manifold.errors import InvalidRequest, Unavailable
from manifold.store import Store, time_limit
from manifold.store import connection as connection_module
from manifold.store.statement_queue import StatementQueue
from tests.support import postgres
from tests.support.proxied_store_fixtures import count_users
from tests.support.stalling_proxy import StallingProxy

pytest_plugins = ("tests.support.proxied_store_fixtures",)


async def opened(store: Store) -> StatementQueue:
    """The store's queue, after a first statement."""
    assert await store.database.fetch_text("SELECT $1::text", ["a"]) == "a"
    assert store.database._queue is not None
    return store.database._queue


async def begun(
    store: Store, query: LiteralString, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> asyncio.Task[str | None]:
    """A statement that is under way, whose time limit is so short, and that of those after it is 5 seconds."""
    await opened(store)
    monkeypatch.setattr(connection_module, "UNIT_SECONDS", seconds)
    statement = asyncio.create_task(store.database.fetch_text(query, []))
    await asyncio.sleep(0)
    monkeypatch.setattr(connection_module, "UNIT_SECONDS", 5.0)
    return statement


@pytest.fixture
def late_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to cancel that arrive 0.15 s late."""
    cancel = time_limit._cancel

    async def late(connection: psycopg.AsyncConnection[Any]) -> None:
        await asyncio.sleep(0.15)
        await cancel(connection)

    monkeypatch.setattr(time_limit, "_cancel", late)


async def test_statements_are_answered_in_their_order_each_with_its_own_transaction(store: Store) -> None:
    queries = ["SELECT $1::text", "SELECT no_function($1)", "SELECT txid_current()::text || $1"]
    answers = await asyncio.gather(
        *(store.database.fetch_text(query, ["a"]) for query in queries * 20), return_exceptions=True
    )

    assert answers[::3] == ["a"] * 20
    assert {type(one) for one in answers[1::3]} == {psycopg.errors.UndefinedFunction}
    assert len(set(answers[2::3])) == 20


async def test_many_are_under_way_together_unless_there_is_a_pooler(
    store: Store, request: pytest.FixtureRequest
) -> None:
    database, queue = store.database, await opened(store)
    for most in (1, 1 if request.config.getoption("pooled") else 10):
        waiting = [asyncio.create_task(database.fetch_text("SELECT $1::text", [str(n)])) for n in range(10)]
        await asyncio.sleep(0)
        assert len(queue._under_way) == most
        assert await asyncio.gather(*waiting) == [str(n) for n in range(10)]
    assert database._queue is queue


async def test_who_leaves_hands_no_answer_on(store: Store, database_url: str) -> None:
    await opened(store)
    left = [asyncio.create_task(store.database.fetch_text("SELECT 'left' || pg_sleep(0.05)", [])) for _ in range(10)]
    await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.02)
    await store.close()
    await asyncio.gather(*left, return_exceptions=True)
    other = Store(lambda: database_url)
    for number in range(20):
        assert await other.database.fetch_text("SELECT $1::text", [str(number)]) == str(number)
    await other.close()


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
    slow = await begun(store, "SELECT pg_sleep(60)::text", 0.2, monkeypatch)
    await asyncio.sleep(0.1)
    other = store.database.fetch_text("SELECT $1::text", ["a"])

    answers = await asyncio.gather(slow, other, return_exceptions=True)

    assert isinstance(answers[0], Unavailable)
    assert answers[1] == "a"


async def test_several_slow_ones_fail_at_the_same_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
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
    await opened(proxied_store)
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


async def test_a_request_to_cancel_that_comes_late_ends_no_other_statement(
    store: Store, monkeypatch: pytest.MonkeyPatch, late_cancel: None
) -> None:
    late = await begun(store, "SELECT 'late' || pg_sleep(0.2)", 0.1, monkeypatch)
    following = store.database.fetch_text("SELECT 'next' || pg_sleep(0.2)", [])
    first, second, count = await asyncio.gather(late, following, count_users(store))

    assert (first, second, count) == ("late", "next", 0)


async def test_nor_a_unit_of_work_that_follows(store: Store, late_cancel: None) -> None:
    for _ in range(3):
        async with store.database.session(0.1) as connection:
            await connection.execute("SELECT pg_sleep(0.2)")
        async with store.session() as tables:
            await tables.connection.execute("SELECT pg_sleep(0.2)")


async def test_what_an_administrator_cancels_fails(store: Store, database_url: str) -> None:
    slow = asyncio.create_task(store.database.fetch_text("SELECT pg_sleep(61)::text", []))
    await asyncio.sleep(0.2)
    others = postgres.connection(database_url)
    others.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(61)::text'")
    with pytest.raises(Unavailable):
        async with asyncio.timeout(5):
            await slow


async def test_what_waited_too_long_is_not_sent(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = store.database.fetch_text
    await opened(store)
    monkeypatch.setattr(connection_module, "UNIT_SECONDS", 0.2)
    insert = "INSERT INTO users (id) VALUES ($1) RETURNING id"
    async with asyncio.timeout(5):
        answers = await asyncio.gather(
            fetch("SELECT pg_sleep(60)::text", []), fetch(insert, ["ann"]), return_exceptions=True
        )

    assert {type(one) for one in answers} == {Unavailable}
    monkeypatch.setattr(connection_module, "UNIT_SECONDS", 5.0)
    assert await count_users(store) == 0


async def test_a_lost_connection_that_a_send_notices_fails_all_and_is_replaced(store: Store) -> None:
    fetch = store.database.fetch_text
    queue = await opened(store)
    slow = asyncio.create_task(fetch("SELECT pg_sleep(0.5)::text", []))
    await asyncio.sleep(0.1)
    time_limit._shut(queue._connection)  # the event loop reads that only after these two are sent
    async with asyncio.timeout(5):
        answers = await asyncio.gather(
            fetch("SELECT $1::text", ["a"]), fetch("SELECT $1::text", ["a" * 100_000]), slow, return_exceptions=True
        )

    assert {type(one) for one in answers} == {Unavailable}
    assert await fetch("SELECT $1::text", ["a"]) == "a"


async def test_a_lost_connection_gives_its_descriptor_up_once(store: Store) -> None:
    queue = await opened(store)
    number = queue._pgconn.socket
    time_limit._shut(queue._connection)
    await asyncio.sleep(0.05)
    assert not queue.is_open
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    others = [end for _ in range(20) for end in socket.socketpair()]
    [other] = [one for one in others if one.fileno() == number]
    loop.add_reader(number, heard.set)
    await store.close()
    other.shutdown(socket.SHUT_RDWR)
    async with asyncio.timeout(5):
        await heard.wait()
    loop.remove_reader(number)
    for one in others:
        one.close()


async def test_a_thawed_environment_does_not_wait_for_a_statement_of_before(
    proxied_store: Store, proxy: StallingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = proxied_store.database
    monkeypatch.setattr(connection_module, "UNIT_SECONDS", 5.0)
    await opened(proxied_store)
    proxy.stalled = True
    left = asyncio.create_task(database.fetch_text("SELECT $1::text", ["left"]))
    await asyncio.sleep(0.05)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    proxy.forget()
    database._used_at -= 3600
    async with asyncio.timeout(2):
        assert await database.fetch_text("SELECT $1::text", ["a"]) == "a"


async def test_text_is_utf_8_whatever_the_environment_says(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    async with asyncio.timeout(5):
        assert await store.database.fetch_text("SELECT $1::text", ["é"]) == "é"
