"""Mistral's lines of batches: https://docs.mistral.ai/capabilities/batch. The model and the endpoint are the job's."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from local.provider.completion_objects import Stamp
from local.provider.lenient_json import dumps, loads
from local.provider.line_answers import answer_line
from local.provider.line_shape import Answer, Marks, Problem, Request, Unanswered
from local.provider.native import mistral_messages
from local.provider.native.error_formats import MistralErrorFormat
from local.provider.openai_lines import usage_tokens
from local.provider.refusal import Refusal

MAX_LINES = 1_000_000
ERRORS = MistralErrorFormat()
MEMBERS = {
    "/v1/chat/completions": {
        "frequency_penalty", "guardrails", "logprobs", "max_tokens", "messages", "metadata", "min_tokens",
        "model", "n", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
        "prompt_logprobs", "prompt_mode", "random_seed", "reasoning_effort", "repetition_penalty",
        "response_format", "safe_prompt", "service_tier", "stop", "stream", "temperature", "tool_choice", "tools",
        "top_k", "top_logprobs", "top_p", "top_prompt_logprobs",
    },
    "/v1/embeddings": {
        "encoding_format", "input", "metadata", "model", "output_dimension", "output_dtype",
    },
}  # fmt: skip
"""The members of a body, by endpoint: any other is refused. Of the endpoints, these are simulated."""
OPENAI_NAMES = {"random_seed": "seed", "output_dimension": "dimensions"}
UNHEARD = {
    "guardrails", "metadata", "min_tokens", "output_dtype", "prompt_logprobs", "prompt_mode",
    "repetition_penalty", "safe_prompt", "service_tier", "top_k", "top_prompt_logprobs",
}  # fmt: skip
"""Those that the simulated models take, and that change nothing."""


class MistralLines:
    """The lines of a job of this endpoint and model."""

    marks = Marks()
    max_lines = MAX_LINES
    one_list = False
    shuffled = False
    endings: Mapping[str, Unanswered] = {}

    def __init__(self, endpoint: str, model: str) -> None:
        self._endpoint = endpoint
        self._model = model

    def read(self, raw: bytes) -> Request:
        try:
            line = loads(raw)
        except ValueError as error:
            raise Problem("invalid_json", "Invalid JSON line") from error
        if not isinstance(line, dict) or not isinstance(line.get("body"), dict):
            raise Problem("missing", "Missing or invalid body in line", "body")
        custom_id = line.get("custom_id")
        if custom_id is not None and not isinstance(custom_id, str):
            raise Problem("string_type", "custom_id should be a valid string", "custom_id")
        return Request(custom_id or "", line["body"], line=line)

    def problems(self, request: Request) -> Iterator[Problem]:
        for name in request.line.keys() - {"custom_id", "body"}:
            yield Problem("extra_forbidden", f"Extra inputs are not permitted: {name}", name)
        if request.body.get("model", self._model) != self._model:
            yield Problem("invalid_model", "The model of a line is not that of the job", "model")

    def tried(self, request: Request) -> str:
        return hashlib.sha256(dumps(request.body)).hexdigest()

    def answer(self, request: Request, stamp: Stamp) -> Answer:
        for name in request.body.keys() - MEMBERS[self._endpoint]:
            raise Refusal(422, "extra_forbidden", "Extra inputs are not permitted", name)
        if request.body.get("stream"):
            raise Refusal(400, "3051", "Streaming is not supported in batches")
        if self._endpoint == "/v1/chat/completions":
            mistral_messages.check(request.body)
        body = {OPENAI_NAMES.get(name, name): value for name, value in request.body.items() if name not in UNHEARD}
        if body.get("tool_choice") == "any":
            body["tool_choice"] = "required"
        url = self._endpoint.removeprefix("/v1")
        answer = answer_line(url, body | {"model": self._model}, "mistral", stamp)
        line = _line(request, stamp, {"status_code": 200, "body": answer}, None)
        return Answer(True, line, *usage_tokens(answer["usage"]))

    def refused(self, request: Request, refusal: Refusal, stamp: Stamp) -> bytes:
        response = {"status_code": refusal.status, "body": ERRORS.error(refusal)}
        return _line(request, stamp, response, None)

    def unanswered(self, request: Request, why: Unanswered, stamp: Stamp) -> bytes:
        return _line(request, stamp, None, {"message": why.message, "code": why.code})


def _line(request: Request, stamp: Stamp, response: object, error: object) -> bytes:
    line: dict[str, Any] = {
        "id": f"batch-{stamp.id_suffix}",
        "custom_id": request.id or None,
        "response": response,
        "error": error,
    }
    return dumps(line) + b"\n"
