"""Cohere's chat, version 2.

https://docs.cohere.com/reference/chat
"""

import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from manifold.providers import Endpoint
from manifold.providers.answers import Chunks
from manifold.providers.chat import ProviderRequest
from manifold.providers.client import Client
from manifold.providers.cohere.answer import answer_of
from manifold.providers.cohere.request import request_of
from manifold.providers.cohere.stream import ChatReader
from manifold.providers.http_call import HttpCall
from manifold.providers.sse import Event
from manifold.providers.translated import Meaning


class Cohere:
    """A `Dialect`. The base URL is `https://api.cohere.com`, with or without `/v2`."""

    # 498: "blocked input or output" (https://docs.cohere.com/reference/errors).
    meanings = (Meaning(498, re.compile(""), "content_filter", 400),)

    def call(self, at: Endpoint, request: ProviderRequest, *, stream: bool) -> HttpCall:
        root = at.base_url.rstrip("/").removesuffix("/chat").removesuffix("/v2")
        return HttpCall(f"{root}/v2/chat", {"Authorization": f"Bearer {at.api_key}"}, {}, request.timeout, at.model)

    def request(
        self, model: str, request: ProviderRequest, *, stream: bool, base_model: str | None = None
    ) -> dict[str, Any]:
        return request_of(model, request) | {"stream": stream}

    def answer(self, answer: Mapping[str, Any], model: str, created: int) -> dict[str, Any]:
        return answer_of(answer, model, created)

    def reader(self, chunks: Chunks) -> ChatReader:
        return ChatReader(chunks)

    def events(self, client: Client, call: HttpCall, body: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        return client.events(call, body)
