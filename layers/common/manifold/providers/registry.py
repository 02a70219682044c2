"""Which adapter speaks to which provider, by the prefix of `litellm_params.model`."""

from functools import cache

from manifold.errors import ConfigError
from manifold.providers import Provider
from manifold.providers.azure import AzureOpenAI
from manifold.providers.http import Http
from manifold.providers.openai import OpenAI

BASES = {
    "deepinfra": "https://api.deepinfra.com/v1/openai",
    "groq": "https://api.groq.com/openai/v1",
    "openai": "https://api.openai.com/v1",
}
"""Well-known addresses, used where a deployment names none."""

OTHER_DIALECTS = frozenset(
    {"anthropic", "bedrock", "cohere", "gemini", "hosted_vllm", "mistral", "ollama", "together_ai", "vertex_ai", "xai"}
)
"""Providers whose batches are not OpenAI's, or that have none: they need an adapter of their own."""

_http = Http()


@cache
def provider_for(name: str) -> Provider:
    """The adapter of `azure`, `openai`, or any other prefix whose base speaks OpenAI's `/files` and `/batches`.

    Raises:
        ConfigError: the provider is known to speak neither.
    """
    if name in OTHER_DIALECTS:
        raise ConfigError(f"{name}/ has no batches that Manifold can use: its deployments may not say `mode: batch`")
    if name == "azure":
        return AzureOpenAI(_http, expiring=True)
    return OpenAI(_http, base_url=BASES.get(name, ""), expiring=name == "openai")


async def close_providers() -> None:
    """Close the connections that the adapters share."""
    await _http.close()
