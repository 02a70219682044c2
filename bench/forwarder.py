"""The floors: the least that a gateway in Python does. FastAPI takes the body, a client forwards it, and back.

`PROVIDER_URL` says where to. `aiohttp` forwards by the transport of `manifold.providers.client`, `httpx` by the one
that most gateways have.
"""

import os
from collections.abc import Awaitable, Callable
from functools import cache

import orjson
from fastapi import FastAPI, Request, Response

HEADERS = {"content-type": "application/json", "authorization": "Bearer bench"}
Forward = Callable[[str, bytes], Awaitable[bytes]]


def floor(client: Callable[[], Forward]) -> FastAPI:
    """The app before a client, which is made once, within the running loop."""
    app = FastAPI(openapi_url=None)
    forwarding = cache(client)

    @app.post("/chat/completions")
    async def forward(request: Request) -> Response:
        body = orjson.loads(await request.body())
        answer = await forwarding()(os.environ["PROVIDER_URL"] + "/chat/completions", orjson.dumps(body))
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


aiohttp = floor(_by_aiohttp)
httpx = floor(_by_httpx)
