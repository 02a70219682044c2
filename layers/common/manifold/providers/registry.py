"""Which adapter speaks to which provider, by the prefix of `litellm_params.model`."""

from functools import cache

from manifold.providers import Provider
from manifold.providers.azure import AzureOpenAI
from manifold.providers.http import Http
from manifold.providers.openai import OpenAI

_http = Http()


@cache
def provider_for(name: str) -> Provider:
    """The adapter of `azure`, `openai`, or any other prefix, whose base is taken to speak as OpenAI's does.

    Which prefixes may run no batches is for the configuration to say.
    """
    if name == "azure":
        return AzureOpenAI(_http, expiring=True)
    return OpenAI(_http, expiring=name == "openai")


async def close_providers() -> None:
    """Close the connections that the adapters share."""
    await _http.close()
