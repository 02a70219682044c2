"""Translates Cohere's stream into OpenAI's chunks.

https://docs.cohere.com/v2/docs/streaming
"""

from collections.abc import Mapping
from typing import Any

from manifold.providers.chat_response import ChunkBuilder
from manifold.providers.cohere.response import finish_reason, logprobs_of, usage_of

Chunk = dict[str, Any]


class ChatReader:
    """A `StreamReader` of one message. Citations and unknown events make no chunks."""

    def __init__(self, chunks: ChunkBuilder) -> None:
        self._chunks = chunks
        self._calls: dict[int, int] = {}
        """The number of each tool call, by Cohere's index."""
        self.ended = False

    def read(self, name: str, event: Mapping[str, Any]) -> list[Chunk]:
        message = (event.get("delta") or {}).get("message") or {}
        match event.get("type"):
            case "message-start":
                self._chunks.id = str(event.get("id"))
                return [self._chunks.start()]
            case "tool-plan-delta":
                return [self._chunks.delta(reasoning_content=message["tool_plan"])]
            case "content-start" | "content-delta":
                return self._content(message["content"], event)
            case "tool-call-start" | "tool-call-delta":
                return self._call(event["index"], message["tool_calls"])
            case "message-end":
                return self._end(event["delta"])
        return []

    def close(self) -> list[Chunk]:
        return []

    def _content(self, content: Mapping[str, Any], event: Mapping[str, Any]) -> list[Chunk]:
        if content.get("thinking"):
            return [self._chunks.delta(reasoning_content=content["thinking"])]
        if not content.get("text"):
            return []
        logprob = event.get("logprobs")
        return [self._chunks.delta(content=content["text"], logprobs=logprobs_of([logprob] if logprob else None))]

    def _call(self, index: int, call: Mapping[str, Any]) -> list[Chunk]:
        function = call["function"]
        if index in self._calls:
            return [self._chunks.arguments(self._calls[index], function["arguments"])]
        number = self._calls.setdefault(index, len(self._calls))
        return [self._chunks.call(number, call["id"], function["name"], function.get("arguments") or "")]

    def _end(self, delta: Mapping[str, Any]) -> list[Chunk]:
        finish = self._chunks.finish(finish_reason(delta.get("finish_reason"), delta.get("error")))
        self.ended = True
        return [finish, *self._chunks.end(usage_of(delta.get("usage")))]
