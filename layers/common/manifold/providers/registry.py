"""Which adapter speaks to which provider, by the prefix of `litellm_params.model`.

What an adapter needs is imported with it: a function that moves files never loads the client of the completions, nor
the other way round (each costs about a tenth of a second of a cold start).
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from manifold.providers import Provider
from manifold.providers.chat import ChatProvider

if TYPE_CHECKING:
    from manifold.providers.client import Client
    from manifold.providers.http import Http

DIALECTS: Mapping[str, tuple[str, str]] = {
    "anthropic": ("anthropic", "Anthropic"),
    "bedrock": ("bedrock", "Bedrock"),
    "cohere": ("cohere", "Cohere"),
    "cohere_chat": ("cohere", "Cohere"),
    "gemini": ("gemini", "Gemini"),
}
"""The prefixes whose completions are translated: the package of each, and the class in it."""


@cache
def provider_for(name: str) -> Provider:
    """The adapter of `azure`, `openai`, `xai`, or any other prefix, whose base is taken to speak as OpenAI's does.

    Which prefixes may run no batches is for the configuration to say.
    """
    from manifold.providers.azure import AzureOpenAI
    from manifold.providers.openai import OpenAI

    if name == "azure":
        return AzureOpenAI(_http(), expiring=True)
    if name == "xai":
        from manifold.providers.xai import XAI

        return XAI(_http(), expiring=True)
    return OpenAI(_http(), expiring=name == "openai")


@cache
def chat_provider_for(name: str) -> ChatProvider:
    """The adapter of `azure`, `openai`, one of `DIALECTS`, or any other, whose base is taken to speak as OpenAI's."""
    if name in DIALECTS:
        from manifold.providers.translated import Translated

        module, dialect = DIALECTS[name]
        return Translated(_client(), getattr(import_module(f"manifold.providers.{module}"), dialect)())
    from manifold.providers.completions import AzureCompletions, OpenAICompletions

    return AzureCompletions(_client(), name) if name == "azure" else OpenAICompletions(_client(), name)


async def close_providers() -> None:
    """Close the connections that the adapters share."""
    if _http.cache_info().currsize:
        await _http().close()
    if _client.cache_info().currsize:
        await _client().close()


@cache
def _http() -> "Http":
    from manifold.providers.http import Http

    return Http()


@cache
def _client() -> "Client":
    from manifold.providers.client import Client

    return Client()
