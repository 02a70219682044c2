"""Contract test of the simulated Together's files and batches: https://docs.together.ai/docs/inference/batch/overview"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from local.provider import Fault, Simulator
from local.provider.defects import Defects, Ending
from local.provider.quotas import Quota
from local.provider.signed_urls import Storage
from tests.support.native_client import NativeClient, awaited

pytest_plugins = ("tests.support.provider_fixtures",)

ACCOUNT, MODEL, KEY = "together", "Qwen/Qwen2.5-7B-Instruct-Turbo", "tgp_v1_simulated"
ENDED = ("COMPLETED", "FAILED", "EXPIRED", "CANCELLED")


class Client(NativeClient):
    def start(self, content: bytes, **fields: str) -> httpx.Response:
        form = {"purpose": "batch-api", "file_name": "in.jsonl", "file_type": "jsonl"}
        form |= {"checksum": hashlib.sha256(content).hexdigest(), **fields}
        return self.call("POST", "/files", files={name: (None, value) for name, value in form.items()})

    def upload(self, content: bytes) -> str:
        started = self.start(content)
        ref = started.headers["X-Together-File-Id"]
        assert self.http.put(started.headers["Location"], content=content).status_code == 200
        assert self.call("POST", f"/files/{ref}/preprocess").json()["id"] == ref
        return ref

    def create(self, ref: str, **fields: Any) -> httpx.Response:
        body = {"endpoint": "/v1/chat/completions", "input_file_id": ref, **fields}
        return self.call("POST", "/batches", json=body)

    def run(self, content: bytes) -> str:
        job = self.create(self.upload(content)).json()["job"]
        return str(job["id"])

    def end(self, ref: str) -> dict[str, Any]:
        return awaited(lambda: self.call("GET", f"/batches/{ref}").json(), lambda job: job["status"] in ENDED)

    def results(self, ref: str | None) -> list[dict[str, Any]]:
        if ref is None:
            return []
        located = self.call("GET", f"/files/{ref}/content")
        assert located.status_code == 302
        return self.lines(located.headers["Location"])


@pytest.fixture
def client(simulated_provider: Simulator) -> Iterator[Client]:
    made = Client(simulated_provider, ACCOUNT, "/together_ai/v1")
    yield made
    made.http.close()


def lines(*texts: str, **more: Any) -> bytes:
    rows = [
        {"custom_id": f"r-{number}", "body": {"model": MODEL, "messages": [{"role": "user", "content": text}]}, **more}
        for number, text in enumerate(texts)
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


# Files.


def test_a_wrong_key_is_401(client: Client) -> None:
    answer = client.call("GET", "/batches", headers={"Authorization": "Bearer no"})
    assert (answer.status_code, set(answer.json()["error"])) == (401, {"message", "type", "param", "code"})


def test_an_upload_goes_by_a_signed_url(client: Client) -> None:
    content = lines("one")
    started = client.start(content)
    ref, place = started.headers["X-Together-File-Id"], started.headers["Location"]
    assert (started.status_code, started.content) == (302, b"")
    assert client.call("GET", f"/files/{ref}").status_code == 404, "there are no bytes yet"
    assert client.call("POST", f"/files/{ref}/preprocess").status_code == 404
    assert client.http.put(place, content=content).status_code == 200
    shown = client.call("POST", f"/files/{ref}/preprocess").json()
    assert (shown["bytes"], shown["purpose"], shown["FileType"]) == (len(content), "batch-api", "jsonl")
    assert client.call("POST", f"/files/{ref}/preprocess").json() == shown, "a second time changes nothing"
    assert [file["id"] for file in client.call("GET", "/files").json()["data"]] == [ref]
    assert client.call("DELETE", f"/files/{ref}").json() == {"id": ref, "deleted": True}
    assert client.call("GET", f"/files/{ref}").status_code == 404


def test_equal_bytes_are_one_file(client: Client) -> None:
    ref = client.upload(lines("one"))
    again = client.start(lines("one"))
    assert (again.status_code, again.json()["file_id"]) == (409, ref)
    client.call("DELETE", f"/files/{ref}")
    assert client.start(lines("one")).status_code == 302


@pytest.mark.parametrize(
    "wrong",
    [{"purpose": "fine-tune"}, {"file_type": "csv"}, {"surprise": "1"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_form_is_400(client: Client, wrong: dict[str, str]) -> None:
    assert client.start(lines("one"), **wrong).status_code == 400


def test_other_bytes_than_the_checksums_are_refused(client: Client) -> None:
    started = client.start(lines("one"), checksum="0" * 64)
    client.http.put(started.headers["Location"], content=lines("one"))
    ref = started.headers["X-Together-File-Id"]
    assert client.call("POST", f"/files/{ref}/preprocess").status_code == 400


def test_a_file_is_uploaded_in_one_step(client: Client) -> None:
    form = {"purpose": "batch-api", "file_name": "in.jsonl", "file_type": "jsonl"}
    answer = client.call("POST", "/files/upload", data=form, files={"file": ("in.jsonl", lines("one"))})
    assert client.call("GET", f"/files/{answer.json()['id']}").json() == answer.json()


# Signed URLs.


def test_a_signed_url_is_the_only_credential(client: Client) -> None:
    client.simulator.state.signed_urls.storage = Storage(origin=client.simulator.url)
    place = client.start(b"{}\n").headers["Location"]
    assert client.http.put(place, content=b"{}\n", headers={"Authorization": f"Bearer {KEY}"}).status_code == 400
    assert client.http.put(place.replace("X-Redirects=0", "X-Redirects=1"), content=b"{}\n").status_code == 403
    assert client.http.get(place).status_code == 403, "it is for a PUT"
    assert client.http.put(place, content=iter([b"{}\n"])).status_code == 411


def test_a_signed_url_expires(client: Client) -> None:
    client.simulator.state.signed_urls.storage = Storage(seconds=-1)
    answer = client.http.put(client.start(b"{}\n").headers["Location"], content=b"{}\n")
    assert (answer.status_code, b"<Code>ExpiredToken</Code>" in answer.content) == (400, True)


def test_signed_urls_lead_to_another_origin_and_over_redirects(client: Client) -> None:
    other = client.simulator.url.replace("127.0.0.1", "localhost")
    storage = {"origin": other, "redirects": 2}
    client.http.post(f"{client.simulator.url}/control/storage", json=storage).raise_for_status()
    place, hops = client.start(b"{}\n").headers["Location"], 0
    while (answer := client.http.put(place, content=b"{}\n")).status_code == 307:
        assert place.startswith(other)
        place, hops = answer.headers["Location"], hops + 1
    assert (answer.status_code, hops) == (200, 2)


def test_a_download_gives_ranges(client: Client) -> None:
    ref = client.upload(lines("one"))
    place = client.call("GET", f"/files/{ref}/content").headers["Location"]
    part = client.http.get(place, headers={"Range": "bytes=2-10"})
    assert (part.status_code, part.content) == (206, lines("one")[2:11])


# Batches.


def test_a_batch_runs_to_its_end(client: Client) -> None:
    ref = client.upload(lines("one", "fail-this-line", "three"))
    created = client.create(ref)
    job = created.json()["job"]
    assert (created.status_code, created.json()["warning"]) == (201, None)
    assert (job["status"], job["progress"], job["input_file_id"]) == ("VALIDATING", 0.0, ref)
    assert "request_counts" not in job
    ended = client.end(job["id"])
    assert (ended["status"], ended["progress"], ended["model_id"]) == ("COMPLETED", 100.0, MODEL)
    results = {line["custom_id"]: line["response"] for line in client.results(ended["output_file_id"])}
    assert set(results) == {"r-0", "r-2"}
    assert results["r-0"]["body"]["choices"][0]["message"]["content"] == "echo: one"
    (failure,) = client.results(ended["error_file_id"])
    assert (failure["custom_id"], set(failure)) == ("r-1", {"custom_id", "error"})
    assert set(failure["error"]) == {"message", "code"}


def test_the_list_is_a_bare_array(client: Client) -> None:
    refs = [client.run(lines(text)) for text in ("one", "two")]
    assert [job["id"] for job in client.call("GET", "/batches").json()] == refs[::-1]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"completion_window": "48h"}, 400),
        ({"endpoint": "/v1/embeddings"}, 400),
        ({"metadata": {}}, 400),
        ({"model_id": "no-model"}, 404),
        ({"input_file_id": "file-none"}, 404),
    ],
    ids=lambda wrong: next(iter(wrong)) if isinstance(wrong, dict) else "",
)
def test_a_wrong_create_is_refused(client: Client, wrong: dict[str, Any], status: int) -> None:
    assert client.create(client.upload(lines("one")), **wrong).status_code == status


@pytest.mark.parametrize(
    "content",
    [lines("one", method="POST"), lines("one").replace(b"r-0", b"r" * 65), lines("one") * 2, b"{oops\n", b"\n"],
    ids=["method", "long id", "equal ids", "no JSON", "empty"],
)
def test_bad_lines_fail_the_batch(client: Client, content: bytes) -> None:
    job = client.end(client.run(content))
    assert (job["status"], job["output_file_id"], bool(job["error"])) == ("FAILED", None, True)


def test_a_batch_is_cancelled_once(client: Client) -> None:
    client.simulator.state.stall(ACCOUNT, "in_progress")
    ref = client.run(lines("one", "two"))
    assert client.call("POST", f"/batches/{ref}/cancel").json()["status"] == "CANCELLED"
    assert client.call("POST", f"/batches/{ref}/cancel").status_code == 400
    assert client.call("POST", "/batches/none/cancel").status_code == 404


@pytest.mark.parametrize("state", ["expired", "failed", "cancelled"])
def test_a_batch_that_ends_early_has_the_results_until_then(client: Client, state: Any) -> None:
    client.simulator.state.batches.defects[ACCOUNT] = Defects(ending=Ending(state=state, answered=1))
    job = client.end(client.run(lines("one", "two")))
    assert job["status"] == state.upper()
    assert [line["custom_id"] for line in client.results(job["output_file_id"])] == ["r-0"]
    assert client.results(job["error_file_id"]) == []


# What goes wrong.


def test_a_success_without_a_job(client: Client) -> None:
    text = '{"job":null,"warning":"No capacity."}'
    ref = client.upload(lines("one"))
    client.simulator.fail(Fault(kind="inject", account=ACCOUNT, route="batches.create", status=201, text=text))
    assert (client.create(ref).status_code, client.call("GET", "/batches").json()) == (201, [])


def test_a_create_whose_answer_is_lost(client: Client) -> None:
    ref = client.upload(lines("one"))
    client.simulator.fail(Fault(kind="cut", account=ACCOUNT, route="batches.create", when="after"))
    with pytest.raises(httpx.TransportError):
        client.create(ref)
    assert [job["input_file_id"] for job in client.call("GET", "/batches").json()] == [ref]


def test_a_quota_refuses_a_create(client: Client) -> None:
    client.simulator.limit(ACCOUNT, MODEL, Quota(max_enqueued_tokens=0))
    answer = client.create(client.upload(lines("one")))
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "token_limit_exceeded")


def test_faults_strike_what_is_put_and_got(client: Client) -> None:
    ref = client.upload(lines("one"))
    for route in ("objects.put", "objects.get"):
        client.simulator.fail(Fault(kind="error", account=ACCOUNT, route=route, status=503))
    assert client.http.put(client.start(b"{}\n").headers["Location"], content=b"{}\n").status_code == 503
    place = client.call("GET", f"/files/{ref}/content").headers["Location"]
    assert [client.http.get(place).status_code for _ in range(2)] == [503, 200]
