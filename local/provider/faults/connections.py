"""How connections end: the client leaves, or the provider closes them."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local.provider.clock import Clock

OWN_DISCONNECTS = ("cut", "truncate")
"""The faults that end the connection from the provider's side."""


async def run_until_disconnect(
    app: ASGIApp, entry: dict[str, Any], clock: Clock, scope: Scope, receive: Receive, send: Send
) -> None:
    """Run `app` until it is done, or until the client disconnects: a provider stops the model then.

    Writes into the log's `entry` when the call `ended`, and whether the client `disconnected` before.
    """
    entry["disconnected"] = False
    body = await _read_body(receive)
    work = asyncio.ensure_future(app(scope, _replayed(body), send))
    departure = asyncio.ensure_future(wait_for_disconnect(receive))
    await asyncio.wait((work, departure), return_when=asyncio.FIRST_COMPLETED)
    entry["ended"] = clock.now()
    if not work.done():
        entry["disconnected"] = entry["fault"] not in OWN_DISCONNECTS
        work.cancel()
    departure.cancel()
    await asyncio.gather(work, departure, return_exceptions=True)
    if not work.cancelled() and (error := work.exception()) is not None:
        raise error


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Disconnected(ConnectionError):
    """The provider ended a connection that is none: the application is called within the process."""


async def disconnect(send: Send, *, abruptly: bool) -> None:
    """End the connection: `abruptly` with a reset. ASGI has no way to say it, so this uses uvicorn's request cycle.
    Raises `Disconnected` where there is no connection."""
    cycle = getattr(send, "__self__", None)
    if cycle is None:
        raise Disconnected
    transport = cycle.transport
    if abruptly:
        transport.abort()
    else:
        transport.close()
    await asyncio.sleep(0)


async def read_part(receive: Receive, count: int) -> None:
    """Read `count` bytes of the request's body, or all of it if it is shorter."""
    while count > 0:
        message = await receive()
        count -= len(message.get("body", b""))
        if not message.get("more_body"):
            return


async def _read_body(receive: Receive) -> bytes:
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    return b"".join(parts)


def _replayed(body: bytes) -> Receive:
    """A `receive` that gives the body that was read before, and then nothing more."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    return receive
