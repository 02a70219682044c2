"""Fireworks' batch inference jobs: https://docs.fireworks.ai/api-reference/create-batch-inference-job

There is no call that cancels a job: it is deleted. `fireworks_datasets` has what goes in and comes out,
`fireworks_lines` the lines.
"""

import re
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field

from local.provider.batch import ENDED, Batch
from local.provider.datasets import Dataset
from local.provider.files import File
from local.provider.native import fireworks_datasets
from local.provider.native.common import Caller, log_create, read, rfc3339
from local.provider.native.fireworks_datasets import (
    ID,
    WRONG_ID,
    AuthenticatedCaller,
    Message,
    is_ready,
    resource,
)
from local.provider.native.fireworks_lines import FireworksLines, InferenceParameters
from local.provider.refusal import Refusal
from local.provider.state import ProviderState

DAY = 86_400
MAX_PAGE = 200
JOBS = "batchInferenceJobs"
RESULTS, ERRORS = "BIJOutputSet.jsonl", "error-data"
STATES = {
    "validating": "VALIDATING",
    "in_progress": "RUNNING",
    "finalizing": "WRITING_RESULTS",
    "cancelling": "DELETING_CLEANING_UP",
}
"""By the state that Fireworks has another name for."""
GRPC = {"token_limit_exceeded": "RESOURCE_EXHAUSTED", "capacity": "RESOURCE_EXHAUSTED", "internal_error": "INTERNAL"}
JOB_ID = Query(alias="batchInferenceJobId")
CLAUSE = re.compile(r'\s*(\w+)\s*=\s*"?([^"]*?)"?\s*')
FILTERED = {"state": "state", "display_name": "displayName", "displayName": "displayName", "name": "name"}
"""The members of a job that a filter may name."""


class JobCreate(Message):
    model: str
    input_dataset_id: str
    output_dataset_id: str = ""
    display_name: str = ""
    inference_parameters: InferenceParameters = InferenceParameters()
    precision: str = "PRECISION_UNSPECIFIED"
    system_prompt: str = ""
    max_job_duration: Annotated[str, Field(pattern=r"\d+(\.\d+)?s|\d+h")] | None = None


router = APIRouter(prefix="/v1/accounts/{owner}")
router.include_router(fireworks_datasets.router)


@router.post("/batchInferenceJobs")
def create_job(
    request: Request, body: dict[str, Any], caller: AuthenticatedCaller, job_id: Annotated[str, JOB_ID] = ""
) -> dict[str, Any]:
    parameters = read(JobCreate, body, 'unknown or wrong field "{path}": {problem}')
    job_id = job_id or f"bij-{secrets.token_hex(4)}"
    if not ID.fullmatch(job_id):
        raise Refusal(400, None, f"batch inference job id {WRONG_ID}")
    if job_id in caller.state.batches.ids():
        raise Refusal(409, "ALREADY_EXISTS", f"batch inference job {job_id} already exists")
    if parameters.model not in caller.account.models:
        raise Refusal(404, None, f"model {parameters.model} not found")
    dataset, file = _input(caller, parameters.input_dataset_id)
    output = _output_id(caller, parameters.output_dataset_id)
    batch = caller.state.batches.create(
        caller.account,
        file,
        FireworksLines(parameters.model, parameters.inference_parameters),
        metadata={
            "displayName": parameters.display_name,
            "inputDatasetId": parameters.input_dataset_id,
            "outputDatasetId": output,
            "declared": str(dataset.declared_rows),
        },
        model=parameters.model,
        batch_id=job_id,
        deliver=lambda ended, state: _deliver(caller.state, ended, state),
    )
    log_create(request, batch, job_id)
    return _shown(caller, batch)


@router.get("/batchInferenceJobs")
def list_jobs(
    caller: AuthenticatedCaller,
    filter: str = "",
    order_by: Annotated[str, Query(alias="orderBy")] = "",
    page_size: Annotated[int, Query(alias="pageSize")] = 50,
    page_token: Annotated[str, Query(alias="pageToken")] = "",
) -> dict[str, Any]:
    """Oldest first, if nothing else is asked for."""
    if order_by.removesuffix(" desc") not in ("", "create_time", "createTime", "created_time"):
        raise Refusal(400, None, f"cannot order by {order_by}")
    found = [job for job in _jobs(caller) if _matches(job, filter)]
    found = found[::-1] if order_by.endswith(" desc") else found
    start, size = int(page_token.removeprefix("at-") or 0), min(max(page_size, 1), MAX_PAGE)
    following = start + size
    token = f"at-{following}" if following < len(found) else ""
    return {"batchInferenceJobs": found[start:following], "nextPageToken": token, "totalSize": len(found)}


