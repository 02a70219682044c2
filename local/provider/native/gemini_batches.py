"""The Gemini API's batches: https://ai.google.dev/api/batch-api

A batch is a long-running operation, whose `metadata` are the batch itself.
"""

import itertools
import json
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from local.provider.batch import ENDED, Batch
from local.provider.files import File
from local.provider.lenient_json import loads
from local.provider.native.common import Caller, log_create, read
from local.provider.native.gemini import UNKNOWN_NAME, Strict, no_model
from local.provider.native.gemini_embeddings import is_embedding_model
from local.provider.native.gemini_files import (
    MAX_BYTES,
    AuthenticatedCaller,
    found_file,
    moment,
    new_id,
    page_of,
    page_token,
)
from local.provider.native.gemini_lines import GeminiLines, failure_of
from local.provider.refusal import Refusal

MAX_INLINE = 20 * 1024 * 1024
MAX_PAGE, ALL = 1_000, 100_000
TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main."
STATES = {
    "validating": "PENDING",
    "in_progress": "RUNNING",
    "finalizing": "RUNNING",
    "completed": "SUCCEEDED",
    "failed": "FAILED",
    "cancelling": "RUNNING",
    "cancelled": "CANCELLED",
    "expired": "EXPIRED",
}
ERRORS = {
    "cancelled": {"code": 1, "message": "The batch was cancelled."},
    "expired": {"code": 4, "message": "The batch expired before it could be finished."},
}
"""Of a batch that ended without results; one that failed says why."""


class Inlined(Strict):
    request: dict[str, Any]
    metadata: dict[str, Any] | None = None


class Requests(Strict):
    requests: Annotated[list[Inlined], Field(min_length=1)]


class InputConfig(Strict):
    file_name: Annotated[str, Field(pattern="^files/[a-z0-9-]{1,40}$")] | None = None
    requests: Requests | None = None


class Webhook(Strict):
    uris: list[str] | None = None
    user_metadata: dict[str, Any] | None = None


class BatchResource(Strict):
    display_name: Annotated[str, Field(min_length=1)]
    input_config: InputConfig
    model: str | None = None
    priority: int | str | None = None
    webhook_config: Webhook | None = None


class BatchCreate(Strict):
    batch: BatchResource


router = APIRouter()


