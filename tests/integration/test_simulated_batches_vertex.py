"""Contract test of the simulated batch inference of Vertex AI, by its documentation."""

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from local.provider import Fault, Quota, Simulator
from local.provider.accounts import GCP_PROJECT, GCS_BUCKET
from local.provider.native.variants import Variants
from tests.support.google_client import Google
from tests.support.standing_clock import standing

pytest_plugins = ("tests.support.provider_fixtures",)

GEMINI, EMBEDDING, CLAUDE = (
    "publishers/google/models/gemini-2.5-flash",
    "publishers/google/models/gemini-embedding-001",
    "publishers/anthropic/models/claude-haiku-4-5",
)
ENDED = {"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"}


def prompt(text: str, **more: Any) -> dict[str, Any]:
    return {"request": {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}}


def message(known: str, **members: Any) -> dict[str, Any]:
    body = {"anthropic_version": "vertex-2023-10-16", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    return {"custom_id": known, "request": {**body, **members}}


class Vertex(Google):
    location = "europe-west4"

    @property
    def jobs(self) -> str:
        return f"/v1/projects/{GCP_PROJECT}/locations/{self.location}/batchPredictionJobs"

    def create(self, lines: list[dict[str, Any]], **members: Any) -> httpx.Response:
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        self.put(self.start("in/a.jsonl"), content)
        body = {
            "displayName": "batch-1",
            "model": GEMINI,
            "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [f"gs://{GCS_BUCKET}/in/a.jsonl"]}},
            "outputConfig": {
                "predictionsFormat": "jsonl",
                "gcsDestination": {"outputUriPrefix": f"gs://{GCS_BUCKET}/out"},
            },
            **members,
        }
        return self.call("POST", self.jobs, json=body)

    def get(self, name: str) -> dict[str, Any]:
        job: dict[str, Any] = self.call("GET", f"/v1/{name}").json()
        return job

    def ended(self, job: dict[str, Any]) -> dict[str, Any]:
        for _ in range(500):
            job = self.get(job["name"])
            if job["state"] in ENDED:
                return job
            time.sleep(0.02)
        raise AssertionError(job)

    def results(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        directory = job["outputInfo"]["gcsOutputDirectory"].removeprefix(f"gs://{GCS_BUCKET}/")
        content = self.media(f"{directory}/predictions.jsonl").content
        return [json.loads(line) for line in content.splitlines()]

    def names(self, text: str) -> list[str]:
        answer = self.call("GET", f"{self.jobs}?filter={quote(text, safe='')}").json()
        return [job["displayName"] for job in answer.get("batchPredictionJobs", [])]


@pytest.fixture
def vertex(simulated_provider: Simulator) -> Iterator[Vertex]:
    with httpx.Client() as http:
        yield Vertex(simulated_provider, http)


def error(answer: httpx.Response) -> tuple[int, str]:
    told = answer.json()["error"]
    assert told["code"] == answer.status_code
    return answer.status_code, told["status"]


def test_a_job_of_gemini(vertex: Vertex) -> None:
    labels = {"index": "a-0"}
    lines = [prompt(f"hello {number}", labels={"index": f"a-{number}"}) for number in range(10)]
    job = vertex.create([*lines, prompt("", labels={"index": "a-10"})], labels={"team": "a"}).json()
    assert job["name"].startswith("projects/123456789012/locations/europe-west4/batchPredictionJobs/")
    assert (job["state"], job["displayName"], job["labels"]) == ("JOB_STATE_QUEUED", "batch-1", {"team": "a"})
    assert not {"outputInfo", "completionStats", "endTime"} & job.keys()
    job = vertex.ended(job)
    assert job["state"] == "JOB_STATE_SUCCEEDED"
    assert job["completionStats"] == {"successfulCount": "10", "failedCount": "1"}
    results = {line["request"]["labels"]["index"]: line for line in vertex.results(job)}
    assert list(results) != sorted(results), "the order is not that of the input"
    first = results["a-0"]
    assert first.keys() == {"status", "processed_time", "request", "response"}
    assert (first["status"], first["request"]) == ("", prompt("hello 0", labels=labels)["request"])
    assert first["response"]["candidates"][0]["content"]["parts"] == [{"text": "echo: hello 0"}]
    failed = results["a-10"]
    assert (failed["response"], "INVALID_ARGUMENT" in failed["status"]) == ({}, True)


def test_the_states_on_the_way(vertex: Vertex) -> None:
    seen = []
    with standing(vertex.simulator) as clock:
        name = vertex.create([prompt("hello")]).json()["name"]
        for seconds in (0.0, 0.03, 0.07, 0.2):
            clock.now += seconds
            seen.append(vertex.get(name)["state"])
    assert seen == [f"JOB_STATE_{state}" for state in ("QUEUED", "PENDING", "RUNNING", "SUCCEEDED")]


@pytest.mark.parametrize("labels", [{"Index": "a"}, {"index": "A"}, {"index": "a" * 64}, {"index": 1}])
def test_labels_that_are_none(vertex: Vertex, labels: dict[str, Any]) -> None:
    [line] = vertex.results(vertex.ended(vertex.create([prompt("hello", labels=labels)]).json()))
    assert "labels" in line["status"]


def test_other_members_of_a_line_are_lost(vertex: Vertex) -> None:
    [line] = vertex.results(vertex.ended(vertex.create([{"custom_id": "a", **prompt("hello")}]).json()))
    assert "custom_id" not in line


def test_a_job_of_claude(vertex: Vertex) -> None:
    vertex.location = "us-east5"
    lines = [
        message("a"),
        message("b", max_tokens=0),
        message("c", model="claude"),
        message("d", anthropic_version="1"),
    ]
    job = vertex.ended(vertex.create(lines, model=CLAUDE).json())
    results = {line["custom_id"]: line for line in vertex.results(job)}
    assert results["a"].keys() == {"custom_id", "status", "processed_time", "response"}, "the request is not repeated"
    assert results["a"]["response"]["content"] == [{"type": "text", "text": "echo: hi"}]
    assert [(results[known]["response"], bool(results[known]["status"])) for known in "bcd"] == [({}, True)] * 3


def test_a_job_of_claude_elsewhere(vertex: Vertex) -> None:
    assert error(vertex.create([message("a")], model=CLAUDE)) == (400, "FAILED_PRECONDITION")


def test_a_job_of_embeddings(vertex: Vertex) -> None:
    content = {"content": {"parts": [{"text": "hello there"}]}}
    config = {"embed_content_config": {"output_dimensionality": 8, "task_type": "CLUSTERING"}}
    lines = [{"key": "a", "request": {**content, **config}}, {"key": "b", "request": {"output_dimensionality": 8}}]
    job = vertex.ended(vertex.create(lines, model=EMBEDDING).json())
    results = {line["key"]: line for line in vertex.results(job)}
    assert len(results["a"]["response"]["embedding"]["values"]) == 8
    assert results["a"]["response"]["usageMetadata"]["promptTokenCount"] == 2
    assert (results["b"]["response"], bool(results["b"]["status"])) == ({}, True)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"displayName": ""}, (400, "INVALID_ARGUMENT")),
        ({"displayName": "x" * 129}, (400, "INVALID_ARGUMENT")),
        ({"unknown": 1}, (400, "INVALID_ARGUMENT")),
        ({"model": "gemini-2.5-flash"}, (400, "INVALID_ARGUMENT")),
        ({"model": "publishers/google/models/gemini-9"}, (404, "NOT_FOUND")),
        ({"inputConfig": {"instancesFormat": "csv"}}, (400, "INVALID_ARGUMENT")),
        (
            {"outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": "gs://other/out"}}},
            (400, "FAILED_PRECONDITION"),
        ),
    ],
)
def test_a_create_that_is_refused(vertex: Vertex, members: dict[str, Any], expected: tuple[int, str]) -> None:
    assert error(vertex.create([prompt("hello")], **members)) == expected
    assert vertex.call("GET", vertex.jobs).json() == {}


