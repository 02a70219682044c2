"""URLs and authentication of OpenAI's API and of Azure's.

https://learn.microsoft.com/azure/foundry/openai/api-version-lifecycle
"""

import re
from collections.abc import Mapping
from urllib.parse import quote

from manifold.providers import Endpoint
from manifold.providers.completion_provider import Route
from manifold.providers.http_call import HttpCall

DATED = re.compile(r"\d{4}-\d{2}-\d{2}")
RESOURCE_END = re.compile(r"/openai(?:/v1)?/?$")


def openai_call(endpoint: Endpoint, *path: str, **params: str) -> HttpCall:
    """A call of OpenAI's API, or of a server that is like it, at the base URL."""
    return _openai_call(endpoint, f"/{_joined(path)}", params, endpoint.timeout)


def openai_completion(endpoint: Endpoint, route: Route, timeout: float) -> HttpCall:
    """The same of this route, in so many seconds."""
    return _openai_call(endpoint, route, {}, timeout)


def _openai_call(endpoint: Endpoint, path: str, params: Mapping[str, str], timeout: float) -> HttpCall:
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    if endpoint.organization:
        headers["OpenAI-Organization"] = endpoint.organization
    return HttpCall(endpoint.base_url.rstrip("/") + path, headers, params, timeout, endpoint.model)


def azure_call(endpoint: Endpoint, *path: str, **params: str) -> HttpCall:
    """A call of Azure OpenAI: of the `/openai/v1` form, or of the dated form if `api_version` is a date."""
    dated = is_dated(endpoint)
    if dated or endpoint.api_version == "preview":
        params = {"api-version": str(endpoint.api_version), **params}
    root = RESOURCE_END.sub("", endpoint.base_url.rstrip("/")) + ("/openai" if dated else "/openai/v1")
    return HttpCall(f"{root}/{_joined(path)}", {"api-key": endpoint.api_key}, params, endpoint.timeout, endpoint.model)


def is_dated(endpoint: Endpoint) -> bool:
    """Whether the deployment uses a dated API version. A base URL that ends in `/v1` means that it does not."""
    return bool(DATED.match(endpoint.api_version or "")) and not endpoint.base_url.rstrip("/").endswith("/v1")


def _joined(path: tuple[str, ...]) -> str:
    return "/".join(quote(part, safe="") for part in path)
