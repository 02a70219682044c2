"""Fireworks' datasets and batch inference jobs. The shapes are those of fireworks-ai 1.2.30."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from manifold.errors import InputLost, InvalidRequest, ProviderRefused, ProviderUnclear
from manifold.providers import Endpoint, Input, Job, JobStatus, LineFailure, readiness
from manifold.providers.batch_client import BatchClient
from manifold.providers.batch_lines import LineRequest
from manifold.providers.fireworks_ai.batch_lines import FireworksLines
from manifold.providers.fireworks_ai.batches import FireworksBatches
from manifold.providers.fireworks_ai.resources import job_status, own_name, upload_headers

AT = Endpoint(
    "llama-v3p1-8b-instruct",
    "https://api.fireworks.ai/inference/v1",
    "key-of-fireworks",
    options={"account_id": "acme"},
)
JOB = Job("job_A1b", "input-a1", "/v1/chat/completions", "24h", 1_764_000_000, input_id="input_A1")
LINES = b'{"custom_id":"input_A1-0","body":{}}\n'
STORE = "https://storage.googleapis.com/bucket/f?X-Goog-SignedHeaders="
SIGNED = f"{STORE}content-type%3Bhost%3Bx-goog-content-length-range"
ACCOUNT = "/v1/accounts/acme"
DATASET, JOBS = f"{ACCOUNT}/datasets/input-a1", f"{ACCOUNT}/batchInferenceJobs"
EXISTS = {"code": 6, "message": "already exists", "details": []}
MISSING = {"code": 5, "message": "not found", "details": []}


async def lines() -> AsyncIterator[bytes]:
    yield LINES


DATA = Input("input_A1", len(LINES), lines, 1)


async def resolve(host: str, port: int) -> list[str]:
    return ["93.184.216.34"]


class Server:
    """Answers by method and path, the answers of one route in turn and the last for ever; records the requests."""

    def __init__(self, **answers: list[tuple[int, Any]]) -> None:
        self.answers = answers
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answers = self.answers[self.route(request)]
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        return httpx.Response(status, content=body) if isinstance(body, bytes) else httpx.Response(status, json=body)

    def route(self, request: httpx.Request) -> str:
        path = request.url.path
        if request.headers["host"] == "storage.googleapis.com":
            return "put" if request.method == "PUT" else path.strip("/")
        routes = {
            f"{ACCOUNT}/datasets": "create",
            DATASET: "dataset",
            f"{DATASET}:getUploadEndpoint": "endpoint",
            f"{DATASET}:validateUpload": "validate",
            f"{ACCOUNT}/datasets/results:getDownloadEndpoint": "download",
            JOBS: "start" if request.method == "POST" else "list",
            f"{JOBS}/job-a1b": "job",
        }
        return routes[path]

    @property
    def routes(self) -> list[str]:
        return [self.route(request) for request in self.requests]


def at(server: Server) -> FireworksBatches:
    return FireworksBatches(BatchClient(httpx.MockTransport(server), resolve))


UPLOAD: dict[str, list[tuple[int, Any]]] = {
    "endpoint": [(200, {"filenameToSignedUrls": {"input_A1.jsonl": SIGNED}})],
    "put": [(200, b"")],
    "validate": [(200, {})],
}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "PAUSES", (0.0, 0.0))


async def test_an_input_is_a_dataset_whose_bytes_go_to_a_signed_url() -> None:
    server = Server(create=[(200, {})], dataset=[(200, {"state": "UPLOADING"}), (200, {"state": "READY"})], **UPLOAD)
    assert (await at(server).prepare(AT, DATA)).ref == "input-a1"
    assert server.routes == ["create", "endpoint", "put", "validate", "dataset", "dataset"]
    create, endpoint, put = server.requests[:3]
    assert create.content == (
        b'{"datasetId":"input-a1","dataset":{"displayName":"input_A1.jsonl","userUploaded":{},"exampleCount":"1"}}'
    )
    assert endpoint.content == b'{"filenameToSize":{"input_A1.jsonl":"%d"}}' % len(LINES)
    assert put.content == LINES
    assert put.headers["content-type"] == "application/octet-stream"
    assert put.headers["x-goog-content-length-range"] == f"{len(LINES)},{len(LINES)}"
    assert "authorization" not in put.headers


def test_a_store_gets_only_those_of_its_own_headers_that_were_signed() -> None:
    assert upload_headers(SIGNED, 7) == {"x-goog-content-length-range": "7,7"}
    assert upload_headers(f"{STORE}host", 7) == {}
    assert upload_headers("https://store.example.com/f", 7) == {}


async def test_a_dataset_that_is_ready_is_not_sent_again() -> None:
    server = Server(create=[(409, EXISTS)], dataset=[(200, {"state": "READY"})])
    assert (await at(server).prepare(AT, DATA)).ref == "input-a1"


async def test_a_dataset_without_its_bytes_gets_them() -> None:
    dataset: list[tuple[int, Any]] = [(200, {"state": "UPLOADING"}), (200, {"state": "READY"})]
    server = Server(create=[(409, EXISTS)], dataset=dataset, **UPLOAD)
    await at(server).prepare(AT, DATA)
    assert server.routes == ["create", "dataset", "endpoint", "put", "validate", "dataset"]


async def test_a_dataset_that_is_not_ready_in_time_makes_no_job_yet() -> None:
    server = Server(create=[(200, {})], dataset=[(200, {"state": "UPLOADING"})], **UPLOAD)
    assert (await at(server).prepare(AT, DATA)).ref == "input-a1"
    with pytest.raises(ProviderRefused) as refused:
        await at(server).submit(AT, JOB)
    assert not refused.value.lasting
    assert "start" not in server.routes


async def test_a_dataset_that_cannot_be_used() -> None:
    bad = {"state": "UPLOADING", "status": {"code": "INVALID_ARGUMENT", "message": "Bad line."}}
    server = Server(create=[(200, {})], dataset=[(200, bad)], **UPLOAD)
    with pytest.raises(ProviderRefused) as refused:
        await at(server).prepare(AT, DATA)
    assert (refused.value.lasting, refused.value.raw_detail) == (True, "Bad line.")


async def test_a_dataset_that_is_gone_is_a_lost_input() -> None:
    with pytest.raises(InputLost):
        await at(Server(dataset=[(404, MISSING)])).submit(AT, JOB)


STARTED = {"name": "accounts/acme/batchInferenceJobs/job-a1b", "state": "JOB_STATE_CREATING"}


async def test_a_job_has_our_name() -> None:
    server = Server(dataset=[(200, {"state": "READY"})], start=[(200, STARTED)])
    assert await at(server).submit(AT, JOB) == "job-a1b"
    assert str(server.requests[-1].url) == f"https://api.fireworks.ai{JOBS}?batchInferenceJobId=job-a1b"
    assert server.requests[-1].content == (
        b'{"displayName":"job_A1b","model":"accounts/fireworks/models/llama-v3p1-8b-instruct",'
        b'"inputDatasetId":"accounts/acme/datasets/input-a1","outputDatasetId":"accounts/acme/datasets/job-a1b-results"}'
    )


async def test_a_job_that_has_our_name_already_is_ours() -> None:
    server = Server(dataset=[(200, {"state": "READY"})], start=[(409, EXISTS)], job=[(200, STARTED)])
    assert await at(server).submit(AT, JOB) == "job-a1b"


async def test_another_conflict_is_a_refusal() -> None:
    server = Server(
        dataset=[(200, {"state": "READY"})],
        start=[(409, EXISTS)],
        job=[(404, MISSING)],
        list=[(200, {"batchInferenceJobs": []})],
    )
    with pytest.raises(ProviderRefused):
        await at(server).submit(AT, JOB)


async def test_a_job_is_found_by_its_name() -> None:
    listing: list[tuple[int, Any]] = [(200, {"batchInferenceJobs": []})]
    assert await at(Server(job=[(200, STARTED)])).find(AT, JOB) == "job-a1b"
    assert await at(Server(job=[(404, MISSING)], list=listing)).find(AT, JOB) is None
    with pytest.raises(ProviderRefused):  # a wrong address
        await at(Server(job=[(404, MISSING)], list=[(404, MISSING)])).find(AT, JOB)
    with pytest.raises(ProviderUnclear):
        await at(Server(job=[(404, MISSING)], list=[(200, {"jobs": []})])).find(AT, JOB)


async def test_no_account_no_call() -> None:
    with pytest.raises(ProviderRefused, match="account_id"):
        await at(Server()).find(Endpoint("m", "https://api.fireworks.ai", "key"), JOB)


@pytest.mark.parametrize(
    "url", ["https://a.example.com", "https://a.example.com/v1", "https://a.example.com/inference/v1/"]
)
async def test_the_api_of_the_account_is_at_the_same_host(url: str) -> None:
    server = Server(job=[(200, STARTED)])
    await at(server).find(Endpoint("m", url, "key", options={"account_id": "acme"}), JOB)
    assert str(server.requests[0].url) == f"https://a.example.com{JOBS}/job-a1b"


def test_names_are_lower_case_letters_digits_and_hyphens() -> None:
    assert own_name("input_AbC9") == "input-abc9"


FILES = {
    "filenameToSignedUrls": {"b/error-data": f"{STORE}2", "a/BIJOutputSet.jsonl": "https://storage.googleapis.com/a"}
}


async def test_results_are_all_files_of_the_dataset() -> None:
    server = Server(
        download=[(200, FILES)], a=[(200, b'{"custom_id":"1"}')], **{"bucket/f": [(200, b'{"custom_id":"2"}\n')]}
    )
    content = b"".join([chunk async for chunk in at(server).results(AT, "results")])
    assert content == b'{"custom_id":"1"}\n{"custom_id":"2"}\n'
    assert "authorization" not in server.requests[1].headers


@pytest.mark.parametrize("answer", [{}, {"filenameToSignedUrls": {}}, {"filenameToSignedUrls": {"a": None}}])
async def test_results_without_files_are_unclear(answer: Any) -> None:
    with pytest.raises(ProviderUnclear):
        await anext(at(Server(download=[(200, answer)])).results(AT, "results"))


def line(messages: object) -> Any:
    translator = FireworksLines("fireworks_ai", AT.base_url, None)
    return translator.request(LineRequest("input_A1-0", "/v1/chat/completions", {"model": "m", "messages": messages}))


def test_a_developers_message_is_the_systems() -> None:
    said = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert line(said) == {
        "custom_id": "input_A1-0",
        "body": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
    }


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        (["Hi"], "messages[0]"),
        ([{"role": "user", "content": "Hi"}, {"role": "function", "content": "x"}], "messages[1].role"),
        ([{"role": ["user"], "content": "Hi"}], "messages[0].role"),
    ],
)
def test_a_line_that_would_fail_the_whole_job_is_refused(messages: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        line(messages)
    assert refused.value.param == param


PROGRESS: dict[str, Any] = {"totalInputRequests": "3", "successfullyProcessedRequests": 2, "failedRequests": 1}


@pytest.mark.parametrize(
    ("state", "members", "status"),
    [
        ("JOB_STATE_CREATING", {}, JobStatus("validating")),
        ("JOB_STATE_RUNNING", {"jobProgress": PROGRESS}, JobStatus("in_progress", 3, 2, 1)),
        ("JOB_STATE_WRITING_RESULTS", {"jobProgress": PROGRESS}, JobStatus("finalizing", 3, 2, 1)),
        ("JOB_STATE_COMPLETED", {"jobProgress": PROGRESS}, JobStatus("completed", 3, 2, 1, "r")),
        ("JOB_STATE_COMPLETED", {}, JobStatus("completed", output_ref="r")),
        ("JOB_STATE_EXPIRED", {"jobProgress": PROGRESS}, JobStatus("expired", 3, 2, 1, "r")),
        ("JOB_STATE_EARLY_STOPPED", {"jobProgress": PROGRESS}, JobStatus("expired", 3, 2, 1, "r")),
        ("JOB_STATE_RUNNING", {"jobProgress": PROGRESS | {"totalInputRequests": 1}}, JobStatus("in_progress", 3, 2, 1)),
        ("JOB_STATE_EXPIRED", {"jobProgress": None}, JobStatus("expired")),
        ("JOB_STATE_CANCELLED", {}, JobStatus("cancelled")),
        (
            "JOB_STATE_FAILED",
            {"status": {"code": "INVALID_ARGUMENT", "message": "No such model."}},
            JobStatus("failed", errors=(LineFailure(None, "No such model."),)),
        ),
        ("JOB_STATE_UNSPECIFIED", {}, None),
        (None, {}, None),
    ],
)
def test_the_status_of_a_job(state: object, members: dict[str, Any], status: JobStatus | None) -> None:
    assert job_status({"state": state, "outputDatasetId": "accounts/acme/datasets/r", **members}) == status
