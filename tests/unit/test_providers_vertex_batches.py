"""The adapter of Vertex AI's batches: what it sends, and what it makes of answers that are rarely seen."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest

from manifold.errors import InputLost, ProviderError, ProviderRefused, ProviderUnclear
from manifold.provider_errors import QUOTA_CODES
from manifold.providers import Endpoint, Input, Job, JobStatus, LineFailure
from manifold.providers.batch_client import BatchClient
from manifold.providers.vertex_ai.batches import VertexBatches, job_status
from manifold.providers.vertex_ai.tokens import Tokens

OPTIONS = {
    "vertex_project": "acme",
    "vertex_location": "europe-west4",
    "vertex_credentials": "{}",
    "gcs_bucket_name": "acme-batches/team",
}
ENDPOINT = Endpoint("gemini-3.5-flash", "", "", options=OPTIONS)
LINES = b'{"request":{}}\n'
INPUT = "gs://acme-batches/team/manifold/inputs/input_A.jsonl"
FOLDER = "team/manifold/outputs/job_1/prediction-model-2026"
JOB = Job("job_1", INPUT, "/v1/chat/completions", "24h", 0)
JOBS = "/v1/projects/acme/locations/europe-west4/batchPredictionJobs"
NAME = "projects/123/locations/europe-west4/batchPredictionJobs/"
OBJECTS = "/storage/v1/b/acme-batches/o"
Answers = Mapping[str, Any]


async def lines() -> AsyncIterator[bytes]:
    yield LINES


DATA = Input("input_A", len(LINES), lines)


class Google:
    """Answers by method and path: with bytes, an object, or a status and an object."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.requests: list[httpx.Request] = []
        self.batches = VertexBatches(BatchClient(httpx.MockTransport(self._answer)))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.raw_path.decode().partition("?")[0]
        answer = self.answers.get(f"{request.method} {path}", (404, {"error": {"code": 404, "message": "?"}}))
        if isinstance(answer, httpx.Response):
            return answer
        if isinstance(answer, bytes):
            return httpx.Response(200, content=answer)
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        return httpx.Response(status, json=body)


