"""What an environment of a function does before its first invocation, and around a snapshot of SnapStart.

`manifold.runtime` calls it; nothing of it happens when a module is imported. What the first request would import, read
and connect is ready when it comes. Nothing here fails a start: what is not available now, the first request asks for
again, and answers as it can.

A snapshot is taken once for a version of the function, and every environment of it begins with the same memory, hours
or weeks later. So connections are closed before it, and what was read is forgotten: the secret, `config.yaml`, and
whatever was built on them. After a restore all of it is read again.
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
"""

import asyncio
import os
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

from manifold import observe
from manifold.errors import ConfigError, ManifoldError
from manifold.gateway import Gateway

SECRET_SECONDS = 3.0
CONNECT_SECONDS = 2.0
"""How long a start waits for the secret, and for Postgres. Lambda gives a start 10 seconds, and a restore as many."""


class CachedParts(Protocol):
    """Parts that are made at the first call, as by `functools.cache`."""

    def __call__(self) -> object: ...

    def cache_clear(self) -> None: ...


class Lifecycle:
    """The start of a function that makes completions, on its gateway; `parts` are what it builds on that."""

    def __init__(self, gateway: Gateway, parts: CachedParts) -> None:
        self._gateway = gateway
        self._parts = parts

    async def prepare(self, *, connect: bool = True) -> None:
        """Import, read and build what the first request needs, and connect to Postgres, unless not to `connect`."""
        if not await _attempted("secret", self._read_secret):
            return  # what follows would wait for the secret, too, and hold up the start
        await _attempted("parts", self._build)
        if connect:
            await _attempted("database", self._connect)

    async def before_snapshot(self) -> None:
        """Close every connection, and forget what was read."""
        from manifold.providers.registry import close_providers

        await close_providers()
        await self._gateway.store.close()
        self._gateway.forget()
        self._parts.cache_clear()

    async def after_restore(self) -> None:
        """Make random numbers of this environment's own, and prepare it anew."""
        random.seed()
        ssl.RAND_add(os.urandom(32), 32.0)  # OpenSSL's generator is in the snapshot, too
        await self.prepare()

    async def _read_secret(self) -> None:
        """The fetch goes on in its thread where it takes longer, and the first request waits for its end."""
        async with asyncio.timeout(SECRET_SECONDS):
            await asyncio.to_thread(self._gateway.secrets.load)

    async def _build(self) -> None:
        gateway = self._gateway
        gateway.deployments.import_completion_providers()
        gateway.prices.load(gateway.config.deployments)
        self._parts()

    async def _connect(self) -> None:
        async with asyncio.timeout(CONNECT_SECONDS), self._gateway.store.session():
            pass


async def _attempted(what: str, step: Callable[[], Awaitable[None]]) -> bool:
    try:
        await step()
        return True
    except Exception as error:  # the first request meets it, and says so to its client
        ours = isinstance(error, ManifoldError | ConfigError)
        observe.warning("start_incomplete", what=what, cause=str(error) if ours else type(error).__name__)
        return False
