"""The translated dialects as chat providers on the simulated provider.

A test module has them by `pytest_plugins = ("tests.support.chat_dialects",)`.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from local.provider import Simulator
from manifold.errors import CallFailed, ProviderError
from manifold.providers import Endpoint
from manifold.providers.completion_provider import CompletionProvider, ProviderRequest
from manifold.providers.registry import close_providers, completion_provider_for
from tests.support.provider import endpoint

pytest_plugins = ("tests.support.provider_fixtures",)

Dialect = tuple[CompletionProvider, Endpoint]
PROVIDERS = ("anthropic", "bedrock", "cohere", "gemini")
ACCOUNT = (502, "server_error", "provider_account")


@pytest.fixture
async def closed_providers() -> AsyncIterator[None]:
    """Closes the connections to providers after the test."""
    yield
    await close_providers()


@pytest.fixture(params=PROVIDERS)
def dialect(request: pytest.FixtureRequest, simulated_provider: Simulator) -> Dialect:
    return completion_provider_for(request.param), endpoint(simulated_provider, request.param)


def chat(text: str = "hello there", timeout: float = 5.0, **more: Any) -> ProviderRequest:
    return ProviderRequest("/chat/completions", {"messages": [{"role": "user", "content": text}], **more}, timeout)


async def chunks(dialect: Dialect, request: ProviderRequest) -> list[dict[str, Any]]:
    provider, at = dialect
    async with contextlib.aclosing(provider.stream(at, request)) as stream:
        return [chunk async for chunk in stream]


async def error_of(dialect: Dialect, request: ProviderRequest) -> ProviderError:
    provider, at = dialect
    with pytest.raises(ProviderError) as caught:
        await provider.complete(at, request)
    return caught.value


def shape(failure: CallFailed) -> tuple[int, str, str | None]:
    return failure.status, failure.type, failure.code
