"""The baselines: the least that a gateway in Python does. FastAPI reads the body, and a client forwards it.

`PROVIDER_URL` is the provider. `aiohttp` uses the transport of `manifold.providers.completion_client`, `httpx` the one
of most gateways.
"""

import os
from collections.abc import Awaitable, Callable
from functools import cache

import orjson
from fastapi import FastAPI, Request, Response

HEADERS = {"content-type": "application/json", "authorization": "Bearer bench"}
Forward = Callable[[str, bytes], Awaitable[bytes]]


def forwarder(client: Callable[[], Forward]) -> FastAPI:
    """An app that forwards by this client, which is created once, in the running event loop."""
    app = FastAPI(openapi_url=None)
    connected = cache(client)

    @app.post("/chat/completions")
    async def forward(request: Request) -> Response:
        body = orjson.loads(await request.body())
        answer = await connected()(os.environ["PROVIDER_URL"] + "/chat/completions", orjson.dumps(body))
        return Response(orjson.dumps(orjson.loads(answer)), media_type="application/json")

    return app


def _by_aiohttp() -> Forward:
    from aiohttp import ClientSession, TCPConnector

    session = ClientSession(connector=TCPConnector(limit=0))

    async def forward(url: str, body: bytes) -> bytes:
        async with session.post(url, data=body, headers=HEADERS) as answer:
            return await answer.read()

    return forward


def _by_httpx() -> Forward:
    from httpx import AsyncClient, Limits

    client = AsyncClient(limits=Limits(max_connections=None, max_keepalive_connections=None))

    async def forward(url: str, body: bytes) -> bytes:
        return (await client.post(url, content=body, headers=HEADERS)).content

    return forward


aiohttp = forwarder(_by_aiohttp)
httpx = forwarder(_by_httpx)
