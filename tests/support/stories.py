"""Every event of `events/`, sent to the function that it is for, wherever functions run.

Each story is told on a `Site` that was prepared, with the key that this returned. They do not touch each other's rows,
so they may be told at once.
"""

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from manifold.store.files import storage_key
from tests.support.cloudformation import CloudFormation
from tests.support.events import Site, load


def prepare(site: Site, cloudformation: CloudFormation) -> str:
    """Make the tables, as a deploy does, and Ann's virtual key."""
    site.invoke("Migrations", load("cloudformation.create", response_url=cloudformation.url))
    [(_, answer)] = cloudformation.answers
    assert answer["Status"] == "SUCCESS"
    assert answer["Data"]["Applied"].startswith("0001")
    key: str = site.call("AdminApi", "key.generate")["key"]
    return key


def a_batch_from_upload_to_deletion(site: Site, key: str) -> None:
    file_id = _uploaded(site, key)
    batch = _completed(site, key, file_id)
    _downloaded(site, key, batch["output_file_id"])
    _cancelled(site, key, file_id)
    _deleted(site, key, file_id)


def _uploaded(site: Site, key: str) -> str:
    file_id: str = site.call("FilesApi", "files.create", key=key)["id"]
    site.deliver()
    file = site.call("FilesApi", "files.retrieve", file_id=file_id, key=key)
    assert (file["filename"], file["status"]) == ("request.jsonl", "processed")
    assert [one["state"] for one in file["inputs"]] == ["ready", "ready"]
    assert file in site.call("FilesApi", "files.list", key=key)["data"]
    return file_id


def _completed(site: Site, key: str, file_id: str) -> Any:
    made = site.call("BatchesApi", "batches.create", file_id=file_id, key=key)
    assert made["status"] == "validating"
    batch = site.finish(made["id"], key)
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert batch in site.call("BatchesApi", "batches.list", key=key)["data"]
    return batch


def _downloaded(site: Site, key: str, file_id: str) -> None:
    answer = site.ask("FilesApi", "files.content", file_id=file_id, key=key)
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, True)
    content = base64.b64decode(answer["body"])
    assert content == site.aws.read(storage_key(file_id))
    lines = [json.loads(line) for line in content.splitlines()]
    assert {line["custom_id"] for line in lines} == {"request-1", "request-2"}


def _cancelled(site: Site, key: str, file_id: str) -> None:
    batch_id = site.call("BatchesApi", "batches.create", file_id=file_id, key=key)["id"]
    assert site.call("BatchesApi", "batches.cancel", batch_id=batch_id, key=key)["status"] == "cancelling"
    assert site.finish(batch_id, key)["status"] == "cancelled"
    other = site.call("BatchesApi", "batches.create", file_id=file_id, key=key)["id"]
    ended = site.call("BatchesApi", "batches.end", batch_id=other)
    assert (ended["status"], ended["errors"]["data"][0]["code"]) == ("failed", "batch_ended_by_admin")


def _deleted(site: Site, key: str, file_id: str) -> None:
    assert site.call("FilesApi", "files.delete", file_id=file_id, key=key)["deleted"] is True
    site.deliver()
    assert site.ask("FilesApi", "files.retrieve", file_id=file_id, key=key)["statusCode"] == 404
    stored = site.aws.keys()
    assert storage_key(file_id) not in stored


def a_file_in_parts(site: Site, key: str) -> None:
    upload_id = site.call("FilesApi", "uploads.create", key=key)["id"]
    part_id = site.call("FilesApi", "uploads.parts", upload_id=upload_id, key=key)["id"]
    done = site.call("FilesApi", "uploads.complete", upload_id=upload_id, part_id=part_id, key=key)
    assert (done["status"], done["file"]["target_model_names"]) == ("completed", ["gpt-4o-batch"])
    site.deliver()
    assert site.aws.keys(f"uploads/{upload_id}") == []
    assert site.call("FilesApi", "uploads.retrieve", upload_id=upload_id, key=key)["status"] == "completed"
    other = site.call("FilesApi", "uploads.create", key=key)["id"]
    assert site.call("FilesApi", "uploads.cancel", upload_id=other, key=key)["status"] == "cancelled"


