"""Translates Cohere's response into OpenAI's chat completion."""

from collections.abc import Iterable, Mapping
from typing import Any

from manifold.errors import ProviderError, ProviderRefused, ProviderUnclear
from manifold.provider_errors import CONTENT_FILTER
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
    """OpenAI's chat completion. Cohere does not name the model."""
    message, built = answer["message"], MessageBuilder()
    built.reasoning = message.get("tool_plan") or ""
    for item in message.get("content") or []:
        if item.get("type") == "thinking":
            built.reasoning += item.get("thinking") or ""
        elif item.get("type") == "text":
            built.add(item["text"])
    for call in message.get("tool_calls") or []:
        function = call["function"]
        built.calls.append(tool_call(call["id"], function["name"], function.get("arguments") or "{}"))
    only = choice(built, finish_reason(answer.get("finish_reason")), logprobs=logprobs_of(answer.get("logprobs")))
    return completion(str(answer.get("id")), model, created, [only], usage_of(answer.get("usage")))


def finish_reason(reason: object, message: object = None) -> FinishReason:
    """OpenAI's `finish_reason`; `stop` for an unknown one.

    Raises if the answer failed: `ProviderRefused` where Cohere's `message` says that the prompt is the reason, else
    `ProviderUnclear`.
    """
    if reason in FAILED:
        raise _failure(str(message or reason))
    return FINISHES.get(str(reason), "stop")


def _failure(message: str) -> ProviderError:
    code = prompt_error_code(500, CONTENT_FILTER if message == "ERROR_TOXIC" else None, message)
    if code is None:
        return ProviderUnclear("the model's answer failed", raw_detail=message)
    return ProviderRefused("the model's answer failed", status=400, code=code, raw_detail=message, lasting=True)


def usage_of(counts: object) -> dict[str, Any] | None:
    """OpenAI's usage: all tokens or, if Cohere does not tell them, the billed ones. Cohere's counts are floats."""
    if not isinstance(counts, dict):
        return None
    tokens = counts.get("tokens") or counts.get("billed_units") or {}
    cached = int(counts.get("cached_tokens") or 0)
    return usage(int(tokens.get("input_tokens") or 0), int(tokens.get("output_tokens") or 0), cached=cached)


def logprobs_of(items: Iterable[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    """OpenAI's logprobs, with an entry for each piece of text: its logprob is the sum of those of its tokens."""
    if not items:
        return None
    return {"content": [_token(item) for item in items], "refusal": None}


def _token(item: Mapping[str, Any]) -> dict[str, Any]:
    text = item.get("text") or ""
    logprob = sum(item.get("logprobs") or [])
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
