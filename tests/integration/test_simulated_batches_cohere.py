"""Contract test of the simulated Cohere's datasets and batches: https://docs.cohere.com/reference/create-batch"""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import fastavro
import httpx
import pytest

from local.provider import Fault, Simulator
from local.provider.datasets import STALLED
from local.provider.defects import Defects, Ending, Text
from local.provider.quotas import Quota
from tests.support.native_client import NativeClient, awaited

pytest_plugins = ("tests.support.provider_fixtures",)

ACCOUNT, CHAT_MODEL, EMBED_MODEL = "cohere", "command-a-03-2025", "embed-v4.0"
CHAT, EMBED = "batch-chat-v2-input", "batch-embed-v2-input"
ENDED = tuple(f"BATCH_STATUS_{status}" for status in ("COMPLETED", "FAILED", "CANCELED"))


class Client(NativeClient):
    def upload(self, content: bytes, kind: str = CHAT, **query: str) -> httpx.Response:
        query = {"name": "in", "type": kind, **query}
        return self.call("POST", "/v1/datasets", params=query, files={"data": ("in.jsonl", content)})

    def dataset(self, ref: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.call("GET", f"/v1/datasets/{ref}").json()["dataset"]
        return shown

    def validated(self, content: bytes, kind: str = CHAT, **query: str) -> dict[str, Any]:
        """The dataset, once its validation is over."""
        ref = self.upload(content, kind, **query).json()["id"]
        return awaited(lambda: self.dataset(ref), lambda one: one["validation_status"] in ("validated", "failed"))

    def create(self, ref: str, model: str = CHAT_MODEL, **fields: Any) -> httpx.Response:
        return self.call("POST", "/v2/batches", json={"name": "b", "input_dataset_id": ref, "model": model, **fields})

    def batch(self, ref: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.call("GET", f"/v2/batches/{ref}").json()["batch"]
        return shown

    def run(self, content: bytes, kind: str = CHAT, model: str = CHAT_MODEL) -> dict[str, Any]:
        ref = self.create(self.validated(content, kind)["id"], model).json()["batch"]["id"]
        return awaited(lambda: self.batch(ref), lambda batch: batch["status"] in ENDED)

    def rows(self, ref: str) -> list[list[Any]]:
        """The rows of each part of a dataset."""
        parts = [self.http.get(part["url"]).content for part in self.dataset(ref)["dataset_parts"]]
        return [list(fastavro.reader(io.BytesIO(part))) for part in parts]


@pytest.fixture
def client(simulated_provider: Simulator) -> Iterator[Client]:
    made = Client(simulated_provider, ACCOUNT, "/cohere")
    yield made
    made.http.close()


def rows(*bodies: dict[str, Any], **more: Any) -> bytes:
    made = [{"custom_id": f"r-{number}", "body": body, **more} for number, body in enumerate(bodies)]
    return b"".join(json.dumps(row).encode() + b"\n" for row in made)


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}], **more}


def slow(client: Client, **seconds: float) -> None:
    """Change how long something takes from now on."""
    batches = client.simulator.state.batches
    batches.pace = replace(batches.pace, **seconds)


# Datasets.


def test_a_wrong_key_is_401(client: Client) -> None:
    for path in ("/v1/datasets", "/v2/batches"):
        answer = client.call("GET", path, headers={"Authorization": "Bearer no"})
        assert (answer.status_code, answer.json()["message"]) == (401, "invalid api token")


def test_a_dataset_is_validated_later(client: Client) -> None:
    slow(client, processing=60)
    waiting = client.upload(rows(said("one"))).json()["id"]
    assert (client.dataset(waiting)["validation_status"], client.create(waiting).status_code) == ("queued", 400)
    client.call("DELETE", f"/v1/datasets/{waiting}").raise_for_status()
    slow(client, processing=0)
    ref = client.upload(rows(said("one"))).json()["id"]
    shown = awaited(lambda: client.dataset(ref), lambda one: one["validation_status"] == "validated")
    (part,) = shown["dataset_parts"]
    assert (shown["dataset_type"], part["num_rows"]) == (CHAT, 1)
    assert [one["id"] for one in client.call("GET", "/v1/datasets").json()["datasets"]] == [ref]
    assert client.call("GET", "/v1/datasets", params={"validationStatus": "failed"}).json()["datasets"] == []
    assert client.call("GET", "/v1/datasets/usage").json()["organization_usage"] == part["size_bytes"]
    assert client.call("DELETE", f"/v1/datasets/{ref}").json() == {}
    assert client.call("GET", f"/v1/datasets/{ref}").status_code == 404