@pytest.fixture(autouse=True)
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The credentials that were forgotten. Each token is the same."""

    async def get(self: Tokens, credentials: str) -> str:
        return "ya29.token"

    forgotten = list[str]()
    monkeypatch.setattr(Tokens, "get", get)
    monkeypatch.setattr(Tokens, "forget", lambda self, credentials: forgotten.append(credentials))
    return forgotten


def stored(*names: str) -> Answers:
    return {
        f"GET {OBJECTS}": {"items": [{"name": f"{FOLDER}/{name}"} for name in names]},
        **{f"GET {OBJECTS}/{f'{FOLDER}/{name}'.replace('/', '%2F')}": f'"{name}"'.encode() for name in names},
    }


def uploading(status: int, body: object) -> Answers:
    session = {"location": "https://storage.googleapis.com/session"}
    return {
        "POST /upload/storage/v1/b/acme-batches/o": httpx.Response(200, headers=session),
        "PUT /session": (status, body),
    }


async def test_an_input_is_an_object_in_the_folder_of_the_bucket() -> None:
    google = Google(uploading(200, {"size": str(len(LINES))}))
    assert (await google.batches.prepare(ENDPOINT, DATA)).ref == INPUT
    start, put = google.requests
    assert start.url.params["name"] == "team/manifold/inputs/input_A.jsonl"
    assert start.headers["authorization"] == "Bearer ya29.token"
    assert "authorization" not in put.headers
    assert put.content == LINES


@pytest.mark.parametrize(("status", "body"), [(308, {}), (200, {"size": "3"}), (200, {}), (503, {})])
async def test_an_upload_that_lacks_bytes_is_unclear(status: int, body: object) -> None:
    with pytest.raises(ProviderUnclear):
        await Google(uploading(status, body)).batches.prepare(ENDPOINT, DATA)


@pytest.mark.parametrize(
    ("model", "resource"),
    [
        ("gemini-3.5-flash", "publishers/google/models/gemini-3.5-flash"),
        ("claude-opus-5", "publishers/anthropic/models/claude-opus-5"),
        ("projects/1/locations/l/models/2", "projects/1/locations/l/models/2"),
    ],
)
async def test_a_job_names_the_model_the_input_and_a_folder_of_its_own(model: str, resource: str) -> None:
    here = f"{OBJECTS}/{INPUT.removeprefix('gs://acme-batches/').replace('/', '%2F')}"
    google = Google({f"GET {here}": {}, f"POST {JOBS}": {"name": f"{NAME}77"}})
    assert await google.batches.submit(replace(ENDPOINT, model=model), JOB) == "77"
    created = google.requests[-1]
    assert created.url.host == "europe-west4-aiplatform.googleapis.com"
    assert json.loads(created.content) == {
        "displayName": "job_1",
        "model": resource,
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [INPUT]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": "gs://acme-batches/team/manifold/outputs/job_1"},
        },
    }


async def test_no_job_is_created_for_an_input_that_is_gone() -> None:
    google = Google({f"POST {JOBS}": {"name": f"{NAME}77"}})
    with pytest.raises(InputLost):
        await google.batches.submit(ENDPOINT, JOB)
    assert [request.method for request in google.requests] == ["GET"]


async def test_a_quota_is_named_and_a_token_that_was_refused_is_forgotten(tokens: list[str]) -> None:
    full = Google(
        {f"POST {JOBS}": (429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota."}})}
    )
    full.answers = {**full.answers, f"GET {OBJECTS}/x": {}}
    job = JOB._replace(input_ref="gs://acme-batches/x")
    with pytest.raises(ProviderRefused) as caught:
        await full.batches.submit(ENDPOINT, job)
    assert caught.value.code in QUOTA_CODES
    assert not caught.value.lasting
    assert tokens == []

    refusing = Google({f"GET {OBJECTS}/x": {}, f"POST {JOBS}": (401, {"error": {"code": 401, "message": "Expired."}})})
    with pytest.raises(ProviderRefused):
        await refusing.batches.submit(ENDPOINT, job)
    assert tokens == ["{}"]


@pytest.mark.parametrize(
    ("location", "host"),
    [("global", "aiplatform.googleapis.com"), ("eu", "aiplatform.eu.rep.googleapis.com")],
)
async def test_the_location_decides_the_host_unless_there_is_a_base_url(location: str, host: str) -> None:
    google = Google({})
    at = replace(ENDPOINT, options={**OPTIONS, "vertex_location": location})
    for endpoint in (at, replace(at, base_url="https://private.example.com/v1/")):
        with pytest.raises(ProviderRefused):
            await google.batches.find(endpoint, JOB)
    assert [request.url.host for request in google.requests] == [host, "private.example.com"]
    assert google.requests[1].url.path == f"/v1/projects/acme/locations/{location}/batchPredictionJobs"


async def test_a_job_is_found_where_the_filter_is_ignored() -> None:
    listing = [{"name": f"{NAME}1", "displayName": "job_12"}, {"name": f"{NAME}2", "displayName": "job_1"}]
    google = Google({f"GET {JOBS}": {"batchPredictionJobs": listing}})
    assert await google.batches.find(ENDPOINT, JOB) == "2"
    assert google.requests[0].url.params["filter"] == 'displayName="job_1"'
    assert await google.batches.find(ENDPOINT, JOB._replace(id="job_3")) is None


async def test_results_are_the_pieces_of_the_predictions_in_order() -> None:
    names = ("predictions.jsonl-00001-of-00002", "incremental_predictions.jsonl", "predictions.jsonl-00000-of-00002")
    google = Google(stored(*names, "predictions.jsonl.metadata"))
    content = b"".join([chunk async for chunk in google.batches.results(ENDPOINT, f"gs://acme-batches/{FOLDER}")])
    assert content == b'"predictions.jsonl-00000-of-00002"\n"predictions.jsonl-00001-of-00002"\n'
    assert google.requests[0].url.params["prefix"] == f"{FOLDER}/"


async def test_a_discard_of_results_deletes_what_is_in_their_folder() -> None:
    google = Google(
        {**stored("predictions.jsonl"), f"DELETE {OBJECTS}/{FOLDER.replace('/', '%2F')}%2Fpredictions.jsonl": b""}
    )
    await google.batches.discard(ENDPOINT, f"gs://acme-batches/{FOLDER}")
    assert [request.method for request in google.requests] == ["GET", "DELETE"]
    await google.batches.discard(ENDPOINT, INPUT)  # which is gone already


async def test_inputs_are_known_by_the_names_that_they_were_given() -> None:
    items = [
        {"name": "team/manifold/inputs/input_A.jsonl", "timeCreated": "1970-01-01T00:01:00.000Z"},
        {"name": "other"},
    ]
    (one,) = [one async for one in Google({f"GET {OBJECTS}": {"items": items}}).batches.inputs(ENDPOINT)]
    assert (one.ref, one.name, one.created_at) == (INPUT, "input_A.jsonl", 60)


@pytest.mark.parametrize("name", sorted(OPTIONS))
async def test_a_setting_without_a_value_is_a_lasting_refusal(name: str) -> None:
    wrong = replace(ENDPOINT, options={**OPTIONS, name: ""})
    google = Google({f"GET {OBJECTS}/x": {}})
    with pytest.raises(ProviderError) as caught:
        await google.batches.submit(wrong, JOB._replace(input_ref="gs://acme-batches/x"))
    assert caught.value.message == f"Vertex AI needs {name}"


def test_the_status_of_a_job_has_counts_as_texts_and_minus_one_for_unknown() -> None:
    folder = {"gcsOutputDirectory": f"gs://acme-batches/{FOLDER}/"}
    stats = {"successfulCount": "2", "failedCount": "1", "incompleteCount": "-1"}
    ended: dict[str, Any] = {"state": "JOB_STATE_SUCCEEDED", "completionStats": stats, "outputInfo": folder}
    assert job_status(ended) == JobStatus("completed", 3, 2, 1, f"gs://acme-batches/{FOLDER}")
    assert job_status({**ended, "state": "JOB_STATE_RUNNING"}) == JobStatus("in_progress", 3, 2, 1)
    assert job_status({"state": "JOB_STATE_QUEUED"}) == JobStatus("validating")
    error = {"code": 3, "message": "Line 7 is no JSON."}
    failed = job_status({"state": "JOB_STATE_FAILED", "error": error, "outputInfo": folder})
    assert failed == JobStatus("failed", errors=(LineFailure("invalid_request", "Line 7 is no JSON."),))
    assert job_status({**ended, "state": "JOB_STATE_HIBERNATING"}) is None