@pytest.mark.parametrize("lines", [[], [{"contents": []}], [{"request": {}, "status": ""}]])
def test_an_input_that_cannot_be_read(vertex: Vertex, lines: list[dict[str, Any]]) -> None:
    job = vertex.ended(vertex.create(lines).json())
    assert (job["state"], job["error"]["code"], "outputInfo" in job) == ("JOB_STATE_FAILED", 3, False)


def test_a_job_is_cancelled_and_deleted(vertex: Vertex) -> None:
    with standing(vertex.simulator):
        job = vertex.create([prompt("hello")] * 5).json()
        name = job["name"]
        assert error(vertex.call("DELETE", f"/v1/{name}")) == (400, "FAILED_PRECONDITION")
        assert vertex.call("POST", f"/v1/{name}:cancel").json() == {}
        assert vertex.get(name)["state"] == "JOB_STATE_CANCELLING"
    assert vertex.ended(job)["state"] == "JOB_STATE_CANCELLED"
    assert error(vertex.call("POST", f"/v1/{name}:cancel")) == (400, "FAILED_PRECONDITION")
    assert vertex.call("DELETE", f"/v1/{name}").json()["done"] is True
    assert error(vertex.call("GET", f"/v1/{name}")) == (404, "NOT_FOUND")


@pytest.mark.parametrize("late", ["missing", "errors"])
def test_a_job_runs_out_of_time(vertex: Vertex, late: Any) -> None:
    vertex.simulator.state.variants = Variants(late_requests=late)
    ending = {"ending": {"state": "expired", "answered": 1}}
    vertex.simulator.fail(Fault.model_validate({"kind": "job", "job": ending}))
    job = vertex.ended(vertex.create([prompt("hello")] * 3).json())
    assert (job["state"], job["completionStats"]["incompleteCount"]) == ("JOB_STATE_EXPIRED", "2")
    assert len(vertex.results(job)) == (1 if late == "missing" else 3)


