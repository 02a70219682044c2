"""Translates ConverseStream's events into OpenAI's chunks.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

from collections.abc import Mapping
from typing import Any

from manifold.providers.bedrock.response import finish_reason, is_server_tool, redacted_block, thinking_block, usage_of
from manifold.providers.chat_response import ChunkBuilder, new_id

Chunk = dict[str, Any]


class ConverseReader:
    """A `StreamReader` of one message, which ends with the metadata after `messageStop`."""

    def __init__(self, chunks: ChunkBuilder) -> None:
        chunks.id = new_id("chatcmpl-")
        self._chunks = chunks
        self._calls: dict[int, int] = {}
        """The number of each tool call, by the index of its content block."""
        self._without_arguments: set[int] = set()
        """The indices of the calls that have no arguments yet."""
        self._thinking = ""
        self._signature = ""
        self.ended = False

    def read(self, name: str, event: Mapping[str, Any]) -> list[Chunk]:
        match name:
            case "messageStart":
                return [self._chunks.start()]
            case "contentBlockStart":
                return self._block(event["contentBlockIndex"], event["start"])
            case "contentBlockDelta":
                return self._delta(event["contentBlockIndex"], event["delta"])
            case "contentBlockStop":
                return self._stop(event["contentBlockIndex"])
            case "messageStop":
                return [self._chunks.finish(finish_reason(event.get("stopReason")))]
            case "metadata":
                self.ended = True
                return self._chunks.end(usage_of(event.get("usage")))
        return []

    def close(self) -> list[Chunk]:
        return []

    def _block(self, index: int, start: Mapping[str, Any]) -> list[Chunk]:
        use = start.get("toolUse")
        if use is None or is_server_tool(use):
            return []
        self._without_arguments.add(index)
        number = self._calls.setdefault(index, len(self._calls))
        return [self._chunks.call(number, use["toolUseId"], use["name"])]

    def _delta(self, index: int, delta: Mapping[str, Any]) -> list[Chunk]:
        if delta.get("text"):
            return [self._chunks.delta(content=delta["text"])]
        if index in self._calls and "toolUse" in delta and delta["toolUse"]["input"]:
            self._without_arguments.discard(index)
            return [self._chunks.arguments(self._calls[index], delta["toolUse"]["input"])]
        if "reasoningContent" in delta:
            return self._think(delta["reasoningContent"])
        return []

    def _think(self, thought: Mapping[str, Any]) -> list[Chunk]:
        if "redactedContent" in thought:
            return [self._chunks.delta(thinking_blocks=[redacted_block(thought["redactedContent"])])]
        self._signature += thought.get("signature") or ""
        text = thought.get("text") or ""
        self._thinking += text
        return [self._chunks.delta(reasoning_content=text)] if text else []

    def _stop(self, index: int) -> list[Chunk]:
        """The end of a block. Thinking is sent whole, with its signature; a call without arguments gets `{}`."""
        if index in self._without_arguments:
            self._without_arguments.discard(index)
            return [self._chunks.arguments(self._calls[index], "{}")]
        text, signature = self._thinking, self._signature
        self._thinking = self._signature = ""
        return [self._chunks.delta(thinking_blocks=[thinking_block(text, signature)])] if signature else []
