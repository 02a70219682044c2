"""The adapter of OpenRouter's batches: answers that are larger than memory, their cost, and cancels that it lacks."""

import random
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx
import orjson
import pytest

from manifold.errors import ProviderRefused, ProviderUnclear
from manifold.providers import Endpoint, Input, Job, JobStatus, LineFailure
from manifold.providers.batch_client import BatchClient
from manifold.providers.openrouter.batches import OpenRouterBatches, Results, job_status
from manifold.providers.openrouter.json_members import MAX_ITEM, JsonMembers

ENDPOINT = Endpoint("openai/gpt-6-luna:batch", "https://openrouter.example.com/api/v1", "sk-or-secret")
ROOT = "/api/v1/batches"
LINES = b'{"custom_id":"input_A-0","body":{}}\n{"custom_id":"input_A-1","body":{}}\n'
CREATED = 1_780_000_000


async def lines() -> AsyncIterator[bytes]:
    yield LINES


DATA = Input("input_A", len(LINES), lines, 2)
JOB = Job("job_1", None, "/v1/chat/completions", "24h", CREATED, "input_A", 2, DATA, frozenset({"batch-other"}))


def batch(status: str = "in_progress", completed: int = 0, failed: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "id": "batch-1",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "status": status,
        "created_at": CREATED,
        "request_counts": {"total": 2, "completed": completed, "failed": failed},
        "results": None,
        "usage": None,
        "error": None,
        **more,
    }


def result(number: int, **usage: Any) -> dict[str, Any]:
    body = {"object": "chat.completion", "choices": [], "usage": usage}
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": f"r-{number}", "custom_id": f"input_A-{number}", "response": response, "error": None}


def batches(answers: Mapping[str, Any], requests: list[httpx.Request] | None = None) -> OpenRouterBatches:
    """An adapter whose provider answers by method and path: with an object, or a status and an object."""

    async def handler(request: httpx.Request) -> httpx.Response:
        await request.aread()
        if requests is not None:
            requests.append(request)
        missing = (404, {"error": {"code": 404, "message": "Not found"}})
        answer = answers.get(f"{request.method} {request.url.raw_path.decode()}", missing)
        if isinstance(answer, bytes):
            return httpx.Response(200, content=answer)
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        return httpx.Response(status, json=body)

    return OpenRouterBatches(BatchClient(httpx.MockTransport(handler)))


def listing(*entries: dict[str, Any]) -> dict[str, Any]:
    page = {"object": "list", "data": list(entries), "has_more": False, "first_id": None, "last_id": None}
    return {f"GET {ROOT}?limit=100": page, f"GET {ROOT}?limit=1": page}


async def read(adapter: OpenRouterBatches, ref: str = "batch-1") -> list[dict[str, Any]]:
    content = b"".join([chunk async for chunk in adapter.results(ENDPOINT, ref)])
    assert content.endswith(b"\n")
    return [orjson.loads(line) for line in content.splitlines()]


async def test_endpoint_and_model_come_before_the_requests() -> None:
    requests: list[httpx.Request] = []
    assert await batches({f"POST {ROOT}": (202, batch("validating"))}, requests).submit(ENDPOINT, JOB) == "batch-1"
    assert requests[0].content == (
        b'{"endpoint":"/v1/chat/completions","model":"openai/gpt-6-luna:batch","requests":['
        + LINES.strip().replace(b"\n", b",")
        + b"]}"
    )


USAGE = {"prompt_tokens": 300, "completion_tokens": 100, "total_tokens": 400, "cost": 0.004}


