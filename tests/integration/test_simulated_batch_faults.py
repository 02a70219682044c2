"""Contract test of the faults that batches of the simulated provider can have, each as a client sees it."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from local.provider import Fault, Simulator
from local.provider.defects import Defects, Ending
from local.provider.line_faults import LineFault
from tests.support.account_client import AccountClient
from tests.support.provider import chat_line, chat_lines

pytest_plugins = ("tests.support.provider_fixtures",)

ACCOUNT, MODEL = "openai", "gpt-4.1-mini"


@pytest.fixture
def account_client(simulated_provider: Simulator) -> Iterator[AccountClient]:
    with httpx.Client() as http:
        yield AccountClient(simulated_provider, ACCOUNT, "/v1", "", http)


def fail(client: AccountClient, **fault: Any) -> None:
    """Ask for a fault through the control route."""
    client.http.post(f"{client.simulator.url}/control/faults", json={"account": ACCOUNT, **fault}).raise_for_status()


def fail_job(client: AccountClient, times: int | None = 1, model: str = "*", **defects: Any) -> None:
    fail(client, kind="job", times=times, model=model, job=defects)


def counts(batch: dict[str, Any]) -> tuple[int, int, int]:
    total, completed, failed = (batch["request_counts"][name] for name in ("total", "completed", "failed"))
    return total, completed, failed


def ids(results: list[dict[str, Any]]) -> list[Any]:
    return [result.get("custom_id") for result in results]


# Creates.


def test_a_create_is_accepted_and_its_answer_lost(account_client: AccountClient) -> None:
    fail(account_client, kind="cut", route="batches.create", when="after")
    with pytest.raises(httpx.TransportError):
        account_client.create(chat_lines(MODEL, 1))
    assert len(account_client.call("GET", "/batches").json()["data"]) == 1


def test_a_create_succeeds_with_no_job(account_client: AccountClient) -> None:
    fail(account_client, kind="inject", route="batches.create", text='{"job":null,"warning":"Out of capacity."}')
    answer = account_client.create(chat_lines(MODEL, 1))
    assert (answer.status_code, answer.json()["job"]) == (200, None)
    assert account_client.call("GET", "/batches").json()["data"] == []


def test_a_create_is_refused_for_a_quota(account_client: AccountClient) -> None:
    fail(account_client, kind="rate_limit", route="batches.create", code="token_limit_exceeded", retry_after="7")
    answer = account_client.create(chat_lines(MODEL, 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "token_limit_exceeded")
    assert answer.headers["retry-after"] == "7"
    assert account_client.create(chat_lines(MODEL, 1)).status_code == 200


# Which jobs a fault is for.


def test_a_fault_of_jobs_is_for_so_many_of_a_model(account_client: AccountClient) -> None:
    fail_job(account_client, times=2, model=MODEL, ending={"state": "failed"})
    states = [account_client.ended(chat_lines(model, 1))["status"] for model in ("gpt-5-mini", MODEL, MODEL, MODEL)]
    assert states == ["completed", "failed", "failed", "completed"]


def test_a_fault_of_jobs_may_be_for_all(account_client: AccountClient) -> None:
    fail_job(account_client, times=None, ending={"state": "failed"})
    assert {account_client.ended(chat_lines(MODEL, 1))["status"] for _ in range(3)} == {"failed"}
    account_client.http.delete(f"{account_client.simulator.url}/control/faults")
    assert account_client.ended(chat_lines(MODEL, 1))["status"] == "completed"


# How jobs end.


def test_a_job_fails_for_a_quota_later(account_client: AccountClient) -> None:
    fail_job(account_client, ending={"state": "failed", "polls": 3, "code": "token_limit_exceeded", "message": "Full."})
    ref = account_client.create(chat_lines(MODEL, 2)).json()["id"]
    states = [account_client.retrieve(ref)["status"] for _ in range(4)]
    assert (states[0], states[3]) == ("validating", "failed")
    assert "failed" not in states[:3]
    batch = account_client.retrieve(ref)
    assert batch["errors"]["data"] == [
        {"code": "token_limit_exceeded", "message": "Full.", "param": None, "line": None}
    ]
    assert (batch["output_file_id"], batch["error_file_id"]) == (None, None)


@pytest.mark.parametrize(
    ("code", "line"), [("invalid_json_line", 2), ("mismatched_model", 1), ("internal_error", None)]
)
def test_a_job_fails_by_its_input_or_by_the_provider(
    account_client: AccountClient, code: str, line: int | None
) -> None:
    fail_job(account_client, ending={"state": "failed", "code": code, "line": line})
    batch = account_client.ended(chat_lines(MODEL, 2))
    assert counts(batch) == (0, 0, 0)
    assert [(error["code"], error["line"]) for error in batch["errors"]["data"]] == [(code, line)]


@pytest.mark.parametrize("state", ["failed", "expired", "cancelled"])
def test_a_job_ends_early_with_partial_results(account_client: AccountClient, state: str) -> None:
    fail_job(account_client, ending={"state": state, "answered": 2})
    batch = account_client.ended(chat_lines(MODEL, 5))
    assert (batch["status"], batch["request_counts"]["total"]) == (state, 5)
    assert batch["cancelling_at"] is None, "no cancel was requested"
    assert sorted(ids(account_client.results(batch["output_file_id"]))) == ["request-0", "request-1"]
    rest = account_client.results(batch["error_file_id"])
    if state == "expired":
        assert ids(rest) == ["request-2", "request-3", "request-4"]
        assert {line["error"]["code"] for line in rest} == {"batch_expired"}
    else:
        assert rest == []
    assert (batch["errors"] is None) == (state != "failed")


def test_a_job_is_gone(account_client: AccountClient) -> None:
    fail_job(account_client, ending={"state": "gone", "polls": 1})
    ref = account_client.create(chat_lines(MODEL, 1)).json()["id"]
    assert account_client.call("GET", f"/batches/{ref}").status_code == 200
    assert account_client.call("GET", f"/batches/{ref}").status_code == 404
    assert account_client.call("GET", "/batches").json()["data"] == []
    assert account_client.call("POST", f"/batches/{ref}/cancel").status_code == 404


def test_a_job_never_leaves_its_validation(account_client: AccountClient) -> None:
    fail_job(account_client, stall="validating")
    ref = account_client.create(chat_lines(MODEL, 1)).json()["id"]
    account_client.ended(chat_lines(MODEL, 1))
    assert account_client.retrieve(ref)["status"] == "validating"


def test_a_cancel_is_refused(account_client: AccountClient) -> None:
    account_client.simulator.state.stall(ACCOUNT, "in_progress")
    fail(account_client, kind="refuse", route="batches.cancel", status=409, code="cancel_unavailable")
    ref = account_client.create(chat_lines(MODEL, 1)).json()["id"]
    answer = account_client.call("POST", f"/batches/{ref}/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "cancel_unavailable")
    assert account_client.retrieve(ref)["status"] in ("validating", "in_progress")


# How jobs are shown.


def test_counts_are_zero_until_the_end(account_client: AccountClient) -> None:
    fail_job(account_client, late_counts=True, ending={"state": "expired", "polls": 4, "answered": 1})
    ref = account_client.create(chat_lines(MODEL, 2)).json()["id"]
    while (batch := account_client.retrieve(ref))["status"] != "expired":
        assert counts(batch) == (0, 0, 0)
    assert counts(batch) == (2, 1, 0)


def test_counts_are_strings(account_client: AccountClient) -> None:
    fail_job(account_client, text_counts=True)
    assert account_client.ended(chat_lines(MODEL, 2))["request_counts"] == {
        "total": "2",
        "completed": "2",
        "failed": "0",
    }


def test_a_status_that_nobody_knows(account_client: AccountClient) -> None:
    ref = account_client.create(chat_lines(MODEL, 1)).json()["id"]
    fail(account_client, kind="override", route="batches.retrieve", members={"status": "paused"}, times=2)
    states = [account_client.retrieve(ref)["status"] for _ in range(3)]
    assert (states[:2], states[2] != "paused") == (["paused", "paused"], True)


def test_a_list_does_not_say_whether_there_is_more(account_client: AccountClient) -> None:
    account_client.create(chat_lines(MODEL, 1))
    fail(account_client, kind="override", route="batches.list", omitted=["has_more", "last_id"])
    page = account_client.call("GET", "/batches").json()
    assert (set(page), len(page["data"])) == ({"object", "data", "first_id"}, 1)


# Results.


def test_results_are_shuffled(account_client: AccountClient) -> None:
    fail_job(account_client, shuffled=True)
    batch = account_client.ended(chat_lines(MODEL, 50))
    found = ids(account_client.results(batch["output_file_id"]))
    expected = [f"request-{number}" for number in range(50)]
    assert (sorted(found), counts(batch)) == (sorted(expected), (50, 50, 0))
    places = [abs(place - expected.index(one)) for place, one in enumerate(found)]
    assert sum(places) > 500, "far from where they were"


def test_every_line_fails(account_client: AccountClient) -> None:
    fail_job(account_client, lines={"status": 500, "code": "server_error"})
    batch = account_client.ended(chat_lines(MODEL, 3))
    assert (batch["status"], batch["output_file_id"], counts(batch)) == ("completed", None, (3, 0, 3))
    responses = [line["response"] for line in account_client.results(batch["error_file_id"])]
    assert {(one["status_code"], one["body"]["error"]["code"]) for one in responses} == {(500, "server_error")}


@pytest.mark.parametrize(
    ("fault", "failing"),
    [
        ({"every": 3}, ["request-2", "request-5"]),
        ({"marker": "hello 4"}, ["request-4"]),
        ({"status": 503, "marker": "hello", "every": 4}, ["request-3"]),
        ({"status": None, "code": "batch_expired", "every": 5}, ["request-4"]),
    ],
)
def test_some_lines_fail(account_client: AccountClient, fault: dict[str, Any], failing: list[str]) -> None:
    fail_job(account_client, lines=fault)
    batch = account_client.ended(chat_lines(MODEL, 6))
    lines = account_client.results(batch["error_file_id"])
    assert (batch["status"], sorted(ids(lines))) == ("completed", failing)
    status = fault.get("status", 429)
    for line in lines:
        if status is None:
            assert (line["response"], line["error"]["code"]) == (None, "batch_expired")
        else:
            assert (line["response"]["status_code"], line["error"]) == (status, None)
    assert len(account_client.results(batch["output_file_id"])) == 6 - len(failing)


def test_lines_fail_the_first_times_that_they_are_tried(account_client: AccountClient) -> None:
    fail_job(account_client, times=None, lines={"marker": "unlucky", "tries": 2})
    content = chat_line(MODEL, "a", "unlucky") + chat_line(MODEL, "b")
    failed = [ids(account_client.results(account_client.ended(content)["error_file_id"])) for _ in range(3)]
    assert failed == [["a"], ["a"], []]


def test_results_are_fewer_than_requests(account_client: AccountClient) -> None:
    fail_job(account_client, missing=2)
    batch = account_client.ended(chat_lines(MODEL, 5))
    assert (counts(batch), len(account_client.results(batch["output_file_id"]))) == ((5, 5, 0), 3)


def test_results_have_wrong_ids(account_client: AccountClient) -> None:
    fail_job(account_client, misnamed=1)
    fail_job(account_client, anonymous=1)
    fail_job(account_client, repeated=1)
    first, second, third = (
        Counter(ids(account_client.results(account_client.ended(chat_lines(MODEL, 2))["output_file_id"])))
        for _ in range(3)
    )
    assert first == {"no-request-request-1": 1, "request-0": 1}
    assert second == {None: 1, "request-0": 1}
    assert third == {"request-1": 2, "request-0": 1}


def test_at_xai_lines_fail_and_jobs_end_likewise(simulated_provider: Simulator) -> None:
    simulated_provider.fail(Fault(kind="job", account="xai", job=Defects(lines=LineFault(every=2))))
    simulated_provider.fail(Fault(kind="job", account="xai", job=Defects(ending=Ending(state="failed", answered=1))))
    with httpx.Client(base_url=simulated_provider.base("xai")) as http:
        http.headers["authorization"] = f"Bearer {simulated_provider.state.accounts['xai'].key}"
        content = chat_lines("grok-4", 4)
        file_id = http.post("/files", files={"file": ("in.jsonl", content)}).json()["id"]
        refs = [http.post("/batches", json={"name": "n", "input_file_id": file_id}).json()["batch_id"] for _ in "ab"]
        while http.get(f"/batches/{refs[0]}").json()["state"]["num_success"] < 2:
            pass
        results: list[dict[str, Any]] = []
        token = None
        while not results or token:
            query = {"limit": 1} | ({"pagination_token": token} if token else {})
            page = http.get(f"/batches/{refs[0]}/results", params=query).json()
            results, token = results + page["results"], page["pagination_token"]
        failed = http.get(f"/batches/{refs[1]}").json()
    errors = {one["batch_request_id"]: one["batch_result"]["error"]["code"] for one in results[:2]}
    assert errors == {"request-1": 8, "request-3": 8}
    assert sorted(one["batch_request_id"] for one in results[2:]) == ["request-0", "request-2"]
    assert (failed["cancel_by_xai_message"], failed["state"]["num_success"]) == (Ending(state="failed").message, 1)
