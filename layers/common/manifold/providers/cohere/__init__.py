"""Cohere's chat, version 2.

https://docs.cohere.com/reference/chat
"""

import re
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

from manifold.providers import Endpoint
from manifold.providers.chat_response import ChunkBuilder
from manifold.providers.cohere.request import translate_request
from manifold.providers.cohere.response import translate_response
from manifold.providers.cohere.stream import ChatReader
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.dialect import RefusalRule
from manifold.providers.http_call import HttpCall
from manifold.providers.sse import Event

if TYPE_CHECKING:
    from manifold.providers.completion_client import CompletionClient


class Cohere:
    """The `Dialect` of Cohere. The base URL is `https://api.cohere.com`, with or without `/v2`."""

    # 498 means "blocked input or output" (https://docs.cohere.com/reference/errors).
    refusal_rules = (RefusalRule(498, re.compile(""), "content_filter", 400),)

    def call(self, endpoint: Endpoint, request: ProviderRequest, *, stream: bool) -> HttpCall:
        root = endpoint.base_url.rstrip("/").removesuffix("/chat").removesuffix("/v2")
        return HttpCall(
            f"{root}/v2/chat", {"Authorization": f"Bearer {endpoint.api_key}"}, {}, request.timeout, endpoint.model
        )

    def translate_request(
        self, model: str, request: ProviderRequest, *, stream: bool, base_model: str | None = None
    ) -> dict[str, Any]:
        return translate_request(model, request) | {"stream": stream}

    def translate_response(self, response: Mapping[str, Any], model: str, created: int) -> dict[str, Any]:
        return translate_response(response, model, created)

    def reader(self, chunks: ChunkBuilder) -> ChatReader:
        return ChatReader(chunks)

    def events(
        self, client: "CompletionClient", call: HttpCall, body: Mapping[str, Any]
    ) -> AsyncGenerator[Event, None]:
        return client.events(call, body)
