"""Builders of OpenAI's chat completions and chunks, for adapters that translate answers into them.

https://platform.openai.com/docs/api-reference/chat/object
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(slots=True)
class MessageBuilder:
    """Builds the message of one choice."""

    text: str | None = None
    reasoning: str = ""
    refusal: str | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    thinking: list[Mapping[str, Any]] = field(default_factory=list)
    """The provider's signed thinking blocks, which it wants back unchanged in later requests."""

    def add(self, text: str) -> None:
        """Append to the message's text."""
        self.text = (self.text or "") + text

    def message(self) -> dict[str, Any]:
        """OpenAI's message. Its content is null only beside calls or a refusal. `reasoning_content` and
        `thinking_blocks` are not OpenAI's; other gateways (LiteLLM) add them too."""
        empty = "" if self.refusal is None and not self.calls else None
        content = empty if self.text is None else self.text
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": self.refusal}
        if self.calls:
            message["tool_calls"] = self.calls
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.thinking:
            message["thinking_blocks"] = self.thinking
        return message


def tool_call(call_id: str, name: str, arguments: object, **extra: Any) -> dict[str, Any]:
    """OpenAI's tool call. `arguments` are an object, or the JSON of one."""
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode()
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}, **extra}


def new_id(prefix: str) -> str:
    """A random id, for an answer or a call to which the provider gives none."""
    return prefix + secrets.token_hex(12)


def choice(
    message: MessageBuilder, finish_reason: FinishReason, *, index: int = 0, logprobs: object = None
) -> dict[str, Any]:
    """One of OpenAI's `choices`."""
    return {"index": index, "message": message.message(), "logprobs": logprobs, "finish_reason": finish_reason}


def completion(
    answer_id: str, model: str, created: int, choices: Sequence[dict[str, Any]], usage: dict[str, Any] | None
) -> dict[str, Any]:
    """OpenAI's `chat.completion`. `created` is in Unix seconds; `usage` is left out if it is `None`."""
    answer = {
        "id": answer_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": list(choices),
    }
    return answer if usage is None else answer | {"usage": usage}


def usage(
    prompt: int,
    completion: int,
    *,
    cached: int = 0,
    written: int = 0,
    written_1h: int = 0,
    reasoning: int | None = None,
) -> dict[str, Any]:
    """OpenAI's usage, in tokens.

    `prompt` includes `cached` (read from a cache) and `written` (into a cache), which includes `written_1h` (kept for
    an hour). `completion` includes `reasoning`.
    """
    details = {"cached_tokens": cached}
    if written:
        details["cache_write_tokens"] = written
    if written_1h:
        details["cache_write_1h_tokens"] = written_1h
    counts: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": details,
    }
    if reasoning is not None:
        counts["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return counts


@dataclass(slots=True)
class ChunkBuilder:
    """Builds the chunks of one stream, which all have its id, its model and the time of its start (Unix seconds)."""

    model: str
    created: int
    with_usage: bool
    id: str = ""

    def delta(self, index: int = 0, *, logprobs: object = None, **delta: Any) -> dict[str, Any]:
        """A chunk that adds to one choice."""
        return self._chunk([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}])

    def start(self, index: int = 0) -> dict[str, Any]:
        """The first chunk of a choice, which has its role."""
        return self.delta(index, role="assistant", content="", refusal=None)

    def call(self, number: int, call_id: str, name: str, arguments: str = "", **extra: Any) -> dict[str, Any]:
        """The beginning of a tool call of the first choice; `number` counts its calls from 0."""
        function = {"name": name, "arguments": arguments}
        call = {"index": number, "id": call_id, "type": "function", "function": function, **extra}
        return self.delta(tool_calls=[call])

    def arguments(self, number: int, more: str) -> dict[str, Any]:
        """More of a call's arguments."""
        return self.delta(tool_calls=[{"index": number, "function": {"arguments": more}}])

    def finish(self, reason: FinishReason, index: int = 0) -> dict[str, Any]:
        """The last chunk of a choice."""
        return self._chunk([{"index": index, "delta": {}, "logprobs": None, "finish_reason": reason}])

    def end(self, usage: dict[str, Any] | None) -> list[dict[str, Any]]:
        """The last chunk of the stream, with the usage and no choice, if the client wants the usage."""
        return [self._chunk([]) | {"usage": usage}] if self.with_usage and usage is not None else []

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        chunk: dict[str, Any] = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        return chunk | {"usage": None} if self.with_usage else chunk
