"""The adapter of each provider, by the prefix of `litellm_params.model`.

An adapter is imported when it is first needed, and its HTTP client with it: a function that moves files never loads
the client of completions, nor the other way round. Each costs about 0.1 s of a cold start.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from manifold.profiles import profile_of
from manifold.providers import BatchProvider
from manifold.providers.completion_provider import CompletionProvider

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
"""The prefixes whose completions are translated, each with its package and the class in it."""
BATCHES: Mapping[str, tuple[str, str]] = {
    "anthropic": ("anthropic", "AnthropicBatches"),
    "azure": ("azure", "AzureBatches"),
    "bedrock": ("bedrock", "BedrockBatches"),
    "cohere": ("cohere", "CohereBatches"),
    "fireworks_ai": ("fireworks_ai", "FireworksBatches"),
    "gemini": ("gemini", "GeminiBatches"),
    "mistral": ("mistral", "MistralBatches"),
    "openai": ("openai", "OpenAIBatches"),
    "openrouter": ("openrouter", "OpenRouterBatches"),
    "together_ai": ("together_ai", "TogetherBatches"),
    "vertex_ai": ("vertex_ai", "VertexBatches"),
    "xai": ("xai", "XAIBatches"),
}
"""The dialects of batches, as profiles name them, each with its package and the class in the package's `batches`."""


@cache
def batch_provider_for(name: str) -> BatchProvider:
    """The batch adapter of a prefix, by its profile. The configuration says which prefixes may run no batches."""
    from manifold.providers.openai.batches import OpenAIBatches

    profile = profile_of(name)
    package, class_name = BATCHES[profile.dialect or "openai"]
    adapter = getattr(import_module(f"manifold.providers.{package}.batches"), class_name)
    # Those with OpenAI's form serve several providers, and those that differ from it in little.
    provider: BatchProvider = adapter(_batch_client(), *([profile] if issubclass(adapter, OpenAIBatches) else []))
    return provider


@cache
def completion_provider_for(name: str) -> CompletionProvider:
    """The completions adapter of a prefix. All but `azure` and those in `DIALECTS` are taken for OpenAI's API."""
    if name in DIALECTS:
        from manifold.providers.dialect import DialectProvider

        package, class_name = DIALECTS[name]
        dialect = getattr(import_module(f"manifold.providers.{package}"), class_name)()
        return DialectProvider(_completion_client(), dialect)
    if name == "azure":
        from manifold.providers.azure.completions import AzureCompletions

        return AzureCompletions(_completion_client(), name)
    from manifold.providers.openai.completions import OpenAICompletions

    return OpenAICompletions(_completion_client(), name)


async def close_providers() -> None:
    """Close the pooled connections, which the adapters share."""
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
