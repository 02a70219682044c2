"""Contract test of the simulated provider's files and batches: it is as strict as the real ones, and logs requests."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from openai import AzureOpenAI, BadRequestError, OpenAI

from local.provider import DEFAULT_ACCOUNTS, Simulator, defaults
from local.provider.pace import Pace
from local.provider.quotas import NO_LOAD
from tests.support.account_client import AccountClient
from tests.support.provider import chat_line, chat_lines

pytest_plugins = ("tests.support.provider_fixtures",)

FORMS = (
    pytest.param(("openai", "/v1", ""), id="openai"),
    pytest.param(("azure-general", "/openai/v1", ""), id="azure-v1"),
    pytest.param(("azure-general", "/openai", "?api-version=2025-04-01-preview"), id="azure-dated"),
)


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client


@pytest.fixture(params=FORMS)
def account_client(request: pytest.FixtureRequest, simulated_provider: Simulator, http: httpx.Client) -> AccountClient:
    account, form, query = request.param
    return AccountClient(simulated_provider, account, form, query, http)


def test_a_wrong_key_is_401_in_the_dialect_own_shape(account_client: AccountClient) -> None:
    answer = account_client.call("GET", "/batches", headers={"Authorization": "Bearer no", "api-key": "no"})
    shape = {"message", "type", "param", "code"} if account_client.account == "openai" else {"code", "message"}
    assert (answer.status_code, set(answer.json()["error"])) == (401, shape)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("in.txt", {}),
        ("in.jsonl", {"purpose": "fine-tune"}),
        ("in.jsonl", {"expires_after[anchor]": "created_at", "expires_after[seconds]": "1"}),
        ("in.jsonl", {"expires_after[anchor]": "last_active_at", "expires_after[seconds]": "1209600"}),
    ],
)
def test_a_bad_upload_is_400(account_client: AccountClient, name: str, fields: dict[str, str]) -> None:
    assert account_client.upload(b"{}\n", name, **fields).status_code == 400


def test_an_upload_that_is_no_form_is_400(account_client: AccountClient) -> None:
    assert account_client.call("POST", "/files", content=b"{}").status_code == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoint": "/v1/audio"},
        {"completion_window": "48h"},
        {"metadata": {"k" * 65: "v"}},
        {"metadata": {"k": "v" * 513}},
        {"metadata": {f"k{number}": "v" for number in range(17)}},
        {"metadata": {"k": 1}},
        {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
        {"surprise": True},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_bad_create_is_400(account_client: AccountClient, wrong: dict[str, object]) -> None:
    assert account_client.create(chat_lines(account_client.model, 1), **wrong).status_code == 400


def test_files_are_listed_newest_first(account_client: AccountClient) -> None:
    refs = [account_client.upload(chat_lines(account_client.model, 1)).json()["id"] for _ in range(3)]
    listed = account_client.call("GET", "/files").json()["data"]
    assert [file["id"] for file in listed] == refs[::-1]
    assert {file["filename"] for file in listed} == {"in.jsonl"}


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 10_001}, {"after": "file-none"}])
def test_a_bad_listing_of_files_is_refused(account_client: AccountClient, wrong: dict[str, Any]) -> None:
    assert account_client.call("GET", "/files", params=_query(account_client) | wrong).status_code in (400, 404)


def test_a_page_of_files_says_that_there_is_a_next_one(account_client: AccountClient) -> None:
    refs = [account_client.upload(chat_lines(account_client.model, 1)).json()["id"] for _ in range(3)]
    page = account_client.call("GET", "/files", params=_query(account_client) | {"purpose": "batch", "limit": 2})
    if account_client.query:
        assert page.status_code == 400, "the dated versions know no pages"
        return
    assert ([file["id"] for file in page.json()["data"]], page.json()["has_more"]) == (refs[:0:-1], True)
    rest = account_client.call("GET", "/files", params={"purpose": "batch", "after": page.json()["last_id"]}).json()
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == (refs[:1], False)


def _query(account_client: AccountClient) -> dict[str, Any]:
    """The query that every URL of this form has; `params` would replace it."""
    return dict(parse_qsl(account_client.query.removeprefix("?")))


def test_an_unknown_input_is_404(account_client: AccountClient) -> None:
    assert account_client.create(chat_lines(account_client.model, 1), input_file_id="file-none").status_code == 404


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        (b"", ["empty_file"]),
        (b"{oops\n", ["invalid_json_line"]),
        (b"[]\n", ["invalid_json_line"]),
        (b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions"}\n', ["missing_required_parameter"]),
        (chat_line("MODEL", "a") * 2, ["duplicate_custom_id"]),
        (chat_line("MODEL", "a", url="/v1/embeddings"), ["url_mismatch"]),
        (chat_line("gpt-4o-batch", "a"), ["model_not_found"]),
        (chat_line("MODEL", "a").replace(b'"POST"', b'"GET"'), ["invalid_method"]),
        (chat_line("MODEL", "a").replace(b'"messages"', b'"stream":true,"messages"'), ["invalid_request"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_lines_fail_the_batch(account_client: AccountClient, lines: bytes, codes: list[str]) -> None:
    batch = account_client.ended(lines.replace(b"MODEL", account_client.model.encode()))
    assert batch["status"].lower() == "failed"
    assert [error["code"] for error in batch["errors"]["data"]] == codes


def test_two_models_in_a_file_fail_the_batch(simulated_provider: Simulator, http: httpx.Client) -> None:
    batch = AccountClient(simulated_provider, "openai", "/v1", "", http).ended(
        chat_line("gpt-4.1-mini", "a") + chat_line("text-embedding-3-small", "b")
    )
    assert batch["errors"]["data"][0]["code"] == "model_mismatch"


def test_only_azure_rejects_a_byte_order_mark(account_client: AccountClient) -> None:
    batch = account_client.ended(b"\xef\xbb\xbf" + chat_lines(account_client.model, 1))
    assert (batch["status"].lower() == "failed") == account_client.account.startswith("azure")


def test_more_than_50000_lines_fail_at_openai(simulated_provider: Simulator, http: httpx.Client) -> None:
    lines = b"".join(chat_line("gpt-4.1-mini", str(number)) for number in range(50_001))
    batch = AccountClient(simulated_provider, "openai", "/v1", "", http).ended(lines)
    assert batch["errors"]["data"][0]["code"] == "too_many_tasks"


def test_no_call_waits_for_the_work_on_a_large_batch(
    simulated_provider: Simulator, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.provider.batches.INLINE_LINES", 1)
    simulated_provider.state.batches.pace = Pace(0, 0, 0, 0, 0)
    client = AccountClient(simulated_provider, "openai", "/v1", "", http)
    assert client.ended(chat_lines(client.model, 1))["status"] == "completed"
    ref = client.create(chat_lines(client.model, 2)).json()["id"]
    with simulated_provider.state.batches.get("openai", ref).lock:
        assert client.retrieve(ref)["id"] == ref, "although a thread works on it"
    batch = client.end_of(ref)
    assert (batch["status"], len(client.results(batch["output_file_id"]))) == ("completed", 2)
    assert simulated_provider.use("openai", client.model).enqueued == NO_LOAD


def test_a_reset_stops_the_work_on_a_large_batch(
    simulated_provider: Simulator, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.provider.batches.INLINE_LINES", 1)
    simulated_provider.state.batches.pace = Pace(0, 0, 0, 0, 0)
    client = AccountClient(simulated_provider, "openai", "/v1", "", http)
    client.retrieve(client.create(chat_lines(client.model, 20_000)).json()["id"])
    simulated_provider.reset()
    assert client.call("GET", "/files").json()["data"] == []
    assert client.ended(chat_lines(client.model, 2))["status"] == "completed"


def test_accounts_see_nothing_of_each_other(simulated_provider: Simulator, http: httpx.Client) -> None:
    one, other = (
        AccountClient(simulated_provider, name, "/openai/v1", "", http) for name in ("azure-general", "azure-special")
    )
    batch = one.create(chat_lines(one.model, 1)).json()

    assert other.call("GET", f"/batches/{batch['id']}").status_code == 404
    assert other.call("GET", f"/files/{batch['input_file_id']}").status_code == 404
    assert other.call("GET", "/batches").json()["data"] == []


def test_an_account_speaks_its_own_dialect_only(simulated_provider: Simulator, http: httpx.Client) -> None:
    assert (
        AccountClient(simulated_provider, "openai", "/openai/v1", "", http).call("GET", "/batches").status_code == 404
    )
    assert (
        AccountClient(simulated_provider, "azure-general", "/v1", "", http).call("GET", "/batches").status_code == 404
    )


@pytest.mark.parametrize("version", ["", "?api-version=latest"])
def test_the_dated_form_needs_a_dated_version(simulated_provider: Simulator, http: httpx.Client, version: str) -> None:
    assert (
        AccountClient(simulated_provider, "azure-general", "/openai", version, http).call("GET", "/batches").status_code
        == 404
    )


def test_azures_dated_versions_have_their_own_shapes(simulated_provider: Simulator, http: httpx.Client) -> None:
    azure = AccountClient(simulated_provider, "azure-general", "/openai", "?api-version=2024-10-21", http)
    new = azure.create(chat_lines(azure.model, 1)).json()
    assert (new["status"], new["output_file_id"], new["endpoint"]) == ("Validating", "", None)
    assert new["request_counts"] == {"total": None, "completed": None, "failed": None}
    assert new["created_at"].endswith("+00:00")

    done = azure.ended(chat_lines(azure.model, 1))
    assert azure.call("GET", f"/files/{done['error_file_id']}/content").content == b""
    assert [batch["id"] for batch in azure.call("GET", "/batches").json()["value"]] == [done["id"], new["id"]]


@pytest.mark.parametrize("make", [OpenAI, AzureOpenAI])
def test_the_openai_sdk_works_with_it(simulated_provider: Simulator, make: type[OpenAI] | type[AzureOpenAI]) -> None:
    account = "openai" if make is OpenAI else "azure-general"
    known, base = simulated_provider.state.accounts[account], simulated_provider.base(account)
    model = known.chat_model
    with (
        AzureOpenAI(azure_endpoint=base, api_key=known.key, api_version="2025-04-01-preview", max_retries=0)
        if make is AzureOpenAI
        else OpenAI(base_url=base, api_key=known.key, max_retries=0)
    ) as client:
        file = client.files.create(file=("in.jsonl", chat_lines(model, 3)), purpose="batch")
        time.sleep(0.05)
        batch = client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            extra_body={"endpoint": "/chat/completions"} if make is AzureOpenAI else None,
        )
        while batch.status.lower() != "completed":
            time.sleep(0.05)
            batch = client.batches.retrieve(batch.id)
        content = client.files.content(str(batch.output_file_id)).text
        with pytest.raises(BadRequestError):
            client.batches.create(input_file_id=file.id, endpoint="/v1/videos", completion_window="24h")

    bodies = {line["custom_id"]: line["response"]["body"] for line in map(json.loads, content.splitlines())}
    assert bodies["request-1"]["choices"][0]["message"]["content"] == "echo: hello 1"
    assert bodies["request-1"]["usage"]["total_tokens"] == 5


def test_it_runs_as_a_program_with_its_controls(http: httpx.Client, unused_tcp_port: int, tmp_path: Path) -> None:
    root, environment = f"http://127.0.0.1:{unused_tcp_port}", defaults(unused_tcp_port)
    command = [sys.executable, "-m", "local.provider", "--port", str(unused_tcp_port), "--speed", "10"]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": ".", "TMPDIR": str(tmp_path)}) as program:
        try:
            _await(http, f"{root}/control/health")
            http.post(f"{root}/control/faults", json={"kind": "refuse", "account": "openai", "status": 418})
            headers = {"Authorization": f"Bearer {environment['OPENAI_PROVIDER_API_KEY']}"}
            url = f"{environment['OPENAI_PROVIDER_API_BASE']}/batches"
            assert [http.get(url, headers=headers).status_code for _ in range(2)] == [418, 200]
            log = http.get(f"{root}/control/log", params={"account": "openai"}).json()
            assert [(entry["route"], entry["fault"], entry["status"]) for entry in log] == [
                ("batches.list", "refuse", 418),
                ("batches.list", None, 200),
            ]
            assert http.post(f"{root}/control/stall", json={"account": "openai", "state": "validating"}).is_success
            assert http.post(f"{root}/control/expire", json={"account": "openai"}).json() == {"expired": 0}
            assert http.post(f"{root}/control/pace", json={"validating": 0.1}).is_success
            new = {"name": "another", "dialect": "openai", "key": "k", "models": ["llama"]}
            assert http.post(f"{root}/control/accounts", json=new).is_success
            assert len(http.get(f"{root}/control/accounts").json()) == len(DEFAULT_ACCOUNTS) + 1
            assert http.post(f"{root}/control/reset").is_success
            assert http.get(f"{root}/control/log").json() == []
        finally:
            program.terminate()
    assert (program.returncode, list(tmp_path.iterdir())) == (0, []), "a clean stop leaves no file behind"


def _await(http: httpx.Client, url: str) -> None:
    for _ in range(200):
        try:
            http.get(url)
        except httpx.ConnectError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nothing answers at {url}")
