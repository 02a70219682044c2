"""An ASGI app whose paths are how it answers; the runtime's tests have it served by a process."""

import asyncio
import gc
import json
import os
import time
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

if os.environ.get("FAILS_TO_START"):
    raise RuntimeError("no configuration")

seen: dict[str, Any] = {"calls": 0, "cancelled": 0, "loops": set()}


async def echo(request: Request) -> Response:
    seen["calls"] += 1
    seen["loops"].add(id(asyncio.get_running_loop()))
    context = request.scope["aws.context"]
    return JSONResponse(
        {
            "body": (await request.body()).decode(),
            "query": dict(request.query_params),
            "request_id": context.aws_request_id,
            "remaining": context.get_remaining_time_in_millis(),
            "trace": os.environ.get("_X_AMZN_TRACE_ID"),
            "calls": seen["calls"],
            "cancelled": seen["cancelled"],
            "loops": len(seen["loops"]),
            "objects": len(gc.get_objects()) if request.query_params.get("objects") else None,
        },
        headers={"x-one": "1"},
    )


async def cookies(_: Request) -> Response:
    answer = Response("ok", 201, media_type="text/plain")
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer


async def ticks(request: Request) -> Response:
    """So many lines, one each `pause` seconds, with the time at which each is sent."""
    count, pause = int(request.query_params["count"]), float(request.query_params.get("pause", 0))

    async def lines() -> Any:
        try:
            for _ in range(count):
                yield json.dumps(time.time()).encode() + b"\n"
                await asyncio.sleep(pause)
        except (asyncio.CancelledError, GeneratorExit):
            seen["cancelled"] += 1
            raise

    return StreamingResponse(lines(), media_type="text/event-stream")


async def large(request: Request) -> Response:
    piece = b"x" * 65_536

    async def pieces() -> Any:
        for _ in range(int(request.query_params["pieces"])):
            yield piece

    return StreamingResponse(pieces(), media_type="application/octet-stream")


async def fails(_: Request) -> Response:
    raise RuntimeError("before the head")


async def breaks(_: Request) -> Response:
    async def lines() -> Any:
        yield b"first\n"
        raise RuntimeError("after the head")

    return StreamingResponse(lines(), media_type="text/plain")


async def ends(_: Request) -> Response:
    os._exit(3)


app = Starlette(
    routes=[
        Route("/echo", echo, methods=["GET", "POST"]),
        *(Route(f"/{one.__name__}", one) for one in (cookies, ticks, large, fails, breaks, ends)),
    ]
)
