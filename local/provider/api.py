"""The routes that a provider's customers call, in both dialects."""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.datastructures import FormData, UploadFile

from local.provider.accounts import Account
from local.provider.batches import ENDED, Batch
from local.provider.dialects import PREFIX, Dialect, dialect_of
from local.provider.lines import normal_url
from local.provider.refusal import Refusal
from local.provider.replies import REPLIES
from local.provider.state import ProviderState

DATED = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
FIRST_EXPIRING_VERSION = "2025-03-01"
EXPIRY_BOUNDS = {"openai": (3_600, 2_592_000), "azure": (1_209_600, 2_592_000)}
MAX_FILES = 10_000
MAX_PAIRS, MAX_KEY, MAX_VALUE = 16, 64, 512


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, in which dialect."""

    state: ProviderState
    account: Account
    dialect: Dialect
    version: str | None
    """The dated version of Azure's API, `None` in any other form."""
    entry: dict[str, Any]
    """What the log keeps of this call."""

    @property
    def takes_expiry(self) -> bool:
        return self.version is None or self.version >= FIRST_EXPIRING_VERSION


class Expiry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    anchor: str
    seconds: int


class BatchCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: Expiry | None = None


def caller(request: Request, account: str) -> Caller:
    """Check the address and the key, as the front door does before it looks at anything else."""
    state: ProviderState = request.app.state.provider_state
    match = PREFIX.match(request.url.path)
    form = match["form"] if match else ""
    known = state.account(account, "openai" if form == "/v1" else "azure")
    if _key(request, known) != known.key:
        raise _unauthorised(known)
    version = _version(request, form)
    return Caller(state, known, dialect_of(request.url.path), version, request.state.entry)


Called = Annotated[Caller, Depends(caller)]
router = APIRouter()


@router.post("/files")
async def create_file(request: Request, who: Called) -> dict[str, Any]:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Refusal(400, "invalidPayload", "Send the file as multipart/form-data.")
    async with request.form() as form:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise Refusal(400, None, "'file' is a required property", "file")
        lifetime = _lifetime(who, form)
        name = upload.filename or ""
        if form.get("purpose") != "batch" or not name.endswith(".jsonl"):
            raise Refusal(400, "invalidPayload", "Only .jsonl files with the purpose batch are taken.", "purpose")
        processing = who.state.batches.pace.processing if who.account.dialect == "azure" else 0
        file = await asyncio.to_thread(
            who.state.files.receive, who.account.name, name, upload.file, lifetime=lifetime, processing=processing
        )
    who.entry.update(
        file_id=file.id, file_name=name, bytes=file.bytes, sha256=file.sha256, lines=file.lines, models=file.models
    )
    return who.dialect.file(file, time.time())


@router.get("/files")
def list_files(
    who: Called, purpose: str | None = None, after: str | None = None, limit: int | None = None
) -> dict[str, Any]:
    if who.version is not None and (purpose, after, limit) != (None, None, None):
        raise Refusal(400, "BadRequest", "Azure's dated versions list all files, and take no parameter.")
    if limit is not None and not 1 <= limit <= MAX_FILES:
        raise Refusal(400, "invalid_value", f"Invalid value: limit must be within 1 and {MAX_FILES}.", "limit")
    files, more = who.state.files.page(who.account.name, purpose, after, limit or MAX_FILES)
    return who.dialect.files([who.dialect.file(file, time.time()) for file in files], more)


@router.get("/files/{file_id}")
def retrieve_file(file_id: str, who: Called) -> dict[str, Any]:
    return who.dialect.file(who.state.files.get(who.account.name, file_id), time.time())


@router.get("/files/{file_id}/content")
def file_content(file_id: str, who: Called) -> FileResponse:
    file = who.state.files.get(who.account.name, file_id)
    return FileResponse(file.path, media_type="application/octet-stream")


