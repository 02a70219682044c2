"""The part of Google Cloud Storage that batch jobs need, by its JSON API.

https://cloud.google.com/storage/docs/json_api/v1/objects
https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

import base64
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from local.provider.google_grants import STORAGE
from local.provider.native.common import Caller, bearer
from local.provider.native.ranges import ranged
from local.provider.object_store import StoredObject, Writer, receive
from local.provider.refusal import Refusal
from local.provider.state import ProviderState

GRANULARITY = 256 * 1024
MAX_BYTES = 5 * 1024**4
MAX_NAME, MAX_RESULTS = 1_024, 1_000
SESSION_LIFETIME = 7 * 86_400
CONTENT_RANGE = re.compile(r"bytes (?:(?P<start>\d+)-(?P<end>\d+)|\*)/(?P<total>\d+|\*)")
LISTING = frozenset({"prefix", "pageToken", "maxResults", "fields", "prettyPrint", "alt"})
UNAUTHORISED = "Invalid Credentials"


@dataclass
class Session:
    """A resumable upload: the bytes that came so far."""

    account: str
    bucket: str
    name: str
    content_type: str
    written: Writer
    length: int | None
    created_at: float
    done: StoredObject | None = None


class Piece(NamedTuple):
    """What a request says of its bytes; `None` is unknown, and `start` of none asks how far the upload is."""

    start: int | None
    end: int | None
    total: int | None


def authenticate(request: Request, account: str, bucket: str) -> Caller:
    """Check the access token, and that the project has the bucket."""
    state: ProviderState = request.app.state.provider_state
    known = state.account(account, "vertex_ai")
    if "authorization" not in request.headers:
        words = "Anonymous caller does not have storage.objects access to the Google Cloud Storage object."
        raise Refusal(401, None, words)
    state.google_tokens.check(known.name, bearer(request), STORAGE)
    if bucket not in known.buckets:
        raise Refusal(404, None, "The specified bucket does not exist.")
    return Caller(state, known, {})


AuthenticatedCaller = Annotated[Caller, Depends(authenticate)]
router = APIRouter()


@router.post("/upload/storage/v1/b/{bucket}/o")
async def upload(request: Request, bucket: str, caller: AuthenticatedCaller) -> Response:
    """Begin a resumable upload, or take an object at once (`uploadType=media`)."""
    query, name = request.query_params, request.query_params.get("name", "")
    metadata = await _metadata(request) if query.get("uploadType") == "resumable" else {}
    name = str(metadata.get("name", name))
    if not name:
        raise Refusal(400, None, "Required parameter: name")
    if len(name.encode()) > MAX_NAME:
        raise Refusal(400, None, "The specified object name is too long.")
    if query.get("ifGenerationMatch") == "0" and caller.state.objects.get(caller.account, bucket, name):
        raise Refusal(412, None, "At least one of the pre-conditions you specified did not hold.")
    if query.get("uploadType") == "media":
        return await _media(request, caller, bucket, name)
    if query.get("uploadType") != "resumable":
        raise Refusal(400, None, "Invalid upload type.")
    length = request.headers.get("x-upload-content-length")
    media_type = str(metadata.get("contentType", request.headers.get("x-upload-content-type", "")))
    session = Session(
        caller.account.name,
        bucket,
        name,
        media_type or "application/octet-stream",
        caller.state.objects.writer(),
        int(length) if length else None,
        caller.state.clock.now(),
    )
    session_id = secrets.token_urlsafe(24)
    caller.state.objects.sessions[session_id] = session
    address = f"{request.url.replace(query='')}?uploadType=resumable&name={quote(name, safe='')}&upload_id={session_id}"
    return Response(headers={"location": address, "x-guploader-uploadid": session_id})


@router.put("/upload/storage/v1/b/{bucket}/o")
async def continue_upload(request: Request, account: str, bucket: str) -> Response:
    """The next bytes of a resumable upload. Its address is the credential: no token is needed."""
    state: ProviderState = request.app.state.provider_state
    session = state.objects.sessions.get(request.query_params.get("upload_id", ""))
    if not isinstance(session, Session) or (session.account, session.bucket) != (account, bucket):
        raise Refusal(404, None, "The upload session was not found.")
    if state.clock.now() > session.created_at + SESSION_LIFETIME:
        raise Refusal(410, None, "The upload session is expired.")
    if session.done is not None:
        return JSONResponse(_resource(request, session.done))
    piece = _piece(request, session)
    if piece.start is not None:
        await _append(request, session, piece)
    if piece.total is None or session.written.size < piece.total:
        return _incomplete(session.written.size)
    known = state.account(account, "vertex_ai")
    session.done = state.objects.keep(known, bucket, session.name, session.written, session.content_type)
    _log(request, session.done, session.written)
    return JSONResponse(_resource(request, session.done))


@router.delete("/upload/storage/v1/b/{bucket}/o")
def abandon_upload(request: Request) -> Response:
    """A session that is cancelled is answered with 499."""
    state: ProviderState = request.app.state.provider_state
    if state.objects.sessions.pop(request.query_params.get("upload_id", ""), None) is None:
        raise Refusal(404, None, "The upload session was not found.")
    return Response(status_code=499)


@router.get("/storage/v1/b/{bucket}/o")
def list_objects(request: Request, bucket: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    query = request.query_params
    if query.keys() - LISTING:
        raise Refusal(400, None, f"Invalid query parameter: {min(query.keys() - LISTING)}")
    most = query.get("maxResults", str(MAX_RESULTS))
    if not most.isdecimal():
        raise Refusal(400, None, "Invalid value for maxResults.")
    limit, after = min(int(most) or MAX_RESULTS, MAX_RESULTS), _name_of(query.get("pageToken", ""))
    page = caller.state.objects.page(caller.account, bucket, query.get("prefix", ""), after, limit)
    listing: dict[str, Any] = {"kind": "storage#objects"}
    if page.more:
        listing["nextPageToken"] = _token(page.objects[-1].key)
    if page.objects:
        listing["items"] = [_resource(request, found) for found in page.objects]
    return listing


@router.get("/storage/v1/b/{bucket}/o/{name:path}")
def get_object(request: Request, bucket: str, name: str, caller: AuthenticatedCaller, alt: str = "json") -> Response:
    found = _found(request, caller, bucket, name)
    if alt == "json":
        return JSONResponse(_resource(request, found))
    if alt != "media":
        raise Refusal(400, None, "Invalid value for alt.")
    headers = {"etag": _etag(found), "x-goog-generation": str(found.generation), "x-goog-hash": f"md5={_md5(found)}"}
    unsatisfiable = Refusal(416, None, "Request range not satisfiable")
    return ranged(found.path, found.size, request.headers.get("range"), found.content_type, headers, unsatisfiable)


@router.delete("/storage/v1/b/{bucket}/o/{name:path}", status_code=204)
def delete_object(request: Request, bucket: str, name: str, caller: AuthenticatedCaller) -> None:
    _found(request, caller, bucket, name)
    caller.state.objects.remove(caller.account, bucket, name)


def _found(request: Request, caller: Caller, bucket: str, name: str) -> StoredObject:
    if b"/" in request.scope["raw_path"].partition(b"/o/")[2]:
        raise Refusal(404, None, "Not Found")
    found = caller.state.objects.get(caller.account, bucket, name)
    if found is None:
        raise Refusal(404, None, f"No such object: {bucket}/{name}")
    return found


async def _metadata(request: Request) -> dict[str, Any]:
    if not await request.body():
        return {}
    try:
        metadata = await request.json()
    except ValueError as error:
        raise Refusal(400, None, "Parse Error") from error
    if not isinstance(metadata, dict) or metadata.keys() - {"name", "contentType", "metadata"}:
        raise Refusal(400, None, "The object's metadata is not valid.")
    return metadata


async def _media(request: Request, caller: Caller, bucket: str, name: str) -> Response:
    written = caller.state.objects.writer()
    await receive(written, request.stream(), MAX_BYTES)
    media_type = request.headers.get("content-type", "application/octet-stream")
    kept = caller.state.objects.keep(caller.account, bucket, name, written, media_type)
    _log(request, kept, written)
    return JSONResponse(_resource(request, kept))


def _piece(request: Request, session: Session) -> Piece:
    """The bytes of the request: without `Content-Range` they are all that the upload still needs."""
    given = request.headers.get("content-range")
    if given is None:
        length = request.headers.get("content-length")
        total = session.length if length is None else int(length)
        if session.length is not None and total != session.length:
            raise Refusal(400, None, "The length is not that of X-Upload-Content-Length.")
        return Piece(0, total - 1 if total else None, total or 0)
    match = CONTENT_RANGE.fullmatch(given)
    if match is None:
        raise Refusal(400, None, "Failed to parse Content-Range header.")
    total = None if match["total"] == "*" else int(match["total"])
    if total is not None and session.length not in (None, total):
        raise Refusal(400, None, "The length is not that of X-Upload-Content-Length.")
    if match["start"] is None:
        return Piece(None, None, total)
    return Piece(int(match["start"]), int(match["end"]), total)


async def _append(request: Request, session: Session, piece: Piece) -> None:
    if piece.start != session.written.size:
        raise Refusal(503, None, "The bytes do not follow those that were received.")
    if not await receive(session.written, request.stream(), MAX_BYTES):
        raise Refusal(413, None, "The object is too large.")
    received = session.written.size - piece.start
    if received != (0 if piece.end is None else piece.end - piece.start + 1):
        raise Refusal(400, None, "The Content-Range does not fit the body.")
    if piece.total is None and received % GRANULARITY:
        raise Refusal(400, None, f"A chunk must be a multiple of {GRANULARITY} bytes.")


def _incomplete(size: int) -> Response:
    return Response(status_code=308, headers={"range": f"bytes=0-{size - 1}"} if size else {})


def _log(request: Request, kept: StoredObject, written: Writer) -> None:
    request.state.entry.update(
        file_name=f"{kept.bucket}/{kept.key}", bytes=kept.size, sha256=written.sha256.hexdigest()
    )


def _resource(request: Request, found: StoredObject) -> dict[str, Any]:
    root = str(request.base_url).rstrip("/")
    name = quote(found.key, safe="")
    moment = datetime.fromtimestamp(found.updated, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "kind": "storage#object",
        "id": f"{found.bucket}/{found.key}/{found.generation}",
        "selfLink": f"{root}/storage/v1/b/{found.bucket}/o/{name}",
        "name": found.key,
        "bucket": found.bucket,
        "generation": str(found.generation),
        "metageneration": "1",
        "contentType": found.content_type,
        "storageClass": "STANDARD",
        "size": str(found.size),
        "md5Hash": _md5(found),
        "etag": _etag(found),
        "timeCreated": moment,
        "updated": moment,
    }


def _md5(found: StoredObject) -> str:
    return base64.b64encode(found.md5).decode()


def _etag(found: StoredObject) -> str:
    return base64.b64encode(found.generation.to_bytes(8)).decode()


def _token(name: str) -> str:
    """Opaque: it is no name."""
    return base64.urlsafe_b64encode(b"\x0a" + name.encode()).decode()


def _name_of(token: str) -> str:
    if not token:
        return ""
    try:
        decoded = base64.urlsafe_b64decode(token)
    except ValueError as error:
        raise Refusal(400, None, "Invalid page token.") from error
    if decoded[:1] != b"\x0a":
        raise Refusal(400, None, "Invalid page token.")
    return decoded[1:].decode()
