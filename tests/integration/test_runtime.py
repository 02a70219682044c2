"""The runtime of functions whose answers stream, as a process, against a Runtime API written from the protocol."""

import asyncio
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

from local.places import ROOT
from local.runtime_api import FunctionError, Invocation, RuntimeApi

ARN = "arn:aws:lambda:us-east-1:000000000000:function:streams"


class Function:
    """A function with one environment."""

    def __init__(self, api: RuntimeApi, process: asyncio.subprocess.Process) -> None:
        self.api = api
        self.process = process

    def invoke(self, path: str, body: str | None = None, method: str = "GET", **query: object) -> Invocation:
        """Send API Gateway's event of a request."""
        return self.api.invoke(
            {
                "resource": path,
                "path": path,
                "httpMethod": method,
                "headers": {"content-type": "application/json"},
                "multiValueHeaders": {"content-type": ["application/json"]},
                "queryStringParameters": {name: str(value) for name, value in query.items()},
                "multiValueQueryStringParameters": {name: [str(value)] for name, value in query.items()},
                "requestContext": {"requestId": "request", "identity": {"sourceIp": "127.0.0.1"}},
                "body": body,
                "isBase64Encoded": False,
            }
        )

    async def answer(self, path: str, **how: Any) -> tuple[dict[str, Any], bytes]:
        """The head and the body of an answer."""
        invocation = self.invoke(path, **how)
        head, first = await invocation.head()
        return head, first + await rest(invocation)

    async def echo(self, **how: Any) -> Any:
        _, content = await self.answer("/echo", **how)
        return json.loads(content)


async def rest(invocation: Invocation) -> bytes:
    return b"".join([piece async for piece in invocation.body()])


@asynccontextmanager
async def function(seconds: float = 30.0, **environment: str) -> AsyncIterator[Function]:
    api = RuntimeApi(ARN, seconds)
    await api.start()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "manifold.runtime",
        cwd=ROOT,
        env=os.environ
        | {
            "PYTHONPATH": "layers/common:functions:.",
            "AWS_LAMBDA_RUNTIME_API": api.address,
            "AWS_LAMBDA_FUNCTION_NAME": "streams",
            "_HANDLER": "tests.support.streaming_app.handler",
        }
        | environment,
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield Function(api, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await api.stop()


@pytest.fixture
async def streams() -> AsyncIterator[Function]:
    async with function() as made:
        yield made


async def test_an_answer_has_a_head_and_a_body(streams: Function) -> None:
    head, content = await streams.answer("/echo", body="höllo", method="POST", a=1)
    assert head["statusCode"] == 200
    assert head["multiValueHeaders"]["content-type"] == ["application/json"]
    assert head["multiValueHeaders"]["x-one"] == ["1"]
    assert "höllo" in content.decode()
    assert '"query":{"a":"1"}' in content.decode()


async def test_cookies_are_apart(streams: Function) -> None:
    head, content = await streams.answer("/cookies")
    assert (head["statusCode"], content) == (201, b"ok")
    assert [cookie.partition(";")[0] for cookie in head["cookies"]] == ["a=1", "b=2"]
    assert "set-cookie" not in head["multiValueHeaders"]


async def test_the_app_knows_its_invocation(streams: Function) -> None:
    invocation = streams.invoke("/echo")
    _, content = await invocation.head()
    content += await rest(invocation)
    assert invocation.id in content.decode()
    assert invocation.trace_id in content.decode()
    told = await streams.echo()
    assert 25_000 < told["remaining"] <= 30_000


async def test_pieces_come_as_they_are_sent(streams: Function) -> None:
    invocation = streams.invoke("/ticks", count=20, pause=0.05)
    _, first = await invocation.head()
    delays = [time.time() - float(first)] if first else []
    async for piece in invocation.body():
        delays.append(time.time() - float(piece))
    assert len(delays) == 20
    assert statistics.median(delays) < 0.02


async def test_a_large_answer_is_not_held(streams: Function) -> None:
    """300 MB, of which the client takes some after a while: the function waits with the rest."""
    await streams.answer("/large", pieces=1)
    process = psutil.Process(streams.process.pid)
    before = process.memory_info().rss
    invocation = streams.invoke("/large", pieces=5_000)
    _, first = await invocation.head()
    taken = len(first)
    async for piece in invocation.body():
        taken += len(piece)
    assert taken == 5_000 * 65_536
    assert process.memory_info().rss - before < 40 * 2**20


async def test_an_error_before_the_head_fails_the_invocation(streams: Function) -> None:
    invocation = streams.api.invoke({"no": "event of API Gateway"})
    with pytest.raises(FunctionError) as caught:
        await invocation.head()
    assert caught.value.kind == "Runtime.KeyError"
    assert (await streams.echo())["calls"] == 1, "the environment goes on"


async def test_an_error_of_the_app_is_its_answer(streams: Function) -> None:
    """Starlette sends a 500, and raises the error after it."""
    head, content = await streams.answer("/fails")
    assert (head["statusCode"], content) == (500, b"Internal Server Error")


async def test_an_error_after_the_head_is_in_the_trailer(streams: Function) -> None:
    invocation = streams.invoke("/breaks")
    _, first = await invocation.head()
    assert first in (b"", b"first\n")
    with pytest.raises(FunctionError) as caught:
        await rest(invocation)
    assert caught.value.kind == "Runtime.RuntimeError"
    assert caught.value.details["errorMessage"] == "after the head"
    assert (await streams.echo())["calls"] == 1


async def test_the_deadline_breaks_an_answer_off() -> None:
    async with function(seconds=1.5) as streams:
        invocation = streams.invoke("/ticks", count=100, pause=0.1)
        await invocation.head()
        with pytest.raises(FunctionError, match="DeadlineExceeded"):
            await rest(invocation)
        assert (await streams.echo())["cancelled"] == 1


async def test_a_client_that_leaves_ends_the_answer(streams: Function) -> None:
    invocation = streams.invoke("/ticks", count=1_000, pause=0.05)
    await invocation.head()
    began = time.monotonic()
    invocation.leave()
    told = await streams.echo()
    assert told["cancelled"] == 1
    assert time.monotonic() - began < 1


async def test_a_function_that_cannot_start_says_why() -> None:
    async with function(FAILS_TO_START="yes") as streams:
        await streams.process.wait()
        assert streams.api.init_error is not None
        assert streams.api.init_error.details["errorMessage"] == "no configuration"
        assert streams.process.returncode == 1


async def test_an_environment_that_ends_fails_its_invocation(streams: Function) -> None:
    with pytest.raises(FunctionError, match="ended"):
        await streams.invoke("/ends").head()


async def test_an_environment_is_frozen_between_invocations(streams: Function) -> None:
    first = await streams.echo()
    streams.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.5)
    streams.process.send_signal(signal.SIGCONT)
    second = await streams.echo()
    assert (first["calls"], second["calls"]) == (1, 2)
    assert second["loops"] == 1, "one event loop serves all"
    assert first["trace"] != second["trace"]


async def test_many_invocations_leave_nothing(streams: Function) -> None:
    process = psutil.Process(streams.process.pid)
    for _ in range(500):
        await streams.echo()
    objects = (await streams.echo(objects=1))["objects"]
    memory, files = process.memory_info().rss, process.num_fds()
    for _ in range(10_000):
        await streams.answer("/echo")
    assert (await streams.echo(objects=1))["objects"] < objects + 500
    assert process.num_fds() <= files
    assert process.memory_info().rss - memory < 8 * 2**20
