"""Contract test of Mistral's simulated files and batch jobs, from outside.

https://docs.mistral.ai/api/endpoint/batch, and the models of mistralai-client 3.7
"""

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from local.provider import Defects, Ending, Fault, LineFault, Quota, Simulator

pytest_plugins = ("tests.support.provider_fixtures",)

ACCOUNT, MODEL, JOBS = "mistral", "mistral-small-latest", "/batch/jobs"
CHAT = "/v1/chat/completions"
ENDED = {"SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"}
MEMBERS = {
    "id", "object", "input_files", "metadata", "endpoint", "model", "agent_id", "output_file", "error_file", "errors",
    "outputs", "status", "created_at", "started_at", "completed_at", "total_requests", "completed_requests",
    "succeeded_requests", "failed_requests",
}  # fmt: skip


@pytest.fixture
def http(simulated_provider: Simulator) -> Iterator[httpx.Client]:
    base = simulated_provider.base(ACCOUNT)
    assert base.endswith("/v1"), "as the real one's"
    headers = {"authorization": f"Bearer {simulated_provider.state.accounts[ACCOUNT].key}"}
    with httpx.Client(base_url=base, headers=headers) as client:
        yield client


def request(number: int, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"hello {number}"}]
    return {"custom_id": f"input_1-{number}", "body": {"messages": messages, **body}}


def lines(*requests: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in requests)


def uploaded(http: httpx.Client, content: bytes) -> str:
    answer = http.post("/files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def create(http: httpx.Client, content: bytes, **members: Any) -> httpx.Response:
    body = {"input_files": [uploaded(http, content)], "endpoint": CHAT, "model": MODEL, **members}
    return http.post(JOBS, json=body)


def ended(http: httpx.Client, job_id: str) -> dict[str, Any]:
    for _ in range(500):
        job = dict(http.get(f"{JOBS}/{job_id}").json())
        if job["status"] in ENDED:
            return job
        time.sleep(0.02)
    raise AssertionError("the job did not end")


def run(http: httpx.Client, content: bytes, **members: Any) -> dict[str, Any]:
    return ended(http, create(http, content, **members).json()["id"])


def results(http: httpx.Client, file_id: str | None) -> dict[str, Any]:
    if file_id is None:
        return {}
    found = [json.loads(line) for line in http.get(f"/files/{file_id}/content").content.splitlines()]
    return {line.get("custom_id"): line for line in found}


def counts(job: dict[str, Any]) -> list[Any]:
    return [job[f"{name}_requests"] for name in ("total", "completed", "succeeded", "failed")]


def test_files(http: httpx.Client) -> None:
    answer = http.post(
        "/files", files={"file": ("in.jsonl", lines(request(0)))}, data={"purpose": "batch", "expiry": "48"}
    )
    file = answer.json()
    assert (file["object"], file["purpose"], file["sample_type"], file["source"], file["num_lines"]) == (
        "file", "batch", "batch_request", "upload", 1
    )  # fmt: skip
    assert file["expires_at"] == file["created_at"] + 48 * 3_600
    assert uuid.UUID(file["id"])
    assert http.get(f"/files/{file['id']}").json()["id"] == file["id"]
    assert http.get(f"/files/{file['id']}/content").content == lines(request(0))
    page = http.get("/files", params={"page_size": 1}).json()
    assert (page["object"], [one["id"] for one in page["data"]], page["total"]) == ("list", [file["id"]], 1)
    assert http.delete(f"/files/{file['id']}").json() == {"id": file["id"], "object": "file", "deleted": True}
    assert http.get(f"/files/{file['id']}").json()["object"] == "error"


@pytest.mark.parametrize("data", [{"purpose": "fine-tune"}, {"purpose": "batch", "expires_after": "1"}])
def test_uploads_that_are_refused(http: httpx.Client, data: dict[str, str]) -> None:
    answer = http.post("/files", files={"file": ("in.jsonl", b"{}")}, data=data)
    assert (answer.status_code, isinstance(answer.json()["detail"], list)) == (422, True)


def test_a_job_runs(http: httpx.Client) -> None:
    new = create(http, lines(request(0), request(1, random_seed=7), request(2)), metadata={"job": "one"}).json()
    assert (set(new), new["object"], new["status"], new["metadata"]) == (MEMBERS, "batch", "QUEUED", {"job": "one"})
    job = ended(http, new["id"])
    assert (job["status"], counts(job), job["errors"], job["error_file"]) == ("SUCCESS", [3, 3, 3, 0], [], None)
    assert uuid.UUID(job["output_file"])
    found = results(http, job["output_file"])
    assert set(found) == {"input_1-0", "input_1-1", "input_1-2"}
    line = found["input_1-1"]
    assert (set(line), line["error"]) == ({"id", "custom_id", "response", "error"}, None)
    assert line["response"]["status_code"] == 200
    assert line["response"]["body"]["choices"][0]["message"]["content"] == "echo: hello 1"
    assert line["response"]["body"]["model"] == MODEL


def test_bad_bodies_are_in_the_error_file(http: httpx.Client) -> None:
    bad = [request(1, max_completion_tokens=5), request(2, messages=[]), request(3, stream=True)]
    job = run(http, lines(request(0), *bad))
    assert (job["status"], counts(job)) == ("SUCCESS", [4, 4, 1, 3])
    assert set(results(http, job["output_file"])) == {"input_1-0"}
    errors = results(http, job["error_file"])
    assert {name: line["response"]["status_code"] for name, line in errors.items()} == {
        "input_1-1": 422, "input_1-2": 400, "input_1-3": 400
    }  # fmt: skip
    [detail] = errors["input_1-1"]["response"]["body"]["detail"]
    assert (detail["type"], detail["loc"]) == ("extra_forbidden", ["body", "max_completion_tokens"])


def test_embeddings(http: httpx.Client) -> None:
    content = lines({"custom_id": "a", "body": {"input": ["one", "two"], "output_dimension": 4}})
    job = run(http, content, endpoint="/v1/embeddings", model="mistral-embed")
    [line] = results(http, job["output_file"]).values()
    assert [len(one["embedding"]) for one in line["response"]["body"]["data"]] == [4, 4]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{oops\n", lines({"custom_id": "a"}), lines(request(0), request(0)),
        lines(request(0) | {"method": "POST"}), lines(request(0, model="other")),
    ],
)  # fmt: skip
def test_bad_lines_fail_the_job(http: httpx.Client, content: bytes) -> None:
    job = run(http, content)
    assert (job["status"], job["output_file"], job["error_file"]) == ("FAILED", None, None)
    assert [set(error) for error in job["errors"]] == [{"message", "count"}]


