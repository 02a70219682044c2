"""Scenarios that send every event of `events/` to its function, in this process or in containers.

Each scenario runs on a `FunctionRunner` after `prepare`, with the key that `prepare` returned. Scenarios do not touch
each other's rows, so they may run at the same time.
"""

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from manifold.store.files import storage_key
from tests.support.cloudformation import CloudFormation
from tests.support.events import FunctionRunner, load


def prepare(runner: FunctionRunner, cloudformation: CloudFormation) -> str:
    """Create the tables, as a deploy does, and Ann's virtual key. Returns the key."""
    runner.invoke("Migrations", load("cloudformation.create", response_url=cloudformation.url))
    [(_, answer)] = cloudformation.answers
    assert answer["Status"] == "SUCCESS"
    assert answer["Data"]["Applied"].startswith("0001")
    key: str = runner.call("AdminApi", "key.generate")["key"]
    return key


def batch_from_upload_to_deletion(runner: FunctionRunner, key: str) -> None:
    file_id = _uploaded(runner, key)
    batch = _completed(runner, key, file_id)
    _downloaded(runner, key, batch["output_file_id"])
    _cancelled(runner, key, file_id)
    _deleted(runner, key, file_id)


def _uploaded(runner: FunctionRunner, key: str) -> str:
    file_id: str = runner.call("FilesApi", "files.create", key=key)["id"]
    runner.deliver()
    file = runner.call("FilesApi", "files.retrieve", file_id=file_id, key=key)
    assert (file["filename"], file["status"]) == ("request.jsonl", "processed")
    assert [one["state"] for one in file["inputs"]] == ["ready", "ready"]
    assert file in runner.call("FilesApi", "files.list", key=key)["data"]
    estimate = runner.call("FilesApi", "files.cost_estimate", file_id=file_id, key=key)
    assert (estimate["requests"], [one["model"] for one in estimate["models"]]) == (2, file["target_model_names"])
    return file_id


def _completed(runner: FunctionRunner, key: str, file_id: str) -> Any:
    made = runner.call("BatchesApi", "batches.create", file_id=file_id, key=key)
    assert made["status"] == "validating"
    batch = runner.finish(made["id"], key)
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert batch["shards"] == {"total": 1, "waiting": 0, "running": 0, "ended": 1}
    assert [one["outcome"] for one in batch["attempts"]] == ["completed"]
    listed = batch | {"shards": None, "attempts": None}
    assert listed in runner.call("BatchesApi", "batches.list", key=key)["data"]
    return batch


def _downloaded(runner: FunctionRunner, key: str, file_id: str) -> None:
    answer = runner.request("FilesApi", "files.content", file_id=file_id, key=key)
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, True)
    content = base64.b64decode(answer["body"])
    assert content == runner.aws.read(storage_key(file_id))
    lines = [json.loads(line) for line in content.splitlines()]
    assert {line["custom_id"] for line in lines} == {"request-1", "request-2"}


def _cancelled(runner: FunctionRunner, key: str, file_id: str) -> None:
    batch_id = runner.call("BatchesApi", "batches.create", file_id=file_id, key=key)["id"]
    assert runner.call("BatchesApi", "batches.cancel", batch_id=batch_id, key=key)["status"] == "cancelling"
    assert runner.finish(batch_id, key)["status"] == "cancelled"
    other = runner.call("BatchesApi", "batches.create", file_id=file_id, key=key)["id"]
    ended = runner.call("BatchesApi", "batches.end", batch_id=other)
    assert (ended["status"], ended["errors"]["data"][0]["code"]) == ("failed", "batch_ended_by_admin")
    again = runner.call("BatchesApi", "batches.retry", batch_id=batch_id, key=key)["id"]
    assert runner.finish(again, key)["request_counts"] == {"total": 2, "completed": 2, "failed": 0}


def _deleted(runner: FunctionRunner, key: str, file_id: str) -> None:
    assert runner.call("FilesApi", "files.delete", file_id=file_id, key=key)["deleted"] is True
    runner.deliver()
    assert runner.request("FilesApi", "files.retrieve", file_id=file_id, key=key)["statusCode"] == 404
    stored = runner.aws.keys()
    assert storage_key(file_id) not in stored


def upload_in_parts(runner: FunctionRunner, key: str) -> None:
    upload_id = runner.call("FilesApi", "uploads.create", key=key)["id"]
    part_id = runner.call("FilesApi", "uploads.parts", upload_id=upload_id, key=key)["id"]
    done = runner.call("FilesApi", "uploads.complete", upload_id=upload_id, part_id=part_id, key=key)
    assert (done["status"], done["file"]["target_model_names"]) == ("completed", ["gpt-4o-batch"])
    runner.deliver()
    assert runner.aws.keys(f"uploads/{upload_id}") == []
    assert runner.call("FilesApi", "uploads.retrieve", upload_id=upload_id, key=key)["status"] == "completed"
    other = runner.call("FilesApi", "uploads.create", key=key)["id"]
    assert runner.call("FilesApi", "uploads.cancel", upload_id=other, key=key)["status"] == "cancelled"


