"""A call that ends as soon as its client leaves, and the note of when it ended."""

import asyncio
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

OUR_CUTS = ("cut", "truncate")


async def attended(app: ASGIApp, entry: dict[str, Any], scope: Scope, receive: Receive, send: Send) -> None:
    """Run `app` until it is done, or until the client disconnects: a model stops when nobody listens."""
    entry["disconnected"] = False
    body = await _body(receive)
    work = asyncio.ensure_future(app(scope, _replayed(body), send))
    absence = asyncio.ensure_future(_absence(receive))
    await asyncio.wait((work, absence), return_when=asyncio.FIRST_COMPLETED)
    entry["ended"] = time.time()
    if not work.done():
        entry["disconnected"] = entry["fault"] not in OUR_CUTS
        work.cancel()
    absence.cancel()
    await asyncio.gather(work, absence, return_exceptions=True)
    if not work.cancelled() and (error := work.exception()) is not None:
        raise error


async def _body(receive: Receive) -> bytes:
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    return b"".join(parts)


async def _absence(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _replayed(body: bytes) -> Receive:
    """The body that was read already, and then nothing more."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    return receive
