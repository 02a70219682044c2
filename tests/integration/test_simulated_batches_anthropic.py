"""Contract test of the simulated Message Batches of Anthropic, from outside.

https://platform.claude.com/docs/en/api/messages/batches, https://platform.claude.com/docs/en/build-with-claude/batch-processing
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from local.provider import Defects, Ending, Fault, LineFault, Quota, Simulator

pytest_plugins = ("tests.support.provider_fixtures",)

ACCOUNT, MODEL = "anthropic", "claude-haiku-4-5"
BATCHES = "/v1/messages/batches"
COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")


@pytest.fixture
def http(simulated_provider: Simulator) -> Iterator[httpx.Client]:
    headers = {"x-api-key": simulated_provider.state.accounts[ACCOUNT].key, "anthropic-version": "2023-06-01"}
    with httpx.Client(base_url=simulated_provider.base(ACCOUNT), headers=headers) as client:
        yield client


def request(number: int, **params: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": [{"type": "text", "text": f"hello {number}"}]}]
    body = {"model": MODEL, "max_tokens": 50, "messages": said, **params}
    return {"custom_id": f"input_1-{number}", "params": body}


def requests(count: int) -> dict[str, Any]:
    return {"requests": [request(number) for number in range(count)]}


def created(http: httpx.Client, count: int = 2) -> dict[str, Any]:
    answer = http.post(BATCHES, json=requests(count))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ended(http: httpx.Client, batch_id: str) -> dict[str, Any]:
    for _ in range(500):
        batch = dict(http.get(f"{BATCHES}/{batch_id}").json())
        if batch["processing_status"] == "ended":
            return batch
        assert batch["results_url"] is None
        assert counts(batch)[1:] == [0, 0, 0, 0], "nothing is counted before the end"
        time.sleep(0.02)
    raise AssertionError("the batch did not end")


def counts(batch: dict[str, Any]) -> list[Any]:
    return [batch["request_counts"][name] for name in COUNTS]


def results(http: httpx.Client, batch: dict[str, Any]) -> list[dict[str, Any]]:
    answer = http.get(batch["results_url"])
    assert answer.headers["content-type"] == "application/x-jsonl"
    return [json.loads(line) for line in answer.content.splitlines()]


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert (body["type"], set(body)) == ("error", {"type", "error", "request_id"})
    return answer.status_code, body["error"]["type"], body["error"]["message"]


def test_a_batch_runs_and_its_results_are_shuffled(http: httpx.Client) -> None:
    new = created(http, 50)
    assert (new["type"], new["processing_status"], counts(new)) == ("message_batch", "in_progress", [50, 0, 0, 0, 0])
    assert {name: new[name] for name in ("ended_at", "archived_at", "cancel_initiated_at", "results_url")} == {
        "ended_at": None, "archived_at": None, "cancel_initiated_at": None, "results_url": None
    }  # fmt: skip
    batch = ended(http, new["id"])
    assert counts(batch) == [0, 50, 0, 0, 0]
    found = results(http, batch)
    ids = [line["custom_id"] for line in found]
    expected = [f"input_1-{number}" for number in range(50)]
    assert sorted(ids) == sorted(expected)
    assert sum(abs(place - expected.index(one)) for place, one in enumerate(ids)) > 500, "far from where they were"
    [third] = [line["result"] for line in found if line["custom_id"] == "input_1-3"]
    assert (third["type"], third["message"]["content"]) == ("succeeded", [{"type": "text", "text": "echo: hello 3"}])
    assert third["message"]["usage"]["service_tier"] == "batch"


def test_a_bad_body_is_an_errored_line(http: httpx.Client) -> None:
    bad = [request(1, max_tokens=0), request(2, stream=True), request(3, model="none"), request(4, unknown=1)]
    batch = ended(http, http.post(BATCHES, json={"requests": [request(0), *bad]}).json()["id"])
    assert counts(batch) == [0, 1, 4, 0, 0]
    types = {line["custom_id"]: line["result"] for line in results(http, batch)}
    assert types["input_1-0"]["type"] == "succeeded"
    errors = {name: result["error"]["error"]["type"] for name, result in types.items() if result["type"] == "errored"}
    invalid = "invalid_request_error"
    assert errors == {
        "input_1-1": invalid, "input_1-2": invalid, "input_1-3": "not_found_error", "input_1-4": invalid
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "requests: Field required"),
        ({"requests": []}, "at least 1"),
        ({"requests": {}}, "valid list"),
        ({"requests": [request(1)], "metadata": {}}, "metadata: Extra inputs"),
        ({"metadata": {}, "requests": [request(1)]}, "metadata: Extra inputs"),
        ({"requests": [request(1) | {"method": "POST"}]}, "requests.0.method: Extra inputs"),
        ({"requests": [request(1) | {"custom_id": "a b"}]}, "requests.0.custom_id"),
        ({"requests": [request(1) | {"custom_id": "a" * 65}]}, "requests.0.custom_id"),
        ({"requests": [request(1), {"custom_id": "a"}]}, "requests.1.params"),
        ({"requests": [request(1), request(1)]}, "custom_id"),
    ],
)
def test_creates_that_are_refused(http: httpx.Client, body: dict[str, Any], words: str) -> None:
    status, kind, message = refusal(http.post(BATCHES, json=body))
    assert (status, kind, words in message) == (400, "invalid_request_error", True), message
    assert http.get(BATCHES).json()["data"] == []


@pytest.mark.parametrize("body", [b"", b"{", b'{"requests":[{]}', b'{"requests":[1', b'{"requests":[]} x', b"[]"])
def test_a_body_that_is_no_json_is_refused(http: httpx.Client, body: bytes) -> None:
    assert http.post(BATCHES, content=body).status_code == 400


def test_a_body_is_read_in_any_layout_and_in_pieces(http: httpx.Client) -> None:
    body = {"requests": [request(0, system="ä\n\u2028\U0001f600" * 100_000), request(1)]}
    text = json.dumps(body, indent=2, ensure_ascii=False).encode()
    batch = ended(
        http, http.post(BATCHES, content=(text[at : at + 999] for at in range(0, len(text), 999))).json()["id"]
    )
    assert counts(batch)[0] == 0
    assert sum(counts(batch)) == 2


def test_too_much_is_413(simulated_provider: Simulator, http: httpx.Client) -> None:
    simulated_provider.limit(ACCOUNT, MODEL, Quota(max_batch_requests=1))
    assert refusal(http.post(BATCHES, json=requests(2)))[:2] == (413, "request_too_large")
    simulated_provider.limit(ACCOUNT, MODEL, Quota(max_batch_bytes=100))
    assert refusal(http.post(BATCHES, json=requests(1)))[:2] == (413, "request_too_large")


def test_a_key_and_a_version_are_needed(http: httpx.Client) -> None:
    assert refusal(http.get(BATCHES, headers={"x-api-key": "no"}))[:2] == (401, "authentication_error")
    assert refusal(http.get(BATCHES, headers={"anthropic-version": "no"}))[0] == 400


def test_the_list_is_newest_first_and_has_pages(http: httpx.Client) -> None:
    ids = [created(http)["id"] for _ in range(5)][::-1]
    page = http.get(BATCHES, params={"limit": 2}).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (ids[:2], True)
    assert (page["first_id"], page["last_id"]) == (ids[0], ids[1])
    older = http.get(BATCHES, params={"limit": 3, "after_id": page["last_id"]}).json()
    assert ([one["id"] for one in older["data"]], older["has_more"]) == (ids[2:], False)
    newer = http.get(BATCHES, params={"limit": 2, "before_id": ids[3]}).json()
    assert ([one["id"] for one in newer["data"]], newer["has_more"]) == (ids[1:3], True)
    for wrong in ({"limit": 0}, {"limit": 1001}, {"after_id": ids[0], "before_id": ids[1]}):
        assert http.get(BATCHES, params=wrong).status_code == 400


def test_only_an_ended_batch_has_results_and_can_be_deleted(simulated_provider: Simulator, http: httpx.Client) -> None:
    simulated_provider.state.stall(ACCOUNT, "in_progress")
    batch_id = created(http)["id"]
    assert refusal(http.get(f"{BATCHES}/{batch_id}/results"))[0] == 404
    assert refusal(http.delete(f"{BATCHES}/{batch_id}"))[:2] == (400, "invalid_request_error")
    simulated_provider.state.stall(ACCOUNT, None)
    ended(http, batch_id)
    assert http.delete(f"{BATCHES}/{batch_id}").json() == {"id": batch_id, "type": "message_batch_deleted"}
    assert refusal(http.get(f"{BATCHES}/{batch_id}"))[:2] == (404, "not_found_error")
    assert refusal(http.post(f"{BATCHES}/{batch_id}/cancel"))[0] == 404


def test_a_cancelled_batch_has_its_requests_canceled(simulated_provider: Simulator, http: httpx.Client) -> None:
    simulated_provider.state.stall(ACCOUNT, "validating")
    batch_id = created(http, 3)["id"]
    canceling = http.post(f"{BATCHES}/{batch_id}/cancel").json()
    assert (canceling["processing_status"], counts(canceling)) == ("canceling", [3, 0, 0, 0, 0])
    assert canceling["cancel_initiated_at"] is not None
    batch = ended(http, batch_id)
    assert counts(batch) == [0, 0, 0, 3, 0]
    assert {line["result"]["type"] for line in results(http, batch)} == {"canceled"}
    assert refusal(http.post(f"{BATCHES}/{batch_id}/cancel"))[0] == 400


@pytest.mark.parametrize(
    ("state", "expected", "kind"),
    [("expired", [0, 1, 0, 0, 2], "expired"), ("failed", [0, 1, 2, 0, 0], "errored")],
)
def test_a_batch_ends_early(
    simulated_provider: Simulator, http: httpx.Client, state: Any, expected: list[int], kind: str
) -> None:
    simulated_provider.fail(Fault(kind="job", account=ACCOUNT, job=Defects(ending=Ending(state=state, answered=1))))
    batch = ended(http, created(http, 3)["id"])
    assert counts(batch) == expected
    assert sorted(line["result"]["type"] for line in results(http, batch)) == sorted(["succeeded", kind, kind])


def test_results_are_missing_repeated_or_misnamed(simulated_provider: Simulator, http: httpx.Client) -> None:
    for defects in (Defects(missing=1), Defects(repeated=1), Defects(misnamed=1), Defects(anonymous=1)):
        simulated_provider.fail(Fault(kind="job", account=ACCOUNT, job=defects))
    found = []
    for _ in range(4):
        ids = [line.get("custom_id") for line in results(http, ended(http, created(http, 3)["id"]))]
        found.append((len(ids), len({one for one in ids if one and one.startswith("input_1-")})))
    assert found == [(2, 2), (4, 3), (3, 2), (3, 2)]


def test_lines_fail_the_first_times_that_they_are_tried(simulated_provider: Simulator, http: httpx.Client) -> None:
    fault = LineFault(status=529, marker="hello 1", tries=1)
    simulated_provider.fail(Fault(kind="job", account=ACCOUNT, times=None, job=Defects(lines=fault)))
    errored = []
    for _ in range(2):
        lines = results(http, ended(http, created(http)["id"]))
        errored.append(
            [line["result"]["error"]["error"]["type"] for line in lines if line["result"]["type"] == "errored"]
        )
    assert errored == [["overloaded_error"], []]


def test_an_answer_is_lost_although_the_batch_was_created(simulated_provider: Simulator, http: httpx.Client) -> None:
    simulated_provider.fail(Fault(kind="cut", account=ACCOUNT, route="batches.create", when="after"))
    with pytest.raises(httpx.TransportError):
        http.post(BATCHES, json=requests(1))
    assert len(http.get(BATCHES).json()["data"]) == 1
    [entry] = simulated_provider.log(ACCOUNT, "batches.create")
    assert (entry["labels"], entry["lines"], entry["models"]) == (["input_1"], 1, (MODEL,))
    assert simulated_provider.state.submissions() == {"input_1": 1}


@pytest.mark.parametrize(
    ("route", "method", "path"),
    [
        ("batches.create", "POST", ""),
        ("batches.list", "GET", ""),
        ("batches.retrieve", "GET", "/x"),
        ("batches.cancel", "POST", "/x/cancel"),
        ("batches.delete", "DELETE", "/x"),
        ("batches.results", "GET", "/x/results"),
    ],
)
def test_each_route_can_fail(
    simulated_provider: Simulator, http: httpx.Client, route: str, method: str, path: str
) -> None:
    simulated_provider.fail(Fault(kind="rate_limit", account=ACCOUNT, route=route, retry_after="7"))
    answer = http.request(method, BATCHES + path)
    assert (refusal(answer)[:2], answer.headers["retry-after"]) == ((429, "rate_limit_error"), "7")
