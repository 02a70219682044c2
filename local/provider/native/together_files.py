"""Together's files: https://docs.together.ai/reference/upload-file

An upload is asked for, put by a signed URL, and taken when it is said to be complete.
"""

import asyncio
import secrets
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.datastructures import FormData, UploadFile
from starlette.responses import JSONResponse, RedirectResponse, Response

from local.provider.files import File
from local.provider.native.common import Caller, bearer
from local.provider.native.signed_objects import signed_url
from local.provider.object_store import Writer
from local.provider.refusal import Refusal
from local.provider.state import ProviderState

BUCKET = "together-uploads"
MAX_BYTES = 100 * 1024 * 1024
ASKED = frozenset({"purpose", "file_name", "file_type", "checksum"})
PURPOSE, FILE_TYPE = "batch-api", "jsonl"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file whose bytes are still to be put."""

    id: str
    name: str
    checksum: str | None


def authenticate(request: Request, account: str) -> Caller:
    state: ProviderState = request.app.state.provider_state
    known = state.account(account, "together_ai")
    if bearer(request) != known.key:
        raise Refusal(401, "invalid_api_key", "Invalid API key provided.")
    return Caller(state, known, {})


AuthenticatedCaller = Annotated[Caller, Depends(authenticate)]
router = APIRouter()


@router.post("/files")
async def start_upload(request: Request, caller: AuthenticatedCaller) -> Response:
    """Says where to put the bytes, and under which id they will be: in the headers of a redirect. Bytes that are a file
    already are a 409 that names it."""
    async with request.form() as form:
        _check_form(form, ASKED)
        upload = Upload(f"file-{secrets.token_hex(16)}", str(form["file_name"]), _text(form.get("checksum")))
    known = _with_digest(caller, upload.checksum)
    if known is not None:
        return JSONResponse({"file_id": known.id, "message": "File already exists."}, 409)
    caller.state.objects.sessions[upload.id] = upload
    request.state.entry.update(file_id=upload.id, file_name=upload.name)
    headers = {"X-Together-File-Id": upload.id}
    return RedirectResponse(signed_url(request, "PUT", BUCKET, upload.id), 302, headers)


@router.post("/files/{file_id}/preprocess")
async def preprocess(request: Request, file_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    """Takes the bytes that were put. A second time changes nothing."""
    upload = caller.state.objects.sessions.get(file_id)
    found = caller.state.objects.get(caller.account, BUCKET, file_id)
    if not isinstance(upload, Upload) or found is None:
        return _shown(caller.state.files.get(caller.account.name, file_id))
    with found.path.open("rb") as source:
        file = await asyncio.to_thread(
            caller.state.files.receive,
            caller.account.name,
            upload.name,
            source,
            lifetime=None,
            processing=0,
            limit=MAX_BYTES,
            file_id=file_id,
        )
    if upload.checksum not in (None, file.sha256):
        caller.state.files.remove(caller.account.name, file_id)
        raise Refusal(400, "invalid_checksum", "The checksum is not that of the uploaded file.")
    del caller.state.objects.sessions[file_id]
    _log(request, file)
    return _shown(file)


@router.post("/files/upload")
async def upload_file(request: Request, caller: AuthenticatedCaller) -> dict[str, Any]:
    """The whole upload in one call."""
    async with request.form() as form:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise Refusal(400, "invalid_request", "file is required", "file")
        _check_form(form, ASKED | {"file"})
        file = await asyncio.to_thread(
            caller.state.files.receive,
            caller.account.name,
            str(form["file_name"]),
            upload.file,
            lifetime=None,
            processing=0,
            limit=MAX_BYTES,
        )
    _log(request, file)
    return _shown(file)


@router.get("/files")
def list_files(caller: AuthenticatedCaller) -> dict[str, Any]:
    files, _ = caller.state.files.page(caller.account.name)
    return {"data": [_shown(file) for file in files]}


@router.get("/files/{file_id}")
def retrieve_file(file_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return _shown(caller.state.files.get(caller.account.name, file_id))


@router.get("/files/{file_id}/content")
def file_content(request: Request, file_id: str, caller: AuthenticatedCaller) -> Response:
    """A redirect to a signed URL of the bytes."""
    file = caller.state.files.get(caller.account.name, file_id)
    if caller.state.objects.get(caller.account, BUCKET, file_id) is None:
        written = Writer.of(file.path)
        caller.state.objects.keep(caller.account, BUCKET, file_id, written, "application/octet-stream")
    return RedirectResponse(signed_url(request, "GET", BUCKET, file_id), 302)


@router.delete("/files/{file_id}")
def delete_file(file_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    caller.state.files.remove(caller.account.name, file_id)
    caller.state.objects.remove(caller.account, BUCKET, file_id)
    return {"id": file_id, "deleted": True}


def _check_form(form: FormData, known: frozenset[str]) -> None:
    if unknown := sorted(set(form) - known):
        raise Refusal(400, "invalid_request", f"unknown field: {unknown[0]}", unknown[0])
    for name in ("purpose", "file_name", "file_type"):
        if not isinstance(form.get(name), str):
            raise Refusal(400, "invalid_request", f"{name} is required", name)
    if form["purpose"] != PURPOSE or form["file_type"] != FILE_TYPE:
        raise Refusal(400, "invalid_request", "Only jsonl files with the purpose batch-api are taken.", "purpose")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _with_digest(caller: Caller, checksum: str | None) -> File | None:
    files, _ = caller.state.files.page(caller.account.name, "batch")
    return next((file for file in files if file.sha256 == checksum), None)


def _log(request: Request, file: File) -> None:
    request.state.entry.update(
        file_id=file.id, file_name=file.name, bytes=file.bytes, sha256=file.sha256, lines=file.lines, models=file.models
    )


def _shown(file: File) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "created_at": int(file.created_at),
        "filename": file.name,
        "bytes": file.bytes,
        "purpose": PURPOSE,
        "FileType": FILE_TYPE,
        "LineCount": file.lines,
        "Processed": True,
        "processing_status": "COMPLETED",
    }
