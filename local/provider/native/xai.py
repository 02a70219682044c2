"""xAI's files and batches: https://docs.x.ai/developers/rest-api-reference/inference/batches"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from local.provider.batches import ENDED, Batch
from local.provider.files import File
from local.provider.lines import ANY_ENDPOINT
from local.provider.native.common import Caller
from local.provider.refusal import Refusal
from local.provider.state import ProviderState
from local.provider.strict_model import Strict

EXPIRY = (3_600, 2_592_000)
MAX_PAGE = 1_000
LIFETIME = 30 * 86_400
INVALID_ARGUMENT = 3
"""gRPC's code for a 400."""
RESPONSES = {"chat.completion": "chat_get_completion", "response": "responses"}
"""The member of a result that has the response, by the type of its object."""

EntryT = TypeVar("EntryT")


class BatchCreate(Strict):
    name: str
    input_file_id: str


def authenticate(http_request: Request, account: str) -> Caller:
    state: ProviderState = http_request.app.state.provider_state
    known = state.account(account, "xai")
    if http_request.headers.get("authorization", "") != f"Bearer {known.key}":
        raise Refusal(401, None, "Incorrect API key provided.")
    return Caller(state, known, {})


AuthenticatedCaller = Annotated[Caller, Depends(authenticate)]
router = APIRouter()


@router.post("/files")
async def create_file(http_request: Request, caller: AuthenticatedCaller) -> dict[str, Any]:
    async with http_request.form() as form:
        upload, lifetime = form.get("file"), form.get("expires_after")
        if not isinstance(upload, UploadFile):
            raise Refusal(400, None, "No file was sent.")
        if set(form) - {"file", "purpose", "expires_after"} or list(form)[-1] != "file":
            raise Refusal(400, None, "Send purpose and expires_after only, and before the file.")
        if lifetime is not None and not (str(lifetime).isdecimal() and EXPIRY[0] <= int(str(lifetime)) <= EXPIRY[1]):
            raise Refusal(400, None, "expires_after must be within 3600 and 2592000.")
        name, seconds = upload.filename or "", int(str(lifetime)) if lifetime else None
        file = await asyncio.to_thread(
            caller.state.files.receive, caller.account.name, name, upload.file, lifetime=seconds, processing=0
        )
    http_request.state.entry.update(
        file_id=file.id, file_name=name, bytes=file.bytes, sha256=file.sha256, lines=file.lines, models=file.models
    )
    return _file(file)


@router.get("/files")
def list_files(caller: AuthenticatedCaller, limit: int = 100, pagination_token: str | None = None) -> dict[str, Any]:
    files, _ = caller.state.files.page(caller.account.name, "batch")
    page, token = _page(files, limit, pagination_token)
    return {"data": [_file(file) for file in page], "pagination_token": token}


@router.get("/files/{file_id}")
def retrieve_file(file_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return _file(caller.state.files.get(caller.account.name, file_id))


@router.delete("/files/{file_id}")
def delete_file(file_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    caller.state.files.remove(caller.account.name, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


@router.post("/batches")
def create_batch(http_request: Request, body: dict[str, Any], caller: AuthenticatedCaller) -> dict[str, Any]:
    try:
        parameters = BatchCreate.model_validate(body)
    except ValidationError as error:
        raise Refusal(400, None, str(error)) from error
    named = {"name": parameters.name}
    http_request.state.entry.update(metadata=named, input_file_id=parameters.input_file_id)
    file = caller.state.files.get(caller.account.name, parameters.input_file_id)
    batch = caller.state.batches.create(caller.account, file, ANY_ENDPOINT, "24h", named)
    http_request.state.entry.update(batch_id=batch.id)
    return _batch(caller, batch)


@router.get("/batches")
def list_batches(caller: AuthenticatedCaller, limit: int = 100, pagination_token: str | None = None) -> dict[str, Any]:
    batches, _ = caller.state.batches.page(caller.account.name, None, 1_000_000)
    page, token = _page(batches, limit, pagination_token)
    return {"batches": [_batch(caller, batch) for batch in page], "pagination_token": token}


@router.get("/batches/{batch_id}")
def retrieve_batch(batch_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return _batch(caller, caller.state.batches.get(caller.account.name, batch_id))


@router.post("/batches/{batch_id}:cancel")
def cancel_batch(batch_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    batch = caller.state.batches.get(caller.account.name, batch_id)
    if batch.state in ENDED:
        raise Refusal(400, None, "The batch has ended.")
    caller.state.batches.end(caller.state.batches.cancel(caller.account.name, batch_id))
    return _batch(caller, batch)


@router.get("/batches/{batch_id}/results")
def batch_results(
    batch_id: str, caller: AuthenticatedCaller, limit: int = 100, pagination_token: str | None = None
) -> dict[str, Any]:
    batch = caller.state.batches.get(caller.account.name, batch_id)
    results: list[dict[str, Any]] = []
    for file_id in filter(None, (batch.error_file_id, batch.output_file_id)):
        path = caller.state.files.get(caller.account.name, file_id).path
        results += [_result(json.loads(line)) for line in path.read_bytes().splitlines()]
    page, token = _page(results, limit, pagination_token)
    return {"results": page, "pagination_token": token}


def _page(entries: Sequence[EntryT], limit: int, token: str | None) -> tuple[Sequence[EntryT], str | None]:
    """A page, and the token of the next: it is opaque, so it is no id of an entry."""
    if not 1 <= limit <= MAX_PAGE:
        raise Refusal(400, None, f"limit must be within 1 and {MAX_PAGE}.")
    start = int((token or "at=0").removeprefix("at="))
    following = start + limit
    return entries[start:following], f"at={following}" if following < len(entries) else None


def _file(file: File) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "expires_at": file.expires_at,
        "filename": file.name,
        "purpose": "",
    }


def _batch(caller: Caller, batch: Batch) -> dict[str, Any]:
    """A batch has no status: it has counters, the time of its cancel and, if xAI cancelled it, the reason."""
    done = caller.state.batches.progress(batch)
    failed = batch.failed if batch.state in ENDED else 0
    pending = {"in_progress": batch.total - done, "finalizing": batch.total}.get(batch.state, 0)
    answered = batch.total - pending if batch.state != "cancelled" else batch.done
    cancelled = batch.times.get("cancelled") or batch.times.get("failed")
    return {
        "batch_id": batch.id,
        "name": (batch.metadata or {}).get("name", ""),
        "create_time": _day(batch.created_at),
        "expire_time": _day(batch.created_at + LIFETIME),
        "create_api_key_id": "********-****-****-****-************",
        "cancel_time": _day(cancelled) if cancelled else None,
        "cancel_by_xai_message": _reason(batch.errors),
        "state": {
            "num_requests": batch.total,
            "num_pending": pending,
            "num_success": answered - failed,
            "num_error": failed,
            "num_cancelled": batch.total - answered - pending,
        },
        "input_file_id": batch.file.id,
    }


def _reason(errors: Sequence[Mapping[str, Any]]) -> str | None:
    return f"JSONL file validation failed: {errors[0]['message']}" if errors else None


def _result(line: Mapping[str, Any]) -> dict[str, Any]:
    body = line["response"]["body"]
    if line["response"]["status_code"] == 200:
        outcome: dict[str, Any] = {"response": {RESPONSES[body["object"]]: body}}
    else:
        outcome = {"error": {"code": INVALID_ARGUMENT, "message": body["error"]["message"]}}
    return {"batch_request_id": line["custom_id"], "batch_result": outcome}


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")
