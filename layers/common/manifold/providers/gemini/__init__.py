"""Google's Gemini API, version v1beta.

https://ai.google.dev/api/generate-content
"""

import re
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from manifold.providers import Endpoint
from manifold.providers.chat_response import ChunkBuilder
from manifold.providers.completion_provider import ProviderRequest
from manifold.providers.dialect import RefusalRule
from manifold.providers.gemini.request import translate_request
from manifold.providers.gemini.response import translate_response
from manifold.providers.gemini.stream import CandidatesReader
from manifold.providers.http_call import HttpCall
from manifold.providers.sse import Event

if TYPE_CHECKING:
    from manifold.providers.completion_client import CompletionClient


class Gemini:
    """The `Dialect`. The base URL is `https://generativelanguage.googleapis.com`, with or without `/v1beta`."""

    refusal_rules = (
        RefusalRule(400, re.compile(r"API key (?:not valid|expired|not found)", re.IGNORECASE), "invalid_api_key", 401),
    )

    def call(self, endpoint: Endpoint, request: ProviderRequest, *, stream: bool) -> HttpCall:
        root = endpoint.base_url.rstrip("/").removesuffix("/v1beta")
        method = "streamGenerateContent" if stream else "generateContent"
        url = f"{root}/v1beta/models/{quote(endpoint.model.removeprefix('models/'), safe='')}:{method}"
        return HttpCall(
            url, {"x-goog-api-key": endpoint.api_key}, {"alt": "sse"} if stream else {}, request.timeout, endpoint.model
        )

    def translate_request(
        self, model: str, request: ProviderRequest, *, stream: bool, base_model: str | None = None
    ) -> dict[str, Any]:
        return translate_request(base_model or model, request)

    def translate_response(self, response: Mapping[str, Any], model: str, created: int) -> dict[str, Any]:
        return translate_response(response, model, created)

    def reader(self, chunks: ChunkBuilder) -> CandidatesReader:
        return CandidatesReader(chunks)

    def events(
        self, client: "CompletionClient", call: HttpCall, body: Mapping[str, Any]
    ) -> AsyncGenerator[Event, None]:
        return client.events(call, body)
