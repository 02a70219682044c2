"""OpenAI's objects of a completion: whole, and as the chunks of a stream."""

import base64
import secrets
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from local.provider.asks import ChatAsk, EmbeddingAsk, TextAsk
from local.provider.refusal import Refusal
from local.provider.talk import Said, chat_said, count, numbers, prompt_tokens, text_said

LOGPROB = -0.1
CONTEXT_TOKENS = 8_192
"""How long the prompt and what may be answered can be together."""
DIMENSIONS = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """One call's answer: what every object and chunk of it repeats, the prompt's size, and each choice."""

    model: str
    prompt: int
    choices: Sequence[Said]
    mark: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def usage(self) -> dict[str, Any]:
        told = sum(len(said.tokens) for said in self.choices)
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": told,
            "total_tokens": self.prompt + told,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }

    def object(self, prefix: str, kind: str, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"{prefix}-{self.mark}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "system_fingerprint": "fp_simulated",
        }


def chat_answer(ask: ChatAsk, dialect: str) -> Answer:
    """A `Refusal` for a prompt that is too long, or that Azure will not answer."""
    answer = Answer(ask.model, prompt_tokens(ask.messages), [chat_said(ask)] * (ask.n or 1))
    _check_length(answer, ask.max_completion_tokens or ask.max_tokens or 0, "messages")
    _check_content(answer, dialect)
    return answer


def text_answer(ask: TextAsk) -> Answer:
    """A `Refusal` for a prompt that is too long."""
    prompts = texts("" if ask.prompt is None else ask.prompt)
    said = [text_said(ask, prompt) for prompt in prompts for _ in range(ask.n or 1)]
    answer = Answer(ask.model, sum(map(count, prompts)), said)
    _check_length(answer, ask.max_tokens or 0, "prompt")
    return answer


def chat_object(ask: ChatAsk, answer: Answer) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "message": _message(ask, said, answer),
            "logprobs": _logprobs(ask, said.tokens),
            "finish_reason": said.finish,
        }
        for index, said in enumerate(answer.choices)
    ]
    return answer.object("chatcmpl", "chat.completion", choices) | _tier(ask) | {"usage": answer.usage()}


def chat_chunks(ask: ChatAsk, answer: Answer) -> Iterator[dict[str, Any]]:
    """The first chunk of a choice tells the role, the last one how it ended, those between a token each."""

    def chunk(choices: Sequence[dict[str, Any]], usage: dict[str, Any] | None = None) -> dict[str, Any]:
        made = answer.object("chatcmpl", "chat.completion.chunk", choices) | _tier(ask)
        return made | {"usage": usage} if _tells_usage(ask) else made

    for index, said in enumerate(answer.choices):
        yield chunk([_delta(index, {"role": "assistant", **_opening(said, answer.mark)})])
        for token in said.tokens:
            yield chunk([_delta(index, _piece(said, token), logprobs=_logprobs(ask, [token]))])
        yield chunk([_delta(index, {}, finish=said.finish)])
    if _tells_usage(ask):
        yield chunk([], answer.usage())


def text_object(ask: TextAsk, answer: Answer) -> dict[str, Any]:
    choices = [
        {"index": index, "text": said.text, "logprobs": _text_logprobs(ask, said.tokens), "finish_reason": said.finish}
        for index, said in enumerate(answer.choices)
    ]
    return answer.object("cmpl", "text_completion", choices) | {"usage": answer.usage()}


def text_chunks(ask: TextAsk, answer: Answer) -> Iterator[dict[str, Any]]:
    for index, said in enumerate(answer.choices):
        for token in said.tokens:
            choice = {"index": index, "text": token, "logprobs": _text_logprobs(ask, [token]), "finish_reason": None}
            yield answer.object("cmpl", "text_completion", [choice])
        yield answer.object(
            "cmpl", "text_completion", [{"index": index, "text": "", "logprobs": None, "finish_reason": said.finish}]
        )
    if _tells_usage(ask):
        yield answer.object("cmpl", "text_completion", []) | {"usage": answer.usage()}