def test_requests_may_be_in_the_body_and_results_in_the_job(http: httpx.Client) -> None:
    body = {"endpoint": CHAT, "model": MODEL, "requests": [request(0), {"body": request(1)["body"]}]}
    new = http.post(JOBS, json=body).json()
    assert new["input_files"] == []
    ended(http, new["id"])
    outputs = http.get(f"{JOBS}/{new['id']}", params={"inline": True}).json()["outputs"]
    assert sorted(str(line["custom_id"]) for line in outputs) == ["None", "input_1-0"]


def test_several_files(http: httpx.Client) -> None:
    files = [uploaded(http, lines(request(number)).rstrip()) for number in range(2)]
    job = ended(http, http.post(JOBS, json={"endpoint": CHAT, "model": MODEL, "input_files": files}).json()["id"])
    assert (job["input_files"], counts(job)) == (files, [2, 2, 2, 0])


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"endpoint": "/v1/videos"}, 422),
        ({"endpoint": None}, 422),
        ({"input_files": None}, 422),
        ({"input_files": ["file-1"]}, 422),
        ({"input_files": [str(uuid.uuid4())]}, 404),
        ({"requests": [request(0)]}, 422),
        ({"model": "none"}, 400),
        ({"timeout_hours": 169}, 422),
        ({"metadata": {"k" * 33: "v"}}, 422),
        ({"completion_window": "24h"}, 422),
    ],
)
def test_creates_that_are_refused(http: httpx.Client, members: dict[str, Any], status: int) -> None:
    answer = create(http, lines(request(0)), **members)
    assert answer.status_code == status
    assert ("detail" in answer.json()) == (status == 422), answer.text
    assert http.get(JOBS).json() == {"object": "list", "data": [], "total": 0}