@pytest.mark.parametrize("wrong", [{"type": "embed-input"}, {"name": ""}, {"surprise": "1"}], ids=str)
def test_a_wrong_upload_is_400(client: Client, wrong: dict[str, str]) -> None:
    assert client.upload(rows(said("one")), **wrong).status_code == 400


MALFORMED: dict[str, dict[str, Any]] = {
    "text content": {"messages": [{"role": "user", "content": "one"}]},
    "image object": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]},
    "response_format": said("one", response_format={"type": "json_object"}),
    "stop_sequences": said("one", stop_sequences=["x"]),
    "thinking": said("one", thinking={"type": "enabled"}),
    "model": said("one", model=CHAT_MODEL),
    "stream": said("one", stream=False),
    "schema object": said("one", tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}]),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_row_fails_the_validation(client: Client, body: dict[str, Any]) -> None:
    shown = client.validated(rows(said("one"), body))
    assert (shown["validation_status"], shown["validation_error"][:7]) == ("failed", "line 2:")
    assert client.create(shown["id"]).status_code == 400


def test_a_malformed_row_is_skipped_where_that_is_asked_for(client: Client) -> None:
    shown = client.validated(rows(MALFORMED["model"], said("two")), skip_malformed_input="true")
    assert (shown["validation_status"], shown["dataset_parts"][0]["num_rows"]) == ("validated", 1)


@pytest.mark.parametrize(
    "content", [b"", b"{oops\n", rows(said("one"), method="POST")], ids=["empty", "no JSON", "unknown member"]
)
def test_a_wrong_file_fails_the_validation(client: Client, content: bytes) -> None:
    assert client.validated(content)["validation_status"] == "failed"


def test_a_dataset_that_is_never_validated(client: Client) -> None:
    client.simulator.state.stall(ACCOUNT, STALLED)
    ref = client.upload(rows(said("one"))).json()["id"]
    client.simulator.state.batches.pace = client.simulator.state.batches.pace.faster(1_000)
    assert (client.dataset(ref)["validation_status"], client.create(ref).status_code) == ("processing", 400)


# Batches.


def test_a_batch_of_chat_runs_to_its_end(client: Client) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": '{"type":"object","properties":{}}'}}
    bodies = (said("one"), said("fail-this-line"), said("please look", tools=[tool]), said("four"), said("five"))
    ref = client.validated(rows(*bodies))["id"]
    created = client.create(ref).json()["batch"]
    assert (created["status"], created["output_dataset_id"]) == ("BATCH_STATUS_QUEUED", "")
    assert (created["input_tokens"], created["num_records"]) == ("0", 0)
    batch = awaited(lambda: client.batch(created["id"]), lambda one: one["status"] in ENDED)
    counts = [batch[f"num_{kind}"] for kind in ("records", "successful_records", "failed_records")]
    assert (batch["status"], counts) == ("BATCH_STATUS_COMPLETED", [5, 4, 1])
    assert int(batch["output_tokens"]) > 0
    parts = client.rows(batch["output_dataset_id"])
    assert [len(part) for part in parts] == [3, 2]
    results = {row["custom_id"]: row for part in parts for row in part}
    assert set(results) == {f"r-{number}" for number in range(5)}
    assert (results["r-1"]["body"], results["r-1"]["error"]) == (None, "This line asked to fail.")
    answer = results["r-0"]["body"]
    assert (results["r-0"]["error"], answer["message"]["content"][0]["text"]) == ("", "echo: one")
    assert answer["usage"]["tokens"]["input_tokens"] > 0
    assert results["r-2"]["body"]["message"]["tool_calls"][0]["function"]["name"] == "look"


def test_a_batch_of_embeddings_runs_to_its_end(client: Client) -> None:
    body = {"texts": ["one", "two"], "input_type": "search_document", "embedding_types": ["float", "int8"]}
    batch = client.run(rows(body), EMBED, EMBED_MODEL)
    ((row,),) = client.rows(batch["output_dataset_id"])
    assert (len(row["body"]["embeddings"]["float"]), len(row["body"]["embeddings"]["int8"])) == (2, 2)
    assert row["body"]["meta"]["billed_units"]["input_tokens"] == int(batch["input_tokens"]) == 2