def upload_by_presigned_link(runner: FunctionRunner, key: str) -> None:
    link = runner.call("FilesApi", "files.presign", key=key)
    content = _uploaded_lines()
    assert (link["method"], link["bytes"]) == ("PUT", len(content))
    stored = urlsplit(link["url"]).path
    runner.aws.write(stored[stored.index("uploads/") :], content)
    file = runner.call("FilesApi", "files.complete", file_id=link["id"], key=key)
    assert (file["id"], file["status"]) == (link["id"], "processed")
    answer = runner.request("FilesApi", "files.content.head", file_id=file["id"], key=key)
    assert (answer["statusCode"], answer["body"]) == (200, "")
    assert answer["headers"]["content-length"] == str(len(content))


def batch_of_own_execution(runner: FunctionRunner, key: str) -> None:
    """A batch of a model that serves completions, which the gateway runs itself. The key may not use that one."""
    key = runner.master_key
    presign = load("files.presign", key=key)
    wanted = json.loads(base64.b64decode(presign["body"])) | {"target_model_names": "command-nightly"}
    presign["body"] = base64.b64encode(json.dumps(wanted).encode()).decode()
    link = json.loads(runner.invoke("FilesApi", presign)["body"])
    stored = urlsplit(link["url"]).path
    runner.aws.write(stored[stored.index("uploads/") :], _uploaded_lines())
    file = runner.call("FilesApi", "files.complete", file_id=link["id"], key=key)
    batch = runner.finish(runner.call("BatchesApi", "batches.create", file_id=file["id"], key=key)["id"], key)
    assert batch["status"] == "completed", batch
    lines = [json.loads(line) for line in runner.aws.read(storage_key(batch["output_file_id"])).splitlines()]
    assert {line["response"]["body"]["model"] for line in lines} == {"command-nightly"}
    assert batch["request_counts"]["completed"] == len(lines) == batch["request_counts"]["total"]


def _uploaded_lines() -> bytes:
    """The file in the body of `uploads.parts`."""
    body = base64.b64decode(load("uploads.parts")["body"])
    return body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]


def webhook_from_create_to_deletion(runner: FunctionRunner, key: str) -> None:
    """The endpoint's name does not exist, so its deliveries stay pending."""
    webhook = runner.call("WebhooksApi", "webhooks.create", key=key)
    webhook_id = webhook["id"]
    assert webhook.pop("secret").startswith("whsec_")
    assert runner.call("WebhooksApi", "webhooks.retrieve", webhook_id=webhook_id, key=key) == webhook
    assert webhook in runner.call("WebhooksApi", "webhooks.list", key=key)["data"]
    file_id = _uploaded(runner, key)
    batch_id = runner.call("BatchesApi", "batches.create", file_id=file_id, key=key)["id"]
    runner.call("BatchesApi", "batches.end", batch_id=batch_id)
    runner.deliver()
    [delivery] = _deliveries(runner, webhook_id, key, batch_id)
    assert (delivery["type"], delivery["status"]) == ("batch.failed", "pending")
    replayed = {"webhook_id": webhook_id, "delivery_id": delivery["id"]}
    assert runner.call("WebhooksApi", "webhooks.replay", key=key, **replayed)["attempts"] == 0
    assert runner.call("WebhooksApi", "webhooks.delete", webhook_id=webhook_id, key=key)["deleted"] is True
    assert runner.request("WebhooksApi", "webhooks.retrieve", webhook_id=webhook_id, key=key)["statusCode"] == 404


def webhook_endpoint_from_create_to_deletion(runner: FunctionRunner, key: str) -> None:
    """As OpenAI's SDK manages them."""
    assert "batch.completed" in runner.call("WebhooksApi", "webhook_event_types.list", key=key)["data"]
    made = runner.call("WebhooksApi", "webhook_endpoints.create", key=key)
    own = {"webhook_id": made["id"], "key": key}
    first = made.pop("signing_secret")
    assert runner.call("WebhooksApi", "webhook_endpoints.retrieve", **own) == made
    assert made in runner.call("WebhooksApi", "webhook_endpoints.list", key=key)["data"]
    assert runner.call("WebhooksApi", "webhook_endpoints.update", **own)["event_types"] == ["batch.failed"]
    assert runner.call("WebhooksApi", "webhook_endpoints.rotate_secret", **own)["signing_secret"] != first
    refused = runner.request("WebhooksApi", "webhook_endpoints.test", **own)
    assert (refused["statusCode"], json.loads(refused["body"])["error"]["code"]) == (400, "endpoint_not_reached")
    assert runner.call("WebhooksApi", "webhook_endpoints.delete", **own)["deleted"] is True


