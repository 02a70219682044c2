"""Mistral's batch jobs: https://docs.mistral.ai/api/endpoint/batch"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, ValidationError

from local.provider.batch import ENDED, Batch
from local.provider.files import File
from local.provider.lenient_json import dumps, loads
from local.provider.native.common import Caller, log_create
from local.provider.native.mistral_files import MAX_BYTES, AuthenticatedCaller, check_page, found
from local.provider.native.mistral_lines import MEMBERS, MistralLines
from local.provider.refusal import Refusal
from local.provider.strict_model import Strict

STATUSES = {
    "validating": "QUEUED",
    "in_progress": "RUNNING",
    "finalizing": "RUNNING",
    "completed": "SUCCESS",
    "failed": "FAILED",
    "expired": "TIMEOUT_EXCEEDED",
    "cancelling": "CANCELLATION_REQUESTED",
    "cancelled": "CANCELLED",
}
MAX_INLINE, MAX_JOBS = 10_000, 1_000_000
MAX_HOURS = 7 * 24
ENDPOINTS = frozenset(
    {
        "/v1/chat/completions", "/v1/embeddings", "/v1/fim/completions", "/v1/moderations", "/v1/chat/moderations",
        "/v1/ocr", "/v1/classifications", "/v1/chat/classifications", "/v1/conversations", "/v1/audio/transcriptions",
    }
)  # fmt: skip


class InlineRequest(Strict):
    body: dict[str, Any]
    custom_id: str | None = None


class JobCreate(Strict):
    endpoint: str
    input_files: Annotated[list[uuid.UUID], Field(min_length=1)] | None = None
    requests: Annotated[list[InlineRequest], Field(min_length=1, max_length=MAX_INLINE)] | None = None
    model: str | None = None
    agent_id: str | None = None
    metadata: dict[Annotated[str, Field(max_length=32)], Annotated[str, Field(max_length=512)]] | None = None
    timeout_hours: Annotated[int, Field(ge=1, le=MAX_HOURS)] = 24


class Filters(BaseModel):
    """The query of a list. Its other members are ignored, as FastAPI does: also those that name a key of metadata."""

    page: int = 0
    page_size: int = 100
    model: str | None = None
    metadata: str | None = None
    """A JSON object."""
    created_after: datetime | None = None
    created_by_me: bool = False
    status: Sequence[str] = ()
    order_by: Literal["created", "-created"] = "-created"


router = APIRouter(prefix="/v1/batch/jobs")


@router.post("")
async def create_job(http_request: Request, caller: AuthenticatedCaller) -> dict[str, Any]:
    parameters = _parsed(await http_request.body())
    if parameters.endpoint not in ENDPOINTS:
        raise Refusal(422, "enum", f"Input should be one of {', '.join(sorted(ENDPOINTS))}", "endpoint")
    if (parameters.input_files is None) == (parameters.requests is None):
        raise Refusal(422, "value_error", "Exactly one of input_files and requests must be provided")
    model = parameters.model
    if model not in caller.account.models or model is None or parameters.agent_id is not None:
        raise Refusal(400, "1500", f"Invalid model: {model}", "model")
    if parameters.endpoint not in MEMBERS:
        raise Refusal(400, "3051", f"{parameters.endpoint} is not simulated")
    file = _input(caller, parameters)
    batch = caller.state.batches.create(
        caller.account,
        file,
        MistralLines(parameters.endpoint, model),
        endpoint=parameters.endpoint,
        window=f"{parameters.timeout_hours}h",
        metadata=parameters.metadata,
        model=model,
        batch_id=str(uuid.uuid4()),
        new_file_id=lambda: str(uuid.uuid4()),
    )
    batch.input_file_ids = tuple(map(str, parameters.input_files or ()))
    log_create(http_request, batch)
    return _job(caller, batch)


@router.get("")
def list_jobs(
    http_request: Request, caller: AuthenticatedCaller, status: Annotated[list[str] | None, Query()] = None
) -> dict[str, Any]:
    filters = _filters({**http_request.query_params, "status": status or ()})
    check_page(filters.page, filters.page_size)
    batches, _ = caller.state.batches.page(caller.account.name, None, MAX_JOBS)
    batches = [batch for batch in batches if _is_asked_for(batch, filters)]
    if filters.order_by == "created":
        batches.reverse()
    start = filters.page * filters.page_size
    page = batches[start : start + filters.page_size]
    return {"object": "list", "data": [_job(caller, batch) for batch in page], "total": len(batches)}


@router.get("/{job_id}")
def retrieve_job(job_id: str, caller: AuthenticatedCaller, inline: bool = False) -> dict[str, Any]:
    batch = _found(caller, job_id)
    job = _job(caller, batch)
    if inline and batch.state in ENDED:
        job["outputs"] = list(_outputs(caller, job))
    return job


@router.post("/{job_id}/cancel")
def cancel_job(job_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    batch = _found(caller, job_id)
    if batch.state in ENDED:
        raise Refusal(400, "3051", f"Batch job is already {STATUSES[batch.state]}")
    return _job(caller, caller.state.batches.cancel(caller.account.name, job_id))


@router.delete("/{job_id}")
def delete_job(job_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    if _found(caller, job_id).state not in ENDED:
        raise Refusal(400, "3051", "Batch job is still running")
    caller.state.batches.forget(job_id)
    return {"id": job_id, "object": "batch", "deleted": True}


def _parsed(body: bytes) -> JobCreate:
    try:
        return JobCreate.model_validate(json.loads(body))
    except ValidationError as error:
        raise _invalid(error) from error
    except ValueError as error:
        raise Refusal(422, "json_invalid", "JSON decode error") from error


def _filters(query: Mapping[str, Any]) -> Filters:
    try:
        filters = Filters.model_validate(query)
    except ValidationError as error:
        raise _invalid(error) from error
    try:
        is_object = filters.metadata is None or isinstance(json.loads(filters.metadata), dict)
    except ValueError:
        is_object = False
    if not is_object:
        raise Refusal(422, "json_type", "Input should be a JSON object", "metadata")
    return filters


def _invalid(error: ValidationError) -> Refusal:
    first = error.errors()[0]
    return Refusal(422, first["type"], first["msg"], ".".join(map(str, first["loc"])))


def _input(caller: Caller, parameters: JobCreate) -> File:
    """One file as it is; the lines of several, and requests of the body, in one that is not among the account's."""
    files = [found(caller, str(file_id)) for file_id in parameters.input_files or ()]
    if len(files) == 1:
        return files[0]
    requests = (dumps(one.model_dump(exclude_none=True)) + b"\n" for one in parameters.requests or ())
    chunks = requests if parameters.requests else _joined(files)
    return caller.state.files.spool(caller.account.name, "requests.jsonl", chunks, limit=MAX_BYTES)


