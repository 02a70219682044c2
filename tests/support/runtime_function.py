"""A function as a process of its own runtime, against the Runtime API of `local`."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from local.places import ROOT
from local.runtime_api import Invocation, RuntimeApi

ARN = "arn:aws:lambda:us-east-1:000000000000:function:streams"


class Function:
    """A function with one environment."""

    def __init__(self, api: RuntimeApi, process: asyncio.subprocess.Process) -> None:
        self.api = api
        self.process = process

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is so, or raise `RuntimeError` if the process ends."""
        while not reached():
            if self.process.returncode is not None:
                raise RuntimeError(f"the function has ended: {self.process.returncode}")
            await asyncio.sleep(0.005)

    def invoke(
        self, path: str, body: str | None = None, method: str = "GET", key: str = "", **query: object
    ) -> Invocation:
        """Send API Gateway's event of a request."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        return self.api.invoke(
            {
                "resource": path,
                "path": path,
                "httpMethod": method,
                "headers": headers,
                "multiValueHeaders": {name: [value] for name, value in headers.items()},
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
async def function(environment: Mapping[str, str] | None = None, seconds: float = 30.0) -> AsyncIterator[Function]:
    """A function with these variables, until the block ends; by default the streaming app."""
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
        | dict(environment or {}),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield Function(api, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await api.stop()
