"""Apps behind a real HTTP server on 127.0.0.1, and the Pythons whose OpenAI SDKs call them."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from local.places import ROOT
from local.provider.server import free_socket
from manifold.gateway import Gateway
from manifold.providers.registry import close_providers

OLDER = ROOT / ".local" / "tools" / "openai2" / "bin" / "python"
PYTHONS = [Path(sys.executable), *([OLDER] if OLDER.exists() else [])]
"""The Python of the tests, with the newest openai, and one with openai 2 if it is installed."""


@contextmanager
def serve_app(app: ASGIApp, gateway: Gateway) -> Iterator[str]:
    """The address of the app, served from a thread until the block ends. Closes the gateway's connections."""
    with free_socket() as bound:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", ws="none", log_level="warning"))

        async def serve() -> None:
            await server.serve(sockets=[bound])
            await gateway.store.close()
            await close_providers()

        thread = threading.Thread(target=asyncio.run, args=[serve()])
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
