"""Completions of OpenAI's shape: OpenAI, Azure OpenAI, and any server that is like them.

https://platform.openai.com/docs/api-reference/chat/streaming
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from manifold.errors import ProviderError, ProviderUnclear
from manifold.providers import Endpoint
from manifold.providers.addresses import azure_call, is_dated, openai_call
from manifold.providers.call import Call
from manifold.providers.chat import Ask
from manifold.providers.client import Client
from manifold.providers.failures import failure_within, read_object
from manifold.providers.sse import Event

DONE = b"[DONE]"
DRAIN_SECONDS = 0.1


class OpenAICompletions:
    """A `ChatProvider` of OpenAI's dialect: every parameter passes untouched, the unknown ones too."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def complete(self, at: Endpoint, ask: Ask) -> dict[str, Any]:
        return _shaped(await self._client.post(self._call(at, ask), {**ask.body, "model": at.model}))

    async def stream(self, at: Endpoint, ask: Ask) -> AsyncGenerator[dict[str, Any], None]:
        call = self._call(at, ask)
        body = {**ask.body, "model": at.model, "stream": True}
        async with contextlib.aclosing(self._client.events(call, body)) as events:
            async for event in events:
                if event.data == DONE:
                    await _drain(events)
                    return
                yield _chunk(event, call)
        raise ProviderUnclear("the stream broke off before its end")

    def _call(self, at: Endpoint, ask: Ask) -> Call:
        return replace(openai_call(at, *_parts(ask)), timeout=ask.timeout)


class AzureCompletions(OpenAICompletions):
    """Azure's: in the dated versions the address names the deployment, in `/openai/v1` the body alone does."""

    def _call(self, at: Endpoint, ask: Ask) -> Call:
        parts = ("deployments", at.model, *_parts(ask)) if is_dated(at) else _parts(ask)
        return replace(azure_call(at, *parts), timeout=ask.timeout)


def _parts(ask: Ask) -> tuple[str, ...]:
    return tuple(ask.route.strip("/").split("/"))


async def _drain(events: AsyncGenerator[Event, None]) -> None:
    """Read the answer's last bytes, so that its connection can be used again; without them it closes."""
    with contextlib.suppress(ProviderError, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in events:
                pass


def _chunk(event: Event, call: Call) -> dict[str, Any]:
    """The event's object, unless it is the error that ends a stream that began well."""
    chunk = read_object(event.data)
    if chunk is None:
        raise ProviderUnclear("a chunk that is no JSON object")
    if event.name == "error" or isinstance(chunk.get("error"), dict | str):
        raise failure_within(chunk, call)
    return _shaped(chunk)


def _shaped(body: dict[str, Any]) -> dict[str, Any]:
    """The answer or chunk, if what the gateway reads of it has OpenAI's shape; the rest is the client's to read."""
    choices, usage = body.get("choices") or [], body.get("usage")
    if not isinstance(usage, dict | None) or not isinstance(choices, list) or not all(map(_is_choice, choices)):
        raise ProviderUnclear("an answer of an unknown shape")
    return body


def _is_choice(choice: object) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("delta"), dict | None)
