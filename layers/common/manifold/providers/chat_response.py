"""OpenAI's chat answers, whole and in chunks, for adapters that make them of other words.

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
    """What one choice says, as it is put together."""

    text: str | None = None
    reasoning: str = ""
    refusal: str | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    thinking: list[Mapping[str, Any]] = field(default_factory=list)
    """The provider's signed thoughts, which it wants back as they are."""

    def add(self, text: str) -> None:
        self.text = (self.text or "") + text

    def message(self) -> dict[str, Any]:
        """OpenAI's message, whose content is null only beside calls or a refusal; `reasoning_content` and
        `thinking_blocks` are what other gateways add to it, too."""
        silent = "" if self.refusal is None and not self.calls else None
        content = silent if self.text is None else self.text
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": self.refusal}
        if self.calls:
            message["tool_calls"] = self.calls
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.thinking:
            message["thinking_blocks"] = self.thinking
        return message


def tool_call(call_id: str, name: str, arguments: object, **extra: Any) -> dict[str, Any]:
    """A tool call whose arguments are an object, or the text of one."""
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode()
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}, **extra}


def new_id(prefix: str) -> str:
    """An id where the provider gives none."""
    return prefix + secrets.token_hex(12)


def choice(
    said: MessageBuilder, finish_reason: FinishReason, *, index: int = 0, logprobs: object = None
) -> dict[str, Any]:
    return {"index": index, "message": said.message(), "logprobs": logprobs, "finish_reason": finish_reason}


def completion(
    answer_id: str, model: str, created: int, choices: Sequence[dict[str, Any]], usage: dict[str, Any] | None
) -> dict[str, Any]:
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
    """Tokens in OpenAI's sense: the prompt's include those read from a cache and those written into it (and of these,
    those that stay for an hour), the completion's those thought with."""
    into_cache = {"cache_write_tokens": written, "cache_write_1h_tokens": written_1h}
    counts: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached} | {name: some for name, some in into_cache.items() if some},
    }
    return counts if reasoning is None else counts | {"completion_tokens_details": {"reasoning_tokens": reasoning}}


@dataclass(slots=True)
class ChunkBuilder:
    """Makes the chunks of one stream, which all carry its id, its model and the time of its start."""

    model: str
    created: int
    with_usage: bool
    id: str = ""

    def delta(self, index: int = 0, *, logprobs: object = None, **delta: Any) -> dict[str, Any]:
        """What was added to one choice."""
        return self._chunk([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}])

    def start(self, index: int = 0) -> dict[str, Any]:
        return self.delta(index, role="assistant", content="", refusal=None)

    def call(self, number: int, call_id: str, name: str, arguments: str = "", **extra: Any) -> dict[str, Any]:
        """The beginning of a choice's tool call; `number` counts them."""
        function = {"name": name, "arguments": arguments}
        begun = {"index": number, "id": call_id, "type": "function", "function": function, **extra}
        return self.delta(tool_calls=[begun])

    def arguments(self, number: int, more: str) -> dict[str, Any]:
        return self.delta(tool_calls=[{"index": number, "function": {"arguments": more}}])

    def finish(self, reason: FinishReason, index: int = 0) -> dict[str, Any]:
        return self._chunk([{"index": index, "delta": {}, "logprobs": None, "finish_reason": reason}])

    def end(self, usage: dict[str, Any] | None) -> list[dict[str, Any]]:
        """The usage, if it was asked for, in a last chunk without a choice."""
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
