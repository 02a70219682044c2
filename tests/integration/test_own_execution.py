"""Batches that the gateway itself runs, one call for each request: what comes out, and when a request fails."""

import asyncio
import json
import time
from typing import Any

import pytest

from local.provider import Fault, Latency
from manifold.config import Deployment
from manifold.errors import ProviderUnclear
from manifold.providers.completion_provider import ProviderRequest
from manifold.queue import Message
from tests.support.own_execution import (
    ACCOUNT,
    CALLS,
    GROUP,
    assert_complete,
    calls,
    created,
    results,
    run_batch,
)
from tests.support.provider import chat_line, chat_lines
from tests.support.system import System

pytest_plugins = ("tests.support.own_execution",)


def fail(system: System, kind: str, times: int | None = None, **how: Any) -> None:
    fault = {"kind": kind, "account": ACCOUNT, "route": CALLS, "times": times, **how}
    system.provider.fail(Fault.model_validate(fault))


def line(custom_id: str, url: str, **body: Any) -> bytes:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body}).encode() + b"\n"


async def called(system: System, count: int) -> None:
    """Wait until the provider was called so often."""
    for _ in range(200):
        if len(calls(system)) >= count:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the provider is not called")


async def test_each_request_is_answered_once(own: System) -> None:
    batch = await run_batch(own, chat_lines(GROUP, 150))
    assert_complete(own, batch, 150)
    assert len(calls(own)) == 150
    assert [key for key in own.stored() if "job_" in key] == [], "what was stored on the way is deleted"
    assert batch.attempts is not None
    assert [one.outcome for one in batch.attempts] == ["completed"]
    assert batch.usage is not None
    [usage] = own.select("SELECT requests, failed_requests, input_tokens, cost FROM usage")
    assert (usage["requests"], usage["failed_requests"]) == (150, 0)


async def test_a_large_batch_is_run_in_chunks(own: System) -> None:
    batch = await run_batch(own, chat_lines("wide", 1100))
    assert_complete(own, batch, 1100, "wide")
    sizes = [one["requests"] for one in own.select("SELECT requests FROM chunks ORDER BY number")]
    assert sizes == [250, 250, 250, 250, 100]
    assert len(calls(own)) == 1100


@pytest.mark.parametrize(
    ("endpoint", "group", "body", "member"),
    [
        ("/v1/embeddings", "embeddings", {"input": "hello"}, "data"),
        ("/v1/completions", GROUP, {"prompt": "hello"}, "choices"),
        ("/v1/responses", GROUP, {"input": "hello"}, "output"),
        ("/v1/chat/completions", "both", {"messages": [{"role": "user", "content": "hello"}]}, "choices"),
        ("/v1/chat/completions", "claude-batch", {"messages": [{"role": "user", "content": "hello"}]}, "choices"),
    ],
)
async def test_endpoints_and_translated_dialects(
    own: System, endpoint: str, group: str, body: dict[str, Any], member: str
) -> None:
    lines = b"".join(line(f"request-{n}", endpoint, model=group, **body) for n in range(3))
    batch = await run_batch(own, lines, endpoint=endpoint)
    assert_complete(own, batch, 3, group)
    [answer, *_] = results(own, batch.output_file_id).values()
    assert answer["response"]["status_code"] == 200
    assert answer["response"]["body"][member]


async def test_an_endpoint_that_the_server_lacks(own: System) -> None:
    batch = await run_batch(own, line("a", "/v1/moderations", model=GROUP, input="hi"), endpoint="/v1/moderations")
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data[0].code == "invalid_endpoint"


async def test_the_price_is_that_of_completions(own: System) -> None:
    await run_batch(own, chat_lines("both", 2))
    await run_batch(own, chat_lines("rescued", 2))
    here, there = own.select("SELECT cost, input_tokens, output_tokens FROM usage ORDER BY created_at")
    assert (here["input_tokens"], here["output_tokens"]) == (there["input_tokens"], there["output_tokens"])
    assert here["cost"] == 2 * there["cost"]


