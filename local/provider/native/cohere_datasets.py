"""Cohere's datasets: https://docs.cohere.com/reference/create-dataset. Only the types that batches use are taken."""

import asyncio
import secrets
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.datastructures import UploadFile

from local.provider.datasets import BUCKET, STALLED, Dataset, Part
from local.provider.files import MAX_BYTES
from local.provider.line_shape import Problem
from local.provider.native.cohere import UNAUTHORISED
from local.provider.native.cohere_rows import BODIES, CohereRows
from local.provider.native.common import Caller, bearer, rfc3339
from local.provider.native.signed_objects import signed_url
from local.provider.refusal import Refusal
from local.provider.state import ProviderState

TAKEN = frozenset({"name", "type", "keep_original_file", "skip_malformed_input", "keep_fields", "optional_fields"})
MAX_PAGE = 100
Status = Literal["unknown", "queued", "processing", "failed", "validated", "skipped"]


def authenticate(request: Request, account: str) -> Caller:
    state: ProviderState = request.app.state.provider_state
    known = state.account(account, "cohere")
    if bearer(request) != known.key:
        raise UNAUTHORISED
    return Caller(state, known, {})


AuthenticatedCaller = Annotated[Caller, Depends(authenticate)]
router = APIRouter(prefix="/v1/datasets")


@router.post("")
async def create_dataset(request: Request, caller: AuthenticatedCaller) -> dict[str, Any]:
    """Takes the rows, and validates them later."""
    query = request.query_params
    kind, name = query.get("type", ""), query.get("name", "")
    if query.keys() - TAKEN or not name or kind not in BODIES:
        raise Refusal(400, None, "invalid request: name and a type of batch inputs are required, and nothing unknown")
    async with request.form() as form:
        sent = form.get("data")
        if not isinstance(sent, UploadFile) or set(form) != {"data"}:
            raise Refusal(400, None, "invalid request: send one file as data")
        malformed: list[str] = []
        lenient = query.get("skip_malformed_input") == "true"
        rows = _rows(CohereRows(kind, ""), sent.file, malformed, lenient=lenient)
        spool = caller.state.files.spool
        file = await asyncio.to_thread(spool, caller.account.name, sent.filename or "", rows, limit=MAX_BYTES)
    now, processing = caller.state.clock.now(), caller.state.batches.pace.processing
    dataset = Dataset(
        id=f"ds-{secrets.token_hex(8)}",
        account=caller.account,
        name=name,
        kind=kind,
        created_at=now,
        input=file,
        valid_at=now + processing,
        error=malformed[0] if malformed and not lenient else None,
    )
    if file.lines == 0:
        dataset.error = "the dataset has no valid rows"
    kept = caller.state.datasets.part(caller.account, dataset.id, file.name, file.path, file.lines)
    dataset.parts = [kept]
    caller.state.datasets.add(dataset)
    request.state.entry.update(
        file_id=dataset.id, file_name=file.name, bytes=file.bytes, sha256=file.sha256, lines=file.lines
    )
    return {"id": dataset.id}


@router.get("")
def list_datasets(
    request: Request,
    caller: AuthenticatedCaller,
    kind: Annotated[str | None, Query(alias="datasetType")] = None,
    wanted: Annotated[Status | None, Query(alias="validationStatus")] = None,
    before: datetime | None = None,
    after: datetime | None = None,
    limit: int = MAX_PAGE,
    offset: int = 0,
) -> dict[str, Any]:
    """Newest first."""
    found = [
        dataset
        for dataset in reversed(caller.state.datasets.of(caller.account))
        if kind in (None, dataset.kind)
        and wanted in (None, status_of(caller.state, dataset))
        and (before is None or dataset.created_at < before.timestamp())
        and (after is None or dataset.created_at > after.timestamp())
    ]
    return {"datasets": [_shown(request, caller, dataset) for dataset in found[offset:][:limit]]}


@router.get("/usage")
def usage(caller: AuthenticatedCaller) -> dict[str, Any]:
    datasets = caller.state.datasets.of(caller.account)
    return {"organization_usage": sum(part.bytes for dataset in datasets for part in dataset.parts)}


@router.get("/{dataset_id}")
def retrieve_dataset(request: Request, dataset_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return {"dataset": _shown(request, caller, caller.state.datasets.get(caller.account, dataset_id))}


@router.delete("/{dataset_id}")
def delete_dataset(dataset_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    caller.state.datasets.remove(caller.account, dataset_id)
    return {}


def status_of(state: ProviderState, dataset: Dataset) -> Status:
    """How far the validation is; one that is stalled is never done."""
    now = state.clock.now()
    if dataset.source:
        return "validated"
    if state.batches.stalls.get(dataset.account.name) == STALLED:
        return "processing"
    if dataset.valid_at is None or now < dataset.valid_at:
        return "queued" if now < (dataset.created_at + (dataset.valid_at or now)) / 2 else "processing"
    return "failed" if dataset.error else "validated"


def _rows(shape: CohereRows, source: BinaryIO, malformed: list[str], *, lenient: bool) -> Iterator[bytes]:
    """The lines of an upload, and what is wrong with them; where that is taken, only those that are right."""
    for number, line in enumerate(source, start=1):
        if line.isspace():
            continue
        try:
            shape.read(line)
        except Problem as problem:
            malformed.append(f"line {number}: {problem.message}")
            if lenient:
                continue
        yield line


def _shown(request: Request, caller: Caller, dataset: Dataset) -> dict[str, Any]:
    status = status_of(caller.state, dataset)
    parts = [_part(request, index, part) for index, part in enumerate(dataset.parts)]
    return {
        "id": dataset.id,
        "name": dataset.name,
        "created_at": rfc3339(dataset.created_at),
        "updated_at": rfc3339(dataset.valid_at or dataset.created_at),
        "dataset_type": dataset.kind,
        "validation_status": status,
        **({"validation_error": dataset.error} if status == "failed" else {}),
        "validation_warnings": [],
        "dataset_parts": parts if status == "validated" else [],
    }


def _part(request: Request, index: int, part: Part) -> dict[str, Any]:
    return {
        "id": part.key,
        "name": part.name,
        "url": signed_url(request, "GET", BUCKET, part.key),
        "index": index,
        "size_bytes": part.bytes,
        "num_rows": part.rows,
        "samples": [],
    }
