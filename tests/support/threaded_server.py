"""Servers of the standard library that answer from a thread of the tests' process."""

from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer
from threading import Thread
from typing import TypeVar

Server = TypeVar("Server", bound=BaseServer)
POLL_SECONDS = 0.01
"""How often a server looks whether it is to end."""


@contextmanager
def threaded(server: Server) -> Iterator[Server]:
    """The server, which answers until the block ends."""
    with server:
        thread = Thread(target=server.serve_forever, args=[POLL_SECONDS])
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
