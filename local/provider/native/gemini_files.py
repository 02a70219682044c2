"""The Gemini API's files: https://ai.google.dev/api/files

An upload is begun, and continued at the address that it got, in pieces of the granularity that it names.
"""

import asyncio
import base64
import secrets
import string
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from local.provider.files import File
from local.provider.native.common import Caller, read
from local.provider.native.gemini import UNAUTHORISED, Strict
from local.provider.native.ranges import ranged
from local.provider.object_store import Writer, receive
from local.provider.refusal import Refusal
from local.provider.state import ProviderState

GRANULARITY = 8 * 1024 * 1024
MAX_BYTES = 2 * 1024**3
LIFETIME = 48 * 3_600
MAX_PAGE, MAX_ID = 100, 40
ID_LETTERS = string.ascii_lowercase + string.digits
MAX_DISPLAY_NAME = 512


class FileResource(Strict):
    name: str | None = None
    display_name: str | None = None
    mime_type: str | None = None


class UploadStart(Strict):
    file: FileResource = FileResource()


@dataclass
class Session:
    """An upload that was begun."""

    account: str
    display_name: str
    mime_type: str
    length: int | None
    written: Writer
    ended: bool = False


def authenticate(request: Request, account: str) -> Caller:
    """By the key in the header, or in the query."""
    state: ProviderState = request.app.state.provider_state
    known = state.account(account, "gemini")
    given = request.headers.get("x-goog-api-key") or request.query_params.get("key")
    if given is None:
        raise Refusal(403, None, "Method doesn't allow unregistered callers. Please use API Key to call this API.")
    if given != known.key:
        raise UNAUTHORISED
    return Caller(state, known, {})


AuthenticatedCaller = Annotated[Caller, Depends(authenticate)]
router = APIRouter()


@router.post("/upload/v1beta/files")
@router.put("/upload/v1beta/files")
async def upload(request: Request, account: str) -> Response:
    if "upload_id" in request.query_params:
        return await _continue(request, account)
    return await _start(request, authenticate(request, account))


@router.get("/v1beta/files")
def list_files(request: Request, caller: AuthenticatedCaller) -> dict[str, Any]:
    size, start = page_of(request, MAX_PAGE)
    files = caller.state.files.page(caller.account.name)[0]
    more = {"nextPageToken": page_token(start + size)} if start + size < len(files) else {}
    shown = [file_resource(request, caller.state, file) for file in files[start : start + size]]
    return ({"files": shown} if shown else {}) | more


@router.get("/v1beta/files/{file_id}:download")
@router.get("/download/v1beta/files/{file_id}:download")
def download_file(request: Request, file_id: str, caller: AuthenticatedCaller, alt: str = "json") -> Response:
    file = found_file(caller, file_id)
    if alt != "media":
        raise Refusal(400, None, "Only alt=media downloads a file.")
    if file.purpose == "batch":
        raise Refusal(400, "FAILED_PRECONDITION", "Only a file that was generated can be downloaded.")
    unsatisfiable = Refusal(416, None, "Request range not satisfiable")
    return ranged(file.path, file.bytes, request.headers.get("range"), "application/octet-stream", {}, unsatisfiable)


