"""The adapter of Message Batches: the states it reads, the URL it follows, and how it finds an unclear create."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from manifold.errors import ProviderError, ProviderRefused, ProviderUnclear
from manifold.providers import Endpoint, Input, Job, JobStatus
from manifold.providers.anthropic.batches import AnthropicBatches, job_status
from manifold.providers.batch_client import BatchClient

ENDPOINT = Endpoint("claude-sonnet-5", "https://claude.example.com/v1", "sk-ant-secret")
ROOT = "/v1/messages/batches"
LINES = b'{"custom_id":"input_A-0","params":{}}\n{"custom_id":"input_A-1","params":{}}\n'
CREATED = 1_780_000_000
AT = "2026-05-28T20:26:40.123456Z"


async def lines() -> AsyncIterator[bytes]:
    yield LINES[:10]
    yield LINES[10:]


DATA = Input("input_A", len(LINES), lines, 2)
JOB = Job("job_1", None, "/v1/chat/completions", "24h", CREATED, "input_A", 2, DATA, frozenset({"msgbatch_other"}))


def batch(batch_id: str = "msgbatch_1", status: str = "in_progress", at: str = AT, **counts: int) -> dict[str, Any]:
    numbers = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0) | counts
    ended = status == "ended"
    return {
        "id": batch_id,
        "type": "message_batch",
        "processing_status": status,
        "request_counts": numbers,
        "created_at": at,
        "results_url": f"https://claude.example.com{ROOT}/{batch_id}/results" if ended else None,
    }


def batches(answers: Mapping[str, Any], requests: list[httpx.Request] | None = None) -> AnthropicBatches:
    """An adapter whose provider answers by method and path: with an object, a text, or a status and an object."""

    async def handler(request: httpx.Request) -> httpx.Response:
        await request.aread()
        if requests is not None:
            requests.append(request)
        missing = (404, {"type": "error", "error": {"type": "not_found_error", "message": "?"}})
        answer = answers.get(f"{request.method} {request.url.raw_path.decode()}", missing)
        if isinstance(answer, bytes):
            return httpx.Response(200, content=answer)
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        return httpx.Response(status, json=body)

    return AnthropicBatches(BatchClient(httpx.MockTransport(handler)))


def listing(*entries: dict[str, Any]) -> dict[str, Any]:
    page = {"data": list(entries), "has_more": False, "first_id": None, "last_id": None}
    return {f"GET {ROOT}?limit=100": page, f"GET {ROOT}?limit=1": page}


async def test_the_lines_travel_with_the_create() -> None:
    requests: list[httpx.Request] = []
    adapter = batches({f"POST {ROOT}": batch(processing=2)}, requests)
    assert (await adapter.prepare(ENDPOINT, DATA)).ref is None
    assert await adapter.submit(ENDPOINT, JOB) == "msgbatch_1"
    (create,) = requests
    assert create.content == b'{"requests":[' + LINES.strip().replace(b"\n", b",") + b"]}"
    assert create.headers["x-api-key"] == "sk-ant-secret"
    assert create.headers["anthropic-version"] == "2023-06-01"
    assert create.headers["content-type"] == "application/json"


@pytest.mark.parametrize("answer", [{}, {"id": ""}, {"id": 7}, b"<html>"])
async def test_a_create_without_an_id_is_unclear(answer: object) -> None:
    with pytest.raises(ProviderUnclear):
        await batches({f"POST {ROOT}": answer}).submit(ENDPOINT, JOB)


async def test_an_empty_balance_is_a_matter_of_the_account() -> None:
    error = {"type": "invalid_request_error", "message": "Your credit balance is too low"}
    with pytest.raises(ProviderRefused) as refusal:
        await batches({f"POST {ROOT}": (400, {"type": "error", "error": error})}).submit(ENDPOINT, JOB)
    assert (refusal.value.status, refusal.value.code) == (402, "insufficient_quota")


@pytest.mark.parametrize(
    ("listed", "status"),
    [
        (batch(processing=2), JobStatus("in_progress", 2)),
        (batch(status="canceling", processing=2), JobStatus("cancelling", 2)),
        (batch(status="ended", succeeded=1, errored=1), JobStatus("completed", 2, 1, 1, "msgbatch_1")),
        (batch(status="ended", errored=2), JobStatus("completed", 2, 0, 2, "msgbatch_1")),
        (batch(status="ended", succeeded=1, expired=1), JobStatus("expired", 2, 1, 1, "msgbatch_1")),
        (batch(status="ended", canceled=1, expired=1), JobStatus("cancelled", 2, 0, 2, "msgbatch_1")),
        (batch(processing=10**9, errored=10**9), JobStatus("in_progress", 10**9, 0, 10**9)),
        (batch(status="paused"), None),
        (batch(status="in_progress") | {"request_counts": None}, JobStatus("in_progress")),
    ],
)
def test_states(listed: dict[str, Any], status: JobStatus | None) -> None:
    assert job_status(listed) == status


async def test_a_job_is_lost_only_where_batches_can_be_listed() -> None:
    statuses: dict[str, JobStatus] = {}
    await batches(listing()).poll(ENDPOINT, ["msgbatch_1"], statuses)
    assert statuses["msgbatch_1"].lost
    with pytest.raises(ProviderRefused):
        await batches({}).poll(ENDPOINT, ["msgbatch_1"], {})


RESULT = b'{"custom_id":"input_A-1","result":{"type":"expired"}}\n'


@pytest.mark.parametrize(
    "results_url",
    [f"https://claude.example.com{ROOT}/msgbatch_1/results", "https://api.anthropic.com/v1/elsewhere"],
    ids=["here", "elsewhere"],
)
async def test_results_are_read_at_the_configured_origin_alone(results_url: str) -> None:
    requests: list[httpx.Request] = []
    answers = {
        f"GET {ROOT}/msgbatch_1": batch(status="ended", expired=1) | {"results_url": results_url},
        f"GET {ROOT}/msgbatch_1/results": RESULT,
    }
    adapter = batches(answers, requests)
    assert [chunk async for chunk in adapter.results(ENDPOINT, "msgbatch_1")] == [RESULT]
    assert {request.url.host for request in requests} == {"claude.example.com"}


async def test_a_batch_without_results_yet_is_unclear() -> None:
    adapter = batches({f"GET {ROOT}/msgbatch_1": batch(processing=2)})
    with pytest.raises(ProviderUnclear):
        _ = [chunk async for chunk in adapter.results(ENDPOINT, "msgbatch_1")]


async def test_a_cancel_of_an_ended_batch_is_no_error() -> None:
    refused = (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "ended"}})
    answers = {f"POST {ROOT}/msgbatch_1/cancel": refused, f"GET {ROOT}/msgbatch_1": batch(status="ended", succeeded=2)}
    await batches(answers).cancel(ENDPOINT, "msgbatch_1")
    answers[f"GET {ROOT}/msgbatch_1"] = batch(processing=2)
    with pytest.raises(ProviderRefused):
        await batches(answers).cancel(ENDPOINT, "msgbatch_1")


async def test_a_batch_that_is_gone_is_discarded() -> None:
    await batches({}).discard(ENDPOINT, "msgbatch_1")
    with pytest.raises(ProviderError):
        await batches({f"DELETE {ROOT}/msgbatch_1": (400, {})}).discard(ENDPOINT, "msgbatch_1")


OLD, LATE = "2026-05-28T19:00:00Z", "2026-05-28T22:00:00Z"


@pytest.mark.parametrize(
    "entries",
    [
        (),
        (batch(processing=3),),
        (batch(at=OLD, processing=2),),
        (batch(at=LATE, processing=2),),
        (batch("msgbatch_other", processing=2),),
    ],
    ids=["none", "another size", "older", "later", "another job of ours"],
)
async def test_a_create_that_left_no_candidate_had_no_effect(entries: tuple[dict[str, Any], ...]) -> None:
    assert await batches(listing(*entries)).find(ENDPOINT, JOB) is None


async def test_a_running_candidate_leaves_it_unclear() -> None:
    with pytest.raises(ProviderUnclear):
        await batches(listing(batch(processing=2))).find(ENDPOINT, JOB)


@pytest.mark.parametrize(("custom_id", "found"), [("input_A-1", "msgbatch_1"), ("input_AB-1", None), ("mine", None)])
async def test_the_first_result_of_an_ended_candidate_decides(custom_id: str, found: str | None) -> None:
    ended = batch(status="ended", succeeded=2)
    answers = listing(ended) | {
        f"GET {ROOT}/msgbatch_1": ended,
        f"GET {ROOT}/msgbatch_1/results": b'{"custom_id":"%s","result":{}}\n{"custom' % custom_id.encode(),
    }
    assert await batches(answers).find(ENDPOINT, JOB) == found


async def test_an_ended_candidate_that_is_the_job_outweighs_running_ones() -> None:
    ended = batch(status="ended", succeeded=2)
    answers = listing(batch("msgbatch_2", processing=2), ended) | {
        f"GET {ROOT}/msgbatch_1": ended,
        f"GET {ROOT}/msgbatch_1/results": RESULT,
    }
    assert await batches(answers).find(ENDPOINT, JOB) == "msgbatch_1"


async def test_results_that_cannot_be_read_leave_it_unclear() -> None:
    ended = batch(status="ended", succeeded=2)
    answers = listing(ended) | {f"GET {ROOT}/msgbatch_1": ended, f"GET {ROOT}/msgbatch_1/results": b"<html>\n"}
    with pytest.raises(ProviderUnclear):
        await batches(answers).find(ENDPOINT, JOB)


async def test_a_candidate_that_cannot_be_read_does_not_hide_the_job() -> None:
    first, second = batch("msgbatch_2", status="ended", succeeded=2), batch(status="ended", succeeded=2)
    answers = listing(first, second) | {
        f"GET {ROOT}/msgbatch_2": first,  # its results are gone
        f"GET {ROOT}/msgbatch_1": second,
        f"GET {ROOT}/msgbatch_1/results": RESULT,
    }
    assert await batches(answers).find(ENDPOINT, JOB) == "msgbatch_1"
    with pytest.raises(ProviderRefused):
        await batches(answers).find(ENDPOINT, JOB._replace(input_id="input_B"))


async def test_the_candidate_that_is_closest_in_time_is_read_first() -> None:
    """A busy account may have more of them than one call has time for."""
    requests: list[httpx.Request] = []
    later = [batch(f"msgbatch_{n}", "ended", at=f"2026-05-28T20:{n}:00Z", succeeded=2) for n in (32, 30, 28)]
    ended = batch(status="ended", succeeded=2)
    answers = listing(*later, ended) | {
        f"GET {ROOT}/msgbatch_1": ended,
        f"GET {ROOT}/msgbatch_1/results": RESULT,
    }
    assert await batches(answers, requests).find(ENDPOINT, JOB) == "msgbatch_1"
    assert not any("msgbatch_3" in request.url.path for request in requests)
