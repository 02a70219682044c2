"""Batches in `/spend/logs` and in the spend of keys, users and teams, beside completions."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import psycopg
import pytest

from admin.app import create as create_admin_app
from batches.app import create as create_batches_app
from batches.settlement import cost_of
from completions.app import create as create_completions_app
from completions.ledger import Ledger
from files.app import create as create_files_app
from manifold import ids
from manifold.access import Caller
from manifold.auth import key_hash
from manifold.dispatch.attempts import Attempt
from manifold.gateway import Gateway
from manifold.prices import Prices
from manifold.store import Tables
from manifold.store.batches import NewBatch, Outcome
from manifold.store.calls import CallRecord
from manifold.store.files import NewFile
from manifold.store.job_changes import JobEnd
from manifold.store.keys import Key
from manifold.store.spend import SpendFilter
from manifold.store.teams import Team
from tests.support import gateways
from tests.support.deployments import deployment
from tests.support.provider import chat_lines
from tests.support.shards import plan_one
from tests.support.system import System

pytest_plugins = ("tests.support.system_fixtures",)

VALUE = "sk-the-key-that-spends"
OWN = {"authorization": f"Bearer {VALUE}"}
HOLDER = Caller(key_id="key_spender", user_id="ann", team_id="team_red")
OTHER = Caller(key_id="key_other")
COUNTS = {
    "requests": 3,
    "failed_requests": 1,
    "input_tokens": 10,
    "cached_tokens": 4,
    "output_tokens": 5,
    "reasoning_tokens": 2,
}
OLD = 100 * 86_400


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.store.transaction() as tables:
        await add_keys(tables)
    async with gateways.client(create_admin_app(gateway)) as client:
        yield client


async def add_keys(tables: Tables, **limits: Any) -> None:
    await tables.users.ensure("ann")
    await tables.teams.insert(Team(id="team_red"))
    await tables.keys.insert(
        Key(
            id="key_spender",
            token_hash=key_hash(VALUE),
            name="spender",
            alias="spender",
            user_id="ann",
            team_id="team_red",
            **limits,
        )
    )
    await tables.keys.insert(Key(id="key_other", token_hash=key_hash("sk-other"), name="other"))


async def add_batch(
    gateway: Gateway,
    caller: Caller = HOLDER,
    *,
    cost: Decimal | None = Decimal("0.25"),
    group: str = "gpt-batch",
    outcome: Outcome = "completed",
) -> str:
    """A batch of the caller that has ended and was settled; returns its id."""
    async with gateway.store.transaction() as tables:
        file = await tables.files.insert(NewFile(ids.new("file"), "batch", "in.jsonl", 1, [group]), caller)
        new = NewBatch(ids.new("batch"), file.id, "/v1/chat/completions", "24h", [group], None, 3, None, 86_400)
        await tables.batches.insert(new, caller)
        batch = await tables.batch_leases.claim(new.id, "lease", 60)
        assert batch is not None
        [input_id] = await tables.inputs.ensure(file.id, ["general"])
        job = await tables.jobs.insert(ids.new("job"), await plan_one(tables, batch, 3), input_id, "general")
        assert job is not None
        assert await tables.jobs.running(job, new.id)
        assert await tables.jobs.ended({job.id: JobEnd(outcome, None, None, None, None, [])})
        await tables.job_usage.record(batch, job, group, COUNTS, cost)
        assert await tables.jobs.settled(job)
        assert await tables.batches.end(batch, outcome)
    return new.id


async def add_call(gateway: Gateway, caller: Caller = HOLDER, **more: Any) -> str:
    facts: dict[str, Any] = {"model_group": "chat", "deployment_id": "chat", "route": "/chat/completions"}
    facts |= {"id": ids.new("call"), "status": 200, "seconds": 1.5}
    call = CallRecord(**facts | more)
    async with gateway.store.session() as tables:
        await tables.functions.record([call], caller, "")
    return call.id


async def logs(api: httpx.AsyncClient, key: str | None = None, **query: Any) -> list[str]:
    headers = {"authorization": f"Bearer {key}"} if key else None
    answer = await api.get("/spend/logs", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    return [log["request_id"] for log in answer.json()["data"]]


async def spend(api: httpx.AsyncClient) -> tuple[float, float, float]:
    """Of the key, of its user and of its team."""
    key = (await api.get("/key/info", headers=OWN)).json()["info"]["spend"]
    user = (await api.get("/user/info", headers=OWN)).json()["user_info"]["spend"]
    team = (await api.get("/team/info", headers=OWN)).json()["team_info"]["spend"]
    return key, user, team


def sql(database_url: str, statement: str, *parameters: object) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement.encode(), parameters)


async def test_a_batch_in_litellms_words(gateway: Gateway, api: httpx.AsyncClient) -> None:
    batch_id = await add_batch(gateway)

    [log] = (await api.get("/spend/logs", headers=OWN)).json()["data"]

    assert datetime.fromisoformat(log.pop("endTime")) >= datetime.fromisoformat(log.pop("startTime"))
    assert log == {
        "request_id": batch_id,
        "call_type": "/batches",
        "api_key": "key_spender",
        "user": "ann",
        "team_id": "team_red",
        "model_group": "gpt-batch",
        "model_id": "general",
        "status": "success",
        "status_code": 200,
        "error_code": None,
        "requests": 3,
        "failed_requests": 1,
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "completion_tokens": 5,
        "reasoning_tokens": 2,
        "total_tokens": 15,
        "spend": 0.25,
    }


@pytest.mark.parametrize("outcome", ["failed", "expired", "cancelled"])
async def test_a_batch_that_did_not_complete(gateway: Gateway, api: httpx.AsyncClient, outcome: Outcome) -> None:
    await add_batch(gateway, outcome=outcome, cost=None)

    [log] = (await api.get("/spend/logs")).json()["data"]

    assert (log["status"], log["status_code"], log["error_code"]) == ("failure", 0, outcome)
    assert (log["spend"], log["requests"], log["failed_requests"]) == (None, 3, 1)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_completions_and_batches_are_paged_in_one_order(
    gateway: Gateway, api: httpx.AsyncClient, database_url: str, size: int
) -> None:
    made = [await (add_batch if number % 3 else add_call)(gateway) for number in range(8)]
    sql(database_url, "UPDATE usage SET created_at = (SELECT max(created_at) FROM calls)")  # a call and batches at once

    listed: list[str] = []
    query: dict[str, Any] = {"size": size}
    while True:
        page = (await api.get("/spend/logs", params=query)).json()
        listed += [log["request_id"] for log in page["data"]]
        if not page["has_more"]:
            break
        query["after"] = page["last_id"]

    assert len(listed) == len(set(listed)) == len(made)
    assert [one for one in listed if one.startswith("call")] == [one for one in made[::-1] if one.startswith("call")]


async def test_a_page_may_begin_after_a_batch(gateway: Gateway, api: httpx.AsyncClient) -> None:
    call, batch = await add_call(gateway), await add_batch(gateway)

    assert await logs(api) == [batch, call]
    assert await logs(api, after=batch) == [call]
    assert (await api.get("/spend/logs", params={"after": "batch_none"})).json()["error"]["code"] == "invalid_cursor"
    theirs = await api.get("/spend/logs", params={"after": batch}, headers={"authorization": "Bearer sk-other"})
    assert (theirs.status_code, theirs.json()["error"]["code"]) == (400, "invalid_cursor")


async def test_filters_are_for_both(gateway: Gateway, api: httpx.AsyncClient, database_url: str) -> None:
    call, batch = await add_call(gateway), await add_batch(gateway)
    other_call, other_batch = await add_call(gateway, OTHER), await add_batch(gateway, OTHER, group="mini-batch")
    sql(
        database_url,
        "UPDATE usage SET created_at = %s WHERE batch_id = %s",
        datetime(2026, 1, 31, 12, tzinfo=UTC),
        other_batch,
    )
    sql(database_url, "UPDATE calls SET created_at = %s WHERE id = %s", datetime(2026, 1, 31, tzinfo=UTC), other_call)

    assert await logs(api) == [batch, call, other_batch, other_call]
    assert await logs(api, "sk-other") == [other_batch, other_call]
    assert await logs(api, VALUE) == [batch, call]
    assert await logs(api, api_key="spender") == await logs(api, user_id="ann") == [batch, call]
    assert await logs(api, team_id="team_red") == [batch, call]
    assert await logs(api, start_date="2026-01-31", end_date="2026-01-31") == [other_batch, other_call]
    assert await logs(api, end_date="2026-01-31T12:00:00Z") == [other_call]
    assert await logs(api, model="mini-batch") == [other_batch]
    assert await logs(api, model="chat", user_id="ann") == [call]
    assert await logs(api, request_id=batch) == [batch]
    assert await logs(api, request_id=other_call) == [other_call]
    assert await logs(api, VALUE, request_id=other_batch) == []


async def test_sums_of_a_key_its_user_and_its_team(gateway: Gateway, api: httpx.AsyncClient) -> None:
    assert await spend(api) == (0, 0, 0)
    await add_batch(gateway)
    await add_batch(gateway, cost=None)
    await add_call(gateway, cost=Decimal("0.5"))
    await add_call(gateway, Caller(key_id="key_other", team_id="team_red"), cost=Decimal(2))
    await add_batch(gateway, OTHER, cost=Decimal(4))

    assert await spend(api) == (0.75, 0.75, 2.75)


async def test_the_cost_of_deleted_rows_stays_where_it_was(
    gateway: Gateway, api: httpx.AsyncClient, database_url: str
) -> None:
    await add_batch(gateway)
    await add_call(gateway, cost=Decimal("0.5"))
    await add_call(gateway, Caller(key_id="key_other", team_id="team_red"), cost=Decimal(2))
    sql(database_url, "UPDATE calls SET created_at = created_at - interval '101 days'")
    sql(database_url, "UPDATE batches SET completed_at = completed_at - interval '101 days'")

    sql(database_url, "UPDATE usage SET created_at = created_at - interval '101 days'")
    async with gateway.store.session() as tables:
        assert await tables.spend.sum_up(2)
        counts = [await tables.calls.forget(OLD, 9), await tables.retention.forget_batches(OLD, 9)]
        counts += [await tables.calls.forget(OLD, 9), await tables.retention.forget_batches(OLD, 9)]
    sql(database_url, "UPDATE api_keys SET team_id = 'team_red' WHERE id = 'key_other'")

    assert counts == [2, 1, 0, 0]
    assert await logs(api) == []
    assert await spend(api) == (0.75, 0.75, 2.75)


async def test_cost_that_was_kept_for_a_key_alone_counts_for_its_owners(
    gateway: Gateway, api: httpx.AsyncClient, database_url: str
) -> None:
    """As the version before did."""
    sql(database_url, "INSERT INTO past_spend (key_id, cost) VALUES ('key_spender', 3)")
    assert await spend(api) == (3, 3, 3)

    await add_call(gateway, cost=Decimal("0.5"))
    sql(database_url, "UPDATE calls SET created_at = created_at - interval '101 days'")
    async with gateway.store.session() as tables:
        assert await tables.spend.sum_up(9)
        assert await tables.calls.forget(OLD, 9) == 1

    assert await spend(api) == (3.5, 3.5, 3.5)


async def test_what_the_provider_says_that_a_completion_cost(gateway: Gateway, api: httpx.AsyncClient) -> None:
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0}
    router, grok = deployment("router", provider="openrouter"), deployment("grok", provider="xai")
    mini = deployment("mini")
    ledger = Ledger(gateway.store, gateway.keys, Prices(), 29)

    admission = await ledger.admit(HOLDER, ["chat"])
    for one, said in (
        (router, {"cost": 0.125}),
        (grok, {"cost_in_usd_ticks": 2_500_000_000}),
        (grok, {"cost_in_usd_ticks": "many"}),
        (mini, {"cost": 7}),
    ):
        admission.report(Attempt(one, "/chat/completions", 0.1, usage | said))
    await ledger.record(admission)

    async with gateway.store.session() as tables:
        rows = await tables.spend.page(HOLDER, SpendFilter(), limit=10)
    assert sorted((row.deployment_id, row.cost) for row in rows if row.cost is not None) == [
        ("grok", Decimal("0.25")),
        ("router", Decimal("0.125")),
    ]
    assert len(rows) == 4


async def create_batch(system: System, batches: httpx.AsyncClient, file_id: str = "") -> httpx.Response:
    """`POST /batches`, by the key that spends: a batch of four requests, or a retry of the one for this file."""
    if not file_id:
        async with gateways.client(create_files_app(system.gateway), VALUE) as files:
            content = chat_lines("gpt-4.1-mini-batch", 4)
            uploaded = await files.post("/files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch"})
        file_id = uploaded.json()["id"]
    body = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return await batches.post("/batches", json=body, headers={"idempotency-key": file_id})


async def test_a_batch_from_its_upload_to_the_spend_of_its_owners(system: System) -> None:
    """Through the functions: usage in the object, and cost in the list and in the sums."""
    async with system.gateway.store.transaction() as tables:
        await add_keys(tables)
    async with gateways.client(create_batches_app(system.gateway), VALUE) as batches:
        created = await create_batch(system, batches)
    assert created.status_code == 200, created.text

    batch = await system.run_until_ended(created.json()["id"])

    assert batch.usage is not None
    assert batch.usage.input_tokens > 0
    used = [batch.usage.input_tokens, batch.usage.output_tokens]
    cost = (used[0] * Decimal("0.2") + used[1] * Decimal("0.8")) / 1_000_000  # half of 0.40 and 1.60 dollars
    async with gateways.client(create_admin_app(system.gateway), VALUE) as admin:
        [log] = (await admin.get("/spend/logs", params={"request_id": batch.id})).json()["data"]
        assert [log["prompt_tokens"], log["completion_tokens"]] == used
        assert (log["call_type"], log["requests"], log["failed_requests"]) == ("/batches", 4, 0)
        assert log["spend"] == float(cost)
        assert await spend(admin) == (float(cost),) * 3


async def test_a_budget_that_a_batch_has_used_up(system: System) -> None:
    """It refuses the next completion and the next batch alike, but no retry of the batch that was created before."""
    async with system.gateway.store.transaction() as tables:
        await add_keys(tables, max_budget=Decimal("0.000008"))
    async with gateways.client(create_batches_app(system.gateway), VALUE) as batches:
        created = (await create_batch(system, batches)).json()
        await system.run_until_ended(created["id"])

        refused = await create_batch(system, batches)
        retried = await create_batch(system, batches, created["input_file_id"])

        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "budget_exceeded")
        assert "budget of the key is used up" in refused.json()["error"]["message"]
        assert (retried.status_code, retried.json()["id"]) == (200, created["id"])
        assert len((await batches.get("/batches")).json()["data"]) == 1
    async with gateways.client(create_completions_app(system.gateway), VALUE) as completions:
        messages = [{"role": "user", "content": "Hello"}]
        chat = await completions.post("/chat/completions", json={"model": "gpt-3.5-turbo", "messages": messages})
    assert (chat.status_code, chat.json()) == (refused.status_code, refused.json())


async def test_a_batch_that_ends_after_its_budgets_period_begins_the_next(system: System) -> None:
    async with system.gateway.store.transaction() as tables:
        await add_keys(tables, max_budget=Decimal("0.000008"), budget_duration="1h")
    async with gateways.client(create_batches_app(system.gateway), VALUE) as batches:
        created = await create_batch(system, batches)
        system.age(3_700)
        await system.run_until_ended(created.json()["id"])

        again = await create_batch(system, batches)
        assert (again.status_code, again.json()["error"]["code"]) == (400, "budget_exceeded")

        system.age(3_700)
        assert (await create_batch(system, batches)).status_code == 200


def test_results_that_an_older_version_stored_are_priced_by_their_tokens() -> None:
    mini = replace(deployment("mini"), model="gpt-4o-mini")
    usage = COUNTS | {"input_tokens": 1_000_000, "output_tokens": 0, "cached_tokens": 0}

    assert cost_of({"usage": usage}, mini) == Decimal("0.075")
    assert cost_of({"usage": usage}, None) is None
    assert cost_of({"usage": usage, "cost": "3.5"}, None) == Decimal("3.5")
    assert cost_of({"usage": usage, "cost": None}, mini) is None