@router.get("/v1beta/files/{file_id}")
def get_file(request: Request, file_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    _check_id(file_id, "GetFileRequest")
    return file_resource(request, caller.state, found_file(caller, file_id))


@router.delete("/v1beta/files/{file_id}")
def delete_file(file_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    _check_id(file_id, "DeleteFileRequest")
    caller.state.files.remove(caller.account.name, found_file(caller, file_id).id)
    return {}


def _check_id(file_id: str, kind: str) -> None:
    """The ids of results are longer than that: they can be downloaded, but neither retrieved nor deleted.

    https://github.com/googleapis/python-genai/issues/1759
    """
    if len(file_id) > MAX_ID:
        words = f"* {kind}.name: File ID (name excluding 'files/') cannot be more than {MAX_ID} characters.\n"
        raise Refusal(400, None, words)


def found_file(caller: Caller, file_id: str) -> File:
    """Google does not say which: a file that is not there is one that the caller may not have."""
    try:
        return caller.state.files.get(caller.account.name, file_id)
    except Refusal as refusal:
        words = f"You do not have permission to access the File {file_id} or it may not exist."
        raise Refusal(403, None, words) from refusal


def file_resource(request: Request, state: ProviderState, file: File) -> dict[str, Any]:
    resource = {
        "name": f"files/{file.id}",
        "displayName": file.name,
        "mimeType": "application/jsonl" if file.purpose == "batch" else "application/json",
        "sizeBytes": str(file.bytes),
        "createTime": moment(file.created_at),
        "updateTime": moment(file.created_at),
        "sha256Hash": base64.b64encode(file.sha256.encode()).decode(),
        "uri": f"{request.base_url}v1beta/files/{file.id}",
        "state": "ACTIVE" if state.clock.now() >= file.usable_at else "PROCESSING",
        "source": "UPLOADED" if file.purpose == "batch" else "GENERATED",
    }
    return resource | ({"expirationTime": moment(file.expires_at)} if file.expires_at else {})


def moment(at: float) -> str:
    """With nine digits of a second, as Google writes them."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z"


def page_of(request: Request, most: int) -> tuple[int, int]:
    """How many entries a page has, and where it begins."""
    unknown = request.query_params.keys() - {"pageSize", "pageToken", "key"}
    if unknown:
        raise Refusal(400, None, f'Invalid JSON payload received. Unknown name "{min(unknown)}": Cannot bind query.')
    size, token = request.query_params.get("pageSize", "50"), request.query_params.get("pageToken")
    if not size.isdecimal() or int(size) > most:
        raise Refusal(400, None, f"page_size must be within 0 and {most}.")
    if token is not None and not (token.startswith("page-") and token[5:].isdecimal()):
        raise Refusal(400, None, "page_token is invalid.")
    return int(size) or 50, int(token[5:]) if token else 0


def page_token(start: int) -> str:
    return f"page-{start}"


def new_id(length: int = 12) -> str:
    return "".join(secrets.choice(ID_LETTERS) for _ in range(length))


async def _start(request: Request, caller: Caller) -> Response:
    headers = request.headers
    if headers.get("x-goog-upload-protocol") != "resumable" or headers.get("x-goog-upload-command") != "start":
        raise Refusal(400, None, "Only X-Goog-Upload-Protocol: resumable with X-Goog-Upload-Command: start is taken.")
    try:
        body = await request.json() if await request.body() else {}
    except ValueError as error:
        raise Refusal(400, None, "Invalid JSON payload received.") from error
    asked = read(UploadStart, body).file
    length = headers.get("x-goog-upload-header-content-length")
    if length is not None and (not length.isdecimal() or int(length) > MAX_BYTES):
        raise Refusal(400, None, "The file is too large.")
    media_type = asked.mime_type or headers.get("x-goog-upload-header-content-type")
    if media_type is None:
        raise Refusal(400, None, "The MIME type is required: X-Goog-Upload-Header-Content-Type")
    name = asked.display_name or ""
    if len(name) > MAX_DISPLAY_NAME:
        raise Refusal(400, None, f"The display name has more than {MAX_DISPLAY_NAME} characters.")
    written = caller.state.objects.writer()
    session = Session(caller.account.name, name, media_type, int(length) if length else None, written)
    session_id = secrets.token_urlsafe(24)
    caller.state.objects.sessions[session_id] = session
    address = f"{request.url.replace(query='')}?upload_id={session_id}&upload_protocol=resumable"
    return Response(
        headers={
            "x-goog-upload-status": "active",
            "x-goog-upload-url": address,
            "x-goog-upload-control-url": address,
            "x-goog-upload-chunk-granularity": str(GRANULARITY),
        }
    )


async def _continue(request: Request, account: str) -> Response:
    """The address is the credential: it needs no key."""
    state: ProviderState = request.app.state.provider_state
    session = state.objects.sessions.get(request.query_params["upload_id"])
    if not isinstance(session, Session) or session.account != account:
        raise Refusal(404, None, "Upload has already been terminated, or never was.")
    commands = [word.strip() for word in request.headers.get("x-goog-upload-command", "").split(",")]
    if commands == ["query"]:
        return _status(session)
    if session.ended:
        raise Refusal(400, None, "Upload has already been terminated.")
    if commands not in (["upload"], ["finalize"], ["upload", "finalize"]):
        raise Refusal(400, None, "X-Goog-Upload-Command must be upload, finalize, or query.")
    if "upload" in commands:
        await _append(request, session, last="finalize" in commands)
    if "finalize" not in commands:
        return _status(session)
    if session.length is not None and session.written.size != session.length:
        raise Refusal(400, None, f"The upload has {session.written.size} bytes, and not {session.length}.")
    session.ended = True
    file = await asyncio.to_thread(_kept, state, session)
    entry = request.state.entry
    entry.update(file_id=file.id, file_name=file.name, bytes=file.bytes, sha256=file.sha256, lines=file.lines)
    return JSONResponse({"file": file_resource(request, state, file)}, headers={"x-goog-upload-status": "final"})


async def _append(request: Request, session: Session, *, last: bool) -> None:
    if request.headers.get("x-goog-upload-offset") != str(session.written.size):
        raise Refusal(400, None, f"X-Goog-Upload-Offset must be {session.written.size}.")
    before = session.written.size
    if not await receive(session.written, request.stream(), session.length or MAX_BYTES):
        raise Refusal(400, None, "The upload has more bytes than were announced.")
    if not last and (session.written.size - before) % GRANULARITY:
        raise Refusal(400, None, f"A piece that is not the last must have a multiple of {GRANULARITY} bytes.")


def _status(session: Session) -> Response:
    status = "final" if session.ended else "active"
    received = str(session.written.size)
    return Response(headers={"x-goog-upload-status": status, "x-goog-upload-size-received": received})


def _kept(state: ProviderState, session: Session) -> File:
    session.written.path.touch()
    with session.written.path.open("rb") as source:
        return state.files.receive(
            session.account,
            session.display_name,
            source,
            lifetime=LIFETIME,
            processing=state.batches.pace.processing,
            limit=MAX_BYTES,
            file_id=new_id(),
        )
