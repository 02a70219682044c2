"""Cohere's batches: https://docs.cohere.com/reference/create-batch. `cohere_datasets` has their inputs and outputs."""

import uuid
from typing import Any, Literal

from fastapi import APIRouter, Request

from local.provider.batch import ENDED, Batch
from local.provider.datasets import Dataset
from local.provider.native.cohere_avro import write_parts
from local.provider.native.cohere_datasets import AuthenticatedCaller, status_of
from local.provider.native.cohere_rows import EMBED, CohereRows
from local.provider.native.common import Caller, log_create, read, rfc3339
from local.provider.refusal import Refusal
from local.provider.state import ProviderState
from local.provider.strict_model import Strict

MAX_PAGE = 1_000
STATUSES = {
    "validating": "QUEUED",
    "in_progress": "IN_PROGRESS",
    "finalizing": "IN_PROGRESS",
    "cancelling": "CANCELING",
    "cancelled": "CANCELED",
    "completed": "COMPLETED",
    "failed": "FAILED",
    "expired": "FAILED",
}
"""There is none for a batch that expired."""


class BatchCreate(Strict):
    name: str
    input_dataset_id: str
    model: str


router = APIRouter(prefix="/v2")


@router.post("/batches")
def create_batch(request: Request, body: dict[str, Any], caller: AuthenticatedCaller) -> dict[str, Any]:
    parameters = read(BatchCreate, body, "invalid request: parameter '{path}': {problem}")
    dataset = caller.state.datasets.get(caller.account, parameters.input_dataset_id)
    if dataset.input is None or status_of(caller.state, dataset) != "validated":
        raise Refusal(400, None, f"dataset {dataset.id} is not validated")
    caller.check_model(parameters.model, Refusal(404, None, f"model '{parameters.model}' not found"))
    if parameters.model.startswith("embed") != (dataset.kind == EMBED):
        raise Refusal(400, None, f"model '{parameters.model}' does not take a dataset of the type {dataset.kind}")
    batch = caller.state.batches.create(
        caller.account,
        dataset.input,
        CohereRows(dataset.kind, parameters.model),
        metadata={"name": parameters.name, "dataset": dataset.id, "kind": dataset.kind},
        model=parameters.model,
        batch_id=str(uuid.uuid4()),
        deliver=lambda ended, _: _deliver(caller.state, ended),
    )
    log_create(request, batch, parameters.name)
    request.state.entry.update(input_file_id=dataset.id)
    return {"batch": _shown(caller, batch)}


@router.get("/batches")
def list_batches(
    caller: AuthenticatedCaller,
    page_size: int = 50,
    page_token: str = "",
    order_by: Literal["created_at", "updated_at"] = "created_at",
) -> dict[str, Any]:
    """Newest first. The last page names no next one."""
    batches, _ = caller.state.batches.page(caller.account.name, None, 1_000_000)
    if order_by == "updated_at":
        batches.sort(key=lambda batch: batch.since, reverse=True)
    start, size = int(page_token.removeprefix("at-") or 0), min(max(page_size, 1), MAX_PAGE)
    following = start + size
    token = {"next_page_token": f"at-{following}"} if following < len(batches) else {}
    return {"batches": [_shown(caller, batch) for batch in batches[start:following]], **token}


@router.get("/batches/{batch_id}")
def retrieve_batch(batch_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return {"batch": _shown(caller, caller.state.batches.get(caller.account.name, batch_id))}


@router.post("/batches/{batch_id}:cancel")
def cancel_batch(batch_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    if caller.state.batches.get(caller.account.name, batch_id).state in ENDED:
        raise Refusal(400, None, "the batch has ended")
    caller.state.batches.cancel(caller.account.name, batch_id)
    return {}


def _output_id(batch: Batch) -> str:
    return f"{batch.id}-output"


def _deliver(state: ProviderState, batch: Batch) -> None:
    """Make the output dataset, in parts, if there is a row."""
    if batch.output_file_id is None:
        return
    data, now = batch.metadata or {}, state.clock.now()
    lines = state.files.get(batch.account.name, batch.output_file_id).path
    parts = [
        state.datasets.part(batch.account, _output_id(batch), f"part-{index}.avro", path, rows)
        for index, (path, rows) in enumerate(write_parts(data["kind"], lines, batch.done, state.objects.spool))
    ]
    state.datasets.add(
        Dataset(
            id=_output_id(batch),
            account=batch.account,
            name=f"{data['name']}-output",
            kind=data["kind"].replace("input", "output"),
            created_at=now,
            source=batch.id,
            parts=parts,
            valid_at=now,
        )
    )


def _shown(caller: Caller, batch: Batch) -> dict[str, Any]:
    shown, data = caller.state.batches.shown(batch), batch.metadata or {}
    counts = shown["request_counts"]
    return {
        "id": batch.id,
        "name": data["name"],
        "creator_id": "user-simulated",
        "org_id": "org-simulated",
        "status": f"BATCH_STATUS_{STATUSES[batch.state]}",
        "created_at": rfc3339(batch.created_at),
        "updated_at": rfc3339(batch.since),
        "input_dataset_id": data["dataset"],
        "output_dataset_id": _output_id(batch) if shown["output_file_id"] else "",
        "input_tokens": str(batch.input_tokens),
        "output_tokens": str(batch.output_tokens),
        "model": batch.model,
        "num_records": counts["total"],
        "num_successful_records": counts["completed"],
        "num_failed_records": counts["failed"],
        "status_reason": str(batch.errors[0]["message"]) if batch.errors else "",
    }
