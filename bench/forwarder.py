"""The floor: the least that a gateway in Python does. FastAPI takes the body, aiohttp forwards it, the answer returns.

`PROVIDER_URL` says where to; the transport is the one that `manifold.providers.client` uses.
"""

import os

import aiohttp
import orjson
from fastapi import FastAPI, Request, Response

app = FastAPI(openapi_url=None)
_sessions: list[aiohttp.ClientSession] = []


def _session() -> aiohttp.ClientSession:
    if not _sessions:
        _sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    return _sessions[0]


@app.post("/chat/completions")
async def forward(request: Request) -> Response:
    body = orjson.loads(await request.body())
    headers = {"content-type": "application/json", "authorization": "Bearer bench"}
    url = os.environ["PROVIDER_URL"] + "/chat/completions"
    async with _session().post(url, data=orjson.dumps(body), headers=headers) as answer:
        content = orjson.loads(await answer.read())
    return Response(orjson.dumps(content), media_type="application/json")
