"""The simulated provider for tests: one for the session, as new for each test."""

from collections.abc import AsyncIterator, Iterable, Iterator

import pytest

from local.provider import Simulator, serve
from manifold.providers import Endpoint, Input


@pytest.fixture(scope="session")
def provider_server() -> Iterator[Simulator]:
    with serve() as simulator:
        yield simulator


@pytest.fixture
def simulated_provider(provider_server: Simulator) -> Simulator:
    """A simulated provider over HTTP on 127.0.0.1, ten times as fast as alone; reset before each test."""
    provider_server.reset()
    return provider_server


def endpoint(
    simulator: Simulator, account: str, *, api_version: str | None = None, timeout: float = 5.0, key: str | None = None
) -> Endpoint:
    """An account's first model as an adapter sees it."""
    known = simulator.world.accounts[account]
    return Endpoint(
        model=min(known.models),
        base_url=simulator.base(account),
        api_key=key or known.key,
        api_version=api_version,
        timeout=timeout,
    )


def input_of(content: bytes | Iterable[bytes], name: str = "input_test.jsonl", size: int | None = None) -> Input:
    """An `Input` of these bytes, or chunks of bytes of a total `size`."""
    chunks = (content,) if isinstance(content, bytes) else content

    async def lines() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return Input(name=name, bytes=len(content) if isinstance(content, bytes) else size or 0, lines=lines)
