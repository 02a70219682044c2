"""The events of `events/`, and a runner that invokes the template's functions with them."""

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import psycopg

from local.places import ROOT
from manifold.queue import Kind
from tests.support.aws import Aws

EVENTS = ROOT / "events"
ENDED = ("completed", "failed", "expired", "cancelled")
SECONDS = 300
_PLACEHOLDERS = {
    "key": "sk-your-virtual-key",
    "master_key": "sk-your-master-key",
    "deployment_id": "dep_YourDeployment",
    "file_id": "file-YourFile",
    "batch_id": "batch_YourBatch",
    "input_id": "input_YourInput",
    "upload_id": "upload_YourUpload",
    "part_id": "part_YourPart",
    "job_id": "job_YourJob",
    "join_id": "batch_YourBatch",
    "shard_id": "shard_YourShard",
    "chunk_id": "chunk_YourChunk",
    "retry_id": "batch_YourBatch",
    "webhook_id": "webhook_YourWebhook",
    "delivery_id": "delivery_YourDelivery",
    "response_url": "https://cloudformation-custom-resource-response-useast1.s3.amazonaws.com/YourAnswer",
}
_WORK: dict[Kind, tuple[str, str]] = {
    "batch": ("BatchesWorker", "control.batch"),
    "shard": ("BatchesWorker", "control.shard"),
    "input": ("FilesWorker", "transfers.input"),
    "job": ("FilesWorker", "transfers.job"),
    "join": ("FilesWorker", "transfers.join"),
    "retry": ("FilesWorker", "transfers.retry"),
    "file": ("FilesWorker", "transfers.file"),
    "deployment": ("FilesWorker", "transfers.deployment"),
    "upload": ("FilesWorker", "transfers.upload"),
    "webhook": ("WebhooksWorker", "webhooks.webhook"),
    "chunk": ("BatchesExecutor", "execution.chunk"),
}
"""The worker of each kind of message, and its event."""


def names() -> list[str]:
    return sorted(file.stem for file in EVENTS.glob("*.json"))


def load(name: str, **own: str) -> Any:
    """The event of this name, with a test's keys and ids in place of the placeholders."""
    event = json.loads(_filled((EVENTS / f"{name}.json").read_text(), own))
    if event.get("isBase64Encoded"):
        event["body"] = base64.b64encode(_filled(base64.b64decode(event["body"]).decode(), own).encode()).decode()
    if "requestContext" in event:  # a request that is too old is refused
        event["requestContext"]["requestTimeEpoch"] = int(time.time() * 1000)
    return event


def _filled(text: str, own: dict[str, str]) -> str:
    for member, value in own.items():
        text = text.replace(_PLACEHOLDERS[member], value)
    return text


@dataclass(frozen=True)
class FunctionRunner:
    """Invokes the functions, which run on a database, queues and a bucket of their own."""

    invoke: Callable[[str, Any], Any]
    """Invokes a function, by its name in the template, with an event, and returns its answer."""
    aws: Aws
    database_url: str
    master_key: str
    _delivery: Lock = field(default_factory=Lock)

    def request(self, function: str, event: str, **own: str) -> dict[str, Any]:
        """The function's answer to an API call: `statusCode`, `headers`, `body`."""
        answer: dict[str, Any] = self.invoke(function, load(event, master_key=self.master_key, **own))
        return answer

    def call(self, function: str, event: str, **own: str) -> Any:
        """The body of an API call's answer, which must be a success."""
        answer = self.request(function, event, **own)
        assert answer["statusCode"] == 200, answer
        return json.loads(answer["body"])

    def deliver(self) -> None:
        """Give the workers all messages that have arrived, each once, and wait until they are handled."""
        with self._delivery:
            aws = self.aws
            queues = (
                aws.transfers_queue_url,
                aws.control_queue_url,
                aws.webhooks_queue_url,
                aws.execution_queue_url,
            )
            waiting = [message for queue in queues for message in aws.take(queue)]
            for message in dict.fromkeys(waiting):
                function, event = _WORK[message.kind]
                answer = self.invoke(function, load(event, **{f"{message.kind}_id": message.id}))
                assert answer == {"batchItemFailures": []}, message

    def finish(self, batch_id: str, key: str) -> Any:
        """Run the schedule and the workers until the batch has ended, and return it."""
        deadline = time.monotonic() + SECONDS
        while True:
            self._make_due()
            self.invoke("BatchesPoller", load("schedule"))
            self.deliver()
            batch = self.call("BatchesApi", "batches.retrieve", batch_id=batch_id, key=key)
            if batch["status"] in ENDED:
                return batch
            assert time.monotonic() < deadline, batch
            time.sleep(0.1)

    def _make_due(self) -> None:
        """Make every shard due now, so that the test does not wait for its next step."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute("UPDATE shards SET due_at = now() WHERE due_at > now()")
