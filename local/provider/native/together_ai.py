"""Together's batches: https://docs.together.ai/reference/batch-create. `together_files` has its files."""

import secrets
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from fastapi import APIRouter, Request

from local.provider.batch import ENDED, Batch
from local.provider.completion_objects import Stamp
from local.provider.lenient_json import dumps, loads
from local.provider.line_answers import answer_line
from local.provider.line_shape import Answer, Marks, Problem, Unanswered
from local.provider.line_shape import Request as LineRequest
from local.provider.native import together_files
from local.provider.native.common import Caller, log_create, read, rfc3339
from local.provider.native.together_files import AuthenticatedCaller
from local.provider.refusal import Refusal
from local.provider.strict_model import Strict

CHAT = "/chat/completions"
DAY = 86_400
MAX_LINES, MAX_ID = 50_000, 64
STATUSES = {"finalizing": "IN_PROGRESS", "cancelling": "IN_PROGRESS"}
"""By the state that Together does not have; the others are in upper case."""


class BatchCreate(Strict):
    endpoint: Literal["/v1/chat/completions", "/v1/audio/transcriptions", "/v1/audio/translations"]
    input_file_id: str
    completion_window: str = "24h"
    model_id: str | None = None
    priority: int | None = None


class TogetherLines:
    """Lines of `custom_id` and `body`. What fails has an `error`; what was not answered in time is left out."""

    marks = Marks(first_member=b'"status_code":200,')
    max_lines = MAX_LINES
    one_list = False
    shuffled = False
    endings: Mapping[str, Unanswered] = {}

    def __init__(self, model: str | None) -> None:
        self._model = model

    def read(self, raw: bytes) -> LineRequest:
        try:
            line = loads(raw)
        except ValueError as error:
            raise Problem("invalid_json", "not valid JSON") from error
        if not isinstance(line, dict) or not isinstance(line.get("body"), dict):
            raise Problem("missing_field", "body is required")
        custom_id = line.get("custom_id")
        if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_ID:
            raise Problem("invalid_custom_id", f"custom_id is required, of {MAX_ID} characters at most")
        body = line["body"] | ({"model": self._model} if self._model else {})
        return LineRequest(custom_id, body, str(body.get("model")), CHAT, line)

    def problems(self, request: LineRequest) -> Iterator[Problem]:
        if unknown := sorted(request.line.keys() - {"custom_id", "body"}):
            yield Problem("unknown_field", f"unknown field: {unknown[0]}")
        if request.body.get("stream"):
            yield Problem("invalid_request", "stream is not supported")

    def tried(self, request: LineRequest) -> str:
        return request.id

    def answer(self, request: LineRequest, stamp: Stamp) -> Answer:
        body = answer_line(CHAT, request.body, "together_ai", stamp)
        response = {"status_code": 200, "body": body}
        line = {"custom_id": request.id, "response": response}
        usage = body["usage"]
        return Answer(True, dumps(line) + b"\n", usage["prompt_tokens"], usage["completion_tokens"])

    def refused(self, request: LineRequest, refusal: Refusal, stamp: Stamp) -> bytes:
        return self.unanswered(request, Unanswered(refusal.code or "invalid_request_error", refusal.message), stamp)

    def unanswered(self, request: LineRequest, why: Unanswered, stamp: Stamp) -> bytes:
        return dumps({"custom_id": request.id, "error": {"message": why.message, "code": why.code}}) + b"\n"


router = APIRouter(prefix="/v1")
router.include_router(together_files.router)


@router.post("/batches", status_code=201)
def create_batch(request: Request, body: dict[str, Any], caller: AuthenticatedCaller) -> dict[str, Any]:
    parameters = read(BatchCreate, body)
    if parameters.endpoint != "/v1/chat/completions":
        raise Refusal(400, "invalid_request", "No model here takes audio.", "endpoint")
    if parameters.completion_window != "24h":
        raise Refusal(400, "invalid_request", "completion_window must be 24h", "completion_window")
    if parameters.model_id is not None and parameters.model_id not in caller.account.models:
        raise Refusal(404, "model_not_available", f"Unable to access model {parameters.model_id}", "model_id")
    file = caller.state.files.get(caller.account.name, parameters.input_file_id)
    batch = caller.state.batches.create(
        caller.account,
        file,
        TogetherLines(parameters.model_id),
        endpoint=parameters.endpoint,
        model=parameters.model_id,
        batch_id=str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)),
    )
    log_create(request, batch, file.id)
    return {"job": _shown(caller, batch), "warning": None}


@router.get("/batches")
def list_batches(caller: AuthenticatedCaller) -> list[dict[str, Any]]:
    """All of them: there are no pages."""
    batches, _ = caller.state.batches.page(caller.account.name, None, 1_000_000)
    return [_shown(caller, batch) for batch in batches]


@router.get("/batches/{batch_id}")
def retrieve_batch(batch_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return _shown(caller, caller.state.batches.get(caller.account.name, batch_id))


@router.post("/batches/{batch_id}/cancel")
def cancel_batch(batch_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    batch = caller.state.batches.get(caller.account.name, batch_id)
    if batch.state in ENDED:
        raise Refusal(400, "invalid_request", "The batch is neither VALIDATING nor IN_PROGRESS.")
    caller.state.batches.end(caller.state.batches.cancel(caller.account.name, batch_id))
    return _shown(caller, batch)


def _shown(caller: Caller, batch: Batch) -> dict[str, Any]:
    """A job has no counts."""
    shown, done = caller.state.batches.shown(batch), caller.state.batches.progress(batch)
    share = 100.0 * done / batch.total if batch.total else 0.0
    return {
        "id": batch.id,
        "user_id": "user_simulated",
        "input_file_id": batch.file.id,
        "file_size_bytes": batch.file.bytes,
        "status": STATUSES.get(batch.state, batch.state.upper()),
        "job_deadline": rfc3339(batch.created_at + DAY),
        "created_at": rfc3339(batch.created_at),
        "completed_at": rfc3339(batch.since) if batch.state == "completed" else None,
        "endpoint": batch.endpoint,
        "progress": 100.0 if batch.state == "completed" else round(share, 2),
        "model_id": batch.model or "",
        "output_file_id": shown["output_file_id"],
        "error_file_id": shown["error_file_id"],
        "error": _error(batch),
    }


def _error(batch: Batch) -> str | None:
    if not batch.errors:
        return None
    first = batch.errors[0]
    return f"line {first['line']}: {first['message']}" if first["line"] else str(first["message"])
