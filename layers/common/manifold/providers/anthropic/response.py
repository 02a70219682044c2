"""Translates Anthropic's message into OpenAI's chat completion."""

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
    """OpenAI's chat completion. `ProviderUnclear` if the message has no content.

    Text blocks are joined. Blocks of Anthropic's own tools are left out: the text tells their results.
    """
    content = message.get("content")
    if not isinstance(content, list):
        raise ProviderUnclear("a message without content")
    built = MessageBuilder()
    for block in content:
        _add(built, block)
    built.refusal = refusal(message)
    return completion(
        str(message.get("id")),
        str(message.get("model") or model),
        created,
        [choice(built, finish_reason(message.get("stop_reason")))],
        usage_of(message.get("usage")),
    )


def finish_reason(stop_reason: object) -> FinishReason:
    """OpenAI's `finish_reason` for Anthropic's `stop_reason`; `stop` for an unknown one."""
    return FINISHES.get(str(stop_reason), "stop")


def refusal(message: Mapping[str, Any]) -> str | None:
    """The model's reason for refusing to answer; `None` if it did not refuse."""
    if message.get("stop_reason") != "refusal":
        return None
    details = message.get("stop_details")
    explanation = details.get("explanation") if isinstance(details, dict) else None
    return str(explanation or "The model declined to answer.")


def usage_of(counts: object) -> dict[str, Any] | None:
    """OpenAI's usage. Anthropic counts cached tokens (written and read) apart from the rest of the prompt."""
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


def _add(built: MessageBuilder, block: Mapping[str, Any]) -> None:
    match block.get("type"):
        case "text":
            built.add(block["text"])
        case "tool_use":
            built.calls.append(tool_call(block["id"], block["name"], block.get("input")))
        case "thinking":
            built.reasoning += block.get("thinking") or ""
            built.thinking.append(block)
        case "redacted_thinking":
            built.thinking.append(block)
