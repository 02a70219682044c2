"""Ends a statement that takes too long, also when the server is silent: it is cancelled, then its socket is shut.

The client does this, as a pooler in transaction mode takes no `statement_timeout`.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg

CANCEL_SECONDS = 1.0
_cancelling: set[asyncio.Future[None]] = set()  # the event loop itself keeps no task alive


@asynccontextmanager
async def ended_by(connection: psycopg.AsyncConnection[Any], until: float) -> AsyncIterator[None]:
    """Make what runs on the connection fail with an `OperationalError` at `until`, a time of the event loop."""
    ending: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    watch = loop.call_at(until, lambda: ending.append(loop.create_task(end(connection))))
    try:
        yield
    finally:
        watch.cancel()
        for task in ending:
            task.cancel()


async def end(connection: psycopg.AsyncConnection[Any]) -> None:
    """Cancel the statement that runs on the connection and, if this is not cancelled meanwhile, shut the socket.

    A request to cancel is never given up halfway: PgBouncer 1.18 ends with "bad client state" if its sender has left.
    """
    cancelling = asyncio.ensure_future(_cancel(connection))
    _cancelling.add(cancelling)
    cancelling.add_done_callback(_cancelling.discard)
    await asyncio.shield(cancelling)
    await asyncio.sleep(CANCEL_SECONDS)
    _shut(connection)


async def _cancel(connection: psycopg.AsyncConnection[Any]) -> None:
    with contextlib.suppress(psycopg.Error):
        await connection.cancel_safe(timeout=CANCEL_SECONDS)


def _shut(connection: psycopg.AsyncConnection[Any]) -> None:
    """Shut the socket, so that psycopg reads its end. The descriptor stays open: libpq owns it."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.pgconn.socket)) as same:
        same.shutdown(socket.SHUT_RDWR)
