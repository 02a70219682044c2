"""Every route of every app answers errors in OpenAI's shape, and refuses requests without a key.

Apps and routes are found, not listed: a new one is tested from its first day.
"""

import re
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI

from manifold.gateway import Gateway
from tests.support import apps, gateways

ROUTES = [route for route in apps.every_route() if route[1] != "HEAD"]  # whose answers have no body
CLOSED = [route for route in ROUTES if route[1:] not in apps.PUBLIC]
NOWHERE = "postgresql://ann:hush@127.0.0.1:1/manifold"

each_route = pytest.mark.parametrize(("app_name", "method", "path"), ROUTES)
each_closed_route = pytest.mark.parametrize(("app_name", "method", "path"), CLOSED)


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS clients can be created, and reach nothing."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")


@pytest.fixture
def app(app_name: str, gateway: Gateway) -> FastAPI:
    return apps.create(app_name, gateway)


async def ask(app: FastAPI, method: str, path: str, key: str | None, **options: Any) -> httpx.Response:
    async with gateways.client(app, key) as client:
        return await client.request(method, re.sub(r"{\w+}", "nothing", path), **options)


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer, checked for its shape and against the SDK's types."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert answer.json().keys() == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"][-1] in ".…"
    assert isinstance(error["type"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] is None or isinstance(error["code"], str)
    return error


def test_there_are_routes_to_test() -> None:
    assert {"admin", "batches", "completions", "files"} <= {app for app, _, _ in ROUTES}
    assert {route[1:] for route in ROUTES} >= apps.PUBLIC


@each_closed_route
@pytest.mark.parametrize("key", [None, "sk-nobody-has-this-key"])
async def test_nobody_gets_in_without_a_key(app: FastAPI, method: str, path: str, key: str | None) -> None:
    answer = await ask(app, method, path, key)

    assert answer.status_code == 401
    assert error_of(answer)["code"] == "invalid_api_key"


@each_closed_route
async def test_a_database_that_is_down(app_name: str, method: str, path: str) -> None:
    down = apps.create(app_name, gateways.gateway(NOWHERE))

    answer = await ask(down, method, path, "sk-some-virtual-key")

    assert answer.status_code == 503
    assert error_of(answer)["code"] == "unavailable"
    assert "hush" not in answer.text


async def test_it_is_not_ready_while_the_database_is_down() -> None:
    down = apps.create("admin", gateways.gateway(NOWHERE))

    assert (await ask(down, "GET", "/health/liveliness", None)).status_code == 200
    answer = await ask(down, "GET", "/health/readiness", None)
    assert answer.status_code == 503
    error_of(answer)


@each_closed_route
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b'{"nobody_knows": 1}'),
        ("application/json", rb'{"nobody_knows\ud800": 1}'),
        (
            "application/json",
            rb'{"model": "\ud800", "purpose": "\udfff", "input_file_id": "\ud800", "part_ids": ["\ud800"]}',
        ),
        ("application/json", b'{"nobody_knows": "\xed\xa0\x80"}'),
        ("multipart/form-data", b"--"),
        ("", b""),
    ],
)
async def test_a_body_that_makes_no_sense(app: FastAPI, method: str, path: str, content_type: str, body: bytes) -> None:
    if method != "POST" or "{" in path:
        body = b""

    answer = await ask(app, method, path, gateways.MASTER_KEY, content=body, headers={"content-type": content_type})

    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        error_of(answer)


@each_closed_route
async def test_an_id_that_is_not_there(app: FastAPI, method: str, path: str) -> None:
    if "{" not in path:
        path += "/{nothing}"

    body = {"event_type": "batch.completed"} if path.endswith("/test") else {}
    answer = await ask(app, method, path, gateways.MASTER_KEY, json=body if path.startswith("/webhook_") else None)

    assert answer.status_code in (404, 405), answer.text
    error_of(answer)


@each_route
async def test_a_method_that_the_path_does_not_have(app: FastAPI, method: str, path: str) -> None:
    answer = await ask(app, "PATCH", path, gateways.MASTER_KEY)

    assert answer.status_code == 405
    assert error_of(answer)["code"] == "method_not_allowed"


@pytest.mark.parametrize("app_name", apps.NAMES)
async def test_a_fault_of_ours(app_name: str, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(NOWHERE)

    for unit_of_work in ("session", "fetch_text"):
        monkeypatch.setattr(gateway.store.database, unit_of_work, broken)
    app = apps.create(app_name, gateway)
    method, path = next(route for route in apps.routes(app) if route not in apps.PUBLIC)

    answer = await ask(app, method, path, "sk-some-virtual-key")

    assert answer.status_code == 500
    assert error_of(answer)["code"] == "internal_error"
    assert "hush" not in answer.text


async def test_the_sdk_reads_all_of_an_error(gateway: Gateway) -> None:
    async with gateways.sdk(apps.create("admin", gateway)) as sdk:
        with pytest.raises(openai.NotFoundError) as missing:
            await sdk.models.retrieve("nothing")

    error = missing.value
    assert (error.code, error.param, error.type) == ("model_not_found", "model", "invalid_request_error")
    assert error.request_id