def test_a_job_whose_output_is_named_late(vertex: Vertex) -> None:
    vertex.simulator.fail(Fault.model_validate({"kind": "job", "job": {"unnamed": 1}}))
    job = vertex.ended(vertex.create([prompt("hello")]).json())
    assert "outputInfo" not in job
    assert "outputInfo" in vertex.get(job["name"])


@pytest.mark.parametrize("defect", ["misnamed", "anonymous"])
def test_a_result_with_another_label(vertex: Vertex, defect: str) -> None:
    vertex.simulator.fail(Fault.model_validate({"kind": "job", "job": {defect: 1}}))
    lines = [prompt("hello", labels={"index": f"a-{number}"}) for number in range(3)]
    results = vertex.results(vertex.ended(vertex.create(lines).json()))
    labels = [line["request"]["labels"] for line in results]
    assert sum(label.get("index") in ("a-0", "a-1", "a-2") for label in labels) == 2


def test_jobs_are_listed_and_filtered(vertex: Vertex) -> None:
    for name in ("one", "two", "three"):
        vertex.create([prompt("hello")], displayName=name, labels={"team": name})
    page = vertex.call("GET", f"{vertex.jobs}?pageSize=2").json()
    rest = vertex.call("GET", f"{vertex.jobs}?pageSize=2&pageToken={page['nextPageToken']}").json()
    listed = [job["displayName"] for job in (*page["batchPredictionJobs"], *rest["batchPredictionJobs"])]
    assert listed == ["three", "two", "one"]
    assert vertex.names('displayName="two"') == vertex.names('display_name="two"') == ["two"]
    assert vertex.names('display_name:"t*" AND NOT labels.team=two') == ["three"]
    assert vertex.names('displayName="one" OR displayName="two"') == ["two", "one"]
    assert vertex.names('state="JOB_STATE_FAILED"') == []
    assert vertex.names('createTime>"2100-01-01T00:00:00Z"') == []
    for wrong in ('displayName>"a"', 'model="a"', "nonsense"):
        answer = vertex.call("GET", f"{vertex.jobs}?filter={quote(wrong, safe='')}")
        assert error(answer) == (400, "INVALID_ARGUMENT")
    assert error(vertex.call("GET", f"{vertex.jobs}?limit=1")) == (400, "INVALID_ARGUMENT")


def test_too_many_at_once(vertex: Vertex) -> None:
    vertex.simulator.limit("vertex", "gemini-2.5-flash", Quota(max_concurrent_batches=1))
    with standing(vertex.simulator):
        job = vertex.create([prompt("hello")]).json()
        assert error(vertex.create([prompt("hello")])) == (429, "RESOURCE_EXHAUSTED")
    vertex.ended(job)
    assert vertex.create([prompt("hello")]).status_code == 200


def test_who_calls_and_where(vertex: Vertex) -> None:
    assert error(vertex.call("GET", vertex.jobs, token="ya29.none")) == (401, "UNAUTHENTICATED")
    weak = vertex.token(scope="https://www.googleapis.com/auth/devstorage.read_write")
    assert error(vertex.call("GET", vertex.jobs, token=weak)) == (403, "PERMISSION_DENIED")
    other = vertex.jobs.replace(GCP_PROJECT, "stranger")
    assert error(vertex.call("GET", other)) == (403, "PERMISSION_DENIED")
    job = vertex.create([prompt("hello")]).json()
    elsewhere = job["name"].replace("europe-west4", "us-east5")
    assert error(vertex.call("GET", f"/v1/{elsewhere}")) == (404, "NOT_FOUND")
    assert vertex.get(job["name"].replace("123456789012", GCP_PROJECT))["name"] == job["name"]
