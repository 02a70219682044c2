"""Completions of OpenAI's shape: OpenAI, Azure OpenAI, and any server that is like them.

https://platform.openai.com/docs/api-reference/chat/streaming
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from manifold.errors import ProviderError, ProviderUnclear
from manifold.provider_errors import is_error
from manifold.providers import Endpoint
from manifold.providers.addresses import openai_completion
from manifold.providers.completion_client import CompletionClient
from manifold.providers.completion_provider import ProviderRequest, Route
from manifold.providers.failures import failure_within, read_object
from manifold.providers.http_call import HttpCall
from manifold.providers.openai.messages import sanitizer_for
from manifold.providers.openai.reasoning import without_sampling
from manifold.providers.sse import DONE, Event

DRAIN_SECONDS = 0.1
ANSWERED_IN: Mapping[Route, str] = {
    "/chat/completions": "choices",
    "/completions": "choices",
    "/embeddings": "data",
    "/responses": "output",
}
"""The list that each route's answer has."""


class OpenAICompletions:
    """A `CompletionProvider` of OpenAI's API. All parameters are sent unchanged, unknown ones too, with two exceptions.

    Members of messages that only answers have are left out (`MessageSanitizer`). With `drop_params`, so are the
    sampling parameters that OpenAI's reasoning models refuse. `provider` is the prefix of the models.
    """

    def __init__(self, client: CompletionClient, provider: str = "openai") -> None:
        self._client = client
        self._provider = provider

    async def complete(self, endpoint: Endpoint, request: ProviderRequest) -> dict[str, Any]:
        call = self._call(endpoint, request)
        answer = _checked(await self._client.post(call, self._body(endpoint, request)), call)
        member = ANSWERED_IN[request.route]
        if not isinstance(answer.get(member), list):
            raise ProviderUnclear(f"an answer without {member}")
        return answer

    async def stream(self, endpoint: Endpoint, request: ProviderRequest) -> AsyncGenerator[dict[str, Any], None]:
        call, open_choices = self._call(endpoint, request), OpenChoices()
        body = {**self._body(endpoint, request), "stream": True}
        async with contextlib.aclosing(self._client.events(call, body)) as events:
            async for event in events:
                if event.data.strip() == DONE:
                    await _drain(events)
                    return
                chunk = _chunk(event, call)
                open_choices.note(chunk)
                yield chunk
        if not open_choices.all_finished:
            raise ProviderUnclear("the stream broke off before its end")

    def _body(self, endpoint: Endpoint, request: ProviderRequest) -> dict[str, Any]:
        chat = request.route == "/chat/completions"
        body = sanitizer_for(self._provider, endpoint.base_url).body(request.body) if chat else request.body
        sent = without_sampling(body, endpoint.family) if request.drop_params else body
        return {**sent, "model": endpoint.model}

    def _call(self, endpoint: Endpoint, request: ProviderRequest) -> HttpCall:
        return openai_completion(endpoint, request.route, request.timeout)


class OpenChoices:
    """The choices of a stream that have begun and not finished. Some servers leave out `[DONE]`."""

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._begun = False

    def note(self, chunk: dict[str, Any]) -> None:
        """Take in the next chunk."""
        for choice in chunk.get("choices") or ():
            self._begun = True
            index = str(choice.get("index"))
            self._open.add(index)
            if choice.get("finish_reason"):
                self._open.discard(index)

    @property
    def all_finished(self) -> bool:
        """Whether a choice has begun, and each that has begun has finished."""
        return self._begun and not self._open


async def _drain(events: AsyncGenerator[Event, None]) -> None:
    """Read the answer's last bytes, so that its connection can be used again."""
    with contextlib.suppress(ProviderError, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in events:
                pass


def _chunk(event: Event, call: HttpCall) -> dict[str, Any]:
    """The event's JSON object. Raises if it is an error, which ends the stream."""
    chunk = read_object(event.data)
    if chunk is None:
        raise ProviderUnclear("a chunk that is no JSON object")
    if event.name == "error" or is_error(chunk):
        raise failure_within(chunk, call)
    return _checked(chunk, call)


def _checked(body: dict[str, Any], call: HttpCall) -> dict[str, Any]:
    """The answer or chunk, if the members that the gateway reads have OpenAI's shape; the others are not checked.

    Raises if a choice holds an error, as OpenRouter's do when the model fails midway. A usage of another shape becomes
    null: the answer is there, and paid for.
    """
    choices, usage = body.get("choices") or [], body.get("usage")
    if not isinstance(usage, dict | None):
        body = {**body, "usage": None}
    if not isinstance(choices, list) or not all(map(_is_choice, choices)):
        raise ProviderUnclear("an answer of an unknown shape")
    for choice in choices:
        if is_error(choice):
            raise failure_within({"error": choice.get("error")}, call)
        if choice.get("finish_reason") == "error":
            raise ProviderUnclear("the model's answer failed: error")
    return body


def _is_choice(choice: object) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("delta"), dict | None)
