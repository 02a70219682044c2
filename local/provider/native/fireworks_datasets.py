"""Fireworks' datasets: https://docs.fireworks.ai/api-reference/create-dataset"""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from starlette.datastructures import UploadFile

from local.provider.datasets import BUCKET, STALLED, Dataset
from local.provider.files import CHUNK, File
from local.provider.native.common import Caller, bearer, read, rfc3339
from local.provider.native.error_formats import UNAUTHORIZED
from local.provider.native.signed_objects import RANGE_HEADER, signed_url
from local.provider.refusal import Refusal
from local.provider.state import ProviderState

MAX_UPLOAD, MAX_BYTES = 150 * 1024 * 1024, 500 * 1024 * 1024
"""Of a form, and of what is put by a signed URL."""
ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
WRONG_ID = "must be 1 to 63 lower-case letters, digits and hyphens, and begin with a letter"


class Message(BaseModel):
    """A message of gRPC in JSON: its members are taken in both cases, and none that is unknown."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


class NewDataset(Message):
    user_uploaded: dict[str, Any]
    example_count: int | None = None
    display_name: str = ""
    format: str = "FORMAT_UNSPECIFIED"


class DatasetCreate(Message):
    dataset_id: str
    dataset: NewDataset


class UploadEndpoint(Message):
    filename_to_size: Annotated[dict[str, int], Field(min_length=1)]
    read_mask: str = ""


def authenticate(request: Request, account: str, owner: str) -> Caller:
    """A wrong key is a 403, and so is an account that is not the key's."""
    state: ProviderState = request.app.state.provider_state
    known = state.account(account, "fireworks_ai")
    if bearer(request) != known.key:
        raise Refusal(403, UNAUTHORIZED, "The API key you provided is invalid.")
    if owner != known.name:
        raise Refusal(403, None, f"not allowed to access account {owner}")
    return Caller(state, known, {})


AuthenticatedCaller = Annotated[Caller, Depends(authenticate)]
router = APIRouter(prefix="/datasets")


@router.post("")
def create_dataset(request: Request, body: dict[str, Any], caller: AuthenticatedCaller) -> dict[str, Any]:
    parameters = read(DatasetCreate, body, 'unknown or wrong field "{path}": {problem}')
    if not ID.fullmatch(parameters.dataset_id):
        raise Refusal(400, None, f"dataset id {WRONG_ID}")
    if parameters.dataset.example_count is None:
        raise Refusal(400, None, "example_count is required for uploaded datasets")
    dataset = Dataset(
        id=parameters.dataset_id,
        account=caller.account,
        name=parameters.dataset.display_name,
        kind=parameters.dataset.format,
        created_at=caller.state.clock.now(),
        declared_rows=parameters.dataset.example_count,
    )
    caller.state.datasets.add(dataset)
    request.state.entry.update(file_id=dataset.id)
    return _shown(caller, dataset)


@router.get("")
def list_datasets(caller: AuthenticatedCaller) -> dict[str, Any]:
    datasets = [_shown(caller, dataset) for dataset in caller.state.datasets.of(caller.account)]
    return {"datasets": datasets, "nextPageToken": "", "totalSize": len(datasets)}


