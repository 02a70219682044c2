"""The adapter of the Gemini API's batches, where its answers are not what its documentation shows."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from manifold.errors import InputLost, ProviderError, ProviderRefused, ProviderUnclear
from manifold.providers import Endpoint, Input, Job, JobStatus
from manifold.providers.batch_client import BatchClient
from manifold.providers.gemini.batches import GeminiBatches, job_status

ENDPOINT = Endpoint("gemini-3.5-flash", "https://gemini.example.com/v1beta", "AIza-secret")
LINES = b'{"key":"input_A-0"}\n'
JOB = Job("job_1", "files/in", "/v1/chat/completions", "24h", 0)
ABSENT = (403, {"error": {"code": 403, "message": "or it may not exist", "status": "PERMISSION_DENIED"}})
Answers = Mapping[str, Any]


async def lines() -> AsyncIterator[bytes]:
    yield LINES


DATA = Input("input_A", len(LINES), lines)


def batches(answers: Answers, requests: list[httpx.Request] | None = None) -> GeminiBatches:
    """An adapter whose provider answers by method and path: with an object, or a status and an object."""

    def handler(request: httpx.Request) -> httpx.Response:
        if requests is not None:
            requests.append(request)
        answer = answers.get(f"{request.method} {request.url.path}", (404, {"error": {"code": 404, "message": "?"}}))
        if isinstance(answer, httpx.Response):
            return answer
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        return httpx.Response(status, json=body)

    return GeminiBatches(BatchClient(httpx.MockTransport(handler)))


def upload(answer: dict[str, Any]) -> Answers:
    address = {"x-goog-upload-url": "https://gemini.example.com/session"}
    return {"POST /upload/v1beta/files": httpx.Response(200, headers=address), "POST /session": answer}


async def test_an_upload_is_one_session_and_says_when_it_expires() -> None:
    requests: list[httpx.Request] = []
    file = {"name": "files/in", "state": "ACTIVE", "expirationTime": "2026-01-03T00:00:00.123456789Z"}
    prepared = await batches(upload({"file": file}), requests).prepare(ENDPOINT, DATA)
    assert (prepared.ref, prepared.expires_at) == ("files/in", 1767398400)
    start, finish = requests
    assert start.headers["x-goog-upload-header-content-length"] == str(len(LINES))
    assert start.content == b'{"file":{"display_name":"input_A.jsonl"}}'
    assert finish.headers["x-goog-upload-command"] == "upload, finalize"
    assert finish.content == LINES
    assert "x-goog-api-key" not in finish.headers


async def test_an_upload_waits_until_the_file_is_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manifold.providers.gemini.files.PROCESSING_PAUSES", (0.0, 0.0))
    busy, broken = {"name": "files/in", "state": "PROCESSING"}, {"name": "files/in", "state": "FAILED"}
    requests: list[httpx.Request] = []
    ready = {"GET /v1beta/files/in": {"name": "files/in", "state": "ACTIVE"}}
    assert (await batches({**upload({"file": busy}), **ready}, requests).prepare(ENDPOINT, DATA)).ref == "files/in"
    assert len(requests) == 3
    with pytest.raises(ProviderRefused) as caught:
        await batches({**upload({"file": busy}), "GET /v1beta/files/in": broken}).prepare(ENDPOINT, DATA)
    assert caught.value.lasting


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"error": {"code": 400, "message": "Unsupported MIME type", "status": "INVALID_ARGUMENT"}}, ProviderRefused),
        ({}, ProviderUnclear),
        ({"file": {"name": "files/../x"}}, ProviderUnclear),
        ({"file": {"name": 3}}, ProviderUnclear),
    ],
)
async def test_an_upload_without_a_file_is_an_error(answer: dict[str, Any], kind: type[ProviderError]) -> None:
    with pytest.raises(kind):
        await batches(upload(answer)).prepare(ENDPOINT, DATA)


@pytest.mark.parametrize(
    ("file", "check"),
    [
        (ABSENT, lambda error: isinstance(error, InputLost)),
        ((404, {"error": {"code": 404, "message": "?"}}), lambda error: isinstance(error, InputLost)),
        ({"name": "files/in", "state": "PROCESSING"}, lambda error: not error.lasting),
        ({"name": "files/in", "state": "ACTIVE"}, lambda error: error.lasting and not isinstance(error, InputLost)),
    ],
)
async def test_a_refused_create_asks_what_became_of_the_file(
    file: object, check: Callable[[ProviderRefused], bool]
) -> None:
    answers = {
        "POST /v1beta/models/gemini-3.5-flash:batchGenerateContent": (400, {"error": {"code": 400, "message": "no"}}),
        "GET /v1beta/files/in": file,
    }
    with pytest.raises(ProviderRefused) as caught:
        await batches(answers).submit(ENDPOINT, JOB)
    assert check(caught.value)


@pytest.mark.parametrize(
    "act",
    [
        lambda adapter: adapter.prepare(ENDPOINT, DATA),
        lambda adapter: adapter.submit(ENDPOINT, JOB),
        lambda adapter: anext(adapter.results(ENDPOINT, "files/in")),
        lambda adapter: adapter.discard(ENDPOINT, "files/in"),
    ],
)
async def test_a_refused_key_is_a_401_here(act: Callable[[GeminiBatches], Awaitable[object]]) -> None:
    refusal = (400, {"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}})
    adapter = batches(
        {
            "POST /upload/v1beta/files": refusal,
            "POST /v1beta/models/gemini-3.5-flash:batchGenerateContent": refusal,
            "GET /download/v1beta/files/in:download": refusal,
            "DELETE /v1beta/files/in": refusal,
        }
    )
    with pytest.raises(ProviderRefused) as caught:
        await act(adapter)
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")


async def test_a_discard_that_is_forbidden_is_refused_unless_there_is_no_file() -> None:
    forbidden = (403, {"error": {"code": 403, "message": "Denied.", "status": "PERMISSION_DENIED"}})
    with pytest.raises(ProviderRefused):
        await batches({"DELETE /v1beta/files/in": forbidden}).discard(ENDPOINT, "files/in")
    await batches({"DELETE /v1beta/files/in": ABSENT}).discard(ENDPOINT, "files/in")


async def test_a_job_is_found_by_its_display_name_alone() -> None:
    operations = [
        {"name": "batches/1", "metadata": {"displayName": "job_12"}},
        {"name": "batches/2", "metadata": {"displayName": "job_1"}},
    ]
    adapter = batches({"GET /v1beta/batches": {"operations": operations}})
    assert await adapter.find(ENDPOINT, JOB) == "2"
    assert await batches({"GET /v1beta/batches": {}}).find(ENDPOINT, JOB) is None


async def test_a_job_is_lost_only_where_batches_can_be_listed() -> None:
    statuses: dict[str, JobStatus] = {}
    await batches({"GET /v1beta/batches": {}}).poll(ENDPOINT, ["1"], statuses)
    assert statuses["1"].lost
    with pytest.raises(ProviderRefused):
        await batches({}).poll(ENDPOINT, ["1"], {})


async def test_results_within_the_batch_are_lines_too() -> None:
    entry = {"response": {"candidates": []}, "metadata": {"key": "input_A-0"}}
    batch = {"name": "batches/1", "response": {"inlinedResponses": {"inlinedResponses": [entry]}}}
    async with aclosing(batches({"GET /v1beta/batches/1": batch}).results(ENDPOINT, "batches/1")) as results:  # type: ignore[type-var]
        assert [line async for line in results] == [
            b'{"key":"input_A-0","response":{"candidates":[]},"metadata":{"key":"input_A-0"}}\n'
        ]


def test_a_status_has_its_members_in_the_metadata_or_beside_it() -> None:
    stats = {"requestCount": "3", "successfulRequestCount": "2", "failedRequestCount": "1"}
    status = job_status(
        {
            "name": "batches/1",
            "state": "JOB_STATE_SUCCEEDED",
            "batchStats": stats,
            "output": {"responsesFile": "files/o"},
        }
    )
    assert status == JobStatus("completed", 3, 2, 1, "files/o")
    assert job_status(
        {"name": "batches/1", "state": "BATCH_STATE_RUNNING", "output": {"responsesFile": "files/o"}}
    ) == (JobStatus("in_progress"))
    assert job_status({"name": "batches/1", "done": True, "response": {"responsesFile": "files/o"}}) == (
        JobStatus("completed", output_ref="files/o")
    )
    failed = job_status({"name": "batches/1", "done": True, "error": {"code": 8, "message": "Quota."}})
    assert failed is not None
    assert (failed.state, failed.errors[0].code) == ("failed", "token_limit_exceeded")
    assert job_status({"name": "batches/1", "state": "BATCH_STATE_NEW", "done": True}) is None
