"""OpenAI's objects of completions and embeddings: as a whole, and as the chunks of a stream."""

import base64
import secrets
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from local.provider.completion_requests import ChatRequest, EmbeddingRequest, TextRequest
from local.provider.echo_model import ModelOutput, chat_output, count, numbers, prompt_tokens, text_output
from local.provider.refusal import Refusal

LOGPROB = -0.1
CONTEXT_TOKENS = 8_192
"""The most tokens that the prompt and `max_tokens` can have together."""
DIMENSIONS = 8


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells an answer from an equal one."""

    id_suffix: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to one request: what its object and its chunks repeat, the tokens of the prompt, and the choices."""

    model: str
    prompt: int
    choices: Sequence[ModelOutput]
    stamp: Stamp

    def usage(self) -> dict[str, Any]:
        output_tokens = sum(output.token_count for output in self.choices)
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": output_tokens,
            "total_tokens": self.prompt + output_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }

    def object(self, prefix: str, kind: str, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"{prefix}-{self.stamp.id_suffix}",
            "object": kind,
            "created": self.stamp.created,
            "model": self.model,
            "choices": choices,
            "system_fingerprint": "fp_simulated",
        }


def chat_completion(request: ChatRequest, dialect: str, stamp: Stamp | None = None) -> Completion:
    """A `Refusal` for a prompt that is too long, or that Azure will not answer."""
    choices = [chat_output(request)] * (request.n or 1)
    completion = Completion(request.model, prompt_tokens(request.messages), choices, stamp or Stamp())
    _check_length(completion, request.max_completion_tokens or request.max_tokens or 0, "messages")
    _check_content(completion, dialect)
    return completion


def text_completion(request: TextRequest, stamp: Stamp | None = None) -> Completion:
    """A `Refusal` for a prompt that is too long."""
    prompts = texts("" if request.prompt is None else request.prompt)
    output = [text_output(request, prompt) for prompt in prompts for _ in range(request.n or 1)]
    completion = Completion(request.model, sum(map(count, prompts)), output, stamp or Stamp())
    _check_length(completion, request.max_tokens or 0, "prompt")
    return completion


def chat_object(request: ChatRequest, completion: Completion) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "message": _message(request, output, completion),
            "logprobs": _logprobs(request, output.tokens),
            "finish_reason": output.finish,
        }
        for index, output in enumerate(completion.choices)
    ]
    return completion.object("chatcmpl", "chat.completion", choices) | _tier(request) | {"usage": completion.usage()}


def chat_chunks(request: ChatRequest, completion: Completion) -> Iterator[dict[str, Any]]:
    """The first chunk of a choice has the role, the last one the reason of its end, those between a token each."""

    def chunk(choices: Sequence[dict[str, Any]], usage: dict[str, Any] | None = None) -> dict[str, Any]:
        made = completion.object("chatcmpl", "chat.completion.chunk", choices) | _tier(request)
        return made | {"usage": usage} if _has_usage(request) else made

    for index, output in enumerate(completion.choices):
        yield chunk([_delta(index, {"role": "assistant", **_opening(output, completion.stamp.id_suffix)})])
        for token in output.tokens:
            yield chunk([_delta(index, _piece(output, token), logprobs=_logprobs(request, [token]))])
        yield chunk([_delta(index, {}, finish=output.finish)])
    if _has_usage(request):
        yield chunk([], completion.usage())


def text_object(request: TextRequest, completion: Completion) -> dict[str, Any]:
    choices = [
        {
            "index": index,
            "text": output.text,
            "logprobs": _text_logprobs(request, output.tokens),
            "finish_reason": output.finish,
        }
        for index, output in enumerate(completion.choices)
    ]
    return completion.object("cmpl", "text_completion", choices) | {"usage": completion.usage()}


def text_chunks(request: TextRequest, completion: Completion) -> Iterator[dict[str, Any]]:
    for index, output in enumerate(completion.choices):
        for token in output.tokens:
            choice = {
                "index": index,
                "text": token,
                "logprobs": _text_logprobs(request, [token]),
                "finish_reason": None,
            }
            yield completion.object("cmpl", "text_completion", [choice])
        yield completion.object(
            "cmpl", "text_completion", [{"index": index, "text": "", "logprobs": None, "finish_reason": output.finish}]
        )
    if _has_usage(request):
        yield completion.object("cmpl", "text_completion", []) | {"usage": completion.usage()}


