"""Mistral's files: https://docs.mistral.ai/api/endpoint/files"""

import asyncio
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse
from starlette.datastructures import UploadFile

from local.provider.files import File
from local.provider.native.common import Caller, bearer, identify
from local.provider.refusal import Refusal

MAX_BYTES = 512 * 1024 * 1024
HOUR = 3_600
FIELDS = {"file", "purpose", "expiry", "visibility"}
UNAUTHORISED = Refusal(401, None, "Unauthorized")
MAX_PAGE = 1_000


def authenticate(http_request: Request, account: str) -> Caller:
    return identify(http_request, account, "mistral", bearer(http_request), UNAUTHORISED)


AuthenticatedCaller = Annotated[Caller, Depends(authenticate)]
router = APIRouter(prefix="/v1/files")


@router.post("")
async def create_file(http_request: Request, caller: AuthenticatedCaller) -> dict[str, Any]:
    async with http_request.form() as form:
        upload, hours = form.get("file"), form.get("expiry")
        if not isinstance(upload, UploadFile):
            raise Refusal(422, "missing", "Field required", "file")
        for name in form.keys() - FIELDS:
            raise Refusal(422, "extra_forbidden", "Extra inputs are not permitted", name)
        if form.get("purpose", "batch") != "batch":
            raise Refusal(422, "enum", "Input should be 'batch'", "purpose")
        if hours is not None and not (str(hours).isdecimal() and int(str(hours)) > 0):
            raise Refusal(422, "int_parsing", "Input should be a valid integer", "expiry")
        name = upload.filename or ""
        file = await asyncio.to_thread(
            caller.state.files.receive,
            caller.account.name,
            name,
            upload.file,
            lifetime=int(str(hours)) * HOUR if hours else None,
            processing=0,
            limit=caller.state.quotas.upload_limit(caller.account.name, MAX_BYTES),
            file_id=str(uuid.uuid4()),
        )
    http_request.state.entry.update(
        file_id=file.id, file_name=name, bytes=file.bytes, sha256=file.sha256, lines=file.lines, models=file.models
    )
    return _file(file)


@router.get("")
def list_files(
    caller: AuthenticatedCaller, page: int = 0, page_size: int = 100, purpose: str | None = None
) -> dict[str, Any]:
    check_page(page, page_size)
    files, _ = caller.state.files.page(caller.account.name)
    files = [file for file in files if purpose in (None, "batch")]
    start = page * page_size
    return {
        "data": [_file(file) for file in files[start : start + page_size]],
        "object": "list",
        "total": len(files),
    }


@router.get("/{file_id}")
def retrieve_file(file_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return _file(found(caller, file_id)) | {"deleted": False}


@router.get("/{file_id}/content")
def file_content(file_id: str, caller: AuthenticatedCaller) -> FileResponse:
    return FileResponse(found(caller, file_id).path, media_type="application/octet-stream")


@router.delete("/{file_id}")
def delete_file(file_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    caller.state.files.remove(caller.account.name, found(caller, file_id).id)
    return {"id": file_id, "object": "file", "deleted": True}


def check_page(page: int, page_size: int) -> None:
    if page < 0:
        raise Refusal(422, "greater_than_equal", "Input should be greater than or equal to 0", "page")
    if not 1 <= page_size <= MAX_PAGE:
        raise Refusal(422, "less_than_equal", f"Input should be within 1 and {MAX_PAGE}", "page_size")


def found(caller: Caller, file_id: str) -> File:
    try:
        uuid.UUID(file_id)
    except ValueError as error:
        raise Refusal(422, "uuid_parsing", "Input should be a valid UUID", "file_id") from error
    return caller.state.files.get(caller.account.name, file_id)


def _file(file: File) -> dict[str, Any]:
    uploaded = file.purpose == "batch"
    kind = "batch_error" if file.name.endswith("_error.jsonl") else "batch_result"
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "filename": file.name,
        "purpose": "batch",
        "sample_type": "batch_request" if uploaded else kind,
        "num_lines": file.lines if uploaded else None,
        "mimetype": "application/jsonl",
        "source": "upload" if uploaded else "mistral",
        "signature": None,
        "expires_at": file.expires_at,
        "visibility": "workspace",
    }