@pytest.mark.parametrize(
    ("listed", "status"),
    [
        (batch("validating"), JobStatus("validating", 2)),
        (batch("in_progress", 1), JobStatus("in_progress", 2, 1)),
        (batch("completed", 1, 1, usage=USAGE), JobStatus("completed", 2, 1, 1, "batch-1?cost=0.004&tokens=400")),
        (batch("completed", 2), JobStatus("completed", 2, 2, 0, "batch-1")),
        (batch("expired", 1), JobStatus("expired", 2, 1, 0, "batch-1")),
        (batch("cancelled"), JobStatus("cancelled", 2)),
        (
            batch("failed", 0, 2, error={"message": "stream is not supported"}),
            JobStatus("failed", 2, 0, 2, errors=(LineFailure(None, "stream is not supported"),)),
        ),
        (batch("pondering"), None),
    ],
)
def test_states(listed: dict[str, Any], status: JobStatus | None) -> None:
    assert job_status(listed) == status


async def test_a_poll_reads_no_results() -> None:
    statuses: dict[str, JobStatus] = {}
    await batches(listing(batch("completed", 2))).poll(ENDPOINT, ["batch-1"], statuses)
    assert statuses["batch-1"].state == "completed"


async def test_a_job_that_is_not_listed_is_retrieved_up_to_its_results() -> None:
    statuses: dict[str, JobStatus] = {}
    cut = orjson.dumps(batch("completed", 2, results=[result(0)])).partition(b'"custom_id"')[0]
    await batches(listing() | {f"GET {ROOT}/batch-1": cut}).poll(ENDPOINT, ["batch-1"], statuses)
    assert statuses["batch-1"] == JobStatus("completed", 2, 2, 0, "batch-1")


async def test_a_job_that_is_not_there_is_lost() -> None:
    statuses: dict[str, JobStatus] = {}
    await batches(listing()).poll(ENDPOINT, ["batch-1"], statuses)
    assert statuses["batch-1"].lost


async def test_results_within_the_batch() -> None:
    answers = {f"GET {ROOT}/batch-1": batch("completed", 2, results=[result(1), result(0)])}
    assert await read(batches(answers)) == [result(1), result(0)]


async def test_results_by_pages() -> None:
    answers = {
        f"GET {ROOT}/batch-1": batch("completed", 2),
        f"GET {ROOT}/batch-1/results": {"object": "list", "data": [result(0)], "has_more": True, "next_cursor": "c"},
        f"GET {ROOT}/batch-1/results?cursor=c": {"data": [result(1)], "has_more": False, "next_cursor": None},
    }
    assert await read(batches(answers)) == [result(0), result(1)]


@pytest.mark.parametrize("content", [b'{"id":"batch-1","results":[{"a":1},', b"<html>", b'{"results":[],"id":x}'])
async def test_results_that_break_off_are_unclear(content: bytes) -> None:
    with pytest.raises(ProviderUnclear):
        await read(batches({f"GET {ROOT}/batch-1": content}))


async def test_the_cost_of_a_batch_is_shared_by_tokens() -> None:
    results = [result(0, prompt_tokens=200, completion_tokens=100), result(1, total_tokens=100), result(2, cost=0.5)]
    answers = {f"GET {ROOT}/batch-1": batch("completed", 2, results=results)}
    usages = [one["response"]["body"]["usage"] for one in await read(batches(answers), "batch-1?cost=0.004&tokens=400")]
    assert [usage["cost"] for usage in usages] == [0.003, 0.001, 0.5]
    assert all("cost" not in one["response"]["body"]["usage"] for one in (await read(batches(answers)))[:2])


@pytest.mark.parametrize("ref", ["batch-1", "batch-1?cost=0.004&tokens=400", "batch-1?cost=1E-7&tokens=1"])
def test_a_ref_of_results_is_read_as_it_was_written(ref: str) -> None:
    assert Results.of(ref).batch_id == "batch-1"
    assert str(Results.of(ref)) == ref


@pytest.mark.parametrize("status", [404, 405])
async def test_where_there_is_no_cancel_the_batch_runs_to_its_end(status: int) -> None:
    answers = {f"POST {ROOT}/batch-1/cancel": (status, {"error": {"code": status, "message": "?"}})}
    with pytest.raises(ProviderRefused):
        await batches(answers).cancel(ENDPOINT, "batch-1")
    await batches(answers | {f"GET {ROOT}/batch-1": batch()}).cancel(ENDPOINT, "batch-1")


