"""The limits of vLLM's sampling parameters, and of a prompt's length.

https://github.com/vllm-project/vllm/blob/main/vllm/sampling_params.py
"""

import math
from collections.abc import Iterator

from local.provider.completion_objects import CONTEXT_TOKENS
from local.provider.native.vllm_requests import ChatRequest, Sampling, TextRequest
from local.provider.refusal import Refusal

MAX_LOGPROBS = 20
"""The default of `--max-logprobs`."""
RANGES = {"presence_penalty": (-2, 2), "frequency_penalty": (-2, 2), "min_p": (0, 1)}
"""What is refused without the name of the parameter."""


def check_sampling(request: ChatRequest | TextRequest) -> None:
    """Raises the `Refusal` for the first parameter that is out of its range."""
    for words, param, value in _problems(request):
        detail = f" (parameter={param}, value={value})" if param else ""
        raise Refusal(400, None, words + detail, param)


def check_length(prompt: int, limit: int | None) -> None:
    """Raises the `Refusal` for more tokens than the model's context has: the prompt's, and those asked for."""
    if prompt + (limit or 0) <= CONTEXT_TOKENS:
        return
    words = (
        f"This model's maximum context length is {CONTEXT_TOKENS} tokens. However, you requested {limit or 0} output"
        f" tokens and your prompt contains at least {prompt} input tokens, for a total of at least"
        f" {prompt + (limit or 0)} tokens. Please reduce the length of the input prompt or the number of requested"
        f" output tokens. (parameter=input_tokens, value={prompt})"
    )
    raise Refusal(400, None, words, "input_tokens")


def _problems(request: ChatRequest | TextRequest) -> Iterator[tuple[str, str | None, float | None]]:
    yield from _count_problems(request)
    yield from _range_problems(request)
    yield from _length_problems(request)
    yield from _logprob_problems(request)
    if request.priority:
        yield f"Got priority {request.priority} but Priority scheduling is not enabled.", None, None
    if any(not stop for stop in request.stops):
        yield "stop cannot contain an empty string.", None, None
    if request.temperature is not None and request.temperature < 1e-5 and (request.n or 1) > 1:
        yield f"n must be 1 when using greedy sampling, got {request.n}.", None, None


def _count_problems(request: Sampling) -> Iterator[tuple[str, str | None, float | None]]:
    if request.n is not None and request.n < 1:
        yield f"n must be at least 1, got {request.n}.", "n", request.n
    if request.top_k is not None and request.top_k < -1:
        yield f"top_k must be 0 (disable), or at least 1, got {request.top_k}.", None, None
    if any(not token.lstrip("-").isdecimal() for token in request.logit_bias or ()):
        keys = [token for token in request.logit_bias or () if not token.lstrip("-").isdecimal()]
        yield f"logit_bias contains key(s) that cannot be converted to integer token IDs: {keys}", "logit_bias", None


def _range_problems(request: Sampling) -> Iterator[tuple[str, str | None, float | None]]:
    for name, (low, high) in RANGES.items():
        value = getattr(request, name)
        if value is not None and not low <= value <= high:
            yield f"{name} must be in [{low}, {high}], got {value}.", None, None
    if request.repetition_penalty is not None and request.repetition_penalty <= 0:
        yield f"repetition_penalty must be greater than zero, got {request.repetition_penalty}.", None, None
    heat = request.temperature
    if heat is not None and not math.isfinite(heat):
        yield f"temperature must be a finite number, got {heat}.", "temperature", heat
    elif heat is not None and heat < 0:
        yield f"temperature must be non-negative, got {heat}.", "temperature", heat
    elif heat is not None and heat > 2:
        yield f"temperature must be in [0, 2], got {heat}.", "temperature", heat
    if request.top_p is not None and not 0 < request.top_p <= 1:
        yield f"top_p must be in (0, 1], got {request.top_p}.", "top_p", request.top_p


def _length_problems(request: ChatRequest | TextRequest) -> Iterator[tuple[str, str | None, float | None]]:
    limit = request.limit
    only_echo = isinstance(request, TextRequest) and request.echo and limit == 0
    if limit is not None and limit < 1 and not only_echo:
        yield f"max_tokens must be at least 1, got {limit}.", "max_tokens", limit
    if request.min_tokens < 0:
        yield f"min_tokens must be greater than or equal to 0, got {request.min_tokens}.", None, None
    if limit is not None and request.min_tokens > limit:
        words = f"min_tokens must be less than or equal to max_tokens={limit}, got {request.min_tokens}."
        yield words, None, None


def _logprob_problems(request: ChatRequest | TextRequest) -> Iterator[tuple[str, str | None, float | None]]:
    count = request.logprobs if isinstance(request, TextRequest) else request.top_logprobs
    if count is not None and count > MAX_LOGPROBS:
        words = f"Requested sample logprobs of {count}, which is greater than max allowed: {MAX_LOGPROBS}"
        yield words, "logprobs", count
