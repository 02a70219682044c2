"""Translates Gemini's response into OpenAI's chat completion."""

from collections.abc import Mapping, Sequence
from typing import Any

from manifold.errors import ProviderUnclear
from manifold.providers.chat_response import FinishReason, MessageBuilder, choice, completion, new_id, tool_call, usage

BLOCKED = frozenset(
    {
        "SAFETY", "RECITATION", "LANGUAGE", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER", "MODEL_ARMOR", "ESCALATION",
    }
)  # fmt: skip
"""Why Gemini withholds an answer, or its rest."""
FAILED = frozenset(
    {
        "MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "MISSING_THOUGHT_SIGNATURE", "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS", "NO_IMAGE",
    }
)  # fmt: skip
"""What it calls an answer that came to nothing."""


def translate_response(answer: Mapping[str, Any], model: str, created: int) -> dict[str, Any]:
    """OpenAI's chat completion, with a choice for each candidate. Of a blocked prompt it has only the refusal."""
    candidates = answer.get("candidates") or []
    choices = [_choice(candidate, index) for index, candidate in enumerate(candidates)]
    if not choices:
        choices = [choice(MessageBuilder(refusal=refusal(answer)), "content_filter")]
    return completion(
        str(answer.get("responseId") or new_id("chatcmpl-")),
        str(answer.get("modelVersion") or model),
        created,
        choices,
        usage_of(answer.get("usageMetadata")),
    )


def refusal(answer: Mapping[str, Any]) -> str:
    """Why the prompt was blocked. `ProviderUnclear` if the response does not say."""
    feedback = answer.get("promptFeedback") or {}
    reason = feedback.get("blockReason")
    if reason is None:
        raise ProviderUnclear("an answer without candidates")
    return str(feedback.get("blockReasonMessage") or f"The prompt was blocked: {reason}.")


def finish_reason(reason: object, *, called: bool) -> FinishReason:
    """OpenAI's `finish_reason`; `called` tells a call, for which Gemini says STOP. `ProviderUnclear` if it failed."""
    if reason in FAILED:
        raise ProviderUnclear("the model's answer failed", raw_detail=str(reason))
    if reason in BLOCKED:
        return "content_filter"
    if reason == "MAX_TOKENS":
        return "length"
    return "tool_calls" if called else "stop"


def usage_of(counts: object) -> dict[str, Any] | None:
    """OpenAI's usage. Gemini counts thinking apart from the candidates, and tools' results apart from the prompt."""
    if not isinstance(counts, dict):
        return None
    thoughts = counts.get("thoughtsTokenCount")
    return usage(
        (counts.get("promptTokenCount") or 0) + (counts.get("toolUsePromptTokenCount") or 0),
        (counts.get("candidatesTokenCount") or 0) + (thoughts or 0),
        cached=counts.get("cachedContentTokenCount") or 0,
        reasoning=thoughts,
    )


def parts_of(candidate: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The candidate's parts, which may be missing."""
    content = candidate.get("content") or {}
    return content.get("parts") or []


def call_of(part: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's tool call of a `functionCall` part. Older models give it no id."""
    call, signature = part["functionCall"], part.get("thoughtSignature")
    extra = {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}
    return tool_call(str(call.get("id") or new_id("call_")), call["name"], call.get("args"), **extra)


def logprobs_of(candidate: Mapping[str, Any]) -> dict[str, Any] | None:
    """OpenAI's logprobs, `None` if the candidate has none."""
    result = candidate.get("logprobsResult")
    if not isinstance(result, dict):
        return None
    chosen, tops = result.get("chosenCandidates") or [], result.get("topCandidates") or []
    content = [
        _token(token) | {"top_logprobs": [_token(other) for other in (top.get("candidates") or [])]}
        for token, top in zip(chosen, [*tops, *({} for _ in chosen)], strict=False)
    ]
    return {"content": content, "refusal": None}


def _choice(candidate: Mapping[str, Any], index: int) -> dict[str, Any]:
    built = MessageBuilder()
    for part in parts_of(candidate):
        if "functionCall" in part:
            built.calls.append(call_of(part))
        elif part.get("thought"):
            built.reasoning += part.get("text") or ""
        elif "text" in part:
            built.add(part["text"])
    reason = finish_reason(candidate.get("finishReason"), called=bool(built.calls))
    return choice(built, reason, index=candidate.get("index", index), logprobs=logprobs_of(candidate))


def _token(token: Mapping[str, Any]) -> dict[str, Any]:
    text = token.get("token") or ""
    return {"token": text, "logprob": token.get("logProbability", 0.0), "bytes": list(text.encode())}