@router.post("/v1beta/models/{model}:batchGenerateContent")
async def create_batch(request: Request, model: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return await _create(request, caller, model, embeds=False)


@router.post("/v1beta/models/{model}:asyncBatchEmbedContent")
async def create_embeddings_batch(request: Request, model: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return await _create(request, caller, model, embeds=True)


@router.get("/v1beta/batches")
def list_batches(request: Request, caller: AuthenticatedCaller) -> dict[str, Any]:
    size, start = page_of(request, MAX_PAGE)
    batches = caller.state.batches.page(caller.account.name, None, ALL)[0]
    more = {"nextPageToken": page_token(start + size)} if start + size < len(batches) else {}
    shown = [_operation(caller, batch) for batch in batches[start : start + size]]
    return ({"operations": shown} if shown else {}) | more


@router.get("/v1beta/batches/{batch_id}")
def get_batch(batch_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return _operation(caller, _found(caller, batch_id))


@router.post("/v1beta/batches/{batch_id}:cancel")
def cancel_batch(batch_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    """It is cancelled at once: https://github.com/tobert/kaibo/pull/8"""
    batch = _found(caller, batch_id)
    if batch.state in ENDED:
        raise Refusal(400, "FAILED_PRECONDITION", f"The batch is in the state {_state(caller, batch)}.")
    caller.state.batches.end(caller.state.batches.cancel(caller.account.name, batch.id))
    return {}


@router.delete("/v1beta/batches/{batch_id}")
def delete_batch(batch_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    caller.state.batches.forget(_found(caller, batch_id).id)
    return {}


async def _create(request: Request, caller: Caller, model: str, *, embeds: bool) -> dict[str, Any]:
    raw = await request.body()
    if len(raw) > MAX_INLINE:
        raise Refusal(400, None, f"Request payload size exceeds the limit: {MAX_INLINE} bytes.")
    asked = read(BatchCreate, _parsed(raw), UNKNOWN_NAME).batch
    caller.check_model(model, no_model(model))
    if is_embedding_model(model) != embeds:
        raise no_model(model)
    if asked.model not in (None, f"models/{model}"):
        raise Refusal(400, None, "The model of the batch is not that of the address.")
    file = _input(caller, asked.input_config)
    shape = GeminiLines(model, caller.state.variants, embeds=embeds)
    batch_id = new_id(36)
    file_ids = itertools.chain([f"batch-{batch_id}"], iter(new_id, ""))
    batch = caller.state.batches.create(
        caller.account, file, shape, model=model, batch_id=batch_id, new_file_id=file_ids.__next__
    )
    batch.asked = asked
    log_create(request, batch, asked.display_name)
    return _operation(caller, batch)


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError as error:
        raise Refusal(400, None, "Invalid JSON payload received.") from error


def _input(caller: Caller, config: InputConfig) -> File:
    """The file that is named, or the requests as one, each with its number for a key."""
    if (config.file_name is None) == (config.requests is None):
        raise Refusal(400, None, "Exactly one of file_name and requests is required.")
    if config.requests is not None:
        lines = (
            json.dumps({"key": str(number), "request": one.request}).encode() + b"\n"
            for number, one in enumerate(config.requests.requests)
        )
        return caller.state.files.spool(caller.account.name, "", lines, limit=MAX_BYTES)
    file = found_file(caller, str(config.file_name).removeprefix("files/"))
    if caller.state.clock.now() < file.usable_at:
        words = f"The File {file.id} is not in an ACTIVE state and usage is not allowed."
        raise Refusal(400, "FAILED_PRECONDITION", words)
    return file


def _found(caller: Caller, batch_id: str) -> Batch:
    try:
        return caller.state.batches.get(caller.account.name, batch_id)
    except Refusal as refusal:
        raise Refusal(404, None, "Requested entity was not found.") from refusal


def _state(caller: Caller, batch: Batch) -> str:
    return f"{caller.state.variants.gemini_states}_{STATES[batch.state]}"


def _operation(caller: Caller, batch: Batch) -> dict[str, Any]:
    asked: BatchResource = batch.asked
    shown = caller.state.batches.shown(batch)
    kind = "EmbedContentBatch" if is_embedding_model(batch.model or "") else "GenerateContentBatch"
    named = {"fileName": asked.input_config.file_name} if asked.input_config.file_name else {}
    metadata: dict[str, Any] = {
        "@type": TYPE + kind,
        "name": f"batches/{batch.id}",
        "model": f"models/{batch.model}",
        "displayName": asked.display_name,
        "inputConfig": named,
        "createTime": moment(batch.created_at),
        "updateTime": moment(batch.since),
        "batchStats": _stats(batch, shown["request_counts"]),
        "state": _state(caller, batch),
    }
    operation: dict[str, Any] = {"name": f"batches/{batch.id}", "metadata": metadata}
    if batch.state not in ENDED:
        return operation
    metadata["endTime"] = moment(batch.since)
    operation["done"] = True
    if batch.state == "completed":
        output = _output(caller, batch, shown["output_file_id"])
        metadata["output"] = output
        operation["response"] = {"@type": f"{TYPE}{kind}Output", **output}
        return operation
    return operation | {"error": failure_of(batch) if batch.state == "failed" else ERRORS[batch.state]}


def _stats(batch: Batch, counts: dict[str, Any]) -> dict[str, str]:
    """Numbers are strings, and a zero is left out. A batch is counted before it is validated."""
    total = batch.total or batch.file.lines
    pending = 0 if batch.state in ENDED else counts["pending"] if batch.total else total
    numbers = {
        "requestCount": total,
        "successfulRequestCount": counts["completed"],
        "failedRequestCount": counts["failed"],
        "pendingRequestCount": pending,
    }
    return {name: str(number) for name, number in numbers.items() if int(number)}


def _output(caller: Caller, batch: Batch, file_id: str | None) -> dict[str, Any]:
    """The file with the results, or the results themselves, each with its request's metadata."""
    asked: BatchResource = batch.asked
    if file_id is None:
        return {}
    if asked.input_config.requests is None:
        return {"responsesFile": f"files/{file_id}"}
    file = caller.state.files.get(caller.account.name, file_id)
    with file.path.open("rb") as source:
        results = [_inlined(asked.input_config.requests.requests, line) for line in map(loads, source)]
    name = "inlinedEmbedContentResponses" if is_embedding_model(batch.model or "") else "inlinedResponses"
    return {name: {"inlinedResponses": results}}


def _inlined(requests: Sequence[Inlined], line: dict[str, Any]) -> dict[str, Any]:
    number = line.pop("key", "")
    known = requests[int(number)].metadata if number.isdecimal() else None
    return line | ({"metadata": known} if known else {})
