"""Ends a statement that takes too long, also when the server is silent: it is cancelled, then its socket is shut.

The client does this, as a pooler in transaction mode takes no `statement_timeout`.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg

CANCEL_SECONDS = 1.0
"""For a request to cancel, and then for its effect."""
_cancelling: set[asyncio.Task[None]] = set()  # the event loop itself keeps no task alive


@asynccontextmanager
async def ended_by(connection: psycopg.AsyncConnection[Any], until: float) -> AsyncIterator[None]:
    """Make what runs on the connection fail with an `OperationalError` at `until`, a time of the event loop.

    A request to cancel has been sent by the end, so that it ends nothing else that runs on the connection later.
    """
    begun: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    late = loop.call_at(until, lambda: begun.append(cancel(connection)))
    later = loop.call_at(until + 2 * CANCEL_SECONDS, lambda: _shut(connection))
    try:
        yield
    finally:
        late.cancel()
        later.cancel()
        if begun:
            await asyncio.wait(begun)


def cancel(connection: psycopg.AsyncConnection[Any]) -> asyncio.Task[None]:
    """Request that the server cancels what runs on the connection. The task ends within `CANCEL_SECONDS`.

    It is not to be cancelled itself: PgBouncer 1.18 ends with "bad client state" if the sender of a request leaves.
    """
    cancelling = asyncio.get_running_loop().create_task(_cancel(connection))
    _cancelling.add(cancelling)
    cancelling.add_done_callback(_cancelling.discard)
    return cancelling


async def _cancel(connection: psycopg.AsyncConnection[Any]) -> None:
    with contextlib.suppress(psycopg.Error):
        await connection.cancel_safe(timeout=CANCEL_SECONDS)


def _shut(connection: psycopg.AsyncConnection[Any]) -> None:
    """Shut the socket, so that psycopg reads its end. The descriptor stays open: libpq owns it."""
    with contextlib.suppress(OSError, psycopg.Error):
        same = socket.socket(fileno=connection.pgconn.socket)  # a copy would need a free descriptor
        try:
            same.shutdown(socket.SHUT_RDWR)
        finally:
            same.detach()