def _joined(files: Sequence[File]) -> Iterator[bytes]:
    for file in files:
        with file.path.open("rb") as source:
            yield from (line.removesuffix(b"\n") + b"\n" for line in source)


def _is_asked_for(batch: Batch, filters: Filters) -> bool:
    metadata = batch.metadata or {}
    asked = json.loads(filters.metadata) if filters.metadata else {}
    after = filters.created_after
    if after is not None and after.tzinfo is None:
        after = after.replace(tzinfo=UTC)
    return (
        filters.model in (None, batch.model)
        and all(metadata.get(name) == value for name, value in asked.items())
        and (after is None or batch.created_at >= after.timestamp())
        and (not filters.status or STATUSES[batch.state] in filters.status)
    )


def _found(caller: Caller, job_id: str) -> Batch:
    try:
        uuid.UUID(job_id)
    except ValueError as error:
        raise Refusal(422, "uuid_parsing", "Input should be a valid UUID", "job_id") from error
    return caller.state.batches.get(caller.account.name, job_id)


def _job(caller: Caller, batch: Batch) -> dict[str, Any]:
    shown = caller.state.batches.shown(batch)
    counts = shown["request_counts"]
    ends = [int(moment) for state, moment in batch.times.items() if state in ENDED]
    started = batch.times.get("in_progress")
    done = counts["completed"], counts["failed"]
    return {
        "id": batch.id,
        "object": "batch",
        "input_files": list(batch.input_file_ids),
        "metadata": batch.metadata,
        "endpoint": batch.endpoint,
        "model": batch.model,
        "agent_id": None,
        "output_file": shown["output_file_id"],
        "error_file": shown["error_file_id"],
        "errors": [{"message": error["message"], "count": 1} for error in batch.errors],
        "outputs": None,
        "status": STATUSES[batch.state],
        "created_at": int(batch.created_at),
        "started_at": int(started) if started else None,
        "completed_at": ends[0] if ends else None,
        "total_requests": counts["total"],
        "completed_requests": sum(done) if all(isinstance(one, int) for one in done) else done[0],
        "succeeded_requests": counts["completed"],
        "failed_requests": counts["failed"],
    }


def _outputs(caller: Caller, job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for file_id in filter(None, (job["output_file"], job["error_file"])):
        with caller.state.files.get(caller.account.name, file_id).path.open("rb") as lines:
            yield from map(loads, lines)
