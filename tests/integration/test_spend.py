"""The cost of calls in `/key/info` and `/spend/logs`, and the cost of batches."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import httpx
import psycopg
import pytest

from admin.app import create as create_admin_app
from batches.sweep import Sweep
from manifold import ids, storable
from manifold.access import Caller
from manifold.auth import key_hash
from manifold.gateway import Gateway
from manifold.limits import LimitedHolder, Limits
from manifold.queue import Message, Queue
from manifold.store import Store
from manifold.store.calls import CallRecord
from manifold.store.keys import Key
from tests.support import gateways
from tests.support.owners import spent_by_key

VALUE = "sk-the-key-that-spends"
OWN = {"authorization": f"Bearer {VALUE}"}
HOLDER = Caller(key_id="key_spender")


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.store.session() as tables:
        await tables.keys.insert(Key(id="key_spender", token_hash=key_hash(VALUE), name="spender", alias="spender"))
    async with gateways.client(create_admin_app(gateway)) as client:
        yield client


def call_record(**more: Any) -> CallRecord:
    facts: dict[str, Any] = {
        "model_group": "gpt",
        "deployment_id": "one",
        "route": "/chat/completions",
        "status": 200,
        "seconds": 1.5,
    }
    return CallRecord(**{"id": ids.new("call")} | facts | more)


async def record(gateway: Gateway, *calls: CallRecord, caller: Caller = HOLDER) -> None:
    async with gateway.store.session() as tables:
        await tables.functions.record(calls, caller, "")


async def logs(api: httpx.AsyncClient, **query: Any) -> list[str]:
    answer = await api.get("/spend/logs", params=query)
    assert answer.status_code == 200, answer.text
    return [log["request_id"] for log in answer.json()["data"]]


async def test_a_call_in_litellms_words(gateway: Gateway, api: httpx.AsyncClient) -> None:
    tokens: dict[str, Any] = {"input_tokens": 10, "cached_tokens": 4, "output_tokens": 5, "reasoning_tokens": 2}
    call = call_record(cost=Decimal("0.00021"), **tokens)
    await record(gateway, call)

    [log] = (await api.get("/spend/logs", headers=OWN)).json()["data"]

    took = datetime.fromisoformat(log.pop("endTime")) - datetime.fromisoformat(log.pop("startTime"))
    assert took == timedelta(seconds=1.5)
    assert log == {
        "request_id": call.id,
        "call_type": "/chat/completions",
        "api_key": "key_spender",
        "user": None,
        "team_id": None,
        "model_group": "gpt",
        "model_id": "one",
        "status": "success",
        "status_code": 200,
        "error_code": None,
        "requests": 1,
        "failed_requests": 0,
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 5,
        "reasoning_tokens": 2,
        "total_tokens": 15,
        "spend": 0.00021,
    }


async def test_a_failure_without_a_price(gateway: Gateway, api: httpx.AsyncClient) -> None:
    await record(gateway, call_record(status=429, error="rate_limit_exceeded"))

    [log] = (await api.get("/spend/logs")).json()["data"]

    assert (log["status"], log["status_code"], log["error_code"]) == ("failure", 429, "rate_limit_exceeded")
    assert log["spend"] is None


async def test_a_providers_text_does_not_lose_the_other_calls(
    gateway: Gateway, api: httpx.AsyncClient, database_url: str
) -> None:
    limited = replace(
        HOLDER, limited=(LimitedHolder("key", "key_spender", Limits(tpm_limit=1000, max_parallel_requests=1)),)
    )
    async with gateway.store.session() as tables:
        await tables.meters.admit(limited.limited, 1, "lease", 60)
    odd = [
        call_record(error="nul\0 and half a pair \ud83d", status=2**40),
        call_record(input_tokens=2**63, output_tokens=-(2**70)),
        call_record(reasoning_tokens=-1, cached_tokens=10**30),
    ]

    async with gateway.store.session() as tables:
        await tables.functions.record([call_record(input_tokens=5), *odd], limited, "lease")

    assert len(await logs(api)) == 4
    with psycopg.connect(database_url) as connection:
        listed = connection.execute("SELECT tokens, leases FROM meters").fetchall()
        numbers = connection.execute("SELECT min(output_tokens), min(reasoning_tokens), max(status) FROM calls")
        assert numbers.fetchall() == [(0, 0, 999)]
    assert listed == [(5 + storable.MOST, {})]


async def test_pages(gateway: Gateway, api: httpx.AsyncClient) -> None:
    calls = [call_record() for _ in range(5)]
    for call in calls:
        await record(gateway, call)

    listed: list[str] = []
    query: dict[str, Any] = {"size": 2}
    while True:
        page = (await api.get("/spend/logs", params=query)).json()
        listed += [log["request_id"] for log in page["data"]]
        if not page["has_more"]:
            break
        query["after"] = page["last_id"]

    assert listed == [call.id for call in reversed(calls)]


@pytest.mark.parametrize("named", [VALUE, key_hash(VALUE), "key_spender", "spender"])
async def test_the_calls_of_a_key_however_it_is_named(gateway: Gateway, api: httpx.AsyncClient, named: str) -> None:
    mine = call_record()
    await record(gateway, mine)
    await record(gateway, call_record(), caller=Caller(admin=True))

    assert await logs(api, api_key=named) == [mine.id]
    assert await logs(api, api_key="sk-a-key-that-is-none-of-ours") == []


async def test_the_calls_of_some_days(gateway: Gateway, api: httpx.AsyncClient, database_url: str) -> None:
    call = call_record()
    await record(gateway, call)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE calls SET created_at = %s", (datetime(2026, 1, 31, 12, tzinfo=UTC),))

    assert await logs(api, start_date="2026-01-31", end_date="2026-01-31") == [call.id]
    assert await logs(api, start_date="2026-01-31T12:00:00Z", end_date="2026-01-31T13:00:00+00:00") == [call.id]
    assert await logs(api, start_date="2026-02-01") == await logs(api, end_date="2026-01-30") == []
    assert await logs(api, start_date="20260131", end_date="20260131") == [call.id]
    wrong = await api.get("/spend/logs", params={"start_date": "yesterday"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "start_date")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"end_date": "9999-12-31"}, 400),
        ({"end_date": "9999-12-30"}, 200),
        ({"end_date": "9999-12-31T23:59:59.999999-12:00"}, 200),
        ({"end_date": "10000-01-01"}, 400),
        ({"end_date": "0001-01-01"}, 200),
        ({"start_date": "0001-01-01T00:00:00+14:00"}, 200),
        ({"start_date": "0000-01-01"}, 400),
        ({"start_date": "9999-12-31"}, 200),
        ({"start_date": "2026-01-31\0"}, 400),
    ],
)
async def test_the_first_and_the_last_days(api: httpx.AsyncClient, query: dict[str, str], status: int) -> None:
    answer = await api.get("/spend/logs", params=query)

    assert answer.status_code == status, answer.text
    if status == 400:
        assert answer.json()["error"]["param"] in query


async def test_what_a_key_has_cost(gateway: Gateway, api: httpx.AsyncClient) -> None:
    before = (await api.get("/key/info", headers=OWN)).json()["info"]["spend"]
    await record(gateway, call_record(cost=Decimal("0.25")), call_record(cost=Decimal("0.5")), call_record(cost=None))

    after = (await api.get("/key/info", params={"key": "spender"})).json()["info"]["spend"]

    assert (before, after) == (0, 0.75)


async def age(database_url: str, *calls: CallRecord, days: int) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "UPDATE calls SET created_at = now() - make_interval(days => %s) WHERE id = ANY(%s)",
            (days, [call.id for call in calls]),
        )


async def test_old_calls_are_deleted_and_their_cost_is_kept(
    gateway: Gateway, api: httpx.AsyncClient, database_url: str
) -> None:
    old = [call_record(cost=Decimal("0.25")), call_record(cost=Decimal("0.5")), call_record(cost=None)]
    new = call_record(cost=Decimal("0.125"))
    masters = call_record(cost=Decimal(8))
    await record(gateway, *old, new)
    await record(gateway, masters, caller=Caller(admin=True))
    await age(database_url, *old, masters, days=91)

    async with gateway.store.session() as tables:
        assert await tables.spend.sum_up(9)
        counts = [await tables.calls.forget(90 * 86_400, 3) for _ in range(3)]

    assert counts == [3, 1, 0]
    assert await logs(api) == [new.id]
    assert (await api.get("/key/info", headers=OWN)).json()["info"]["spend"] == 0.875


async def test_two_sweeps_at_once_count_each_call_once(
    gateway: Gateway, api: httpx.AsyncClient, database_url: str
) -> None:
    old = [call_record(cost=Decimal(1)) for _ in range(400)]
    await record(gateway, *old)
    await age(database_url, *old, days=2)
    stores = [Store(lambda: database_url) for _ in range(4)]

    async def sweep(store: Store) -> int:
        gone = 0
        for _ in range(20):
            async with store.session() as tables:
                await tables.spend.sum_up(30)
                gone += await tables.calls.forget(86_400, 10)
            async with gateway.store.session() as tables:
                assert await spent_by_key(tables, "key_spender") == 400  # whoever looks meanwhile
        await store.close()
        return gone

    assert sum(await asyncio.gather(*map(sweep, stores))) == 400
    assert await logs(api) == []
    assert (await api.get("/key/info", headers=OWN)).json()["info"]["spend"] == 400


class Deaf:
    """A queue for a sweep that sends no message."""

    async def announce(self, messages: Sequence[Message], *, seconds: float) -> None:
        assert not messages


@pytest.mark.parametrize(("days", "kept"), [(1, 0), (30, 1), (None, 1)])
async def test_the_schedule_deletes_rows_older_than_configured(
    gateway: Gateway, api: httpx.AsyncClient, database_url: str, days: int | None, kept: int
) -> None:
    call = call_record()
    await record(gateway, call)
    await age(database_url, call, days=2)

    await Sweep(gateway.store, cast(Queue, Deaf()), {}, None if days is None else timedelta(days=days)).run()

    assert len(await logs(api)) == kept
