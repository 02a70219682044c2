"""The baselines: the least that a gateway in Python does. FastAPI reads the body, and a client forwards it.

`PROVIDER_URL` is the provider. `aiohttp` uses the transport of `manifold.providers.completion_client`, `httpx` the one
of most gateways. The bytes of a stream are passed on as they come, unread.
"""

import os
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import Protocol

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

HEADERS = {"content-type": "application/json", "authorization": "Bearer bench"}


class Client(Protocol):
    """POSTs a body, and returns the answer: whole, or in pieces as they come."""

    async def read(self, url: str, body: bytes) -> bytes: ...

    def stream(self, url: str, body: bytes) -> AsyncIterator[bytes]: ...


def forwarder(client: Callable[[], Client]) -> FastAPI:
    """An app that forwards by this client, which is created once, in the running event loop."""
    app = FastAPI(openapi_url=None)
    connected = cache(client)

    @app.post("/chat/completions")
    async def forward(request: Request) -> Response:
        body = orjson.loads(await request.body())
        url, content = os.environ["PROVIDER_URL"] + "/chat/completions", orjson.dumps(body)
        if body.get("stream"):
            return StreamingResponse(connected().stream(url, content), media_type="text/event-stream")
        answer = await connected().read(url, content)
        return Response(orjson.dumps(orjson.loads(answer)), media_type="application/json")

    return app


class ByAiohttp:
    def __init__(self) -> None:
        from aiohttp import ClientSession, TCPConnector

        self._session = ClientSession(connector=TCPConnector(limit=0))

    async def read(self, url: str, body: bytes) -> bytes:
        async with self._session.post(url, data=body, headers=HEADERS) as answer:
            return await answer.read()

    async def stream(self, url: str, body: bytes) -> AsyncIterator[bytes]:
        async with self._session.post(url, data=body, headers=HEADERS) as answer:
            async for piece in answer.content.iter_any():
                yield piece


class ByHttpx:
    def __init__(self) -> None:
        from httpx import AsyncClient, Limits

        self._client = AsyncClient(limits=Limits(max_connections=None, max_keepalive_connections=None))

    async def read(self, url: str, body: bytes) -> bytes:
        return (await self._client.post(url, content=body, headers=HEADERS)).content

    async def stream(self, url: str, body: bytes) -> AsyncIterator[bytes]:
        async with self._client.stream("POST", url, content=body, headers=HEADERS) as answer:
            async for piece in answer.aiter_raw():
                yield piece


aiohttp = forwarder(ByAiohttp)
httpx = forwarder(ByHttpx)
