"""Cohere's answer as OpenAI's chat completion."""

from collections.abc import Iterable, Mapping
from typing import Any

from manifold.errors import CONTENT_FILTER, ProviderError, ProviderRefused, ProviderUnclear
from manifold.providers.chat_response import FinishReason, MessageBuilder, choice, completion, tool_call, usage
from manifold.providers.error_patterns import prompt_error_code

FINISHES: Mapping[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
}
FAILED = frozenset({"ERROR", "ERROR_LIMIT", "ERROR_TOXIC", "TIMEOUT"})


def translate_response(answer: Mapping[str, Any], model: str, created: int) -> dict[str, Any]:
    """Cohere does not name the model that answers."""
    message, said = answer["message"], MessageBuilder()
    said.reasoning = message.get("tool_plan") or ""
    for item in message.get("content") or []:
        if item.get("type") == "thinking":
            said.reasoning += item.get("thinking") or ""
        elif item.get("type") == "text":
            said.add(item["text"])
    for call in message.get("tool_calls") or []:
        function = call["function"]
        said.calls.append(tool_call(call["id"], function["name"], function.get("arguments") or "{}"))
    told = choice(said, finish_reason(answer.get("finish_reason")), logprobs=logprobs_of(answer.get("logprobs")))
    return completion(str(answer.get("id")), model, created, [told], usage_of(answer.get("usage")))


def finish_reason(reason: object, words: object = None) -> FinishReason:
    """`ProviderUnclear` for a reason that says the answer failed, or what Cohere's words about it mean."""
    if reason in FAILED:
        raise _failure(str(words or reason))
    return FINISHES.get(str(reason), "stop")


def _failure(words: str) -> ProviderError:
    meant = prompt_error_code(500, CONTENT_FILTER if words == "ERROR_TOXIC" else None, words)
    if meant is None:
        return ProviderUnclear("the model's answer failed", words=words)
    return ProviderRefused("the model's answer failed", status=400, code=meant, words=words, lasting=True)


def usage_of(counts: object) -> dict[str, Any] | None:
    """All tokens, where Cohere tells them, not the billed ones alone; it sends counts with a decimal point."""
    if not isinstance(counts, dict):
        return None
    tokens = counts.get("tokens") or counts.get("billed_units") or {}
    cached = int(counts.get("cached_tokens") or 0)
    return usage(int(tokens.get("input_tokens") or 0), int(tokens.get("output_tokens") or 0), cached=cached)


def logprobs_of(items: Iterable[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    """One entry for each piece of text: the probability of several tokens in a row is the product of theirs."""
    if not items:
        return None
    return {"content": [_token(item) for item in items], "refusal": None}


def _token(item: Mapping[str, Any]) -> dict[str, Any]:
    text = item.get("text") or ""
    logprob = sum(item.get("logprobs") or [])
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
