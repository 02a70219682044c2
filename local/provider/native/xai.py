"""xAI's files and batches: https://docs.x.ai/developers/rest-api-reference/inference/batches"""

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from local.provider.batch import ENDED, Batch
from local.provider.files import MAX_BYTES, File
from local.provider.native.common import Caller
from local.provider.openai_lines import ANY_ENDPOINT, OpenAILines
from local.provider.refusal import Refusal
from local.provider.state import ProviderState
from local.provider.strict_model import Strict

EXPIRY = (3_600, 2_592_000)
MAX_PAGE = 1_000
LIFETIME = 30 * 86_400
INVALID_ARGUMENT = 3
"""gRPC's code for a 400."""
CODES = {408: 4, 429: 8, 500: 13, 503: 14}
"""gRPC's codes for other statuses."""
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
            caller.state.files.receive,
            caller.account.name,
            name,
            upload.file,
            lifetime=seconds,
            processing=0,
            limit=caller.state.quotas.upload_limit(caller.account.name, MAX_BYTES),
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
    batch = caller.state.batches.create(caller.account, file, OpenAILines(caller.account, ANY_ENDPOINT), metadata=named)
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
    _check_limit(limit)
    refs = filter(None, (batch.error_file_id, batch.output_file_id))
    paths = [caller.state.files.get(caller.account.name, file_id).path for file_id in refs]
    results, token = _results(paths, limit, pagination_token)
    return {"results": results, "pagination_token": token}


def _results(paths: Sequence[Path], limit: int, token: str | None) -> tuple[list[dict[str, Any]], str | None]:
    """A page of the files' lines, and the token of the next: it says in which file that begins, and where."""
    number, start = map(int, (token or "at=0:0").removeprefix("at=").split(":"))
    results: list[dict[str, Any]] = []
    while number < len(paths):
        with paths[number].open("rb") as file:
            file.seek(start)
            results += [
                _result(json.loads(line)) for line in itertools.islice(iter(file.readline, b""), limit - len(results))
            ]
            if file.read(1):
                return results, f"at={number}:{file.tell() - 1}"
        number, start = number + 1, 0
        if len(results) == limit and number < len(paths):
            return results, f"at={number}:0"
    return results, None


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_PAGE:
        raise Refusal(400, None, f"limit must be within 1 and {MAX_PAGE}.")


def _page(entries: Sequence[EntryT], limit: int, token: str | None) -> tuple[Sequence[EntryT], str | None]:
    """A page, and the token of the next: it is opaque, so it is no id of an entry."""
    _check_limit(limit)
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
    answered = batch.done if batch.state in ("cancelled", "expired", "failed") else batch.total - pending
    cancelled = batch.times.get("cancelled") or batch.times.get("failed")
    return {
        "batch_id": batch.id,
        "name": (batch.metadata or {}).get("name", ""),
        "create_time": _day(batch.created_at),
        "expire_time": _day(batch.created_at + LIFETIME),
        "create_api_key_id": "********-****-****-****-************",
        "cancel_time": _day(cancelled) if cancelled else None,
        "cancel_by_xai_message": _reason(batch),
        "state": {
            "num_requests": batch.total,
            "num_pending": pending,
            "num_success": answered - failed,
            "num_error": failed,
            "num_cancelled": batch.total - answered - pending,
        },
        "input_file_id": batch.file.id,
    }


def _reason(batch: Batch) -> str | None:
    if not batch.errors:
        return None
    message = str(batch.errors[0]["message"])
    return message if batch.started else f"JSONL file validation failed: {message}"


def _result(line: Mapping[str, Any]) -> dict[str, Any]:
    response = line["response"]
    if response is None:
        outcome: dict[str, Any] = {"error": {"code": CODES[408], "message": line["error"]["message"]}}
    elif response["status_code"] == 200:
        outcome = {"response": {RESPONSES[response["body"]["object"]]: response["body"]}}
    else:
        code = CODES.get(response["status_code"], INVALID_ARGUMENT)
        outcome = {"error": {"code": code, "message": response["body"]["error"]["message"]}}
    named = {"batch_request_id": line["custom_id"]} if "custom_id" in line else {}
    return named | {"batch_result": outcome}


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")
