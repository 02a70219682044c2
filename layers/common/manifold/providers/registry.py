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
    from manifold.providers.batch_client import BatchClient
    from manifold.providers.completion_client import CompletionClient

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
    from manifold.providers.azure.batches import AzureBatches
    from manifold.providers.openai.batches import OpenAIBatches

    if name == "azure":
        return AzureBatches(_batch_client(), expiring=True)
    if name == "xai":
        from manifold.providers.xai.batches import XAIBatches

        return XAIBatches(_batch_client(), expiring=True)
    return OpenAIBatches(_batch_client(), expiring=name == "openai")


@cache
def chat_provider_for(name: str) -> ChatProvider:
    """The adapter of `azure`, `openai`, one of `DIALECTS`, or any other, whose base is taken to speak as OpenAI's."""
    if name in DIALECTS:
        from manifold.providers.dialect import DialectProvider

        module, dialect = DIALECTS[name]
        return DialectProvider(_completion_client(), getattr(import_module(f"manifold.providers.{module}"), dialect)())
    if name == "azure":
        from manifold.providers.azure.completions import AzureCompletions

        return AzureCompletions(_completion_client(), name)
    from manifold.providers.openai.completions import OpenAICompletions

    return OpenAICompletions(_completion_client(), name)


async def close_providers() -> None:
    """Close the connections that the adapters share."""
    if _batch_client.cache_info().currsize:
        await _batch_client().close()
    if _completion_client.cache_info().currsize:
        await _completion_client().close()


@cache
def _batch_client() -> "BatchClient":
    from manifold.providers.batch_client import BatchClient

    return BatchClient()


@cache
def _completion_client() -> "CompletionClient":
    from manifold.providers.completion_client import CompletionClient

    return CompletionClient()
