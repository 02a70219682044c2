"""Answers that are too much for whoever reads them whole: compressed, without an end, or a byte at a time."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from functools import cache
from typing import Literal, Protocol, get_args

from starlette.types import Receive, Send

Flood = Literal["bomb", "endless", "trickle", "endless_headers"]
"""`bomb`: gzip that decodes to `size` bytes. `endless`: a text without a line's end. `trickle`: a byte every `seconds`.
`endless_headers`: a status line, and then header after header."""
FLOODS: frozenset[str] = frozenset(get_args(Flood))
PIECE = 64 * 1024


class Told(Protocol):
    """What a `Fault` says of it."""

    @property
    def kind(self) -> str: ...

    status: int | None
    content_type: str
    size: int
    seconds: float


async def flood(fault: Told, receive: Receive, send: Send) -> None:
    """Answer so, until it is told or the client has left."""
    if fault.kind == "endless_headers":
        await _endless_headers(receive, send)
    elif fault.kind == "bomb":
        await _exploding(fault, send)
    else:
        headers = [(b"content-type", fault.content_type.encode())]
        await send({"type": "http.response.start", "status": fault.status or 200, "headers": headers})
        await go_on(fault, receive, send)


async def _exploding(fault: Told, send: Send) -> None:
    body = bomb(fault.size)
    headers = [(b"content-type", fault.content_type.encode())]
    headers += [(b"content-encoding", b"gzip"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": fault.status or 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def go_on(fault: Told, receive: Receive, send: Send) -> None:
    """The rest of an answer that has begun, without an end."""
    pause, piece = (fault.seconds, b" ") if fault.kind == "trickle" else (0, b"x" * PIECE)
    async for _ in _until_left(receive, pause):
        await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _endless_headers(receive: Receive, connection: Send) -> None:
    """ASGI has no way to say it, so this knows uvicorn's request cycle."""
    transport = connection.__self__.transport  # type: ignore[attr-defined]
    transport.write(b"HTTP/1.1 200 OK\r\n")
    async for _ in _until_left(receive, 0.001):
        transport.write(b"x-header: " + b"x" * 1000 + b"\r\n")


async def _until_left(receive: Receive, pause: float) -> AsyncIterator[None]:
    """Again and again, after each pause, as long as the client is there."""
    gone = asyncio.create_task(left(receive))
    try:
        while not (await asyncio.wait([gone], timeout=pause))[0]:
            yield
    finally:
        gone.cancel()


async def left(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


@cache
def bomb(size: int) -> bytes:
    """The gzip of a JSON object of so many bytes and little more, a thousandth of their number."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    packed = [packer.compress(b'{"data": "')]
    packed += [packer.compress(b"x" * PIECE) for _ in range(size // PIECE)]
    packed += [packer.compress(b'"}'), packer.flush()]
    return b"".join(packed)
