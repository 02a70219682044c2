"""Anthropic's message as OpenAI's chat completion."""

from collections.abc import Mapping
from typing import Any

from manifold.errors import ProviderUnclear
from manifold.providers.chat_response import FinishReason, MessageBuilder, choice, completion, tool_call, usage

FINISHES: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons"""


def translate_response(message: Mapping[str, Any], model: str, created: int) -> dict[str, Any]:
    """The blocks of text in one text; the results of Anthropic's own tools are left to the text that tells them."""
    content = message.get("content")
    if not isinstance(content, list):
        raise ProviderUnclear("a message without content")
    said = MessageBuilder()
    for block in content:
        _add(said, block)
    said.refusal = refusal(message)
    return completion(
        str(message.get("id")),
        str(message.get("model") or model),
        created,
        [choice(said, finish_reason(message.get("stop_reason")))],
        usage_of(message.get("usage")),
    )


def finish_reason(stop_reason: object) -> FinishReason:
    return FINISHES.get(str(stop_reason), "stop")


def refusal(stopped: Mapping[str, Any]) -> str | None:
    """Why the model would not answer, if that is how it ended."""
    if stopped.get("stop_reason") != "refusal":
        return None
    details = stopped.get("stop_details")
    explanation = details.get("explanation") if isinstance(details, dict) else None
    return str(explanation or "The model declined to answer.")


def usage_of(counts: object) -> dict[str, Any] | None:
    """Anthropic counts what went into the cache or came from it apart from the rest of the prompt."""
    if not isinstance(counts, dict):
        return None
    cached = counts.get("cache_read_input_tokens") or 0
    written = counts.get("cache_creation_input_tokens") or 0
    prompt = (counts.get("input_tokens") or 0) + written + cached
    lives, details = counts.get("cache_creation"), counts.get("output_tokens_details")
    return usage(
        prompt,
        counts.get("output_tokens") or 0,
        cached=cached,
        written=written,
        written_1h=(lives.get("ephemeral_1h_input_tokens") or 0) if isinstance(lives, dict) else 0,
        reasoning=details.get("thinking_tokens") if isinstance(details, dict) else None,
    )


def _add(said: MessageBuilder, block: Mapping[str, Any]) -> None:
    match block.get("type"):
        case "text":
            said.add(block["text"])
        case "tool_use":
            said.calls.append(tool_call(block["id"], block["name"], block.get("input")))
        case "thinking":
            said.reasoning += block.get("thinking") or ""
            said.thinking.append(block)
        case "redacted_thinking":
            said.thinking.append(block)
