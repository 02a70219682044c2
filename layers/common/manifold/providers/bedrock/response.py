"""Translates Converse's response into OpenAI's chat completion."""

from collections.abc import Mapping
from typing import Any

from manifold.errors import ProviderUnclear
from manifold.providers.chat_response import FinishReason, MessageBuilder, choice, completion, new_id, tool_call, usage

FINISHES: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}
FAILED = frozenset({"malformed_model_output", "malformed_tool_use"})


def translate_response(answer: Mapping[str, Any], model: str, created: int) -> dict[str, Any]:
    """OpenAI's chat completion. Bedrock gives neither an id nor the model's name.

    Text blocks are joined. Blocks of the provider's own tools are left out: the text tells their results.
    """
    built = MessageBuilder()
    for block in answer["output"]["message"]["content"]:
        _add(built, block)
    finish = finish_reason(answer.get("stopReason"))
    return completion(new_id("chatcmpl-"), model, created, [choice(built, finish)], usage_of(answer.get("usage")))


def finish_reason(reason: object) -> FinishReason:
    """OpenAI's `finish_reason`; `stop` for an unknown one. `ProviderUnclear` if the model's answer failed."""
    if reason in FAILED:
        raise ProviderUnclear("the model's answer failed", raw_detail=str(reason))
    return FINISHES.get(str(reason), "stop")


def usage_of(counts: object) -> dict[str, Any] | None:
    """OpenAI's usage. Bedrock counts cached tokens (written and read) apart from the rest of the prompt."""
    if not isinstance(counts, dict):
        return None
    cached = counts.get("cacheReadInputTokens") or 0
    written = counts.get("cacheWriteInputTokens") or 0
    prompt = (counts.get("inputTokens") or 0) + written + cached
    lives = counts.get("cacheDetails") or ()
    written_1h = sum(one.get("inputTokens") or 0 for one in lives if one.get("ttl") == "1h")
    return usage(prompt, counts.get("outputTokens") or 0, cached=cached, written=written, written_1h=written_1h)


def is_server_tool(use: Mapping[str, Any]) -> bool:
    """Whether the call is of the provider's own tool, which the provider has run itself."""
    return use.get("type") == "server_tool_use"


def thinking_block(text: str, signature: str | None) -> dict[str, Any]:
    """A signed block of `thinking_blocks`, in the shape of Anthropic's API."""
    return {"type": "thinking", "thinking": text, "signature": signature or ""}


def redacted_block(data: object) -> dict[str, Any]:
    """An encrypted block of `thinking_blocks`, in the shape of Anthropic's API."""
    return {"type": "redacted_thinking", "data": data}


def _add(built: MessageBuilder, block: Mapping[str, Any]) -> None:
    if "text" in block:
        built.add(block["text"])
    elif "toolUse" in block:
        use = block["toolUse"]
        if not is_server_tool(use):
            built.calls.append(tool_call(use["toolUseId"], use["name"], use.get("input")))
    elif "reasoningContent" in block:
        _add_thinking(built, block["reasoningContent"])
    elif "citationsContent" in block:
        for piece in block["citationsContent"].get("content") or []:
            built.add(piece.get("text") or "")


def _add_thinking(built: MessageBuilder, thought: Mapping[str, Any]) -> None:
    if "redactedContent" in thought:
        built.thinking.append(redacted_block(thought["redactedContent"]))
        return
    text = thought["reasoningText"]
    built.reasoning += text.get("text") or ""
    if text.get("signature"):
        built.thinking.append(thinking_block(text.get("text") or "", text["signature"]))
