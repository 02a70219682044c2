"""Answers that must not be read whole: compressed to a thousandth, without an end, or a byte at a time."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from functools import cache

from starlette.types import Receive, Send

from local.provider.faults.connections import wait_for_disconnect
from local.provider.faults.fault import Fault

PIECE = 64 * 1024


async def flood(fault: Fault, receive: Receive, send: Send) -> None:
    """Send such an answer until its end, or until the client has left."""
    if fault.kind == "endless_headers":
        await _endless_headers(receive, send)
    elif fault.kind == "bomb":
        await _send_bomb(fault, send)
    else:
        headers = [(b"content-type", fault.content_type.encode())]
        await send({"type": "http.response.start", "status": fault.status or 200, "headers": headers})
        await continue_flood(fault, receive, send)


async def _send_bomb(fault: Fault, send: Send) -> None:
    body = bomb(fault.size)
    headers = [(b"content-type", fault.content_type.encode())]
    headers += [(b"content-encoding", b"gzip"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": fault.status or 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def continue_flood(fault: Fault, receive: Receive, send: Send) -> None:
    """Send more of an answer that has begun, until the client has left."""
    pause, piece = (fault.seconds, b" ") if fault.kind == "trickle" else (0, b"x" * PIECE)
    async for _ in _until_disconnect(receive, pause):
        await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _endless_headers(receive: Receive, connection: Send) -> None:
    """ASGI has no way to say it, so this uses uvicorn's request cycle."""
    transport = connection.__self__.transport  # type: ignore[attr-defined]
    transport.write(b"HTTP/1.1 200 OK\r\n")
    async for _ in _until_disconnect(receive, 0.001):
        transport.write(b"x-header: " + b"x" * 1000 + b"\r\n")


async def _until_disconnect(receive: Receive, pause: float) -> AsyncIterator[None]:
    """Yields again and again, after each pause, until the client has left."""
    gone = asyncio.create_task(wait_for_disconnect(receive))
    try:
        while not (await asyncio.wait([gone], timeout=pause))[0]:
            yield
    finally:
        gone.cancel()


@cache
def bomb(size: int) -> bytes:
    """Gzip of a JSON object of about `size` bytes; it is a thousandth as long."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    packed = [packer.compress(b'{"data": "')]
    packed += [packer.compress(b"x" * PIECE) for _ in range(size // PIECE)]
    packed += [packer.compress(b'"}'), packer.flush()]
    return b"".join(packed)