async def test_a_request_that_is_wrong_is_an_error_line(own: System) -> None:
    content = chat_line(GROUP, "good") + chat_line(GROUP, "bad", temperature=7)
    batch = await run_batch(own, content)
    assert batch.status == "completed"
    assert list(results(own, batch.output_file_id)) == ["good"]
    failed = results(own, batch.error_file_id)["bad"]
    assert failed["response"]["status_code"] == 400
    assert failed["response"]["body"]["error"]["param"] == "temperature"
    assert len(calls(own)) == 2, "it is not tried again"


async def test_a_request_that_cannot_be_translated_is_an_error_line(own: System) -> None:
    content = chat_line("claude-batch", "good") + chat_line("claude-batch", "bad", n=5)
    batch = await run_batch(own, content)
    failed = results(own, batch.error_file_id)["bad"]
    assert failed["response"]["body"]["error"]["param"] == "n"
    assert list(results(own, batch.output_file_id)) == ["good"]


@pytest.mark.parametrize("how", [{"kind": "error"}, {"kind": "error", "status": 503}, {"kind": "cut"}])
async def test_a_provider_that_is_down_fails_no_request(own: System, how: dict[str, Any]) -> None:
    fail(own, **how)
    batch_id = await created(own, chat_lines(GROUP, 100))
    for _ in range(6):
        await own.deliver_all()
        own.age(20)
        await own.run_schedule()
    batch = await own.retrieve(batch_id)
    assert (batch.status, batch.request_counts.failed) == ("in_progress", 0)
    assert len(calls(own)) < 100, "it is left alone"
    own.provider.state.faults.clear()
    own.age(300)
    assert_complete(own, await own.run_until_ended(batch_id), 100)


async def test_a_pause_that_the_provider_wants_is_kept(own: System) -> None:
    fail(own, "rate_limit", times=1, retry_after="2")
    began = time.monotonic()
    batch_id = await created(own, chat_lines(GROUP, 30))
    ended = await own.run_until_ended(batch_id)
    assert_complete(own, ended, 30)
    assert time.monotonic() - began >= 2
    assert len(calls(own)) == 31


async def test_a_long_pause_is_not_waited_for(own: System) -> None:
    fail(own, "rate_limit", times=1, retry_after="200")
    batch_id = await created(own, chat_lines(GROUP, 30))
    began = time.monotonic()
    await own.deliver_all()
    await own.deliver_all()
    assert time.monotonic() - began < 20
    answered = len(calls(own))
    assert answered < 30
    [chunk] = own.select("SELECT extract(epoch FROM due_at - now())::int AS due FROM chunks")
    assert 150 < chunk["due"] <= 200
    own.age(210)
    assert_complete(own, await own.run_until_ended(batch_id), 30)


async def test_a_model_that_the_server_lacks_ends_the_batch_with_the_cause(own: System) -> None:
    batch_id = await created(own, chat_lines("wrong-model", 5))
    for _ in range(40):
        await own.deliver_all()
        own.age(60)
        await own.run_schedule()
    batch = await own.retrieve(batch_id)
    assert batch.status == "failed"
    assert batch.errors is not None
    assert "404" in str(batch.errors.data[0].message)
    assert len(calls(own)) < 60


async def test_a_cancel_stops_within_seconds_and_keeps_what_came(own: System) -> None:
    own.provider.state.set_latency(ACCOUNT, Latency(answer=0.5))
    batch_id = await created(own, chat_lines("one-by-one", 100))
    working = asyncio.create_task(own.deliver_all())
    await called(own, 4)
    await own.cancel(batch_id)
    began = time.monotonic()
    await working
    assert time.monotonic() - began < 8
    batch = await own.run_until_ended(batch_id)
    assert batch.status == "cancelled"
    kept = results(own, batch.output_file_id)
    assert 3 <= len(kept) <= 20
    made = len(calls(own))
    assert made <= len(kept) + 1


async def test_a_batch_that_no_worker_has_begun_is_cancelled_at_once(own: System) -> None:
    batch_id = await created(own, chat_lines(GROUP, 3))
    await own.step(batch_id)
    await own.cancel(batch_id)
    assert (await own.run_until_ended(batch_id)).status == "cancelled"
    assert calls(own) == []


