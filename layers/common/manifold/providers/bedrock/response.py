"""Converse's answer as OpenAI's chat completion."""

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
    """The blocks of text in one text; the results of the provider's own tools are left to the text that tells them.

    Bedrock names neither the answer nor its model.
    """
    said = MessageBuilder()
    for block in answer["output"]["message"]["content"]:
        _add(said, block)
    finish = finish_reason(answer.get("stopReason"))
    return completion(new_id("chatcmpl-"), model, created, [choice(said, finish)], usage_of(answer.get("usage")))


def finish_reason(reason: object) -> FinishReason:
    """`ProviderUnclear` for a reason that says the answer failed."""
    if reason in FAILED:
        raise ProviderUnclear("the model's answer failed", words=str(reason))
    return FINISHES.get(str(reason), "stop")


def usage_of(counts: object) -> dict[str, Any] | None:
    """Bedrock counts what went into the cache or came from it apart from the rest of the prompt."""
    if not isinstance(counts, dict):
        return None
    cached = counts.get("cacheReadInputTokens") or 0
    written = counts.get("cacheWriteInputTokens") or 0
    prompt = (counts.get("inputTokens") or 0) + written + cached
    lives = counts.get("cacheDetails") or ()
    written_1h = sum(one.get("inputTokens") or 0 for one in lives if one.get("ttl") == "1h")
    return usage(prompt, counts.get("outputTokens") or 0, cached=cached, written=written, written_1h=written_1h)


def is_servers(use: Mapping[str, Any]) -> bool:
    """Whether a call is of a tool of the provider's own, which it has run itself."""
    return use.get("type") == "server_tool_use"


def thinking_block(text: str, signature: str | None) -> dict[str, Any]:
    """A signed thought in Anthropic's words, which are the same for Claude wherever it runs."""
    return {"type": "thinking", "thinking": text, "signature": signature or ""}


def redacted_block(data: object) -> dict[str, Any]:
    return {"type": "redacted_thinking", "data": data}


def _add(said: MessageBuilder, block: Mapping[str, Any]) -> None:
    if "text" in block:
        said.add(block["text"])
    elif "toolUse" in block:
        use = block["toolUse"]
        if not is_servers(use):
            said.calls.append(tool_call(use["toolUseId"], use["name"], use.get("input")))
    elif "reasoningContent" in block:
        _add_thought(said, block["reasoningContent"])
    elif "citationsContent" in block:
        for piece in block["citationsContent"].get("content") or []:
            said.add(piece.get("text") or "")


def _add_thought(said: MessageBuilder, thought: Mapping[str, Any]) -> None:
    if "redactedContent" in thought:
        said.thinking.append(redacted_block(thought["redactedContent"]))
        return
    text = thought["reasoningText"]
    said.reasoning += text.get("text") or ""
    if text.get("signature"):
        said.thinking.append(thinking_block(text.get("text") or "", text["signature"]))
