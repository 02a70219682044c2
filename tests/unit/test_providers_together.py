"""Together's upload in three steps, and its batches. The answers are those that together 3.1.1 reads."""

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from manifold.errors import ProviderRefused, ProviderUnclear
from manifold.providers import Endpoint, Input, Job, JobStatus, LineFailure
from manifold.providers.batch_client import BatchClient
from manifold.providers.together_ai.batches import TogetherBatches

AT = Endpoint("meta-llama/Llama-3.3-70B", "https://api.together.xyz/v1", "key-of-together")
JOB = Job("job_A1", "file-1", "/v1/chat/completions", "24h", 1_764_000_000, input_id="input_A1")
LINES = b'{"custom_id":"input_A1-0","body":{}}\n'
STORE = "https://store.example.com/put?signature=s"
Handler = Callable[[httpx.Request], httpx.Response]


async def lines() -> AsyncIterator[bytes]:
    yield LINES[:10]
    yield LINES[10:]


DATA = Input("input_A1", len(LINES), lines, 1)


async def resolve(host: str, port: int) -> list[str]:
    return ["93.184.216.34"]


def at(handler: Handler) -> TogetherBatches:
    return TogetherBatches(BatchClient(httpx.MockTransport(handler), resolve))


def registered(_: httpx.Request) -> httpx.Response:
    return httpx.Response(302, headers={"Location": STORE, "X-Together-File-Id": "file-1"})


class Server:
    """Answers each route by its handler, and records the requests."""

    def __init__(self, **handlers: Handler) -> None:
        self.handlers = handlers
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.requests.append((request.method, path))
        self.bodies.append(request.content)
        names = {"/v1/files": "register", "/put": "put", "/v1/files/file-1/preprocess": "preprocess"}
        name = names.get(path) or {"GET": "get", "DELETE": "delete", "POST": "upload"}[request.method]
        return self.handlers[name](request)


def file(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"id": "file-1", "object": "file", "bytes": len(LINES), "Processed": True})


async def test_a_file_is_registered_sent_and_read() -> None:
    stored: list[httpx.Request] = []

    def put(request: httpx.Request) -> httpx.Response:
        stored.append(request)
        return httpx.Response(200)

    server = Server(register=registered, put=put, preprocess=file)
    prepared = await at(server).prepare(AT, DATA)

    assert prepared.ref == "file-1"
    assert server.requests == [("POST", "/v1/files"), ("PUT", "/put"), ("POST", "/v1/files/file-1/preprocess")]
    for value in (b"batch-api", b"input_A1.jsonl", b"jsonl", hashlib.sha256(LINES).hexdigest().encode()):
        assert b"\r\n\r\n" + value + b"\r\n" in server.bodies[0]
    assert server.bodies[1] == LINES
    assert "authorization" not in stored[0].headers
    assert stored[0].headers["host"] == "store.example.com"


async def test_a_redirected_upload_is_sent_again() -> None:
    answers = [httpx.Response(307, headers={"Location": "/put?again"}), httpx.Response(200)]
    server = Server(register=registered, put=lambda _: answers.pop(0), preprocess=file)
    assert (await at(server).prepare(AT, DATA)).ref == "file-1"
    assert server.bodies[1:3] == [LINES, LINES]


def exists(_: httpx.Request) -> httpx.Response:
    return httpx.Response(409, json={"file_id": "file-1"})


async def test_a_file_that_is_there_already_is_used() -> None:
    server = Server(register=exists, get=file)
    assert (await at(server).prepare(AT, DATA)).ref == "file-1"


async def test_a_file_that_is_there_without_its_bytes_is_deleted_and_sent_again_later() -> None:
    server = Server(
        register=exists,
        get=lambda _: httpx.Response(200, json={"id": "file-1", "bytes": 0}),
        delete=lambda _: httpx.Response(200, json={"id": "file-1", "deleted": True}),
    )
    with pytest.raises(ProviderRefused) as refused:
        await at(server).prepare(AT, DATA)
    assert not refused.value.lasting
    assert server.requests[-1] == ("DELETE", "/v1/files/file-1")


async def test_a_refusal_by_the_store_is_not_one_of_the_key() -> None:
    server = Server(register=registered, put=lambda _: httpx.Response(403, text="<Error/>"))
    with pytest.raises(ProviderRefused) as refused:
        await at(server).prepare(AT, DATA)
    assert (refused.value.status, refused.value.lasting) == (None, False)


