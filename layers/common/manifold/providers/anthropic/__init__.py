"""Anthropic's Messages API, version 2023-06-01.

https://platform.claude.com/docs/en/api/messages
"""

import re
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

from manifold.providers import Endpoint
from manifold.providers.anthropic.request import translate_request
from manifold.providers.anthropic.response import translate_response
from manifold.providers.anthropic.stream import MessageReader
from manifold.providers.chat_response import ChunkBuilder
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.dialect import RefusalRule
from manifold.providers.http_call import HttpCall
from manifold.providers.sse import Event

if TYPE_CHECKING:
    from manifold.providers.completion_client import CompletionClient

VERSION = "2023-06-01"


class Anthropic:
    """The `Dialect` of Anthropic. The base URL is `https://api.anthropic.com`, with or without `/v1`."""

    refusal_rules = (RefusalRule(400, re.compile("credit balance", re.IGNORECASE), "insufficient_quota", 402),)

    def call(self, endpoint: Endpoint, request: ProviderRequest, *, stream: bool) -> HttpCall:
        headers = {"x-api-key": endpoint.api_key, "anthropic-version": endpoint.api_version or VERSION}
        root = endpoint.base_url.rstrip("/").removesuffix("/v1")
        return HttpCall(f"{root}/v1/messages", headers, {}, request.timeout, endpoint.model)

    def translate_request(
        self, model: str, request: ProviderRequest, *, stream: bool, base_model: str | None = None
    ) -> dict[str, Any]:
        return translate_request(model, request, base_model) | {"stream": stream}

    def translate_response(self, response: Mapping[str, Any], model: str, created: int) -> dict[str, Any]:
        return translate_response(response, model, created)

    def reader(self, chunks: ChunkBuilder) -> MessageReader:
        return MessageReader(chunks)

    def events(
        self, client: "CompletionClient", call: HttpCall, body: Mapping[str, Any]
    ) -> AsyncGenerator[Event, None]:
        return client.events(call, body)
