"""What only a deployed stack can test: the functions' roles, the queues behind them, the migrations."""

from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from local.running import Running
from manifold.activity import KEY


def test_the_database_is_migrated_and_reached(stack: Running) -> None:
    assert httpx.get(f"{stack.base_url}/health/readiness").status_code == 200


@pytest.mark.parametrize("path", ["/files", "/batches", "/webhooks", "/models"])
def test_each_api_function_asks_for_a_key(path: str, stack: Running) -> None:
    answer = httpx.get(stack.base_url + path)
    assert answer.status_code == 401
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_the_schedule_runs(stack: Running) -> None:
    assert stack.aws.invoke(stack.outputs["BatchesPollerName"], {}) is not None


@pytest.mark.parametrize("worker", ["FilesWorkerName", "BatchesWorkerName", "WebhooksWorkerName"])
def test_an_unreadable_message_fails_alone(worker: str, stack: Running) -> None:
    records = [{"messageId": "m-1", "body": "not ours"}]
    answer = stack.aws.invoke(stack.outputs[worker], {"Records": records})
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}


def test_the_emulator_holds_functions_to_their_roles(stack: Running) -> None:
    """Without this, the tests here would pass with roles that allow nothing."""
    with pytest.raises(ClientError, match="AccessDenied"):
        _s3(stack, "AdminApiName").list_objects_v2(Bucket=stack.outputs["BucketName"])


@pytest.mark.parametrize("writer", ["BatchesApiName", "WebhooksApiName"])
def test_requests_may_write_the_activity_mark_and_the_poller_may_read_it(writer: str, stack: Running) -> None:
    bucket = stack.outputs["BucketName"]

    written = _s3(stack, writer).put_object(Bucket=bucket, Key=KEY, Body=writer.encode())
    read = _s3(stack, "BatchesPollerName").head_object(Bucket=bucket, Key=KEY)

    assert read["ETag"] == written["ETag"]
    with pytest.raises(ClientError, match="AccessDenied"):
        _s3(stack, writer).put_object(Bucket=bucket, Key="files/another", Body=b"")


def _s3(stack: Running, function: str) -> Any:
    """A client with the role of a function."""
    found = stack.aws.client("lambda").get_function(FunctionName=stack.outputs[function])
    session = stack.aws.client("sts").assume_role(RoleArn=found["Configuration"]["Role"], RoleSessionName="test")
    return stack.aws.client("s3", session["Credentials"])
