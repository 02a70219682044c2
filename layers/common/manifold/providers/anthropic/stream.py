"""Translates Anthropic's stream into OpenAI's chunks.

https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from collections.abc import Mapping
from typing import Any

from manifold.providers.anthropic.response import finish_reason, refusal, usage_of
from manifold.providers.chat_response import ChunkBuilder

Chunk = dict[str, Any]


class MessageReader:
    """A `StreamReader` of one message. Pings and unknown events make no chunks."""

    def __init__(self, chunks: ChunkBuilder) -> None:
        self._chunks = chunks
        self._calls: dict[int, int] = {}
        """The number of each tool call, by the index of its content block."""
        self._without_arguments: set[int] = set()
        """The indices of the calls that have no arguments yet."""
        self._thinking: dict[str, Any] = {}
        """The thinking block that is being received."""
        self._counts: dict[str, Any] = {}
        self.ended = False

    def read(self, name: str, event: Mapping[str, Any]) -> list[Chunk]:
        match event.get("type"):
            case "message_start":
                return self._start(event["message"])
            case "content_block_start":
                return self._block(event["index"], event["content_block"])
            case "content_block_delta":
                return self._delta(event["index"], event["delta"])
            case "content_block_stop":
                return self._stop(event["index"])
            case "message_delta":
                return self._finish(event)
            case "message_stop":
                self.ended = True
                return self._chunks.end(usage_of(self._counts))
        return []

    def close(self) -> list[Chunk]:
        return []

    def _start(self, message: Mapping[str, Any]) -> list[Chunk]:
        self._chunks.id = str(message.get("id"))
        self._chunks.model = str(message.get("model") or self._chunks.model)
        self._counts = dict(message.get("usage") or {})
        return [self._chunks.start()]

    def _block(self, index: int, block: Mapping[str, Any]) -> list[Chunk]:
        match block.get("type"):
            case "tool_use":
                number = self._calls.setdefault(index, len(self._calls))
                self._without_arguments.add(index)
                return [self._chunks.call(number, block["id"], block["name"])]
            case "thinking" | "redacted_thinking":
                self._thinking = dict(block)
        return []

    def _delta(self, index: int, delta: Mapping[str, Any]) -> list[Chunk]:
        match delta.get("type"):
            case "text_delta":
                return [self._chunks.delta(content=delta["text"])]
            case "input_json_delta" if index in self._calls and delta["partial_json"]:
                self._without_arguments.discard(index)
                return [self._chunks.arguments(self._calls[index], delta["partial_json"])]
            case "thinking_delta":
                self._thinking["thinking"] = self._thinking.get("thinking", "") + delta["thinking"]
                return [self._chunks.delta(reasoning_content=delta["thinking"])]
            case "signature_delta":
                self._thinking["signature"] = self._thinking.get("signature", "") + delta["signature"]
        return []

    def _stop(self, index: int) -> list[Chunk]:
        """The end of a block. Thinking is sent whole, with its signature; a call without arguments gets `{}`."""
        if index in self._without_arguments:
            self._without_arguments.discard(index)
            return [self._chunks.arguments(self._calls[index], "{}")]
        block, self._thinking = self._thinking, {}
        return [self._chunks.delta(thinking_blocks=[block])] if block else []

    def _finish(self, event: Mapping[str, Any]) -> list[Chunk]:
        self._counts |= {name: count for name, count in (event.get("usage") or {}).items() if count is not None}
        delta = event["delta"]
        reason = refusal(delta)
        refusals = [] if reason is None else [self._chunks.delta(refusal=reason)]
        return [*refusals, self._chunks.finish(finish_reason(delta.get("stop_reason")))]
