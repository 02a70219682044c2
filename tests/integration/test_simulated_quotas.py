"""Contract test of the simulated provider's quotas: what it refuses, fails, holds and reports."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from local.provider import Simulator
from local.provider.quotas import Load, Quota
from manifold.jsonl.token_estimate import request_tokens
from tests.support.account_client import AccountClient
from tests.support.provider import chat_line, chat_lines

pytest_plugins = ("tests.support.provider_fixtures",)

ACCOUNT, MODEL = "openai", "gpt-4.1-mini"
LINE = chat_line(MODEL, "a" * 20)
TOKENS = -(-len(LINE.strip()) // 4)


@pytest.fixture
def account_client(simulated_provider: Simulator) -> Iterator[AccountClient]:
    with httpx.Client() as http:
        yield AccountClient(simulated_provider, ACCOUNT, "/v1", "", http)


def lines(count: int) -> bytes:
    return b"".join(chat_line(MODEL, f"{number:020}") for number in range(count))


def limit(client: AccountClient, **quota: object) -> None:
    """Set the quota through the control route."""
    url = f"{client.simulator.url}/control/quotas/{client.account}/{client.model}"
    client.http.post(url, json=quota).raise_for_status()


def reported(client: AccountClient) -> dict[str, Any]:
    """What the control route says of the account's model."""
    quotas = client.http.get(f"{client.simulator.url}/control/quotas").json()
    return next(one for one in quotas if (one["account"], one["model"]) == (client.account, client.model))


@pytest.mark.parametrize(
    ("quota", "code", "words"),
    [
        ({"max_enqueued_tokens": 3 * TOKENS}, "token_limit_exceeded", f"Limit: {3 * TOKENS} enqueued tokens."),
        ({"max_enqueued_requests": 3}, "request_limit_exceeded", "Limit: 3 enqueued requests."),
        ({"max_concurrent_batches": 1}, "batch_limit_exceeded", "Limit: 1 enqueued batches."),
    ],
)
def test_a_batch_over_the_quota_is_refused_until_another_has_ended(
    account_client: AccountClient, quota: dict[str, int], code: str, words: str
) -> None:
    limit(account_client, **quota)
    account_client.simulator.state.stall(ACCOUNT, "in_progress")
    first = account_client.create(lines(2))
    refused = account_client.create(lines(2))
    assert (first.status_code, refused.status_code, refused.json()["error"]["code"]) == (200, 429, code)
    assert words in refused.json()["error"]["message"]

    account_client.simulator.state.stall(ACCOUNT, None)
    account_client.end_of(first.json()["id"])
    assert account_client.create(lines(2)).status_code == 200
    use = reported(account_client)
    assert (use["refused"], use["failed"], use["exceeded"]) == (1, 0, False)
    assert use["highest"] == {"tokens": 2 * TOKENS, "requests": 2, "batches": 1}


def test_azure_refuses_with_a_400(simulated_provider: Simulator) -> None:
    with httpx.Client() as http:
        azure = AccountClient(simulated_provider, "azure-general", "/openai/v1", "", http)
        limit(azure, max_enqueued_tokens=1)
        refused = azure.create(chat_lines(azure.model, 1))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "token_limit_exceeded")


def test_a_batch_over_the_quota_fails_later_where_the_provider_does_it_so(account_client: AccountClient) -> None:
    limit(account_client, max_enqueued_tokens=3 * TOKENS, over="fail")
    account_client.simulator.state.stall(ACCOUNT, "in_progress")
    first = account_client.create(lines(2)).json()["id"]
    while account_client.retrieve(first)["status"] != "in_progress":
        pass
    batch = account_client.ended(lines(2))

    assert (batch["status"], batch["request_counts"]["total"]) == ("failed", 0)
    [error] = batch["errors"]["data"]
    assert (error["code"], error["line"]) == ("token_limit_exceeded", None)
    assert error["message"].startswith(f"Enqueued token limit reached for {MODEL} in organization")
    assert error["message"].endswith("Please try again once some in_progress batches have been completed.")
    use = reported(account_client)
    assert (use["refused"], use["failed"], use["exceeded"]) == (0, 1, True)
    assert use["enqueued"] == use["started"] == {"tokens": 2 * TOKENS, "requests": 2, "batches": 1}
    assert use["highest"] == {"tokens": 4 * TOKENS, "requests": 4, "batches": 2}


def test_a_batch_may_have_so_many_requests_and_bytes(account_client: AccountClient) -> None:
    limit(account_client, max_batch_requests=2)
    assert account_client.ended(lines(2))["status"] == "completed"
    assert account_client.ended(lines(3))["errors"]["data"][0]["code"] == "too_many_tasks"

    limit(account_client, max_batch_bytes=2 * len(LINE))
    assert account_client.upload(lines(2)).status_code == 200
    assert account_client.upload(lines(3)).status_code == 400

    account_client.simulator.limit(ACCOUNT, "gpt-5-mini", Quota(max_batch_bytes=10 * len(LINE)))
    assert account_client.upload(lines(3)).status_code == 200, "another model may take it"
    assert account_client.create(lines(3)).status_code == 400


@pytest.mark.parametrize("ends", ["complete", "cancel", "expire", "forget", "fail"])
def test_a_batch_holds_its_quota_until_it_ends(account_client: AccountClient, ends: str) -> None:
    simulator = account_client.simulator
    simulator.state.stall(ACCOUNT, "in_progress")
    created = account_client.create(b"{oops\n" if ends == "fail" else lines(2)).json()["id"]
    key = (ACCOUNT, "" if ends == "fail" else MODEL)
    assert simulator.use(*key).enqueued.batches == 1

    simulator.state.stall(ACCOUNT, None)
    if ends == "cancel":
        account_client.call("POST", f"/batches/{created}/cancel")
    elif ends == "expire":
        simulator.state.batches.expire(ACCOUNT, created)
    elif ends == "forget":
        simulator.state.batches.forget(created)
    if ends != "forget":
        account_client.end_of(created)
    assert simulator.use(*key).enqueued == simulator.use(*key).started == Load()


def test_tokens_are_counted_by_the_rule_of_the_quota(account_client: AccountClient) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
    for rule, tokens in (("bytes", TOKENS), ("usage", 1), ("estimate", request_tokens(body))):
        account_client.simulator.reset()
        limit(account_client, tokens=rule)
        account_client.create(lines(3))
        assert reported(account_client)["highest"]["tokens"] == 3 * tokens, rule


def test_usage_is_that_of_the_lines_that_were_answered(account_client: AccountClient) -> None:
    account_client.ended(chat_line(MODEL, "a", "two words") + chat_line(MODEL, "b", "fail-this-line"))
    batch = account_client.ended(chat_line(MODEL, "a", "three more words"))
    [result] = account_client.results(batch["output_file_id"])
    assert result["response"]["body"]["usage"]["total_tokens"] == 3 + 4
    use = reported(account_client)
    assert (use["answered"], use["input_tokens"], use["output_tokens"]) == (2, 2 + 3, 3 + 4)


def test_submissions_are_counted_by_the_clients_own_id(account_client: AccountClient) -> None:
    for job in ("job-1", "job-2", "job-1"):
        account_client.create(lines(1), metadata={"any_key": job})
    account_client.create(lines(1), metadata={"any_key": "job-3"}, endpoint="/v1/none")
    answer = account_client.http.get(f"{account_client.simulator.url}/control/submissions")
    assert answer.json() == {"job-1": 2, "job-2": 1}
