"""Contract test of the simulated files and batches of the Gemini API, by its documentation."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from local.provider import Fault, Quota, Simulator
from local.provider.native.variants import Variants
from tests.support.standing_clock import standing

pytest_plugins = ("tests.support.provider_fixtures",)

MODEL, EMBEDDING_MODEL = "gemini-2.5-flash", "gemini-embedding-001"
KEY = "simulated-key-gemini"
UNIT = 8 * 1024 * 1024


def prompt(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}


def lines(*bodies: dict[str, Any]) -> bytes:
    return b"".join(
        json.dumps({"key": f"key-{number}", "request": body}).encode() + b"\n" for number, body in enumerate(bodies)
    )


class Gemini:
    def __init__(self, simulator: Simulator, http: httpx.Client) -> None:
        self.simulator, self.http = simulator, http
        self.root = simulator.base("gemini")

    def call(self, method: str, path: str, key: str = KEY, **how: Any) -> httpx.Response:
        headers = {"x-goog-api-key": key, **how.pop("headers", {})}
        return self.http.request(method, f"{self.root}{path}", headers=headers, **how)

    def start(self, length: int, **headers: str) -> httpx.Response:
        given = {
            "x-goog-upload-protocol": "resumable",
            "x-goog-upload-command": "start",
            "x-goog-upload-header-content-length": str(length),
            "x-goog-upload-header-content-type": "application/jsonl",
        }
        body = {"file": {"display_name": "in.jsonl"}}
        return self.call("POST", "/upload/v1beta/files", json=body, headers=given | headers)

    def piece(self, address: str, command: str, content: bytes = b"", offset: int = 0) -> httpx.Response:
        headers = {"x-goog-upload-command": command, "x-goog-upload-offset": str(offset)}
        return self.http.post(address, content=content, headers=headers)

    def uploaded(self, content: bytes) -> str:
        address = self.start(len(content)).headers["x-goog-upload-url"]
        name: str = self.piece(address, "upload, finalize", content).json()["file"]["name"]
        for _ in range(500):
            if self.call("GET", f"/v1beta/{name}").json()["state"] == "ACTIVE":
                return name
            time.sleep(0.01)
        raise AssertionError(name)

    def create(self, batch: dict[str, Any], model: str = MODEL, method: str = "batchGenerateContent") -> httpx.Response:
        return self.call("POST", f"/v1beta/models/{model}:{method}", json={"batch": batch})

    def create_of(self, *bodies: dict[str, Any], **how: Any) -> dict[str, Any]:
        name = self.uploaded(lines(*bodies))
        answer = self.create({"displayName": "batch-1", "inputConfig": {"fileName": name}}, **how)
        operation: dict[str, Any] = answer.json()
        return operation

    def get(self, name: str) -> dict[str, Any]:
        operation: dict[str, Any] = self.call("GET", f"/v1beta/{name}").json()
        return operation

    def ended(self, name: str) -> dict[str, Any]:
        for _ in range(500):
            operation = self.get(name)
            if operation.get("done"):
                return operation
            time.sleep(0.02)
        raise AssertionError(name)

    def results(self, operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
        name = operation["response"]["responsesFile"]
        content = self.call("GET", f"/download/v1beta/{name}:download?alt=media").content
        return {line["key"]: line for line in map(json.loads, content.splitlines())}


@pytest.fixture
def gemini(simulated_provider: Simulator) -> Iterator[Gemini]:
    with httpx.Client() as http:
        yield Gemini(simulated_provider, http)


def error(answer: httpx.Response) -> tuple[int, str]:
    told = answer.json()["error"]
    assert told["code"] == answer.status_code
    return answer.status_code, told["status"]


# Files.


def test_a_file_is_uploaded_and_becomes_active(gemini: Gemini) -> None:
    with standing(gemini.simulator) as clock:
        started = gemini.start(5)
        assert (started.headers["x-goog-upload-status"], started.content) == ("active", b"")
        answer = gemini.piece(started.headers["x-goog-upload-url"], "upload, finalize", b"line\n")
        assert answer.headers["x-goog-upload-status"] == "final"
        file = answer.json()["file"]
        assert (file["state"], file["sizeBytes"], file["displayName"]) == ("PROCESSING", "5", "in.jsonl")
        assert file["source"] == "UPLOADED"
        early = gemini.create({"displayName": "early", "inputConfig": {"fileName": file["name"]}})
        assert error(early) == (400, "FAILED_PRECONDITION")
        clock.now += 0.05
        assert gemini.call("GET", f"/v1beta/{file['name']}").json()["state"] == "ACTIVE"
    assert error(gemini.call("GET", f"/download/v1beta/{file['name']}:download?alt=media"))[0] == 400


def test_a_file_is_uploaded_in_pieces(gemini: Gemini) -> None:
    address = gemini.start(UNIT + 3).headers["x-goog-upload-url"]
    assert error(gemini.piece(address, "upload", b"x"))[0] == 400, "no piece of that size"
    address = gemini.start(UNIT + 3).headers["x-goog-upload-url"]
    first = gemini.piece(address, "upload", b"x" * UNIT)
    assert (first.headers["x-goog-upload-status"], first.headers["x-goog-upload-size-received"]) == (
        "active",
        str(UNIT),
    )
    assert gemini.piece(address, "query").headers["x-goog-upload-size-received"] == str(UNIT)
    assert error(gemini.piece(address, "upload, finalize", b"yyy"))[0] == 400, "not at that offset"
    last = gemini.piece(address, "upload, finalize", b"yyy", UNIT)
    assert last.json()["file"]["sizeBytes"] == str(UNIT + 3)
    assert error(gemini.piece(address, "upload, finalize", b"yyy", UNIT + 3))[0] == 400


@pytest.mark.parametrize("content", [b"short", b"much longer than it"])
def test_an_upload_of_another_length(gemini: Gemini, content: bytes) -> None:
    address = gemini.start(10).headers["x-goog-upload-url"]
    assert error(gemini.piece(address, "upload, finalize", content))[0] == 400


def test_an_upload_without_the_protocol(gemini: Gemini) -> None:
    assert error(gemini.start(5, **{"x-goog-upload-protocol": "multipart"}))[0] == 400


def test_files_are_listed_deleted_and_expire(gemini: Gemini) -> None:
    names = [gemini.uploaded(b"line\n") for _ in range(3)]
    page = gemini.call("GET", "/v1beta/files?pageSize=2").json()
    rest = gemini.call("GET", f"/v1beta/files?pageSize=2&pageToken={page['nextPageToken']}").json()
    assert [file["name"] for file in (*page["files"], *rest["files"])] == names[::-1]
    assert gemini.call("DELETE", f"/v1beta/{names[0]}").json() == {}
    assert error(gemini.call("GET", f"/v1beta/{names[0]}")) == (403, "PERMISSION_DENIED")
    with standing(gemini.simulator) as clock:
        clock.now += 48 * 3_600 + 1
        gone = gemini.create({"displayName": "late", "inputConfig": {"fileName": names[1]}})
    assert error(gone) == (403, "PERMISSION_DENIED")


# Batches.


def test_a_batch_of_a_file(gemini: Gemini) -> None:
    operation = gemini.create_of(prompt("one"), prompt("two"), prompt(generationConfig={"temperature": 9}))
    metadata = operation["metadata"]
    assert (metadata["state"], metadata["displayName"], metadata["model"]) == (
        "BATCH_STATE_PENDING",
        "batch-1",
        f"models/{MODEL}",
    )
    assert metadata["batchStats"] == {"requestCount": "3", "pendingRequestCount": "3"}
    assert operation["name"].startswith("batches/")
    assert not {"done", "response", "error"} & operation.keys()
    operation = gemini.ended(operation["name"])
    assert operation["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
    assert operation["metadata"]["batchStats"] == {
        "requestCount": "3",
        "successfulRequestCount": "2",
        "failedRequestCount": "1",
    }
    results = gemini.results(operation)
    assert results["key-1"]["response"]["candidates"][0]["content"]["parts"] == [{"text": "echo: two"}]
    assert results["key-2"].keys() == {"key", "error"}
    assert results["key-2"]["error"]["code"] == 3


def test_results_can_be_downloaded_alone(gemini: Gemini) -> None:
    operation = gemini.ended(gemini.create_of(prompt())["name"])
    name = operation["response"]["responsesFile"]
    assert name == operation["name"].replace("batches/", "files/batch-")
    for method in ("GET", "DELETE"):
        answer = gemini.call(method, f"/v1beta/{name}")
        assert error(answer) == (400, "INVALID_ARGUMENT"), "its id has more than 40 characters"
    assert list(gemini.results(operation)) == ["key-0"]


def test_a_batch_of_requests(gemini: Gemini) -> None:
    requests = [{"request": prompt(text), "metadata": {"key": text}} for text in "abcdefgh"]
    requests[1]["request"] = {"contents": []}
    batch = {"display_name": "inline", "input_config": {"requests": {"requests": requests}}}
    operation = gemini.ended(gemini.create(batch).json()["name"])
    inlined = {one["metadata"]["key"]: one for one in operation["response"]["inlinedResponses"]["inlinedResponses"]}
    assert list(inlined) != sorted(inlined) == list("abcdefgh"), "all are there, in another order"
    assert inlined["b"].keys() == {"error", "metadata"}
    assert inlined["c"]["response"]["candidates"][0]["content"]["parts"] == [{"text": "echo: c"}]


def test_a_batch_of_embeddings(gemini: Gemini) -> None:
    content = {"parts": [{"text": "hello there"}]}
    bodies = {"content": content, "output_dimensionality": 8}, {"content": content, "outputDimensionality": 0}
    operation = gemini.create_of(*bodies, model=EMBEDDING_MODEL, method="asyncBatchEmbedContent")
    assert operation["metadata"]["@type"].endswith(".EmbedContentBatch")
    results = gemini.results(gemini.ended(operation["name"]))
    response = results["key-0"]["response"]
    assert (len(response["embedding"]["values"]), response["tokenCount"]) == (8, "2")
    assert "error" in results["key-1"]


@pytest.mark.parametrize(
    ("batch", "model", "expected"),
    [
        ({"displayName": "a"}, MODEL, (400, "INVALID_ARGUMENT")),
        ({"displayName": "a", "inputConfig": {}}, MODEL, (400, "INVALID_ARGUMENT")),
        ({"displayName": "a", "inputConfig": {"fileName": "files/none"}}, MODEL, (403, "PERMISSION_DENIED")),
        ({"inputConfig": {"fileName": "files/none"}}, MODEL, (400, "INVALID_ARGUMENT")),
        ({"displayName": "a", "inputConfig": {"fileName": "files/none"}, "x": 1}, MODEL, (400, "INVALID_ARGUMENT")),
        ({"displayName": "a", "inputConfig": {"fileName": "files/none"}}, "gemini-9", (404, "NOT_FOUND")),
        ({"displayName": "a", "inputConfig": {"fileName": "files/none"}}, EMBEDDING_MODEL, (404, "NOT_FOUND")),
    ],
)
def test_a_create_that_is_refused(gemini: Gemini, batch: dict[str, Any], model: str, expected: tuple[int, str]) -> None:
    assert error(gemini.create(batch, model)) == expected


def test_an_inline_create_that_is_too_large(gemini: Gemini) -> None:
    requests = [{"request": prompt("x" * 21_000_000)}]
    batch = {"displayName": "large", "inputConfig": {"requests": {"requests": requests}}}
    assert error(gemini.create(batch)) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("line", [b"no json\n", b'{"key":"a"}\n', b'{"key":"a","request":{},"custom_id":"a"}\n'])
def test_a_line_that_cannot_be_read(gemini: Gemini, line: bytes) -> None:
    name = gemini.uploaded(line)
    operation = gemini.create({"displayName": "a", "inputConfig": {"fileName": name}}).json()
    operation = gemini.ended(operation["name"])
    assert operation["metadata"]["state"] == "BATCH_STATE_FAILED"
    assert (operation["error"]["code"], "response" in operation) == (3, False)


@pytest.mark.parametrize(
    ("code", "expected"), [("internal_error", 13), ("token_limit_exceeded", 8), ("invalid_json_line", 3)]
)
def test_a_batch_fails_for_another_reason(gemini: Gemini, code: str, expected: int) -> None:
    ending = {"state": "failed", "code": code, "message": "No."}
    gemini.simulator.fail(Fault.model_validate({"kind": "job", "job": {"ending": ending}}))
    operation = gemini.ended(gemini.create_of(prompt())["name"])
    assert operation["error"] == {"code": expected, "message": "No."}


def test_the_other_states_and_failures(gemini: Gemini) -> None:
    gemini.simulator.state.variants = Variants(gemini_states="JOB_STATE", gemini_failures="status")
    operation = gemini.create_of({"contents": []})
    assert operation["metadata"]["state"] == "JOB_STATE_PENDING"
    operation = gemini.ended(operation["name"])
    assert operation["metadata"]["state"] == "JOB_STATE_SUCCEEDED"
    assert gemini.results(operation)["key-0"].keys() == {"key", "status"}


def test_a_batch_is_cancelled_and_deleted(gemini: Gemini) -> None:
    content = gemini.uploaded(lines(*[prompt()] * 5))
    with standing(gemini.simulator):
        batch = {"displayName": "batch-1", "inputConfig": {"fileName": content}}
        name = gemini.create(batch).json()["name"]
        assert gemini.call("POST", f"/v1beta/{name}:cancel").json() == {}
        operation = gemini.get(name)
    assert operation["metadata"]["state"] == "BATCH_STATE_CANCELLED"
    assert (operation["error"]["code"], "response" in operation) == (1, False)
    assert error(gemini.call("POST", f"/v1beta/{name}:cancel")) == (400, "FAILED_PRECONDITION")
    assert gemini.call("DELETE", f"/v1beta/{name}").json() == {}
    assert error(gemini.call("GET", f"/v1beta/{name}")) == (404, "NOT_FOUND")


def test_a_batch_expires_without_results(gemini: Gemini) -> None:
    ending = {"ending": {"state": "expired", "answered": 1}}
    gemini.simulator.fail(Fault.model_validate({"kind": "job", "job": ending}))
    operation = gemini.ended(gemini.create_of(prompt(), prompt())["name"])
    assert operation["metadata"]["state"] == "BATCH_STATE_EXPIRED"
    assert (operation["error"]["code"], "response" in operation) == (4, False)


def test_a_batch_whose_results_are_named_late(gemini: Gemini) -> None:
    gemini.simulator.fail(Fault.model_validate({"kind": "job", "job": {"unnamed": 1}}))
    name = gemini.create_of(prompt())["name"]
    assert "responsesFile" not in gemini.ended(name)["response"]
    assert "responsesFile" in gemini.get(name)["response"]


def test_batches_are_listed(gemini: Gemini) -> None:
    assert gemini.call("GET", "/v1beta/batches").json() == {}
    names = [gemini.create_of(prompt())["name"] for _ in range(3)]
    page = gemini.call("GET", "/v1beta/batches?pageSize=2").json()
    rest = gemini.call("GET", f"/v1beta/batches?pageSize=2&pageToken={page['nextPageToken']}").json()
    assert [one["name"] for one in (*page["operations"], *rest["operations"])] == names[::-1]
    assert error(gemini.call("GET", "/v1beta/batches?filter=x"))[0] == 400


def test_too_many_at_once(gemini: Gemini) -> None:
    gemini.simulator.limit("gemini", MODEL, Quota(max_concurrent_batches=1))
    file = gemini.uploaded(lines(prompt()))
    batch = {"displayName": "second", "inputConfig": {"fileName": file}}
    with standing(gemini.simulator):
        name = gemini.create(batch).json()["name"]
        assert error(gemini.create(batch)) == (429, "RESOURCE_EXHAUSTED")
    gemini.ended(name)
    assert gemini.create(batch).status_code == 200


def test_who_calls(gemini: Gemini) -> None:
    assert error(gemini.call("GET", "/v1beta/batches", key="wrong")) == (400, "INVALID_ARGUMENT")
    assert error(gemini.http.get(f"{gemini.root}/v1beta/batches")) == (403, "PERMISSION_DENIED")
