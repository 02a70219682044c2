"""OpenRouter's lines of batches: https://openrouter.ai/docs/batch-quickstart

A body has the form of its endpoint, and may leave out the model. Parameters that the endpoint does not know are
dropped. What OpenRouter itself refuses in a request fails the whole batch; what the provider refuses fails the line.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from local.provider.accounts import Account
from local.provider.completion_objects import Stamp
from local.provider.completion_requests import ChatRequest, EmbeddingRequest
from local.provider.lenient_json import dumps, loads
from local.provider.line_answers import answer_line
from local.provider.line_shape import Answer, Marks, Problem, Request, Unanswered
from local.provider.native import anthropic
from local.provider.openai_lines import usage_tokens
from local.provider.refusal import Refusal

MAX_LINES = 5_000
REQUIRED = {
    "/v1/chat/completions": "messages",
    "/v1/responses": "input",
    "/v1/messages": "messages",
    "/v1/embeddings": "input",
}
"""The endpoints, and what a body of each must have."""
KNOWN = {"/v1/chat/completions": ChatRequest.model_fields, "/v1/embeddings": EmbeddingRequest.model_fields}
INPUT_PRICE, OUTPUT_PRICE = 5e-08, 2e-07
"""US dollars for a token, of any model."""
ERROR_TYPES = {
    400: "invalid_request",
    402: "payment_required",
    404: "not_found",
    429: "rate_limit_exceeded",
    503: "provider_unavailable",
}


class OpenRouterLines:
    """The lines of a batch of this endpoint and model."""

    marks = Marks()
    max_lines = MAX_LINES
    one_list = True
    shuffled = False
    endings: Mapping[str, Unanswered] = {}

    def __init__(self, account: Account, endpoint: str, model: str) -> None:
        self._dialect = account.dialect
        self._endpoint = endpoint
        self._model = model

    def read(self, raw: bytes) -> Request:
        line = loads(raw)
        return Request(line["custom_id"], line["body"])

    def problems(self, request: Request) -> Iterator[Problem]:
        if request.body.get("model", self._model) != self._model:
            yield Problem("model", f"Request '{request.id}': model must match the model of the batch")
        if request.body.get("stream"):
            yield Problem("stream", f"Request '{request.id}': streaming is not supported in batches")
        if REQUIRED[self._endpoint] not in request.body:
            yield Problem("missing", f"Request '{request.id}': {REQUIRED[self._endpoint]} is required")

    def tried(self, request: Request) -> str:
        return hashlib.sha256(dumps(request.body)).hexdigest()

    def answer(self, request: Request, stamp: Stamp) -> Answer:
        answer = self._answered({**request.body, "model": self._model}, stamp)
        tokens = usage_tokens(answer["usage"])
        usage = {**answer["usage"], "cost": cost(*tokens), "is_byok": False}
        response = {"status_code": 200, "request_id": f"gen-{stamp.id_suffix}", "body": {**answer, "usage": usage}}
        return Answer(True, _line(request, stamp, response, None), *tokens)

    def refused(self, request: Request, refusal: Refusal, stamp: Stamp) -> bytes:
        kind = "invalid_request_error" if refusal.status < 500 and refusal.status != 429 else "server_error"
        error = {"message": refusal.message, "type": kind, "param": refusal.param}
        return _line(request, stamp, None, error | {"error_type": ERROR_TYPES.get(refusal.status, "server")})

    def unanswered(self, request: Request, why: Unanswered, stamp: Stamp) -> bytes:
        error = {"message": why.message, "type": why.code, "param": None, "error_type": "timeout"}
        return _line(request, stamp, None, error)

    def _answered(self, body: Mapping[str, Any], stamp: Stamp) -> dict[str, Any]:
        if self._endpoint == "/v1/messages":
            return anthropic.message(body) | {"id": f"gen-{stamp.id_suffix}"}
        known = KNOWN.get(self._endpoint)
        kept = body if known is None else {name: value for name, value in body.items() if name in known}
        return answer_line(self._endpoint.removeprefix("/v1"), kept, self._dialect, stamp)


def cost(input_tokens: int, output_tokens: int) -> float:
    return round(input_tokens * INPUT_PRICE + output_tokens * OUTPUT_PRICE, 12)


def _line(request: Request, stamp: Stamp, response: object, error: object) -> bytes:
    line = {"id": f"batch_req_{stamp.id_suffix}", "custom_id": request.id, "response": response, "error": error}
    return dumps(line) + b"\n"
