"""The API of a stack on one machine: its streamed routes, answered by processes of the function."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from starlette.routing import Router

from local.front import application
from local.places import ROOT
from local.streamed import StreamedFunction, routes

ARN = "arn:aws:lambda:us-east-1:000000000000:function:streams"
PATHS = [("GET", "/echo"), ("POST", "/echo"), ("GET", "/cookies"), ("GET", "/breaks"), ("GET", "/ends")]


@asynccontextmanager
async def front(**environment: str) -> AsyncIterator[httpx.AsyncClient]:
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT / 'layers' / 'common'}:{ROOT / 'functions'}:{ROOT}",
        "_HANDLER": "tests.support.streaming_app.handler",
    }
    function = StreamedFunction(ARN, 30.0, variables | environment, PATHS)
    app = application([function], "http://127.0.0.1:9", Path(sys.executable))
    assert isinstance(app.router, Router)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://front") as client,
    ):
        yield client


async def test_a_request_is_an_event_of_api_gateway() -> None:
    async with front() as client:
        answer = await client.post("/v1/echo?a=1&b=%26", content="höllo")
        assert answer.status_code == 200
        assert answer.headers["x-one"] == "1"
        told = answer.json()
        assert (told["body"], told["query"]) == ("höllo", {"a": "1", "b": "&"})
        cookies = await client.get("/v1/cookies")
        assert (cookies.status_code, dict(client.cookies)) == (201, {"a": "1", "b": "2"})


async def test_a_function_that_fails_is_a_502() -> None:
    async with front() as client:
        answer = await client.get("/v1/ends")
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "bad_gateway")
        assert (await client.get("/v1/echo")).json()["calls"] == 1, "in another environment"
        assert answer.headers["x-request-id"]
        assert "access-control-allow-origin" not in answer.headers
    async with front(FAILS_TO_START="yes") as client:
        assert (await client.get("/v1/echo")).status_code == 502


async def test_pages_may_read_that_a_function_failed_where_any_may_call() -> None:
    async with front(MANIFOLD_ALLOWED_ORIGINS="https://app.example.com") as client:
        answer = await client.get("/v1/ends", headers={"origin": "https://app.example.com"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (502, "*")


def test_the_streamed_routes_are_those_of_the_template() -> None:
    paths = ("/chat/completions", "/completions", "/embeddings")
    assert routes(ROOT / "template.yaml") == {
        "CompletionsApi": [(method, path) for method in ("POST", "OPTIONS") for path in paths]
    }
