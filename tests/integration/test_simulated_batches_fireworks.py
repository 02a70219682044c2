"""Contract test of the simulated Fireworks' datasets and jobs: https://docs.fireworks.ai/guides/batch-inference"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from local.provider import Fault, Simulator
from local.provider.accounts import FIREWORKS_MODEL
from local.provider.datasets import STALLED
from local.provider.defects import Defects, Ending
from local.provider.quotas import Quota
from tests.support.native_client import NativeClient, awaited

pytest_plugins = ("tests.support.provider_fixtures",)

ACCOUNT = "fireworks"
JOBS, DATASETS = "/batchInferenceJobs", "/datasets"
ENDED = tuple(f"JOB_STATE_{state}" for state in ("COMPLETED", "FAILED", "EXPIRED", "CANCELLED"))


class Client(NativeClient):
    def dataset(self, ref: str, **fields: Any) -> httpx.Response:
        body = {"datasetId": ref, "dataset": {"userUploaded": {}, "exampleCount": "1"}, **fields}
        return self.call("POST", DATASETS, json=body)

    def state(self, ref: str) -> str:
        return str(self.call("GET", f"{DATASETS}/{ref}").json()["state"])

    def upload(self, ref: str, content: bytes) -> None:
        assert self.dataset(ref).json()["state"] == "UPLOADING"
        sent = self.call("POST", f"{DATASETS}/{ref}:upload", files={"file": ("in.jsonl", content)})
        assert sent.json()["id"] == name(ref)
        awaited(lambda: self.state(ref), lambda state: state == "READY")

    def create(self, ref: str, **fields: Any) -> httpx.Response:
        """A job of the dataset of this id, with the id of its own that it names as the query."""
        query = {"batchInferenceJobId": fields.pop("job", "job-1")}
        body = {"model": FIREWORKS_MODEL, "inputDatasetId": name(ref), "outputDatasetId": name("out"), **fields}
        return self.call("POST", JOBS, params=query, json=body)

    def run(self, content: bytes) -> dict[str, Any]:
        self.upload("in", content)
        self.create("in").raise_for_status()
        return awaited(lambda: self.call("GET", f"{JOBS}/job-1").json(), lambda job: job["state"] in ENDED)

    def results(self, ref: str = "out") -> dict[str, list[dict[str, Any]]]:
        located = self.call("GET", f"{DATASETS}/{ref}:getDownloadEndpoint").json()["filenameToSignedUrls"]
        return {file.rpartition("/")[2]: self.lines(url) for file, url in located.items()}


def name(ref: str) -> str:
    return f"accounts/{ACCOUNT}/datasets/{ref}"


@pytest.fixture
def client(simulated_provider: Simulator) -> Iterator[Client]:
    made = Client(simulated_provider, ACCOUNT, f"/fireworks_ai/v1/accounts/{ACCOUNT}")
    yield made
    made.http.close()


def lines(*texts: str, role: str = "user", **more: Any) -> bytes:
    rows = [
        {"custom_id": f"r-{number}", "body": {"messages": [{"role": role, "content": text}]}, **more}
        for number, text in enumerate(texts)
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


# Datasets.


def test_a_wrong_key_is_403_in_another_shape_than_other_errors(client: Client) -> None:
    answer = client.call("GET", JOBS, headers={"Authorization": "Bearer no"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "UNAUTHORIZED")
    unknown = client.call("GET", f"{JOBS}/none")
    assert (unknown.status_code, unknown.json()) == (404, {"code": 5, "message": "resource not found", "details": []})


@pytest.mark.parametrize(
    "wrong",
    [
        {"dataset": {"userUploaded": {}}},
        {"dataset": {"userUploaded": {}, "exampleCount": "1", "surprise": 1}},
        {"datasetId": "Upper"},
        {"datasetId": "a" * 64},
        {"exampleCount": "1"},
    ],
    ids=["no count", "unknown member", "upper case", "long id", "count in the wrong place"],
)
def test_a_wrong_dataset_is_400(client: Client, wrong: dict[str, Any]) -> None:
    answer = client.dataset("in", **wrong)
    assert (answer.status_code, answer.json()["code"]) == (400, 3)


def test_a_dataset_exists_once(client: Client) -> None:
    client.dataset("in").raise_for_status()
    again = client.dataset("in")
    assert (again.status_code, again.json()["code"]) == (409, 6)
    assert client.call("DELETE", f"{DATASETS}/in").json() == {}
    assert client.dataset("in").is_success


def test_a_dataset_is_uploaded_once(client: Client) -> None:
    client.upload("in", lines("one"))
    again = client.call("POST", f"{DATASETS}/in:upload", files={"file": ("in.jsonl", b"{}")})
    assert (again.status_code, "already uploaded" in again.json()["message"]) == (400, True)
    assert client.results("in")["in.jsonl"] == [json.loads(lines("one"))]


def test_a_large_file_goes_by_a_signed_url(client: Client) -> None:
    client.dataset("in").raise_for_status()
    content = lines("one")
    asked = {"filenameToSize": {"in.jsonl": str(len(content))}}
    (place,) = (
        client.call("POST", f"{DATASETS}/in:getUploadEndpoint", json=asked).json()["filenameToSignedUrls"].values()
    )
    early = client.call("POST", f"{DATASETS}/in:validateUpload", json={})
    assert (early.status_code, early.json()["code"]) == (400, 9)
    assert "x-goog-content-length-range" in httpx.URL(place).params["X-Goog-SignedHeaders"]
    assert client.http.put(place, content=content).status_code == 403, "without the signed header"
    headers = {"x-goog-content-length-range": f"{len(content)},{len(content)}"}
    assert client.http.put(place, content=content + b"\n", headers=headers).status_code == 400, "of another size"
    assert client.http.put(place, content=content, headers=headers).status_code == 200
    assert client.call("POST", f"{DATASETS}/in:validateUpload", json={}).json() == {}
    awaited(lambda: client.state("in"), lambda state: state == "READY")


def test_a_dataset_that_is_never_validated_is_of_no_use(client: Client) -> None:
    client.simulator.state.stall(ACCOUNT, STALLED)
    client.dataset("in").raise_for_status()
    client.call("POST", f"{DATASETS}/in:upload", files={"file": ("in.jsonl", lines("one"))}).raise_for_status()
    answer = client.create("in")
    assert (client.state("in"), answer.status_code, answer.json()["code"]) == ("UPLOADING", 400, 9)


def test_a_download_endpoint_is_asked_without_a_body(client: Client) -> None:
    client.upload("in", lines("one"))
    assert client.call("GET", f"{DATASETS}/in:getDownloadEndpoint", json={}).status_code == 400


# Jobs.


def test_a_job_runs_to_its_end(client: Client) -> None:
    client.upload("in", lines("one", "fail-this-line", "three"))
    client.simulator.state.stall(ACCOUNT, "validating")
    created = client.create("in").json()
    assert (created["state"], created["jobProgress"], created["name"]) == (
        "JOB_STATE_VALIDATING",
        None,
        f"accounts/{ACCOUNT}{JOBS}/job-1",
    )
    assert client.call("GET", f"{DATASETS}/out:getDownloadEndpoint").status_code == 404
    client.simulator.state.stall(ACCOUNT, None)
    job = awaited(lambda: client.call("GET", f"{JOBS}/job-1").json(), lambda job: job["state"] in ENDED)
    progress = job["jobProgress"]
    assert (job["state"], progress["percent"], progress["totalInputRequests"]) == ("JOB_STATE_COMPLETED", 100, 1)
    assert (progress["successfullyProcessedRequests"], progress["failedRequests"]) == (2, 1)
    files = client.results()
    answers = {line["custom_id"]: line["response"] for line in files["BIJOutputSet.jsonl"]}
    assert set(answers) == {"r-0", "r-2"}
    assert answers["r-0"]["choices"][0]["message"]["content"] == "echo: one", "the completion is the response"
    assert [(line["custom_id"], set(line["error"])) for line in files["error-data"]] == [("r-1", {"message", "code"})]
    assert client.call("GET", f"{DATASETS}/out").json()["sourceJobName"] == job["name"]


def test_the_output_files_are_there_without_a_failure(client: Client) -> None:
    client.run(lines("one"))
    assert [(file, len(rows)) for file, rows in client.results().items()] == [
        ("BIJOutputSet.jsonl", 1),
        ("error-data", 0),
    ]


def test_a_job_has_the_id_that_its_client_chose(client: Client) -> None:
    client.upload("in", lines("one"))
    client.create("in").raise_for_status()
    again = client.create("in", outputDatasetId=name("other"))
    assert (again.status_code, again.json()["code"]) == (409, 6)
    assert client.create("in", job="", outputDatasetId="").json()["outputDatasetId"].startswith(name("bij-"))
    assert client.simulator.state.submissions()["job-1"] == 1


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"inputDatasetId": "in"}, 400),
        ({"inputDatasetId": name("none")}, 404),
        ({"outputDatasetId": name("in")}, 409),
        ({"model": "none"}, 404),
        ({"job": "Job"}, 400),
        ({"metadata": {}}, 400),
    ],
    ids=lambda wrong: next(iter(wrong)) if isinstance(wrong, dict) else "",
)
def test_a_wrong_job_is_refused(client: Client, wrong: dict[str, Any], status: int) -> None:
    client.upload("in", lines("one"))
    assert client.create("in", **wrong).status_code == status


@pytest.mark.parametrize(
    "content",
    [lines("one", role="bananas"), lines("one", method="POST"), b"{oops\n", lines("one") * 2],
    ids=["role", "method", "no JSON", "equal ids"],
)
def test_a_bad_line_fails_the_job_which_has_no_output(client: Client, content: bytes) -> None:
    job = client.run(content)
    assert (job["state"], job["status"]["code"]) == ("JOB_STATE_FAILED", "INVALID_ARGUMENT")
    assert client.call("GET", f"{DATASETS}/out:getDownloadEndpoint").status_code == 404


def test_jobs_are_listed_oldest_first_by_pages_and_filters(client: Client) -> None:
    client.upload("in", lines("one"))
    for number in range(3):
        client.create("in", job=f"job-{number}", displayName=f"name {number}", outputDatasetId="").raise_for_status()
    page = client.call("GET", JOBS, params={"pageSize": 2}).json()
    rest = client.call("GET", JOBS, params={"pageSize": 2, "pageToken": page["nextPageToken"]}).json()
    names = [job["displayName"] for job in page["batchInferenceJobs"] + rest["batchInferenceJobs"]]
    assert (names, rest["nextPageToken"]) == (["name 0", "name 1", "name 2"], "")
    chosen = client.call("GET", JOBS, params={"filter": 'displayName="name 1"'}).json()["batchInferenceJobs"]
    assert [job["name"].rpartition("/")[2] for job in chosen] == ["job-1"]
    assert client.call("GET", JOBS, params={"filter": "surprise=1"}).status_code == 400


def test_there_is_no_cancel_but_a_job_can_be_deleted(client: Client) -> None:
    client.simulator.state.stall(ACCOUNT, "in_progress")
    client.upload("in", lines("one"))
    client.create("in").raise_for_status()
    assert client.call("POST", f"{JOBS}/job-1:cancel", json={}).status_code in (404, 405)
    batches = client.simulator.state.batches
    batches.pace = replace(batches.pace, cancelling=60)
    assert client.call("DELETE", f"{JOBS}/job-1").json() == {}
    assert client.call("GET", f"{JOBS}/job-1").json()["state"] == "JOB_STATE_DELETING_CLEANING_UP"
    batches.pace = replace(batches.pace, cancelling=0)
    awaited(lambda: client.call("GET", f"{JOBS}/job-1").status_code, lambda status: status == 404)
    assert client.call("GET", JOBS).json()["batchInferenceJobs"] == []


# What goes wrong.


def test_an_expired_job_has_the_results_until_then(client: Client) -> None:
    client.simulator.state.batches.defects[ACCOUNT] = Defects(ending=Ending(state="expired", answered=1))
    job = client.run(lines("one", "two"))
    assert (job["state"], job["jobProgress"]["totalProcessedRequests"]) == ("JOB_STATE_EXPIRED", 1)
    assert [len(rows) for rows in client.results().values()] == [1, 0]


def test_an_output_has_fewer_lines_than_the_input(client: Client) -> None:
    client.simulator.state.batches.defects[ACCOUNT] = Defects(missing=1)
    assert client.run(lines("one", "two"))["state"] == "JOB_STATE_COMPLETED"
    assert [len(rows) for rows in client.results().values()] == [1, 0]


def test_a_job_is_cancelled_or_gone_at_the_console(client: Client) -> None:
    client.simulator.state.batches.defects[ACCOUNT] = Defects(ending=Ending(state="cancelled"))
    assert client.run(lines("one"))["state"] == "JOB_STATE_CANCELLED"
    client.call("DELETE", f"{JOBS}/job-1").raise_for_status()
    assert client.call("GET", f"{JOBS}/job-1").status_code == 404


def test_a_quota_refuses_a_create(client: Client) -> None:
    client.simulator.limit(ACCOUNT, FIREWORKS_MODEL, Quota(max_enqueued_tokens=0))
    client.upload("in", lines("one"))
    answer = client.create("in")
    assert (answer.status_code, answer.json()["code"]) == (429, 8)


def test_a_job_that_is_not_seen_yet_has_its_id_all_the_same(client: Client) -> None:
    client.simulator.state.batches.defects[ACCOUNT] = Defects(unseen=1)
    client.upload("in", lines("one"))
    client.create("in").raise_for_status()
    assert client.create("in", outputDatasetId="").status_code == 409
    assert [client.call("GET", f"{JOBS}/job-1").status_code for _ in range(2)] == [404, 200]


def test_a_state_is_unknown(client: Client) -> None:
    client.upload("in", lines("one"))
    client.create("in").raise_for_status()
    for route in ("batches.list", "batches.retrieve"):
        client.simulator.fail(Fault(kind="override", account=ACCOUNT, route=route, members={"state": "JOB_STATE_NEW"}))
    (listed,), one = client.call("GET", JOBS).json()["batchInferenceJobs"], client.call("GET", f"{JOBS}/job-1").json()
    assert (listed["state"], one["state"]) == ("JOB_STATE_NEW", "JOB_STATE_NEW")


def test_a_create_whose_answer_is_lost(client: Client) -> None:
    client.upload("in", lines("one"))
    client.simulator.fail(Fault(kind="cut", account=ACCOUNT, route="batches.create", when="after"))
    with pytest.raises(httpx.TransportError):
        client.create("in")
    assert client.call("GET", f"{JOBS}/job-1").status_code == 200