@pytest.mark.parametrize("wrong", [{"output_dimension": 256}, {"model": EMBED_MODEL}, {"texts": []}], ids=str)
def test_a_wrong_row_of_embeddings_fails_the_validation(client: Client, wrong: dict[str, Any]) -> None:
    body = {"texts": ["one"], "input_type": "search_document", **wrong}
    assert client.validated(rows(body), EMBED)["validation_status"] == "failed"


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"model": "none"}, 404),
        ({"model": EMBED_MODEL}, 400),
        ({"metadata": {}}, 400),
        ({"input_dataset_id": "x"}, 404),
    ],
    ids=str,
)
def test_a_wrong_create_is_refused(client: Client, wrong: dict[str, Any], status: int) -> None:
    assert client.create(client.validated(rows(said("one")))["id"], **wrong).status_code == status


def test_batches_are_listed_by_pages(client: Client) -> None:
    ref = client.validated(rows(said("one")))["id"]
    refs = [client.create(ref).json()["batch"]["id"] for _ in range(3)]
    page = client.call("GET", "/v2/batches", params={"page_size": 2}).json()
    rest = client.call("GET", "/v2/batches", params={"page_token": page["next_page_token"]}).json()
    assert [batch["id"] for batch in page["batches"] + rest["batches"]] == refs[::-1]
    assert "next_page_token" not in rest
    assert client.call("GET", "/v2/batches", params={"order_by": "name"}).status_code == 400


def test_a_batch_is_cancelled(client: Client) -> None:
    client.simulator.state.stall(ACCOUNT, "in_progress")
    ref = client.create(client.validated(rows(said("one")))["id"]).json()["batch"]["id"]
    slow(client, cancelling=60)
    assert client.call("POST", f"/v2/batches/{ref}:cancel").json() == {}
    assert client.batch(ref)["status"] == "BATCH_STATUS_CANCELING"
    slow(client, cancelling=0)
    awaited(lambda: client.batch(ref)["status"], lambda status: status == "BATCH_STATUS_CANCELED")
    assert client.call("POST", f"/v2/batches/{ref}:cancel").status_code == 400


# What goes wrong.


@pytest.mark.parametrize(("state", "status"), [("expired", "FAILED"), ("failed", "FAILED"), ("cancelled", "CANCELED")])
def test_a_batch_that_ends_early_has_the_results_until_then(client: Client, state: Any, status: str) -> None:
    client.simulator.state.batches.defects[ACCOUNT] = Defects(ending=Ending(state=state, answered=1))
    batch = client.run(rows(said("one"), said("two")))
    assert batch["status"] == f"BATCH_STATUS_{status}"
    assert [row["custom_id"] for part in client.rows(batch["output_dataset_id"]) for row in part] == ["r-0"]


def test_results_have_wrong_ids(client: Client) -> None:
    client.simulator.state.batches.defects[ACCOUNT] = Defects(repeated=1, misnamed=1, missing=1, anonymous=1)
    batch = client.run(rows(*(said(str(number)) for number in range(4))))
    found = [row["custom_id"] for part in client.rows(batch["output_dataset_id"]) for row in part]
    assert sorted(found) == ["", "no-request-r-0", "no-request-r-0", "r-2"]


@pytest.mark.parametrize("text", get_args(Text))
def test_avro_holds_no_defect_of_json(client: Client, text: Text) -> None:
    client.simulator.state.batches.defects[ACCOUNT] = Defects(text=text)
    ((row,),) = client.rows(client.run(rows(said("one")))["output_dataset_id"])
    assert row["body"]["message"]["content"][0]["text"].endswith("echo: one")


def test_a_quota_refuses_a_create(client: Client) -> None:
    client.simulator.limit(ACCOUNT, CHAT_MODEL, Quota(max_concurrent_batches=0))
    assert client.create(client.validated(rows(said("one")))["id"]).status_code == 429


def test_a_create_whose_answer_is_lost(client: Client) -> None:
    ref = client.validated(rows(said("one")))["id"]
    client.simulator.fail(Fault(kind="cut", account=ACCOUNT, route="batches.create", when="after"))
    with pytest.raises(httpx.TransportError):
        client.create(ref)
    assert [batch["input_dataset_id"] for batch in client.call("GET", "/v2/batches").json()["batches"]] == [ref]
