"""The routes of files in the dialects of OpenAI and Azure."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from starlette.datastructures import FormData, UploadFile

from local.provider.callers import AuthenticatedCaller, Caller
from local.provider.expiry import check_expiry
from local.provider.files import MAX_BYTES
from local.provider.refusal import Refusal

MAX_FILES = 10_000

router = APIRouter()


@router.post("/files")
async def create_file(request: Request, caller: AuthenticatedCaller) -> dict[str, Any]:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Refusal(400, "invalidPayload", "Send the file as multipart/form-data.")
    async with request.form() as form:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise Refusal(400, None, "'file' is a required property", "file")
        lifetime = _lifetime(caller, form)
        name = upload.filename or ""
        if form.get("purpose") != "batch" or not name.endswith(".jsonl"):
            raise Refusal(400, "invalidPayload", "Only .jsonl files with the purpose batch are taken.", "purpose")
        processing = caller.state.batches.pace.processing if caller.account.dialect == "azure" else 0
        file = await asyncio.to_thread(
            caller.state.files.receive,
            caller.account.name,
            name,
            upload.file,
            lifetime=lifetime,
            processing=processing,
            limit=caller.state.quotas.upload_limit(caller.account.name, MAX_BYTES),
            file_id=caller.account.quirks.new_file_id and caller.account.quirks.new_file_id(),
        )
    caller.entry.update(
        file_id=file.id, file_name=name, bytes=file.bytes, sha256=file.sha256, lines=file.lines, models=file.models
    )
    return caller.dialect.file(file, caller.state.clock.now())


@router.get("/files")
def list_files(
    caller: AuthenticatedCaller, purpose: str | None = None, after: str | None = None, limit: int | None = None
) -> dict[str, Any]:
    if caller.version is not None and (purpose, after, limit) != (None, None, None):
        raise Refusal(400, "BadRequest", "Azure's dated versions list all files, and take no parameter.")
    if limit is not None and not 1 <= limit <= MAX_FILES:
        raise Refusal(400, "invalid_value", f"Invalid value: limit must be within 1 and {MAX_FILES}.", "limit")
    files, more = caller.state.files.page(caller.account.name, purpose, after, limit or MAX_FILES)
    now = caller.state.clock.now()
    return caller.dialect.files([caller.dialect.file(file, now) for file in files], more)


@router.get("/files/{file_id}")
def retrieve_file(file_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return caller.dialect.file(caller.state.files.get(caller.account.name, file_id), caller.state.clock.now())


@router.get("/files/{file_id}/content")
def file_content(file_id: str, caller: AuthenticatedCaller) -> FileResponse:
    file = caller.state.files.get(caller.account.name, file_id)
    return FileResponse(file.path, media_type="application/octet-stream")


@router.delete("/files/{file_id}")
def delete_file(file_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    caller.state.files.remove(caller.account.name, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


def _lifetime(caller: Caller, form: FormData) -> int | None:
    """Seconds of `expires_after` in the form: with brackets as at OpenAI, or with dots as in Azure's guide."""
    for pattern in ("expires_after[{}]", "expires_after.{}"):
        anchor, seconds = form.get(pattern.format("anchor")), form.get(pattern.format("seconds"))
        if anchor is not None or seconds is not None:
            if pattern.endswith(".{}") and caller.account.dialect != "azure":
                break
            return check_expiry(caller, anchor, int(str(seconds)) if str(seconds).isdecimal() else 0)
    return None
