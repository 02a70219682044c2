"""Calls of Google Cloud's APIs, with an access token."""

import contextlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from manifold.errors import ProviderRefused
from manifold.providers import Endpoint
from manifold.providers.batch_client import BatchClient
from manifold.providers.http_call import HttpCall
from manifold.providers.vertex_ai.tokens import Tokens

UNAUTHORISED = 401
NONE: Mapping[str, str] = MappingProxyType({})


class Calls:
    """Makes the calls of deployments, each with the token of its `vertex_credentials`."""

    def __init__(self, client: BatchClient) -> None:
        self.client = client
        self._tokens = Tokens(client)

    async def to(
        self, endpoint: Endpoint, url: str, params: Mapping[str, str] = NONE, headers: Mapping[str, str] = NONE
    ) -> HttpCall:
        """A call to this URL. `ProviderRefused` if there is no token."""
        token = await self._tokens.get(option(endpoint, "vertex_credentials"))
        return HttpCall(url, {"Authorization": f"Bearer {token}", **headers}, params, endpoint.timeout, endpoint.model)

    async def json(
        self,
        method: str,
        endpoint: Endpoint,
        url: str,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] = NONE,
    ) -> dict[str, Any]:
        """Send a request that moves no file. Returns the answer's JSON object."""
        call = await self.to(endpoint, url, params)
        with self.watched(endpoint):
            return await self.client.call(method, call, body)

    @contextlib.contextmanager
    def watched(self, endpoint: Endpoint) -> Iterator[None]:
        """Of a call: after a 401, the next one gets another token."""
        try:
            yield
        except ProviderRefused as refusal:
            if refusal.status == UNAUTHORISED:
                self._tokens.forget(option(endpoint, "vertex_credentials"))
            raise


def option(endpoint: Endpoint, name: str) -> str:
    """A setting that the deployment needs. `ProviderRefused` if it has no value."""
    value = endpoint.options.get(name)
    if not value:
        raise ProviderRefused(f"Vertex AI needs {name}", lasting=True)
    return value