@pytest.mark.parametrize("status", [404, 405, 415])
async def test_a_server_without_the_three_steps_gets_the_file_in_one(status: int) -> None:
    server = Server(register=lambda _: httpx.Response(status, json={"error": {"message": "No."}}), upload=file)
    assert (await at(server).prepare(AT, DATA)).ref == "file-1"
    assert server.requests[-1] == ("POST", "/v1/files/upload")
    assert LINES in server.bodies[-1]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(302, headers={"Location": STORE}),
        httpx.Response(302, headers={"X-Together-File-Id": "file-1"}),
        httpx.Response(200, json={"id": "file-1"}),
    ],
)
async def test_a_registration_without_a_url_or_an_id_is_unclear(answer: httpx.Response) -> None:
    with pytest.raises(ProviderUnclear):
        await at(Server(register=lambda _: answer)).prepare(AT, DATA)


async def test_an_upload_into_our_network_is_refused() -> None:
    async def private(host: str, port: int) -> list[str]:
        return ["10.0.0.1"] if host == "store.example.com" else ["93.184.216.34"]

    server = Server(register=registered)
    with pytest.raises(ProviderRefused):
        await TogetherBatches(BatchClient(httpx.MockTransport(server), private)).prepare(AT, DATA)


def batch(**members: Any) -> dict[str, Any]:
    return {
        "id": "b1",
        "user_id": "u",
        "input_file_id": "file-1",
        "status": "VALIDATING",
        "created_at": "2025-11-24T16:00:10Z",
        "endpoint": "/v1/chat/completions",
        "progress": 0.0,
        **members,
    }


def answering(status: int, body: Any) -> TogetherBatches:
    return at(lambda _: httpx.Response(status, json=body))


async def test_a_create_answers_with_a_job() -> None:
    assert await answering(201, {"job": batch(), "warning": "Few slots."}).submit(AT, JOB) == "b1"


@pytest.mark.parametrize(
    ("warning", "code", "lasting"),
    [
        ("Model is not available for batch.", "no_job", True),
        ("You have reached the limit of enqueued tokens.", "token_limit_exceeded", False),
        (None, "no_job", True),
    ],
)
async def test_a_create_without_a_job_is_refused(warning: str | None, code: str, lasting: bool) -> None:
    with pytest.raises(ProviderRefused) as refused:
        await answering(201, {"job": None, "warning": warning}).submit(AT, JOB)
    assert (refused.value.code, refused.value.lasting, refused.value.detail) == (code, lasting, warning)


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({}, JobStatus("validating")),
        ({"status": "IN_PROGRESS", "progress": 50.0}, JobStatus("in_progress")),
        (
            {"status": "COMPLETED", "output_file_id": "o", "error_file_id": "e", "error": ""},
            JobStatus("completed", output_ref="o", error_ref="e"),
        ),
        ({"status": "EXPIRED", "output_file_id": "o"}, JobStatus("expired", output_ref="o")),
        ({"status": "CANCELLED"}, JobStatus("cancelled")),
        ({"status": "FAILED", "error": "Bad file."}, JobStatus("failed", errors=(LineFailure(None, "Bad file."),))),
    ],
)
async def test_the_status_of_a_job(members: dict[str, Any], status: JobStatus) -> None:
    statuses: dict[str, JobStatus] = {}
    await answering(200, batch(**members)).poll(AT, ["b1"], statuses)
    assert statuses == {"b1": status}


async def test_many_jobs_are_read_from_the_array() -> None:
    statuses: dict[str, JobStatus] = {}
    refs = [f"b{number}" for number in range(6)]
    await answering(200, [batch(id=ref) for ref in reversed(refs)]).poll(AT, refs, statuses)
    assert statuses.keys() == set(refs)


@pytest.mark.parametrize(
    ("listing", "found"),
    [
        ([batch(id="x", input_file_id="file-2"), batch()], "b1"),
        ([batch(id="x", input_file_id="file-2")], None),
        ([batch(created_at="2025-11-24T15:00:00Z")], None),
        ([batch(id="theirs")], None),
        ([], None),
    ],
)
async def test_a_job_is_found_by_its_file(listing: list[dict[str, Any]], found: str | None) -> None:
    job = Job("job_A1", "file-1", "/v1/chat/completions", "24h", 1_764_000_000, others=frozenset({"theirs"}))
    assert await answering(200, listing).find(AT, job) == found


async def test_a_listing_that_is_no_array_says_nothing() -> None:
    with pytest.raises(ProviderUnclear):
        await answering(200, {"data": []}).find(AT, JOB)
