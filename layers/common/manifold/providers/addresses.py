"""Where the APIs of OpenAI's shape are, and how a caller is known there.

https://learn.microsoft.com/azure/foundry/openai/api-version-lifecycle
"""

import re
from urllib.parse import quote

from manifold.providers import Endpoint
from manifold.providers.http_call import HttpCall

DATED = re.compile(r"\d{4}-\d{2}-\d{2}")
RESOURCE_END = re.compile(r"/openai(?:/v1)?/?$")


def openai_call(at: Endpoint, *path: str, **params: str) -> HttpCall:
    """A call of OpenAI's API, or of any that is like it, at the base URL."""
    headers = {"Authorization": f"Bearer {at.api_key}"}
    if at.organization:
        headers["OpenAI-Organization"] = at.organization
    return HttpCall(f"{at.base_url.rstrip('/')}/{_joined(path)}", headers, params, at.timeout, at.model)


def azure_call(at: Endpoint, *path: str, **params: str) -> HttpCall:
    """A call of Azure OpenAI's `/openai/v1` form, or of the dated one if the deployment's version is a date."""
    dated = is_dated(at)
    if dated or at.api_version == "preview":
        params = {"api-version": str(at.api_version), **params}
    root = RESOURCE_END.sub("", at.base_url.rstrip("/")) + ("/openai" if dated else "/openai/v1")
    return HttpCall(f"{root}/{_joined(path)}", {"api-key": at.api_key}, params, at.timeout, at.model)


def is_dated(at: Endpoint) -> bool:
    """Whether the deployment speaks a dated version; a base URL that ends in `/v1` says no by itself."""
    return bool(DATED.match(at.api_version or "")) and not at.base_url.rstrip("/").endswith("/v1")


def _joined(path: tuple[str, ...]) -> str:
    return "/".join(quote(part, safe="") for part in path)
