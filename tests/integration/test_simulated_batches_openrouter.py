"""Contract test of OpenRouter's simulated batches, from outside.

https://openrouter.ai/docs/batch-quickstart, and the models of openrouter 1.3.84 for Python
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from local.provider import Defects, Ending, Fault, LineFault, Quota, Simulator

pytest_plugins = ("tests.support.provider_fixtures",)

ACCOUNT, MODEL, CLAUDE = "openrouter", "openai/gpt-4.1-mini", "anthropic/claude-haiku-4.5"
CHAT = "/v1/chat/completions"
ENDED = {"completed", "failed", "expired", "cancelled"}
MEMBERS = {
    "id", "object", "endpoint", "model", "provider", "completion_window", "status", "created_at", "finalized_at",
    "expires_at", "request_counts", "results", "usage", "error",
}  # fmt: skip


@pytest.fixture
def http(simulated_provider: Simulator) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {simulated_provider.state.accounts[ACCOUNT].key}"}
    with httpx.Client(base_url=simulated_provider.base(ACCOUNT), headers=headers) as client:
        yield client


def request(number: int, **body: Any) -> dict[str, Any]:
    said = [{"role": "user", "content": f"hello {number}"}]
    return {"custom_id": f"input_1-{number}", "body": {"messages": said, **body}}


def envelope(*requests: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"endpoint": CHAT, "model": MODEL, **members, "requests": list(requests or (request(0), request(1)))}


def created(http: httpx.Client, *requests: dict[str, Any], **members: Any) -> dict[str, Any]:
    answer = http.post("/batches", json=envelope(*requests, **members))
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def ended(http: httpx.Client, batch_id: str) -> dict[str, Any]:
    for _ in range(500):
        batch = dict(http.get(f"/batches/{batch_id}").json())
        if batch["status"] in ENDED:
            return batch
        assert batch["results"] is None
        time.sleep(0.02)
    raise AssertionError("the batch did not end")


def run(http: httpx.Client, *requests: dict[str, Any], **members: Any) -> dict[str, Any]:
    return ended(http, created(http, *requests, **members)["id"])


def counts(batch: dict[str, Any]) -> list[Any]:
    return [batch["request_counts"][name] for name in ("total", "completed", "failed")]


def refusal(answer: httpx.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert (set(answer.json()), set(error), error["code"]) == ({"error"}, {"code", "message"}, answer.status_code)
    return answer.status_code, error["message"]


def test_a_batch_runs(http: httpx.Client) -> None:
    new = created(http)
    assert (set(new), new["object"], new["status"], counts(new)) == (MEMBERS, "batch", "validating", [2, 0, 0])
    batch = ended(http, new["id"])
    assert (batch["status"], counts(batch), batch["error"]) == ("completed", [2, 2, 0], None)
    assert batch["finalized_at"] >= batch["created_at"]
    assert {line["custom_id"] for line in batch["results"]} == {"input_1-0", "input_1-1"}
    for line in batch["results"]:
        assert (set(line), line["error"]) == ({"id", "custom_id", "response", "error"}, None)
        assert set(line["response"]) == {"status_code", "request_id", "body"}
        assert line["response"]["body"]["usage"]["cost"] > 0
    usage = batch["usage"]
    assert usage["cost"] == pytest.approx(sum(line["response"]["body"]["usage"]["cost"] for line in batch["results"]))
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]


@pytest.mark.parametrize(
    ("endpoint", "model", "body"),
    [
        ("/v1/responses", MODEL, {"input": "hello"}),
        ("/v1/messages", CLAUDE, {"max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}),
        ("/v1/embeddings", "openai/text-embedding-3-small", {"input": "hello"}),
        (CHAT, CLAUDE, {"model": CLAUDE, "messages": [{"role": "user", "content": "hello"}], "unheard": 1}),
    ],
)
def test_each_endpoint(http: httpx.Client, endpoint: str, model: str, body: dict[str, Any]) -> None:
    batch = run(http, {"custom_id": "a", "body": body}, endpoint=endpoint, model=model)
    [line] = batch["results"]
    assert (line["error"], line["response"]["status_code"]) == (None, 200)


def test_a_body_that_the_provider_refuses_fails_its_line(http: httpx.Client) -> None:
    batch = run(http, request(0), request(1, temperature=9))
    assert (batch["status"], counts(batch)) == ("completed", [2, 1, 1])
    [line] = [one for one in batch["results"] if one["error"] is not None]
    assert (line["custom_id"], line["response"]) == ("input_1-1", None)
    assert (line["error"]["type"], line["error"]["param"]) == ("invalid_request_error", "temperature")
    assert line["error"]["error_type"] == "invalid_request"


@pytest.mark.parametrize("bad", [{"stream": True}, {"model": CLAUDE}])
def test_a_request_that_openrouter_refuses_fails_the_batch(http: httpx.Client, bad: dict[str, Any]) -> None:
    batch = run(http, request(0), request(1, **bad))
    assert (batch["status"], batch["results"], counts(batch)) == ("failed", None, [0, 0, 0])
    assert "input_1-1" in batch["error"]["message"]


@pytest.mark.parametrize("first", ["requests", "endpoint", "model"])
def test_endpoint_and_model_come_before_the_requests(http: httpx.Client, first: str) -> None:
    whole = envelope()
    order = {
        "requests": ["requests", "endpoint", "model"],
        "endpoint": ["endpoint", "requests", "model"],
        "model": ["model", "requests", "endpoint"],
    }[first]
    status, message = refusal(http.post("/batches", json={name: whole[name] for name in order}))
    assert (status, "before `requests`" in message) == (400, True)
    assert http.get("/batches").json()["data"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (envelope(model="none"), 400),
        (envelope(endpoint="/v1/completions"), 400),
        (envelope(completion_window="48h"), 400),
        (envelope(callback_url="http://example.com"), 400),
        (envelope(provider={"order": ["a"]}), 400),
        (envelope(metadata={}), 400),
        (envelope(request(0), request(0)), 400),
        (envelope({"custom_id": "a", "method": "POST", "body": {}}), 400),
        (envelope({"custom_id": "", "body": {}}), 400),
        (envelope() | {"requests": []}, 400),
        (envelope() | {"requests": "x"}, 400),
        (envelope(*(request(number) for number in range(5_001))), 400),
    ],
)
def test_creates_that_are_refused(http: httpx.Client, body: dict[str, Any], status: int) -> None:
    assert refusal(http.post("/batches", json=body))[0] == status
    assert http.get("/batches").json()["data"] == []


def test_too_many_bytes_are_413(simulated_provider: Simulator, http: httpx.Client) -> None:
    simulated_provider.limit(ACCOUNT, MODEL, Quota(max_batch_bytes=100))
    assert refusal(http.post("/batches", json=envelope()))[0] == 413


def test_the_list_has_no_results(simulated_provider: Simulator, http: httpx.Client) -> None:
    ids = [created(http)["id"] for _ in range(3)][::-1]
    for batch_id in ids:
        ended(http, batch_id)
    page = http.get("/batches", params={"limit": 2}).json()
    assert ([one["id"] for one in page["data"]], page["has_more"], page["last_id"]) == (ids[:2], True, ids[1])
    assert [one["results"] for one in page["data"]] == [None, None]
    rest = http.get("/batches", params={"after": ids[1]}).json()
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (ids[2:], False)
    assert len(http.get("/batches", params={"status": ["completed", "failed"]}).json()["data"]) == 3
    assert http.get("/batches", params={"status": "in_progress"}).json()["data"] == []
    for name, found in (("created_after", 0), ("created_before", 3)):
        assert len(http.get("/batches", params={name: "2100-01-01T00:00:00Z"}).json()["data"]) == found
    for wrong in ({"limit": 0}, {"limit": 101}, {"status": "finalizing"}, {"created_after": "x"}):
        assert refusal(http.get("/batches", params=wrong))[0] == 400
    simulated_provider.state.stall(ACCOUNT, "finalizing")
    batch_id = created(http)["id"]
    while http.get(f"/batches/{batch_id}").json()["status"] != "finalizing":
        time.sleep(0.02)
    assert http.get("/batches", params={"limit": 1}).json()["data"][0]["status"] == "in_progress"


def test_results_also_come_in_pages(http: httpx.Client) -> None:
    batch = run(http, *(request(number) for number in range(5)))
    found: list[dict[str, Any]] = []
    cursor: str | None = "0"
    while cursor is not None:
        page = http.get(f"/batches/{batch['id']}/results", params={"limit": 2, "cursor": cursor}).json()
        found += page["data"]
        assert page["has_more"] == (page["next_cursor"] is not None)
        cursor = page["next_cursor"]
    assert found == batch["results"]


def test_only_an_ended_batch_can_be_deleted_and_none_cancelled(
    simulated_provider: Simulator, http: httpx.Client
) -> None:
    simulated_provider.state.stall(ACCOUNT, "in_progress")
    batch_id = created(http)["id"]
    assert refusal(http.delete(f"/batches/{batch_id}"))[0] == 409
    assert refusal(http.get(f"/batches/{batch_id}/results"))[0] == 409
    assert http.post(f"/batches/{batch_id}/cancel").status_code == 404
    simulated_provider.state.stall(ACCOUNT, None)
    ended(http, batch_id)
    deleted = http.delete(f"/batches/{batch_id}").json()
    assert (deleted["id"], deleted["deletion"]["openrouter"]) == (batch_id, "deleted")
    assert deleted["deletion"]["upstream"] == {"provider": "OpenAI", "status": "unsupported"}
    assert refusal(http.get(f"/batches/{batch_id}"))[0] == 404


def test_a_batch_expires_with_results_in_pages_alone(simulated_provider: Simulator, http: httpx.Client) -> None:
    ending = Ending(state="expired", polls=1, answered=1)
    simulated_provider.fail(Fault(kind="job", account=ACCOUNT, job=Defects(ending=ending)))
    batch = run(http)
    assert (batch["status"], batch["results"], counts(batch)) == ("expired", None, [2, 1, 0])
    page = http.get(f"/batches/{batch['id']}/results").json()
    assert [line["custom_id"] for line in page["data"]] == ["input_1-0"]


def test_a_new_batch_is_not_found_at_first(simulated_provider: Simulator, http: httpx.Client) -> None:
    simulated_provider.fail(Fault(kind="job", account=ACCOUNT, job=Defects(unseen=1)))
    batch_id = created(http)["id"]
    assert http.get("/batches").json()["data"] == []
    assert refusal(http.get(f"/batches/{batch_id}"))[0] == 404
    assert [one["id"] for one in http.get("/batches").json()["data"]] == [batch_id]
    assert ended(http, batch_id)["status"] == "completed"


def test_lines_have_their_faults_and_results_their_defects(simulated_provider: Simulator, http: httpx.Client) -> None:
    for defects in (Defects(lines=LineFault(every=2)), Defects(missing=1), Defects(text="nan"), Defects(unnamed=1)):
        simulated_provider.fail(Fault(kind="job", account=ACCOUNT, job=defects))
    limited = [line["error"]["error_type"] for line in run(http)["results"] if line["error"]]
    assert limited == ["rate_limit_exceeded"]
    assert len(run(http)["results"]) == 1
    batch_id = created(http)["id"]
    while b'"completed"' not in (answer := http.get(f"/batches/{batch_id}")).content.replace(b'"completed":', b""):
        time.sleep(0.02)
    assert answer.content.count(b'"score":NaN') == 2
    with pytest.raises(ValueError, match="no constants"):
        json.loads(answer.content, parse_constant=lambda name: (_ for _ in ()).throw(ValueError("no constants")))
    unnamed = run(http)
    assert (unnamed["status"], unnamed["results"]) == ("completed", None)
    assert len(http.get(f"/batches/{unnamed['id']}").json()["results"]) == 2


def test_an_answer_is_lost_although_the_batch_was_created(simulated_provider: Simulator, http: httpx.Client) -> None:
    simulated_provider.fail(Fault(kind="cut", account=ACCOUNT, route="batches.create", when="after"))
    simulated_provider.fail(Fault(kind="refuse", account=ACCOUNT, route="batches.create", status=402))
    with pytest.raises(httpx.TransportError):
        http.post("/batches", json=envelope())
    assert refusal(http.post("/batches", json=envelope()))[0] == 402
    assert len(http.get("/batches").json()["data"]) == 1
    assert simulated_provider.state.submissions() == {"input_1": 1}


def test_a_key_is_needed(http: httpx.Client) -> None:
    assert refusal(http.get("/batches", headers={"authorization": "Bearer no"}))[0] == 401