async def test_a_cancel_that_is_refused() -> None:
    answers = {f"POST {ROOT}/batch-1/cancel": (409, {"error": {"code": 409, "message": "?"}})}
    with pytest.raises(ProviderRefused):
        await batches(answers | {f"GET {ROOT}/batch-1": batch()}).cancel(ENDPOINT, "batch-1")
    await batches(answers | {f"GET {ROOT}/batch-1": batch("completed", 2)}).cancel(ENDPOINT, "batch-1")


async def test_an_unclear_create_is_told_by_its_results() -> None:
    ended = {f"GET {ROOT}/batch-1": batch("completed", 2, results=[result(1)])}
    assert await batches(listing(batch("completed", 2)) | ended).find(ENDPOINT, JOB) == "batch-1"
    with pytest.raises(ProviderUnclear):
        await batches(listing(batch())).find(ENDPOINT, JOB)
    with pytest.raises(ProviderUnclear):  # it has not counted its requests yet
        await batches(listing(batch("validating", request_counts={}))).find(ENDPOINT, JOB)


async def test_a_batch_that_executed_nothing_is_no_candidate() -> None:
    assert await batches(listing(batch("failed", error={"message": "?"}))).find(ENDPOINT, JOB) is None


VALUES = [
    {"results": []},
    {"results": None, "id": "b"},
    {"id": "b", "results": [{"a": 'a "quoted" \\ ] } , text'}, [1, [2]], "x", 3, None], "usage": {"n": [1, 2]}},
    {"results": [{}], "nested": {"results": [1]}, "list": [{"results": [2]}]},
    {"first": {"results": [1, 2]}, "text": '"results":[1]', "results": ["é\\", '\\"']},
    {},
]


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
@pytest.mark.parametrize("indent", [0, orjson.OPT_INDENT_2])
def test_an_object_is_read_however_it_is_cut(value: dict[str, Any], indent: int) -> None:
    content = orjson.dumps(value, option=indent)
    for size in range(1, len(content) + 1):
        reader = JsonMembers("results")
        elements = [element for piece in pieces(content, size) for element in reader.feed(piece)]
        assert reader.ended
        assert all(b"\n" not in element for element in elements)
        results = value.get("results")
        assert reader.has_array == isinstance(results, list)
        assert [orjson.loads(element) for element in elements] == (results or [])
        others = {name: member for name, member in value.items() if name != "results" or not reader.has_array}
        assert reader.members == others


def test_an_element_that_is_too_large_is_not_held() -> None:
    reader = JsonMembers("results")
    list(reader.feed(b'{"results":["'))
    with pytest.raises(ProviderUnclear):
        list(reader.feed(random.Random(1).randbytes(8).hex().encode() * (MAX_ITEM // 16 + 1)))


@pytest.mark.parametrize("content", [rb"\ud83d", rb"a", b"\xff", b"\x01"])
def test_a_line_has_its_share_of_the_cost_whatever_its_text(content: bytes) -> None:
    response = b'{"usage":{"total_tokens":5},"text":"' + content + b'"}'
    line = b'{"custom_id":"a","response":{"status_code":200,"body":' + response + b"}}"
    priced = orjson.loads(Results.of("b1?cost=0.02&tokens=10").priced(line))
    assert priced["response"]["body"]["usage"] == {"total_tokens": 5, "cost": 0.01}


def test_a_line_that_cannot_be_written_again_stays_as_it_is() -> None:
    nested = b"[" * 300 + b"]" * 300
    line = b'{"custom_id":"a","response":{"body":{"usage":{"total_tokens":5},"text":' + nested + b"}}}"
    assert Results.of("b1?cost=0.02&tokens=10").priced(line) == line