def a_file_by_a_presigned_link(site: Site, key: str) -> None:
    link = site.call("FilesApi", "files.presign", key=key)
    content = _uploaded_lines()
    assert (link["method"], link["bytes"]) == ("PUT", len(content))
    stored = urlsplit(link["url"]).path
    site.aws.write(stored[stored.index("uploads/") :], content)
    file = site.call("FilesApi", "files.complete", file_id=link["id"], key=key)
    assert (file["id"], file["status"]) == (link["id"], "processed")
    answer = site.ask("FilesApi", "files.content.head", file_id=file["id"], key=key)
    assert (answer["statusCode"], answer["body"]) == (200, "")
    assert answer["headers"]["content-length"] == str(len(content))


def _uploaded_lines() -> bytes:
    """The file in the body of `uploads.parts`."""
    body = base64.b64decode(load("uploads.parts")["body"])
    return body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]


def health(site: Site, key: str) -> None:
    assert site.call("AdminApi", "health.liveliness") == "I'm alive!"
    assert site.call("AdminApi", "health.readiness") == {"status": "healthy", "db": "connected"}


def models(site: Site, key: str) -> None:
    (listed,) = site.call("AdminApi", "models.list", key=key)["data"]
    assert listed == site.call("AdminApi", "models.retrieve", key=key)
    deployments = site.call("AdminApi", "model.info", key=key)["data"]
    assert [one["model_name"] for one in deployments] == [listed["id"], listed["id"]] == ["gpt-4o-batch"] * 2
    (group,) = site.call("AdminApi", "model_group.info", key=key)["data"]
    assert (group["model_group"], group["mode"]) == ("gpt-4o-batch", "batch")


def completions(site: Site, key: str) -> None:
    chat = site.call("CompletionsApi", "chat.completions.create", key=site.master_key)
    assert (chat["object"], chat["model"]) == ("chat.completion", "gpt-3.5-turbo")
    text = site.call("CompletionsApi", "completions.create", key=site.master_key)
    assert (text["object"], text["model"]) == ("text_completion", "gpt-3.5-turbo")
    vectors = site.call("CompletionsApi", "embeddings.create", key=site.master_key)
    assert (len(vectors["data"]), vectors["model"]) == (1, "text-embedding-3-small")
    assert site.ask("CompletionsApi", "chat.completions.create", key=key)["statusCode"] == 403
    logged = site.call("AdminApi", "spend.logs", key=site.master_key)["data"]
    assert {"/chat/completions", "/completions", "/embeddings"} <= {log["call_type"] for log in logged}


def a_key_that_is_shown_and_changed(site: Site, key: str) -> None:
    changed = site.call("AdminApi", "key.update", key=key)
    (listed,) = site.call("AdminApi", "key.list")["keys"]
    shown = site.call("AdminApi", "key.info", key=key)["info"]
    assert changed["rpm_limit"] == shown["rpm_limit"] == 60
    assert shown == listed | {"spend": shown["spend"]}


def a_key_that_is_blocked_replaced_and_deleted(site: Site, key: str) -> None:
    first = site.call("AdminApi", "user.new")["key"]
    assert site.call("AdminApi", "key.block", key=first)["blocked"] is True
    assert site.call("AdminApi", "key.unblock", key=first)["blocked"] is False
    second = site.call("AdminApi", "key.regenerate", key=first)["key"]
    assert site.ask("AdminApi", "models.list", key=first)["statusCode"] == 401
    site.call("AdminApi", "key.delete", key=second)
    assert site.ask("AdminApi", "models.list", key=second)["statusCode"] == 401


def owners(site: Site, key: str) -> None:
    assert site.call("AdminApi", "user.info")["user_id"] == "ann"
    site.call("AdminApi", "team.new")
    assert site.call("AdminApi", "team.info")["team_info"]["team_alias"] == "Research"


def migrations_by_hand(site: Site, key: str) -> None:
    assert site.invoke("Migrations", load("empty")) == {"applied": []}


def what_is_malformed(site: Site, key: str) -> None:
    answer = site.ask("BatchesApi", "malformed.request", key=key)
    assert answer["statusCode"] == 400
    assert json.loads(answer["body"])["error"]["code"] == "invalid_json"
    event = load("malformed.message")
    failed = [{"itemIdentifier": event["Records"][0]["messageId"]}]
    assert site.invoke("BatchesWorker", event) == {"batchItemFailures": failed}


STORIES: dict[str, Callable[[Site, str], None]] = {
    story.__name__: story
    for story in (
        a_batch_from_upload_to_deletion,
        a_file_in_parts,
        a_file_by_a_presigned_link,
        health,
        models,
        completions,
        a_key_that_is_shown_and_changed,
        a_key_that_is_blocked_replaced_and_deleted,
        owners,
        migrations_by_hand,
        what_is_malformed,
    )
}
"""The longest first."""
