"""Calls of the Gemini API's files and batches."""

import contextlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from manifold.errors import ProviderRefused
from manifold.providers import Endpoint
from manifold.providers.batch_client import BatchClient
from manifold.providers.dialect import translate_refusal
from manifold.providers.gemini import Gemini
from manifold.providers.http_call import HttpCall

NONE: Mapping[str, str] = MappingProxyType({})


class Calls:
    """The calls of an account, below `/v1beta`. A refused key is a 401 here, and a 400 at Google."""

    def __init__(self, client: BatchClient) -> None:
        self.client = client

    async def json(
        self,
        method: str,
        endpoint: Endpoint,
        path: str,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] = NONE,
    ) -> dict[str, Any]:
        """Send a request that moves no file. Returns the answer's JSON object."""
        with translated():
            return await self.client.call(method, to(endpoint, f"/v1beta/{path}", params), body)


def to(endpoint: Endpoint, path: str, params: Mapping[str, str] = NONE, headers: Mapping[str, str] = NONE) -> HttpCall:
    """A call to this path."""
    url = f"{endpoint.base_url.rstrip('/').removesuffix('/v1beta')}{quote(path, safe='/:')}"
    return HttpCall(url, {"x-goog-api-key": endpoint.api_key, **headers}, params, endpoint.timeout, endpoint.model)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Gives refusals the status and code that they have at OpenAI."""
    try:
        yield
    except ProviderRefused as refusal:
        raise translate_refusal(refusal, Gemini.refusal_rules) from refusal.__cause__