@router.get("/batchInferenceJobs/{job_id}")
def retrieve_job(job_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return _shown(caller, _job(caller, job_id))


@router.delete("/batchInferenceJobs/{job_id}")
def delete_job(job_id: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    """A job that runs is shown for a while as one that is cleaned up."""
    batch = _job(caller, job_id)
    if batch.state in ENDED:
        caller.state.batches.forget(batch.id)
    else:
        caller.state.batches.cancel(caller.account.name, batch.id)
    return {}


def _job(caller: Caller, job_id: str) -> Batch:
    try:
        batch = caller.state.batches.get(caller.account.name, job_id)
    except Refusal as refusal:
        raise Refusal(404, None, "resource not found") from refusal
    if _is_gone(batch):
        caller.state.batches.forget(job_id)
        raise Refusal(404, None, "resource not found")
    return batch


def _jobs(caller: Caller) -> list[dict[str, Any]]:
    batches, _ = caller.state.batches.page(caller.account.name, None, 1_000_000)
    return [_shown(caller, batch) for batch in reversed(batches) if not _is_gone(batch)]


def _is_gone(batch: Batch) -> bool:
    """Whether a job that was deleted while it ran is cleaned up by now."""
    return "cancelling" in batch.times and batch.state in ENDED


def _input(caller: Caller, name: str) -> tuple[Dataset, File]:
    dataset = caller.state.datasets.get(caller.account, _dataset_id(caller, name))
    if dataset.input is None or not is_ready(caller.state, dataset):
        raise Refusal(400, "FAILED_PRECONDITION", f"dataset {name} is not ready")
    return dataset, dataset.input


def _output_id(caller: Caller, name: str) -> str:
    """The name of the dataset that will have the results: a new one."""
    if not name:
        return resource(caller, "datasets", f"bij-{secrets.token_hex(4)}")
    dataset_id = _dataset_id(caller, name)
    if not ID.fullmatch(dataset_id):
        raise Refusal(400, None, f"dataset id {WRONG_ID}")
    if caller.state.datasets.has(caller.account, dataset_id):
        raise Refusal(409, "ALREADY_EXISTS", f"dataset {name} already exists")
    return name


def _dataset_id(caller: Caller, name: str) -> str:
    beginning = resource(caller, "datasets", "")
    if not name.startswith(beginning):
        raise Refusal(400, None, f"invalid dataset name {name}: it begins with {beginning}")
    return name.removeprefix(beginning)


def _matches(job: dict[str, Any], expression: str) -> bool:
    """Whether a job satisfies a filter of equalities: https://google.aip.dev/160"""
    for clause in expression.split(" AND ") if expression else ():
        match = CLAUSE.fullmatch(clause)
        if match is None or match[1] not in FILTERED:
            raise Refusal(400, None, f"invalid filter {expression}")
        if job[FILTERED[match[1]]] != match[2]:
            return False
    return True


def _deliver(state: ProviderState, batch: Batch, ending: str) -> None:
    """Make the output dataset, with the file of the answers and that of the failures, each empty if there are none. A
    job that failed has none."""
    if ending == "failed" or "cancelling" in batch.times:
        return
    dataset_id = _data(batch)["outputDatasetId"].rpartition("/")[2]
    now, empty = state.clock.now(), state.files.empty(batch.account.name).id
    files = {RESULTS: batch.output_file_id or empty, ERRORS: batch.error_file_id or empty}
    parts = [
        state.datasets.part(batch.account, dataset_id, name, state.files.get(batch.account.name, file_id).path)
        for name, file_id in files.items()
    ]
    state.datasets.add(
        Dataset(
            id=dataset_id,
            account=batch.account,
            name="",
            kind="FORMAT_UNSPECIFIED",
            created_at=now,
            declared_rows=batch.done - batch.failed,
            source=f"accounts/{batch.account.name}/{JOBS}/{batch.id}",
            parts=parts,
            valid_at=now,
        )
    )


def _data(batch: Batch) -> dict[str, str]:
    return dict(batch.metadata or {})


def _shown(caller: Caller, batch: Batch) -> dict[str, Any]:
    data, ends = _data(batch), [batch.times[state] for state in ENDED if state in batch.times]
    return {
        "name": resource(caller, JOBS, batch.id),
        "displayName": data["displayName"],
        "createTime": rfc3339(batch.created_at),
        "updateTime": rfc3339(batch.since),
        "expireTime": rfc3339(batch.created_at + DAY),
        "createdBy": "user@example.com",
        "state": f"JOB_STATE_{STATES.get(batch.state, batch.state.upper())}",
        "status": _status(batch),
        "model": batch.model,
        "inputDatasetId": data["inputDatasetId"],
        "outputDatasetId": data["outputDatasetId"],
        "inferenceParameters": {"extraBody": "{}"},
        "precision": "BF16",
        "systemPrompt": "",
        "continuedFromJobName": "",
        "waitingOnCapacity": False,
        "jobProgress": _progress(caller, batch),
        "lifecycle": {"endTime": rfc3339(ends[0])} if ends else None,
    }


def _status(batch: Batch) -> dict[str, str]:
    if not batch.errors:
        return {"code": "OK", "message": ""}
    first: dict[str, Any] = batch.errors[0]
    if batch.started or first["code"] in GRPC:
        return {"code": GRPC.get(first["code"], "INVALID_ARGUMENT"), "message": first["message"]}
    words = f"Dataset has a syntax error: chat dataset validation failed on input.jsonl:{first['line']}"
    return {"code": "INVALID_ARGUMENT", "message": f"{words}: {first['message']}"}


def _progress(caller: Caller, batch: Batch) -> dict[str, int] | None:
    """`null` until the job runs. The total is what the dataset's creator declared."""
    if batch.state == "validating":
        return None
    done, counts = caller.state.batches.progress(batch), caller.state.batches.shown(batch)["request_counts"]
    declared = int(_data(batch)["declared"])
    return {
        "percent": 100 * done // batch.total if batch.total else 0,
        "epoch": 0,
        "totalInputRequests": declared if batch.started and counts["total"] == batch.total else counts["total"],
        "totalProcessedRequests": done,
        "successfullyProcessedRequests": counts["completed"],
        "failedRequests": counts["failed"],
        "outputRows": counts["completed"] if batch.state in ENDED else 0,
        "inputTokens": batch.input_tokens,
        "outputTokens": batch.output_tokens,
        "cachedInputTokenCount": 0,
    }
