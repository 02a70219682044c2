"""The lines of the Gemini API's batches: https://ai.google.dev/gemini-api/docs/batch-api"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from local.provider.batch import Batch
from local.provider.completion_objects import Stamp
from local.provider.lenient_json import dumps, loads
from local.provider.line_shape import LATE, Answer, Marks, Problem, Request, Unanswered
from local.provider.native import gemini
from local.provider.native.gemini_embeddings import gemini_embedding
from local.provider.native.variants import Variants
from local.provider.refusal import Refusal

RPC_CODES = {400: 3, 403: 7, 404: 5, 408: 4, 429: 8, 500: 13, 503: 14, 504: 4}
"""gRPC's codes by HTTP's statuses."""
FAULTS = {"internal_error": 13, "capacity": 14}
"""gRPC's codes of jobs that failed by the provider's fault."""
INVALID, EXHAUSTED = 3, 8


def failure_of(batch: Batch) -> dict[str, Any]:
    """The error of a batch that failed, as gRPC has it."""
    code, message = batch.errors[0]["code"], batch.errors[0]["message"]
    return {"code": EXHAUSTED if code.endswith("_limit_exceeded") else FAULTS.get(code, INVALID), "message": message}


class GeminiLines:
    """The lines of a batch of this model: requests of `generateContent`, or of embeddings. The documentation says that
    results are in their order, and callers that they are not: https://github.com/googleapis/python-genai/issues/1909
    """

    marks = Marks(b'"key":"', b'"text":"', b'"response":{', b'"modelVersion":"",', b'"response":{')
    max_lines = 1_000_000
    one_list = True
    shuffled = True
    endings: Mapping[str, Unanswered] = {}

    def __init__(self, model: str, variants: Variants, *, embeds: bool) -> None:
        self._model = model
        self._embeds = embeds
        self._failure = variants.gemini_failures

    def read(self, raw: bytes) -> Request:
        try:
            line = loads(raw)
        except ValueError as error:
            raise Problem("invalid_json", "The input file has a line that is no JSON object.") from error
        if not isinstance(line, dict) or not isinstance(line.get("request"), dict) or line.keys() - {"key", "request"}:
            raise Problem("invalid_line", "A line must have a request, and may have a key.")
        if not isinstance(line.get("key", ""), str):
            raise Problem("invalid_line", "The key must be a string.")
        return Request(line.get("key", ""), line["request"])

    def problems(self, request: Request) -> Iterator[Problem]:
        yield from ()

    def tried(self, request: Request) -> str:
        return hashlib.sha256(dumps(request.body)).hexdigest()

    def answer(self, request: Request, stamp: Stamp) -> Answer:
        if self._embeds:
            embedding = gemini_embedding(request.body, self._model)
            response = {"embedding": {"values": embedding.values}, "tokenCount": str(embedding.tokens)}
            return Answer(True, _line(request, {"response": response}), embedding.tokens)
        answer = gemini.answer(request.body, self._model) | {"responseId": stamp.id_suffix}
        usage = answer["usageMetadata"]
        output = usage["totalTokenCount"] - usage["promptTokenCount"]
        return Answer(True, _line(request, {"response": answer}), usage["promptTokenCount"], output)

    def refused(self, request: Request, refusal: Refusal, stamp: Stamp) -> bytes:
        code = RPC_CODES.get(refusal.status, 2)
        return _line(request, {self._failure: {"code": code, "message": refusal.message}})

    def unanswered(self, request: Request, why: Unanswered, stamp: Stamp) -> bytes:
        return _line(request, {self._failure: {"code": RPC_CODES[408], "message": why.message or LATE}})


def _line(request: Request, outcome: Mapping[str, Any]) -> bytes:
    return dumps({**({"key": request.id} if request.id else {}), **outcome}) + b"\n"
