"""Translates Gemini's stream into OpenAI's chunks. Each event is a response with the next piece of each candidate.

https://ai.google.dev/api/generate-content#method:-models.streamgeneratecontent
"""

from collections.abc import Mapping
from typing import Any

from manifold.providers.chat_response import ChunkBuilder, new_id
from manifold.providers.gemini.response import call_of, finish_reason, logprobs_of, parts_of, refusal, usage_of

Chunk = dict[str, Any]


class CandidatesReader:
    """A `StreamReader`. The stream ends by closing; it is complete if each candidate that began has finished."""

    def __init__(self, chunks: ChunkBuilder) -> None:
        self._chunks = chunks
        self._calls: dict[int, int] = {}
        """The number of calls of each candidate."""
        self._open: set[int] = set()
        self._usage: dict[str, Any] | None = None
        self.ended = False

    def read(self, name: str, event: Mapping[str, Any]) -> list[Chunk]:
        self._chunks.id = self._chunks.id or str(event.get("responseId") or new_id("chatcmpl-"))
        self._chunks.model = str(event.get("modelVersion") or self._chunks.model)
        self._usage = usage_of(event.get("usageMetadata")) or self._usage
        candidates = event.get("candidates") or []
        if not candidates and not self._calls and event.get("promptFeedback"):
            return self._blocked(event)
        return [chunk for candidate in candidates for chunk in self._candidate(candidate)]

    def close(self) -> list[Chunk]:
        self.ended = bool(self._calls) and not self._open
        return self._chunks.end(self._usage) if self.ended else []

    def _blocked(self, event: Mapping[str, Any]) -> list[Chunk]:
        self._calls[0] = 0
        reason = self._chunks.delta(refusal=refusal(event))
        return [self._chunks.start(), reason, self._chunks.finish("content_filter")]

    def _candidate(self, candidate: Mapping[str, Any]) -> list[Chunk]:
        index = candidate.get("index", 0)
        chunks: list[Chunk] = []
        if index not in self._calls:
            self._calls[index] = 0
            self._open.add(index)
            chunks.append(self._chunks.start(index))
        logprobs = logprobs_of(candidate)
        for part in parts_of(candidate):
            chunks += self._part(index, part, logprobs)
        if candidate.get("finishReason"):
            self._open.discard(index)
            reason = finish_reason(candidate["finishReason"], called=self._calls[index] > 0)
            chunks.append(self._chunks.finish(reason, index))
        return chunks

    def _part(self, index: int, part: Mapping[str, Any], logprobs: object) -> list[Chunk]:
        if "functionCall" in part:
            call = {"index": self._calls[index], **call_of(part)}
            self._calls[index] += 1
            return [self._chunks.delta(index, tool_calls=[call])]
        if not part.get("text"):
            return []
        if part.get("thought"):
            return [self._chunks.delta(index, reasoning_content=part["text"])]
        return [self._chunks.delta(index, content=part["text"], logprobs=logprobs)]
