"""Completions of Azure OpenAI.

https://learn.microsoft.com/azure/foundry/openai/reference
"""

from manifold.providers import Endpoint
from manifold.providers.addresses import azure_call, is_dated
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.http_call import HttpCall
from manifold.providers.openai.completions import OpenAICompletions


class AzureCompletions(OpenAICompletions):
    """A `CompletionProvider`. In a dated version the URL names the deployment, in `/openai/v1` the body does."""

    def _call(self, endpoint: Endpoint, request: ProviderRequest) -> HttpCall:
        route = request.route.strip("/").split("/")
        path = ("deployments", endpoint.model, *route) if is_dated(endpoint) else route
        return azure_call(endpoint, *path)._replace(timeout=request.timeout)