def embedding_object(ask: EmbeddingAsk) -> dict[str, Any]:
    inputs = texts(ask.input)
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(ask, text)} for index, text in enumerate(inputs)
    ]
    tokens = sum(map(count, inputs))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": ask.model, "usage": usage}


def texts(given: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]) -> list[str]:
    """What was given, as texts: one text or several, each in words or as the numbers of its tokens."""
    several = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    return [one if isinstance(one, str) else " ".join(map(str, one)) for one in several]


def _check_length(answer: Answer, wanted: int, param: str) -> None:
    if answer.prompt + wanted > CONTEXT_TOKENS:
        words = (
            f"This model's maximum context length is {CONTEXT_TOKENS} tokens. However, your request asks for"
            f" {answer.prompt + wanted} tokens. Please reduce the length of the {param}."
        )
        raise Refusal(400, "context_length_exceeded", words, param)


def _check_content(answer: Answer, dialect: str) -> None:
    """Azure refuses what OpenAI answers with no words and the reason."""
    if dialect == "azure" and any(said.finish == "content_filter" for said in answer.choices):
        words = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
        raise Refusal(400, "content_filter", words, "prompt")


def _vector(ask: EmbeddingAsk, text: str) -> list[float] | str:
    values = numbers(text, ask.dimensions or DIMENSIONS)
    if ask.encoding_format == "base64":
        return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
    return values


def _message(ask: ChatAsk, said: Said, answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text, "refusal": None, "annotations": []}
    if said.tool is not None:
        return message | {"content": None} | _call(said, said.text, _call_id(said, answer.mark))
    if "audio" in (ask.modalities or ()):
        sound = base64.b64encode(said.text.encode()).decode()
        heard = {"id": f"audio_{answer.mark}", "data": sound, "expires_at": answer.created + 3600}
        return message | {"content": None, "audio": heard | {"transcript": said.text}}
    return message


def _opening(said: Said, mark: str) -> dict[str, Any]:
    if said.tool is None:
        return {"content": "", "refusal": None}
    return {"content": None} | _call(said, "", _call_id(said, mark) | {"index": 0})


def _piece(said: Said, token: str) -> dict[str, Any]:
    if said.tool is None:
        return {"content": token}
    return _call(replace(said, tool=None), token, {"index": 0})


def _call_id(said: Said, mark: str) -> dict[str, Any]:
    return {"id": f"call_{mark}", "type": said.kind}


def _call(said: Said, text: str, members: dict[str, Any]) -> dict[str, Any]:
    """The members of a message that call a tool, or of a piece of it."""
    named = {"name": said.tool} if said.tool else {}
    called = named | {"input" if said.kind == "custom" else "arguments": text}
    if said.kind == "function_call":
        return {"function_call": called}
    return {"tool_calls": [members | {said.kind: called}]}


def _tier(ask: ChatAsk) -> dict[str, Any]:
    """Where the request names a tier, the answer does."""
    if ask.service_tier is None:
        return {}
    return {"service_tier": {"auto": "default", "fast": "priority"}.get(ask.service_tier, ask.service_tier)}


def _delta(
    index: int, delta: dict[str, Any], finish: str | None = None, logprobs: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _logprobs(ask: ChatAsk, tokens: Sequence[str]) -> dict[str, Any] | None:
    if not ask.logprobs:
        return None
    told = [_logprob(token) | {"top_logprobs": [_logprob(token)] * min(ask.top_logprobs or 0, 1)} for token in tokens]
    return {"content": told, "refusal": None}


def _text_logprobs(ask: TextAsk, tokens: Sequence[str]) -> dict[str, Any] | None:
    if ask.logprobs is None:
        return None
    return {
        "tokens": tokens,
        "token_logprobs": [LOGPROB] * len(tokens),
        "top_logprobs": [{token: LOGPROB} for token in tokens] if ask.logprobs else None,
        "text_offset": [sum(map(len, tokens[:index])) for index in range(len(tokens))],
    }


def _logprob(token: str) -> dict[str, Any]:
    return {"token": token, "logprob": LOGPROB, "bytes": list(token.encode())}


def _tells_usage(ask: ChatAsk | TextAsk) -> bool:
    return ask.stream_options is not None and ask.stream_options.include_usage