@router.delete("/files/{file_id}")
def delete_file(file_id: str, who: Called) -> dict[str, Any]:
    who.state.files.remove(who.account.name, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


@router.post("/batches")
def create_batch(body: dict[str, Any], who: Called) -> dict[str, Any]:
    asked = _asked(body)
    who.entry.update(metadata=asked.metadata, input_file_id=asked.input_file_id)
    _check_endpoint(asked.endpoint, who.account)
    _check_metadata(asked.metadata)
    if asked.completion_window != "24h":
        raise Refusal(400, "invalid_value", "Invalid value: completion_window must be '24h'.", "completion_window")
    if asked.output_expires_after is not None:
        _check_expiry(who, asked.output_expires_after.anchor, asked.output_expires_after.seconds)
    file = who.state.files.get(who.account.name, asked.input_file_id)
    if file.purpose != "batch" or time.time() < file.usable_at:
        raise Refusal(400, "invalidPayload", "The input file is not a processed file of purpose batch.")
    batch = who.state.batches.create(who.account, file, asked.endpoint, asked.completion_window, asked.metadata)
    who.entry.update(batch_id=batch.id)
    return _shown(who, batch)


@router.get("/batches")
def list_batches(who: Called, after: str | None = None, limit: int = 20) -> dict[str, Any]:
    if not 1 <= limit <= 100:
        raise Refusal(400, "invalid_value", "Invalid value: limit must be within 1 and 100.", "limit")
    batches, more = who.state.batches.page(who.account.name, after, limit)
    return who.dialect.page([_shown(who, batch) for batch in batches], more)


@router.get("/batches/{batch_id}")
def retrieve_batch(batch_id: str, who: Called) -> dict[str, Any]:
    return _shown(who, who.state.batches.get(who.account.name, batch_id))


@router.post("/batches/{batch_id}/cancel")
def cancel_batch(batch_id: str, who: Called) -> dict[str, Any]:
    return _shown(who, who.state.batches.cancel(who.account.name, batch_id))


def _shown(who: Caller, batch: Batch) -> dict[str, Any]:
    shown = who.dialect.batch(batch, who.state.batches.progress(batch), who.state.files.empty(who.account.name).id)
    odd = who.state.batches.oddities.get(who.account.name)
    return odd.shown(shown, ended=batch.state in ENDED) if odd else shown


def _key(request: Request, account: Account) -> str | None:
    if account.dialect == "azure":
        return request.headers.get("api-key")
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def _unauthorised(account: Account) -> Refusal:
    if account.dialect == "azure":
        return Refusal(401, "401", "Access denied due to invalid subscription key or wrong API endpoint.")
    return Refusal(401, "invalid_api_key", "Incorrect API key provided.")


def _version(request: Request, form: str) -> str | None:
    """Azure's `api-version`: a dated one where the path has no version, and none where it has."""
    given = request.query_params.get("api-version")
    if form == "/openai":
        if given is None or not DATED.fullmatch(given):
            raise Refusal(404, "404", "Resource not found")
        return given
    if given not in (None, "v1", "preview"):
        raise Refusal(400, "BadRequest", "API version not supported")
    return None


def _asked(body: Mapping[str, Any]) -> BatchCreate:
    try:
        return BatchCreate.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise Refusal(400, "invalid_request", f"{field}: {first['msg']}", field) from error


def _check_endpoint(endpoint: str, account: Account) -> None:
    known = normal_url(endpoint) in REPLIES
    if account.dialect == "azure":
        known = normal_url(endpoint) == "/chat/completions"
    elif not endpoint.startswith("/v1/"):
        known = False
    if not known:
        raise Refusal(400, "invalid_value", f"Invalid value: '{endpoint}' is no endpoint of batches.", "endpoint")


def _check_metadata(metadata: Mapping[str, str] | None) -> None:
    pairs = (metadata or {}).items()
    if len(pairs) > MAX_PAIRS or any(len(key) > MAX_KEY or len(value) > MAX_VALUE for key, value in pairs):
        raise Refusal(400, "invalid_value", "Invalid 'metadata': too many pairs, or one too long.", "metadata")


def _lifetime(who: Caller, form: FormData) -> int | None:
    """The expiry that the form asks for: with brackets as OpenAI has it, or with dots as Azure's guide does."""
    for pattern in ("expires_after[{}]", "expires_after.{}"):
        anchor, seconds = form.get(pattern.format("anchor")), form.get(pattern.format("seconds"))
        if anchor is not None or seconds is not None:
            if pattern.endswith(".{}") and who.account.dialect != "azure":
                break
            return _check_expiry(who, anchor, int(str(seconds)) if str(seconds).isdecimal() else 0)
    return None


def _check_expiry(who: Caller, anchor: object, seconds: int) -> int:
    low, high = EXPIRY_BOUNDS[who.account.dialect]
    if not who.takes_expiry:
        raise Refusal(400, "invalidPayload", "Unknown parameter: 'expires_after'.", "expires_after")
    if anchor != "created_at" or not low <= seconds <= high:
        raise Refusal(400, "invalid_value", f"expires_after must be {low} to {high} seconds of created_at.")
    return seconds
