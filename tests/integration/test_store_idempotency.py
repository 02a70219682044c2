"""Which creates are repetitions of one and which are different, from many connections at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from manifold import ids
from manifold.access import Caller
from manifold.idempotency import CreateAttempt, attempt
from manifold.store import Store

MANY = 40


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[list[Store]]:
    """A store for each request, as each has its own environment."""
    async with AsyncExitStack() as stack:
        opened = [Store(lambda: database_url) for _ in range(MANY)]
        for one in opened:
            stack.push_async_callback(one.close)
        yield opened


def create(**headers: str) -> CreateAttempt:
    return attempt(
        Caller(key_id="key_1"), "POST /batches", b"body", {k.replace("_", "-"): v for k, v in headers.items()}
    )


async def made(stores: list[Store], what: CreateAttempt) -> list[str]:
    """The answers of the requests. All transactions have begun before the first one inserts anything."""
    begun = asyncio.Barrier(len(stores))

    async def request(store: Store) -> str:
        async with store.transaction() as tables:
            await tables.connection.execute("SELECT 1")
            await begun.wait()
            resource = await tables.idempotency.earlier(what)
            if resource is None:
                resource = ids.new("batch")
                await tables.idempotency.remember(what, resource)
            return resource

    return await asyncio.gather(*map(request, stores))


@pytest.mark.parametrize("headers", [{}, {"x_stainless_retry_count": "0"}])
async def test_identical_creates_that_are_no_retries_create_several(
    stores: list[Store], headers: dict[str, str]
) -> None:
    assert len(set(await made(stores, create(**headers)))) == MANY


@pytest.mark.parametrize("headers", [{"x_stainless_retry_count": "1"}, {"idempotency_key": "mine"}])
async def test_simultaneous_retries_create_one(stores: list[Store], headers: dict[str, str]) -> None:
    assert len(set(await made(stores, create(**headers)))) == 1


async def test_a_retry_that_comes_while_its_first_attempt_runs_waits_for_it(stores: list[Store]) -> None:
    async with stores[0].transaction() as tables:
        assert await tables.idempotency.earlier(create()) is None
        retry = asyncio.create_task(made(stores[1:2], create(x_stainless_retry_count="1")))
        await _waits_for_a_lock(stores[2])
        await tables.idempotency.remember(create(), "batch_first")

    assert await retry == ["batch_first"]


async def _waits_for_a_lock(store: Store) -> None:
    async with store.session() as tables:
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while await (await tables.connection.execute(waiting)).fetchone() is None:
            pass