def _deliveries(runner: FunctionRunner, webhook_id: str, key: str, batch_id: str) -> list[Any]:
    listed = runner.call("WebhooksApi", "webhooks.deliveries", webhook_id=webhook_id, key=key)["data"]
    return [one for one in listed if one["batch_id"] == batch_id]


def health(runner: FunctionRunner, key: str) -> None:
    assert runner.call("AdminApi", "health.liveliness") == "I'm alive!"
    assert runner.call("AdminApi", "health.readiness") == {"status": "healthy", "db": "connected"}


def models(runner: FunctionRunner, key: str) -> None:
    (listed,) = runner.call("AdminApi", "models.list", key=key)["data"]
    assert listed == runner.call("AdminApi", "models.retrieve", key=key)
    deployments = runner.call("AdminApi", "model.info", key=key)["data"]
    assert [one["model_name"] for one in deployments] == [listed["id"], listed["id"]] == ["gpt-4o-batch"] * 2
    (group,) = runner.call("AdminApi", "model_group.info", key=key)["data"]
    assert (group["model_group"], group["mode"]) == ("gpt-4o-batch", "batch")


def completions(runner: FunctionRunner, key: str) -> None:
    chat = runner.call("CompletionsApi", "chat.completions.create", key=runner.master_key)
    assert (chat["object"], chat["model"]) == ("chat.completion", "gpt-3.5-turbo")
    text = runner.call("CompletionsApi", "completions.create", key=runner.master_key)
    assert (text["object"], text["model"]) == ("text_completion", "gpt-3.5-turbo")
    vectors = runner.call("CompletionsApi", "embeddings.create", key=runner.master_key)
    assert (len(vectors["data"]), vectors["model"]) == (1, "text-embedding-3-small")
    assert runner.request("CompletionsApi", "chat.completions.create", key=key)["statusCode"] == 403
    logged = runner.call("AdminApi", "spend.logs", key=runner.master_key)["data"]
    assert {"/chat/completions", "/completions", "/embeddings"} <= {log["call_type"] for log in logged}


def key_info_and_update(runner: FunctionRunner, key: str) -> None:
    changed = runner.call("AdminApi", "key.update", key=key)
    (listed,) = runner.call("AdminApi", "key.list")["keys"]
    shown = runner.call("AdminApi", "key.info", key=key)["info"]
    assert changed["rpm_limit"] == shown["rpm_limit"] == 60
    assert shown == listed | {"spend": shown["spend"]}


def key_block_regenerate_and_delete(runner: FunctionRunner, key: str) -> None:
    first = runner.call("AdminApi", "user.new")["key"]
    assert runner.call("AdminApi", "key.block", key=first)["blocked"] is True
    assert runner.call("AdminApi", "key.unblock", key=first)["blocked"] is False
    second = runner.call("AdminApi", "key.regenerate", key=first)["key"]
    assert runner.request("AdminApi", "models.list", key=first)["statusCode"] == 401
    runner.call("AdminApi", "key.delete", key=second)
    assert runner.request("AdminApi", "models.list", key=second)["statusCode"] == 401


def users_and_teams(runner: FunctionRunner, key: str) -> None:
    assert runner.call("AdminApi", "user.info")["user_id"] == "ann"
    runner.call("AdminApi", "team.new")
    assert runner.call("AdminApi", "team.info")["team_info"]["team_alias"] == "Research"


def migrations_run_again(runner: FunctionRunner, key: str) -> None:
    assert runner.invoke("Migrations", load("empty")) == {"applied": []}


def malformed_events(runner: FunctionRunner, key: str) -> None:
    answer = runner.request("BatchesApi", "malformed.request", key=key)
    assert answer["statusCode"] == 400
    assert json.loads(answer["body"])["error"]["code"] == "invalid_json"
    event = load("malformed.message")
    failed = [{"itemIdentifier": event["Records"][0]["messageId"]}]
    assert runner.invoke("BatchesWorker", event) == {"batchItemFailures": failed}


SCENARIOS: dict[str, Callable[[FunctionRunner, str], None]] = {
    scenario.__name__: scenario
    for scenario in (
        batch_from_upload_to_deletion,
        upload_in_parts,
        upload_by_presigned_link,
        batch_of_own_execution,
        webhook_from_create_to_deletion,
        webhook_endpoint_from_create_to_deletion,
        health,
        models,
        completions,
        key_info_and_update,
        key_block_regenerate_and_delete,
        users_and_teams,
        migrations_run_again,
        malformed_events,
    )
}
"""The longest scenario is first."""
