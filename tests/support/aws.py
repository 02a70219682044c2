"""S3 and SQS for tests, faked by moto in the test's process: a bucket and the four queues.

The tests of `tests/stack` run the same code on another emulator, MiniStack.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws

from manifold.queue import Message

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from types_boto3_sqs.client import SQSClient

BUCKET = "manifold-tests"


@dataclass(frozen=True)
class Aws:
    """The bucket and the queues, with what the code under test has written and sent."""

    s3: "S3Client"
    sqs: "SQSClient"
    control_queue_url: str
    transfers_queue_url: str
    webhooks_queue_url: str
    execution_queue_url: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a gateway finds it."""
        return {
            "MANIFOLD_BUCKET": BUCKET,
            "MANIFOLD_CONTROL_QUEUE_URL": self.control_queue_url,
            "MANIFOLD_TRANSFERS_QUEUE_URL": self.transfers_queue_url,
            "MANIFOLD_WEBHOOKS_QUEUE_URL": self.webhooks_queue_url,
            "MANIFOLD_EXECUTION_QUEUE_URL": self.execution_queue_url,
        }

    def keys(self, prefix: str = "") -> list[str]:
        """The keys of the objects in the bucket that begin with `prefix`."""
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())]

    def read(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def write(self, key: str, content: bytes) -> None:
        """Put an object where a presigned link would."""
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)

    def empty(self) -> None:
        """Delete every object."""
        for key in self.keys():
            self.s3.delete_object(Bucket=BUCKET, Key=key)

    def open_uploads(self) -> int:
        """Multipart uploads that were neither completed nor aborted."""
        return len(self.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ()))

    def take(self, queue_url: str) -> list[Message]:
        """The messages that have arrived, taken out of the queue."""
        taken = []
        while messages := self.sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get("Messages"):
            for one in messages:
                self.sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=one["ReceiptHandle"])
                taken.append(Message.load(one["Body"]))
        return taken

    def delayed(self, queue_url: str) -> int:
        """How many messages have not arrived yet."""
        attributes = self.sqs.get_queue_attributes(
            QueueUrl=queue_url, AttributeNames=["ApproximateNumberOfMessagesDelayed"]
        )["Attributes"]
        return int(attributes["ApproximateNumberOfMessagesDelayed"])


@cache
def _session() -> boto3.Session:
    """One session for all tests: a new one would parse botocore's service descriptions again."""
    return boto3.Session()


@contextmanager
def emulated() -> Iterator[Aws]:
    """An empty bucket and three empty queues, in a region of their own."""
    with pytest.MonkeyPatch.context() as environment, mock_aws():
        environment.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        environment.setattr(boto3, "DEFAULT_SESSION", _session())
        s3, sqs = boto3.client("s3"), boto3.client("sqs")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        control = sqs.create_queue(QueueName="control")["QueueUrl"]
        transfers = sqs.create_queue(QueueName="transfers")["QueueUrl"]
        webhooks = sqs.create_queue(QueueName="webhooks")["QueueUrl"]
        execution = sqs.create_queue(QueueName="execution")["QueueUrl"]
        yield Aws(s3, sqs, control, transfers, webhooks, execution)