def embedding_object(request: EmbeddingRequest) -> dict[str, Any]:
    inputs = texts(request.input)
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(request, text)}
        for index, text in enumerate(inputs)
    ]
    tokens = sum(map(count, inputs))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request.model, "usage": usage}


def texts(given: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]) -> list[str]:
    """The prompts as texts: one or several, each given as a text or as the numbers of its tokens."""
    several = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    return [one if isinstance(one, str) else " ".join(map(str, one)) for one in several]


def _check_length(completion: Completion, limit: int, param: str) -> None:
    if completion.prompt + limit > CONTEXT_TOKENS:
        words = (
            f"This model's maximum context length is {CONTEXT_TOKENS} tokens. However, your request asks for"
            f" {completion.prompt + limit} tokens. Please reduce the length of the {param}."
        )
        raise Refusal(400, "context_length_exceeded", words, param)


def _check_content(completion: Completion, dialect: str) -> None:
    """Azure refuses what OpenAI answers with an empty text and `content_filter`."""
    if dialect == "azure" and any(output.finish == "content_filter" for output in completion.choices):
        words = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
        raise Refusal(400, "content_filter", words, "prompt")


def _vector(request: EmbeddingRequest, text: str) -> list[float] | str:
    values = numbers(text, request.dimensions or DIMENSIONS)
    if request.encoding_format == "base64":
        return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
    return values


def _message(request: ChatRequest, output: ModelOutput, completion: Completion) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": output.text, "refusal": None, "annotations": []}
    if output.tool is not None:
        return message | {"content": None} | _call(output, output.text, _call_id(output, completion.stamp.id_suffix))
    if "audio" in (request.modalities or ()):
        sound = base64.b64encode(output.text.encode()).decode()
        audio = {
            "id": f"audio_{completion.stamp.id_suffix}",
            "data": sound,
            "expires_at": completion.stamp.created + 3600,
        }
        return message | {"content": None, "audio": audio | {"transcript": output.text}}
    return message


def _opening(output: ModelOutput, id_suffix: str) -> dict[str, Any]:
    if output.tool is None:
        return {"content": "", "refusal": None}
    return {"content": None} | _call(output, "", _call_id(output, id_suffix) | {"index": 0})


def _piece(output: ModelOutput, token: str) -> dict[str, Any]:
    if output.tool is None:
        return {"content": token}
    return _call(replace(output, tool=None), token, {"index": 0})


def _call_id(output: ModelOutput, id_suffix: str) -> dict[str, Any]:
    return {"id": f"call_{id_suffix}", "type": output.kind}


def _call(output: ModelOutput, text: str, members: dict[str, Any]) -> dict[str, Any]:
    """The members of a message, or of a chunk, that call a tool."""
    named = {"name": output.tool} if output.tool else {}
    called = named | {"input" if output.kind == "custom" else "arguments": text}
    if output.kind == "function_call":
        return {"function_call": called}
    return {"tool_calls": [members | {output.kind: called}]}


def _tier(request: ChatRequest) -> dict[str, Any]:
    """The tier in the completion, if the request names one."""
    if request.service_tier is None:
        return {}
    return {"service_tier": {"auto": "default", "fast": "priority"}.get(request.service_tier, request.service_tier)}


def _delta(
    index: int, delta: dict[str, Any], finish: str | None = None, logprobs: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def _logprobs(request: ChatRequest, tokens: Sequence[str]) -> dict[str, Any] | None:
    if not request.logprobs:
        return None
    content = [
        _logprob(token) | {"top_logprobs": [_logprob(token)] * min(request.top_logprobs or 0, 1)} for token in tokens
    ]
    return {"content": content, "refusal": None}


def _text_logprobs(request: TextRequest, tokens: Sequence[str]) -> dict[str, Any] | None:
    if request.logprobs is None:
        return None
    return {
        "tokens": tokens,
        "token_logprobs": [LOGPROB] * len(tokens),
        "top_logprobs": [{token: LOGPROB} for token in tokens] if request.logprobs else None,
        "text_offset": [sum(map(len, tokens[:index])) for index in range(len(tokens))],
    }


def _logprob(token: str) -> dict[str, Any]:
    return {"token": token, "logprob": LOGPROB, "bytes": list(token.encode())}


def _has_usage(request: ChatRequest | TextRequest) -> bool:
    return request.stream_options is not None and request.stream_options.include_usage
