"""Every event of `events/`, sent to the function that it is for: the same tests for each place where functions run."""

import json
from typing import Any
from urllib.parse import urlsplit

from manifold.store.files import storage_key
from tests.support.events import Site, load


class EventTests:
    """A test module makes a class of it, with a `site` and the fixtures of `tests.support.event_fixtures`."""

    def test_migrations_run_for_cloudformation(self, migration: Any) -> None:
        assert migration["Status"] == "SUCCESS"
        assert migration["Data"]["Applied"].startswith("0001")

    def test_migrations_run_by_hand(self, site: Site, migration: Any) -> None:
        assert site.invoke("Migrations", load("empty")) == {"applied": []}

    def test_health(self, site: Site) -> None:
        assert site.call("AdminApi", "health.liveliness") == "I'm alive!"
        assert site.call("AdminApi", "health.readiness") == {"status": "healthy", "db": "connected"}

    def test_models(self, site: Site, key: str) -> None:
        (listed,) = site.call("AdminApi", "models.list", key=key)["data"]
        assert listed == site.call("AdminApi", "models.retrieve", key=key)
        assert listed["id"] == "gpt-4o-batch"

    def test_model_info(self, site: Site, key: str) -> None:
        deployments = site.call("AdminApi", "model.info", key=key)["data"]
        assert [one["model_name"] for one in deployments] == ["gpt-4o-batch", "gpt-4o-batch"]
        (group,) = site.call("AdminApi", "model_group.info", key=key)["data"]
        assert (group["model_group"], group["mode"]) == ("gpt-4o-batch", "batch")

    def test_a_key_is_shown_and_changed(self, site: Site, key: str) -> None:
        changed = site.call("AdminApi", "key.update", key=key)
        (listed,) = site.call("AdminApi", "key.list")["keys"]
        shown = site.call("AdminApi", "key.info", key=key)["info"]
        assert changed["rpm_limit"] == shown["rpm_limit"] == 60
        assert listed["token_id"] == shown["token_id"]

    def test_a_key_is_blocked_and_let_in_again(self, site: Site, key: str) -> None:
        assert site.call("AdminApi", "key.block", key=key)["blocked"] is True
        assert site.ask("AdminApi", "models.list", key=key)["statusCode"] == 403
        assert site.call("AdminApi", "key.unblock", key=key)["blocked"] is False

    def test_owners(self, site: Site, key: str) -> None:
        assert site.call("AdminApi", "user.info")["user_id"] == "ann"
        site.call("AdminApi", "team.new")
        assert site.call("AdminApi", "team.info")["team_info"]["team_alias"] == "Research"

    def test_a_key_is_replaced_and_deleted(self, site: Site, migration: Any) -> None:
        first = site.call("AdminApi", "user.new")["key"]
        second = site.call("AdminApi", "key.regenerate", key=first)["key"]
        assert site.ask("AdminApi", "models.list", key=first)["statusCode"] == 401
        site.call("AdminApi", "key.delete", key=second)
        assert site.ask("AdminApi", "models.list", key=second)["statusCode"] == 401

    def test_an_upload_reaches_every_deployment(self, site: Site, key: str, file_id: str) -> None:
        file = site.call("FilesApi", "files.retrieve", file_id=file_id, key=key)
        assert (file["filename"], file["status"]) == ("request.jsonl", "processed")
        assert [one["state"] for one in file["inputs"]] == ["ready", "ready"]
        listed = site.call("FilesApi", "files.list", key=key)["data"]
        assert file_id in [one["id"] for one in listed]

    def test_a_batch_runs_to_its_end(self, site: Site, key: str, batch: Any) -> None:
        assert batch["status"] == "completed"
        assert batch["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
        listed = site.call("BatchesApi", "batches.list", key=key)["data"]
        assert batch["id"] in [one["id"] for one in listed]

    def test_the_output_is_behind_a_link(self, site: Site, key: str, batch: Any) -> None:
        answer = site.ask("FilesApi", "files.content", file_id=batch["output_file_id"], key=key)
        assert answer["statusCode"] == 302
        stored = storage_key(batch["output_file_id"])
        assert urlsplit(answer["headers"]["location"]).path.endswith(f"/{stored}")
        lines = [json.loads(line) for line in site.aws.read(stored).splitlines()]
        assert {line["custom_id"] for line in lines} == {"request-1", "request-2"}

    def test_a_batch_is_cancelled(self, site: Site, key: str, file_id: str) -> None:
        batch_id = site.call("BatchesApi", "batches.create", file_id=file_id, key=key)["id"]
        cancelling = site.call("BatchesApi", "batches.cancel", batch_id=batch_id, key=key)
        assert cancelling["status"] == "cancelling"
        assert site.finish(batch_id, key)["status"] == "cancelled"

    def test_a_deleted_file_goes_everywhere(self, site: Site, key: str, batch: Any) -> None:
        file_id = batch["output_file_id"]
        assert site.call("FilesApi", "files.delete", file_id=file_id, key=key)["deleted"] is True
        site.deliver()
        stored = site.aws.keys()
        assert storage_key(file_id) not in stored
        assert site.ask("FilesApi", "files.retrieve", file_id=file_id, key=key)["statusCode"] == 404

    def test_a_malformed_request_is_refused(self, site: Site, key: str) -> None:
        answer = site.ask("BatchesApi", "malformed.request", key=key)
        assert answer["statusCode"] == 400
        assert json.loads(answer["body"])["error"]["code"] == "invalid_json"

    def test_a_malformed_message_fails_alone(self, site: Site) -> None:
        event = load("malformed.message")
        assert site.invoke("BatchesWorker", event) == {
            "batchItemFailures": [{"itemIdentifier": event["Records"][0]["messageId"]}]
        }
