"""The API of a stack, as API Gateway is: routes that stream go to their function's runtime, all others to the emulator.

The emulator answers with a whole body at a time. This speaks HTTP with clients and the Runtime API with the functions.
https://docs.aws.amazon.com/apigateway/latest/developerguide/response-transfer-mode.html
"""

import argparse
import asyncio
import base64
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from local.environments import Environments
from local.places import tool
from local.runtime_api import FunctionError, Invocation
from local.streamed import StreamedFunction

STAGE = "/v1"
IDLE_SECONDS, LONGEST_SECONDS = 300.0, 900.0
"""A stream is ended that sends nothing for so long, or goes on for longer."""
PASSED_SECONDS = 120.0
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
OF_CONNECTIONS = frozenset({"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"})
"""Headers that are of one connection, and are not passed on."""


class _Failed(Exception):
    """The function did not answer."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


def application(functions: list[StreamedFunction], emulator: str, interpreter: Path) -> Starlette:
    """The app of a stack: its streamed functions, run by `interpreter`, and the address of the emulator's API."""
    command: list[str | Path] = [interpreter, "-m", "manifold.runtime"]
    runtimes = [(one, Environments(one, command)) for one in functions]
    client = httpx.AsyncClient(base_url=emulator, timeout=PASSED_SECONDS, follow_redirects=False)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        for _, one in runtimes:
            await one.start()
        yield
        for _, one in runtimes:
            await one.stop()
        await client.aclose()

    def streamed(function: StreamedFunction, environments: Environments, resource: str) -> Any:
        with_cors = bool(function.environment.get("MANIFOLD_ALLOWED_ORIGINS"))

        async def answer(request: Request) -> Response:
            event = await _event(request, resource)
            try:
                return await _streamed(request, environments, event)
            except _Failed as failed:
                return _failed(failed, event["requestContext"]["requestId"], with_cors)

        return answer

    async def passed(request: Request) -> Response:
        return await _passed(request, client)

    routes = [
        Route(STAGE + path, streamed(function, environments, path), methods=[method])
        for function, environments in runtimes
        for method, path in function.routes
    ]
    return Starlette(routes=[*routes, Route("/{path:path}", passed, methods=METHODS)], lifespan=lifespan)


async def _streamed(request: Request, environments: Environments, event: dict[str, Any]) -> Response:
    invocation = await environments.invoke(event)
    ends = time.monotonic() + LONGEST_SECONDS
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            head, first = await _unless_left(request, invocation)
    except TimeoutError:
        invocation.leave()
        raise _Failed(504, "The request took too long. Try again.", "timeout") from None
    except FunctionError as error:
        raise _Failed(502, "The request failed inside the gateway. Try again.", "bad_gateway") from error
    answer = StreamingResponse(_body(invocation, first, ends), head["statusCode"])
    answer.raw_headers = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, values in head.get("multiValueHeaders", {}).items()
        for value in values
        if name not in OF_CONNECTIONS
    ]
    answer.raw_headers += [(b"set-cookie", cookie.encode("latin-1")) for cookie in head.get("cookies", ())]
    return answer


async def _unless_left(request: Request, invocation: Invocation) -> tuple[dict[str, Any], bytes]:
    """The head of the answer. The function is told if the client leaves before it comes."""
    coming = asyncio.create_task(invocation.head())
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait((coming, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            invocation.leave()
        return await coming
    finally:
        coming.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(invocation: Invocation, first: bytes, ends: float) -> AsyncIterator[bytes]:
    """The body as it comes. Where it breaks off, so does the connection; if the client leaves, the function is told."""
    pieces = invocation.body()
    try:
        if first:
            yield first
        while True:
            async with asyncio.timeout(min(IDLE_SECONDS, ends - time.monotonic())):
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece
    finally:
        invocation.leave()


async def _event(request: Request, resource: str) -> dict[str, Any]:
    """API Gateway's event: https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway.html#apigateway-example-event"""
    body = await request.body()
    headers: dict[str, list[str]] = {}
    for name, value in request.headers.items():
        headers.setdefault(name, []).append(value)
    query = parse_qs(request.url.query, keep_blank_values=True)
    path = request.url.path.removeprefix(STAGE)
    host = request.client.host if request.client else "127.0.0.1"
    return {
        "resource": resource,
        "path": path,
        "httpMethod": request.method,
        "headers": {name: values[-1] for name, values in headers.items()},
        "multiValueHeaders": headers,
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "requestId": str(uuid.uuid4()),
            "requestTimeEpoch": int(time.time() * 1000),
            "stage": STAGE[1:],
            "path": request.url.path,
            "resourcePath": resource,
            "httpMethod": request.method,
            "protocol": "HTTP/1.1",
            "identity": {"sourceIp": host, "userAgent": request.headers.get("user-agent")},
        },
        "body": base64.b64encode(body).decode() if body else None,
        "isBase64Encoded": bool(body),
    }


async def _passed(request: Request, client: httpx.AsyncClient) -> Response:
    """The emulator's answer."""
    path = request.scope["raw_path"].decode().partition("?")[0].removeprefix(STAGE)
    url = httpx.URL(str(client.base_url).rstrip("/") + path, query=request.url.query.encode())
    headers = [(name, value) for name, value in request.headers.raw if name.decode() not in OF_CONNECTIONS | {"host"}]
    content = await request.body()
    sent = client.build_request(request.method, url, headers=headers, content=content or None)
    answer = await client.send(sent, stream=True)
    passed = StreamingResponse(_pieces(answer), answer.status_code)
    passed.raw_headers = [
        (name, value) for name, value in answer.headers.raw if name.lower().decode() not in OF_CONNECTIONS
    ]
    return passed


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        await answer.aclose()


def _failed(failed: _Failed, request_id: str, with_cors: bool) -> Response:
    """The gateway response of the template for this failure."""
    headers = {"x-request-id": request_id}
    if with_cors:
        headers |= {"access-control-allow-origin": "*", "access-control-expose-headers": "x-request-id"}
    error = {"message": failed.message, "type": "server_error", "param": None, "code": failed.code}
    return JSONResponse({"error": error}, failed.status, headers)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.front", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--emulator", required=True, help="the address of the emulator's API")
    parser.add_argument("--functions", type=Path, required=True, help="the streamed functions, as JSON")
    parser.add_argument("--interpreter", type=Path, default=tool("ministack", "python"), help="the Python of functions")
    given = parser.parse_args()
    functions = [StreamedFunction(**one) for one in json.loads(given.functions.read_text())]
    app = application(functions, given.emulator, given.interpreter)
    config = uvicorn.Config(app, given.host, given.port, log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