@router.post("/{dataset_id}:upload")
async def upload(request: Request, dataset_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    dataset = _awaiting(caller, dataset_id)
    async with request.form() as form:
        sent = form.get("file")
        if not isinstance(sent, UploadFile):
            raise Refusal(400, None, "file is required")
        if (sent.size or 0) > MAX_UPLOAD:
            raise Refusal(400, None, "the file is too large: use getUploadEndpoint")
        name, source = sent.filename or "", sent.file
        chunks = iter(lambda: source.read(CHUNK), b"")
        file = await asyncio.to_thread(caller.state.files.spool, caller.account.name, name, chunks, limit=MAX_UPLOAD)
    _keep(request, caller, dataset, file)
    return {
        "id": resource(caller, "datasets", dataset.id),
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "filename": name,
        "purpose": "dataset",
    }


@router.post("/{dataset_id}:getUploadEndpoint")
def upload_endpoint(
    request: Request, dataset_id: str, body: dict[str, Any], caller: AuthenticatedCaller
) -> dict[str, Any]:
    """Signed URLs, each for a file of exactly this size, which a header says once more."""
    dataset, sizes = _awaiting(caller, dataset_id), read(UploadEndpoint, body).filename_to_size
    if sum(sizes.values()) > MAX_BYTES:
        raise Refusal(400, None, "the dataset is too large")
    keys = {name: f"dataset/{dataset.id}/{name}" for name in sizes}
    dataset.uploads = tuple(keys.values())
    urls = {
        name: signed_url(request, "PUT", BUCKET, key, {RANGE_HEADER: f"{sizes[name]},{sizes[name]}"})
        for name, key in keys.items()
    }
    return {"filenameToSignedUrls": urls}


@router.post("/{dataset_id}:validateUpload")
async def validate_upload(
    request: Request, dataset_id: str, body: dict[str, Any], caller: AuthenticatedCaller
) -> dict[str, Any]:
    dataset = _awaiting(caller, dataset_id)
    found = [caller.state.objects.get(caller.account, BUCKET, key) for key in dataset.uploads]
    paths = [one.path for one in found if one is not None]
    if body or not paths or len(paths) < len(found):
        raise Refusal(400, "FAILED_PRECONDITION", "files are not uploaded yet")
    name = dataset.uploads[0].rpartition("/")[2]
    file = await asyncio.to_thread(caller.state.files.spool, caller.account.name, name, _chunks(paths), limit=MAX_BYTES)
    _keep(request, caller, dataset, file)
    return {}


@router.get("/{dataset_id}:getDownloadEndpoint")
async def download_endpoint(request: Request, dataset_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    """Signed URLs of the files, by names that begin with the dataset's directory. The request has no body."""
    if await request.body():
        raise Refusal(400, None, "Your client has issued a malformed or illegal request.")
    dataset = caller.state.datasets.get(caller.account, dataset_id)
    if not is_ready(caller.state, dataset):
        raise Refusal(400, "FAILED_PRECONDITION", "dataset is not ready")
    return {"filenameToSignedUrls": {part.key: signed_url(request, "GET", BUCKET, part.key) for part in dataset.parts}}


@router.get("/{dataset_id}")
def retrieve_dataset(dataset_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return _shown(caller, caller.state.datasets.get(caller.account, dataset_id))


@router.delete("/{dataset_id}")
def delete_dataset(dataset_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    caller.state.datasets.remove(caller.account, dataset_id)
    return {}


def resource(caller: Caller, collection: str, name: str) -> str:
    return f"accounts/{caller.account.name}/{collection}/{name}"


def is_ready(state: ProviderState, dataset: Dataset) -> bool:
    stalled = state.batches.stalls.get(dataset.account.name) == STALLED
    return not stalled and dataset.valid_at is not None and dataset.valid_at <= state.clock.now()


def _awaiting(caller: Caller, dataset_id: str) -> Dataset:
    """The dataset, if nothing is uploaded to it yet."""
    dataset = caller.state.datasets.get(caller.account, dataset_id)
    if dataset.input is not None or dataset.source:
        raise Refusal(400, None, "dataset is already uploaded")
    return dataset


def _keep(request: Request, caller: Caller, dataset: Dataset, file: File) -> None:
    dataset.input = file
    dataset.parts = [caller.state.datasets.part(caller.account, dataset.id, file.name, file.path)]
    dataset.valid_at = caller.state.clock.now() + caller.state.batches.pace.processing
    request.state.entry.update(
        file_id=dataset.id, file_name=file.name, bytes=file.bytes, sha256=file.sha256, lines=file.lines
    )


def _chunks(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            yield from iter(lambda: file.read(CHUNK), b"")


def _shown(caller: Caller, dataset: Dataset) -> dict[str, Any]:
    uploaded: dict[str, Any] = {"userUploaded": {}} if not dataset.source else {}
    return {
        "name": resource(caller, "datasets", dataset.id),
        "displayName": dataset.name,
        "createTime": rfc3339(dataset.created_at),
        "updateTime": rfc3339(dataset.valid_at or dataset.created_at),
        "createdBy": "user@example.com",
        "state": "READY" if is_ready(caller.state, dataset) else "UPLOADING",
        "status": {"code": "OK", "message": ""},
        "exampleCount": str(dataset.declared_rows),
        "estimatedTokenCount": "0",
        "averageTurnCount": 0,
        "format": dataset.kind,
        "externalUrl": "",
        "sourceJobName": dataset.source,
        **uploaded,
    }
