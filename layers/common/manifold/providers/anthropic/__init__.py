"""Anthropic's Messages API, version 2023-06-01.

https://platform.claude.com/docs/en/api/messages
"""

import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from manifold.providers import Endpoint
from manifold.providers.answers import Chunks
from manifold.providers.anthropic.answer import answer_of
from manifold.providers.anthropic.request import request_of
from manifold.providers.anthropic.stream import MessageReader
from manifold.providers.chat import ProviderRequest
from manifold.providers.client import Client
from manifold.providers.http_call import HttpCall
from manifold.providers.sse import Event
from manifold.providers.translated import Meaning

VERSION = "2023-06-01"


class Anthropic:
    """A `Dialect`. The base URL is `https://api.anthropic.com`, with or without `/v1`."""

    meanings = (Meaning(400, re.compile("credit balance", re.IGNORECASE), "insufficient_quota", 402),)

    def call(self, at: Endpoint, request: ProviderRequest, *, stream: bool) -> HttpCall:
        headers = {"x-api-key": at.api_key, "anthropic-version": at.api_version or VERSION}
        root = at.base_url.rstrip("/").removesuffix("/v1")
        return HttpCall(f"{root}/v1/messages", headers, {}, request.timeout, at.model)

    def request(
        self, model: str, request: ProviderRequest, *, stream: bool, base_model: str | None = None
    ) -> dict[str, Any]:
        return request_of(model, request, base_model) | {"stream": stream}

    def answer(self, answer: Mapping[str, Any], model: str, created: int) -> dict[str, Any]:
        return answer_of(answer, model, created)

    def reader(self, chunks: Chunks) -> MessageReader:
        return MessageReader(chunks)

    def events(self, client: Client, call: HttpCall, body: Mapping[str, Any]) -> AsyncGenerator[Event, None]:
        return client.events(call, body)
