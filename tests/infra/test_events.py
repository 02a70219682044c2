"""The events of `events/` against the template, and against the shapes that AWS sends.

https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway.html, …/with-sqs.html,
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html
"""

import base64
from pathlib import Path

import pytest

from manifold.queue import Message
from tests.infra.template import Template
from tests.support import event_scenarios, events

EVENTS = {name: events.load(name) for name in events.names()}
CALLS = {name: event for name, event in EVENTS.items() if "httpMethod" in event}
MESSAGES = {name: event for name, event in EVENTS.items() if "Records" in event}
MEMBERS = {
    "resource", "path", "httpMethod", "headers", "multiValueHeaders", "queryStringParameters",
    "multiValueQueryStringParameters", "pathParameters", "stageVariables", "requestContext", "body", "isBase64Encoded",
}  # fmt: skip


def test_every_route_has_an_event(template: Template) -> None:
    sent = [(event["httpMethod"], event["resource"]) for name, event in CALLS.items() if name != "malformed.request"]
    assert sorted(sent) == sorted(route for route, _ in template.routes())


def test_every_kind_of_message_has_an_event() -> None:
    sent = [
        Message.load(event["Records"][0]["body"]).kind for name, event in MESSAGES.items() if "malformed" not in name
    ]
    assert sorted(sent) == [
        "batch",
        "chunk",
        "deployment",
        "file",
        "input",
        "job",
        "join",
        "retry",
        "shard",
        "upload",
        "webhook",
    ]


def test_every_event_is_sent_to_a_handler() -> None:
    sources = "".join(Path(module.__file__ or "").read_text() for module in (events, event_scenarios))
    assert [name for name in events.names() if f'"{name}"' not in sources] == []


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_what_api_gateway_sends(name: str) -> None:
    event = CALLS[name]
    assert set(event) == MEMBERS
    context = event["requestContext"]
    assert (context["stage"], context["path"]) == ("v1", f"/v1{event['path']}")
    assert (context["resourcePath"], context["httpMethod"]) == (event["resource"], event["httpMethod"])
    assert event["path"] == event["resource"].format(**(event["pathParameters"] or {}))
    assert event["headers"] == _last(event["multiValueHeaders"])
    assert event["queryStringParameters"] == _last(event["multiValueQueryStringParameters"])
    assert event["isBase64Encoded"] is (event["body"] is not None)  # for the API takes */* as binary


def _last(values: dict[str, list[str]] | None) -> dict[str, str] | None:
    return {name: each[-1] for name, each in values.items()} if values else None


def test_an_upload_is_a_form_in_base64() -> None:
    event = CALLS["files.create"]
    kind, _, boundary = event["headers"]["Content-Type"].partition("; boundary=")
    body = base64.b64decode(event["body"])
    assert kind == "multipart/form-data"
    assert body.startswith(f"--{boundary}\r\n".encode())
    assert body.endswith(f"--{boundary}--\r\n".encode())


@pytest.mark.parametrize("name", MESSAGES)
def test_a_record_is_what_sqs_sends(name: str) -> None:
    (record,) = MESSAGES[name]["Records"]
    assert set(record) == {
        "messageId", "receiptHandle", "body", "attributes", "messageAttributes", "md5OfBody", "eventSource",
        "eventSourceARN", "awsRegion",
    }  # fmt: skip
    assert record["eventSource"] == "aws:sqs"