async def test_the_end_of_the_window_stops_within_seconds_and_keeps_what_came(own: System) -> None:
    own.provider.state.set_latency(ACCOUNT, Latency(answer=0.5))
    batch_id = await created(own, chat_lines("one-by-one", 60))
    working = asyncio.create_task(own.deliver_all())
    await called(own, 4)
    own.select(f"UPDATE batches SET expires_at = now() + interval '1 second' WHERE id = '{batch_id}' RETURNING id")
    await working
    batch = await own.run_until_ended(batch_id)
    assert batch.status == "expired"
    kept, missing = results(own, batch.output_file_id), results(own, batch.error_file_id)
    assert 3 <= len(kept) <= 20
    assert len(kept) + len(missing) == 60
    assert {one["error"]["code"] for one in missing.values()} == {"batch_expired"}


async def test_a_message_that_comes_twice_runs_a_chunk_once(own: System) -> None:
    own.provider.state.set_latency(ACCOUNT, Latency(answer=0.1))
    batch_id = await created(own, chat_lines(GROUP, 20))
    await own.step(batch_id)
    await own.step(batch_id)
    [chunk] = own.select("SELECT id FROM chunks")
    await asyncio.gather(*(own.deliver(Message("chunk", chunk["id"])) for _ in range(3)))
    assert len(calls(own)) == 20
    assert_complete(own, await own.run_until_ended(batch_id), 20)


async def test_a_limit_of_calls_in_a_minute_is_kept(own: System) -> None:
    batch_id = await created(own, chat_lines("slow-pace", 60))
    began = time.monotonic()
    assert_complete(own, await own.run_until_ended(batch_id), 60, "slow-pace")
    assert time.monotonic() - began >= 2.5, "30 at once, then 10 in a second"


async def test_a_job_below_the_providers_minimum_runs_here(own: System) -> None:
    batch = await run_batch(own, chat_lines("too-few", 5))
    assert_complete(own, batch, 5, "too-few")
    assert len(calls(own, "openai")) == 5
    assert own.jobs_at_providers() == []


async def test_a_larger_one_runs_at_the_provider(own: System) -> None:
    batch = await run_batch(own, chat_lines("too-few", 100))
    assert batch.status == "completed"
    assert calls(own, "openai") == []
    assert len(own.jobs_at_providers()) == 1


async def test_a_group_with_a_provider_and_a_server_uses_both(own: System) -> None:
    batches = [await created(own, chat_lines("mixed", 5 + number)) for number in range(12)]
    for number, batch_id in enumerate(batches):
        assert_complete(own, await own.run_until_ended(batch_id), 5 + number, "mixed")
    ran = own.select("SELECT execution, count(*) AS jobs FROM jobs GROUP BY execution ORDER BY execution")
    assert [one["execution"] for one in ran] == ["gateway", "provider"]
    assert sum(one["jobs"] for one in ran) == 12


async def test_requests_move_to_another_deployment_where_theirs_stays_down(own: System) -> None:
    own.provider.state.set_latency(ACCOUNT, Latency(answer=0.02))
    fail(own, "error", times=None)
    batch_id = await created(own, chat_lines("pair", 20))
    batch = await own.run_until_ended(batch_id)
    assert_complete(own, batch, 20, "pair")
    ran = own.select("SELECT deployment_id, outcome FROM jobs ORDER BY created_at")
    assert [tuple(one.values()) for one in ran] == [("pair-first", "failed"), ("pair-second", "completed")]


async def test_what_was_answered_before_a_move_is_kept(own: System) -> None:
    prompts = {f"hello {number}" for number in range(10)}
    down = False
    complete = own.gateway.deployments.complete

    async def complete_some(deployment: Deployment, request: ProviderRequest) -> dict[str, Any]:
        nonlocal down
        if deployment.id == "pair-first" and (down or request.body["messages"][-1]["content"] not in prompts):
            down = True
            raise ProviderUnclear("HTTP 500", status=500)
        return await complete(deployment, request)

    own.gateway.deployments.complete = complete_some  # type: ignore[method-assign]
    batch = await run_batch(own, chat_lines("pair", 20))
    assert_complete(own, batch, 20, "pair")
    usage = own.select("SELECT deployment_id, requests FROM usage ORDER BY deployment_id")
    assert [one["deployment_id"] for one in usage] == ["pair-first", "pair-second"]
    assert sum(one["requests"] for one in usage) == 20
    assert usage[0]["requests"] > 0
