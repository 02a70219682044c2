"""Amazon Bedrock's Converse API, for all models that Bedrock serves.

A Bedrock API key is sent as a bearer token. Without one, each request is signed (`signature`).
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

import contextlib
import re
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from manifold.errors import ProviderUnclear
from manifold.providers import Endpoint
from manifold.providers.bedrock.frames import CONTENT_TYPE, FrameReader
from manifold.providers.bedrock.request import translate_request
from manifold.providers.bedrock.response import translate_response
from manifold.providers.bedrock.signature import region_of, signer
from manifold.providers.bedrock.stream import ConverseReader
from manifold.providers.chat_response import ChunkBuilder
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.dialect import RefusalRule
from manifold.providers.http_call import HttpCall
from manifold.providers.sse import Event

if TYPE_CHECKING:
    from manifold.providers.completion_client import CompletionClient

URL = "https://bedrock-runtime.{region}.amazonaws.com"
WRONG_KEY = re.compile(r"API Key is valid|security token included|signature (?:we calculated|expired)", re.IGNORECASE)
"""AWS's messages about a key that is unknown or has expired."""


class Bedrock:
    """The `Dialect` of Bedrock. The base URL is `https://bedrock-runtime.{region}.amazonaws.com`."""

    refusal_rules = (
        RefusalRule(400, re.compile(r"model identifier|on-demand throughput", re.IGNORECASE), "model_not_found", 404),
        RefusalRule(403, WRONG_KEY, "invalid_api_key", 401),
    )

    def call(self, endpoint: Endpoint, request: ProviderRequest, *, stream: bool) -> HttpCall:
        action = "converse-stream" if stream else "converse"
        path = f"/model/{quote(endpoint.model, safe='')}/{action}"
        if endpoint.api_key or endpoint.signature is None:
            headers = {"Authorization": f"Bearer {endpoint.api_key}"}
            return HttpCall(_base(endpoint) + path, headers, {}, request.timeout, endpoint.model)
        return HttpCall(
            _base(endpoint) + path,
            {},
            {},
            request.timeout,
            endpoint.model,
            signer(endpoint.signature, region_of(endpoint)),
        )

    def translate_request(
        self, model: str, request: ProviderRequest, *, stream: bool, base_model: str | None = None
    ) -> dict[str, Any]:
        return translate_request(base_model or model, request)

    def translate_response(self, response: Mapping[str, Any], model: str, created: int) -> dict[str, Any]:
        return translate_response(response, model, created)

    def reader(self, chunks: ChunkBuilder) -> ConverseReader:
        return ConverseReader(chunks)

    async def events(
        self, client: "CompletionClient", call: HttpCall, body: Mapping[str, Any]
    ) -> AsyncGenerator[Event, None]:
        frames = FrameReader()
        async with contextlib.aclosing(client.chunks(call, body, CONTENT_TYPE)) as chunks:
            async for chunk in chunks:
                try:
                    for event in frames.feed(chunk):
                        yield event
                except ValueError as error:
                    raise ProviderUnclear(f"a stream that cannot be read: {error}") from error


def _base(endpoint: Endpoint) -> str:
    """The base URL; if none is set, that of the region."""
    return endpoint.base_url.rstrip("/") or URL.format(region=region_of(endpoint))