def test_the_list_has_filters_and_pages(simulated_provider: Simulator, http: httpx.Client) -> None:
    ids = [create(http, lines(request(0)), metadata={"n": str(number)}).json()["id"] for number in range(4)]

    def listed(**query: Any) -> list[str]:
        answer = http.get(JOBS, params=query)
        assert answer.status_code == 200, answer.text
        return [job["id"] for job in answer.json()["data"]]

    assert listed() == ids[::-1]
    assert listed(order_by="created", page=1, page_size=3) == ids[3:]
    assert http.get(JOBS, params={"page_size": 1}).json()["total"] == 4
    assert listed(metadata='{"n":"2"}') == [ids[2]]
    assert listed(metadata='{"n":"9"}') == []
    assert len(listed(n="2")) == 4, "a key of the metadata is no parameter"
    for job_id in ids:
        ended(http, job_id)
    assert listed(status=["QUEUED", "RUNNING"]) == []
    assert len(listed(status=["QUEUED", "SUCCESS"])) == 4
    assert (len(listed(model=MODEL)), listed(model="other")) == (4, [])
    assert (len(listed(created_after="2020-01-01T00:00:00Z")), listed(created_after="2100-01-01T00:00:00Z")) == (4, [])
    for wrong in ({"page": -1}, {"page_size": 0}, {"order_by": "name"}, {"metadata": "n"}):
        assert http.get(JOBS, params=wrong).status_code == 422
    assert simulated_provider.state.submissions() == {"0": 1, "1": 1, "2": 1, "3": 1}


def test_cancel_and_delete(simulated_provider: Simulator, http: httpx.Client) -> None:
    simulated_provider.state.stall(ACCOUNT, "in_progress")
    job_id = create(http, lines(request(0))).json()["id"]
    assert http.delete(f"{JOBS}/{job_id}").status_code == 400
    assert http.post(f"{JOBS}/{job_id}/cancel").json()["status"] == "CANCELLATION_REQUESTED"
    job = ended(http, job_id)
    assert (job["status"], job["completed_requests"]) == ("CANCELLED", 0)
    assert http.post(f"{JOBS}/{job_id}/cancel").status_code == 400
    assert http.delete(f"{JOBS}/{job_id}").json() == {"id": job_id, "object": "batch", "deleted": True}
    gone = http.get(f"{JOBS}/{job_id}")
    assert (gone.status_code, gone.json()["object"]) == (404, "error")


def test_a_key_is_needed(http: httpx.Client) -> None:
    answer = http.get(JOBS, headers={"authorization": "Bearer no"})
    assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized"})


def test_a_job_times_out_with_partial_results(simulated_provider: Simulator, http: httpx.Client) -> None:
    ending = Ending(state="expired", answered=1)
    simulated_provider.fail(Fault(kind="job", account=ACCOUNT, job=Defects(ending=ending)))
    job = run(http, lines(request(0), request(1)))
    assert (job["status"], counts(job)) == ("TIMEOUT_EXCEEDED", [2, 1, 1, 0])
    assert set(results(http, job["output_file"])) == {"input_1-0"}
    assert job["error_file"] is None


def test_jobs_and_lines_have_their_faults(simulated_provider: Simulator, http: httpx.Client) -> None:
    simulated_provider.limit(ACCOUNT, MODEL, Quota(max_concurrent_batches=1))
    for defects in (Defects(lines=LineFault(every=2)), Defects(ending=Ending(state="failed", message="Full."))):
        simulated_provider.fail(Fault(kind="job", account=ACCOUNT, model=MODEL, job=defects))
    new = create(http, lines(request(0), request(1))).json()
    refused = create(http, lines(request(2)))
    assert (refused.status_code, refused.json()["code"]) == (429, "batch_limit_exceeded")
    job = ended(http, new["id"])
    [line] = results(http, job["error_file"]).values()
    assert (line["custom_id"], line["response"]["status_code"]) == ("input_1-1", 429)
    failed = run(http, lines(request(0)))
    assert (failed["status"], failed["errors"]) == ("FAILED", [{"message": "Full.", "count": 1}])
