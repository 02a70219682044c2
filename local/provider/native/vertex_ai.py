"""Vertex AI's batch inference, which reads a file of Cloud Storage and writes one there.

https://docs.cloud.google.com/gemini-enterprise-agent-platform/reference/rest/v1/projects.locations.batchPredictionJobs
"""

import json
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from local.provider.accounts import GCP_LOCATIONS, GCP_NUMBER, GCP_PROJECT
from local.provider.batch import ENDED, Batch
from local.provider.google_grants import CLOUD
from local.provider.native.common import Caller, bearer, log_create, read
from local.provider.native.gemini import UNKNOWN_NAME, Strict
from local.provider.native.gemini_lines import failure_of
from local.provider.native.job_filters import matches
from local.provider.native.vertex_lines import VertexLines
from local.provider.object_store import read_range
from local.provider.refusal import Refusal
from local.provider.state import ProviderState

MAX_BYTES, MAX_PAGE, ALL = 1024**3, 100, 100_000
MAX_DISPLAY_NAME = 128
DIRECTORY_DELAY = 0.7
CANCELLED = 1
"""gRPC's code."""
URI = re.compile(r"gs://(?P<bucket>[a-z0-9][-_.a-z0-9]{1,61}[a-z0-9])(?:/(?P<name>.*))?")
MODEL = re.compile(r"publishers/(?P<publisher>google|anthropic)/models/(?P<model>[a-z0-9.@-]+)")
CLAUDE_LOCATIONS = frozenset({"us-east5", "global"})
STATES = {
    "in_progress": "RUNNING",
    "finalizing": "RUNNING",
    "completed": "SUCCEEDED",
    "failed": "FAILED",
    "cancelling": "CANCELLING",
    "cancelled": "CANCELLED",
    "expired": "EXPIRED",
}
LISTING = frozenset({"filter", "pageSize", "pageToken", "readMask"})


class Source(Strict):
    uris: Annotated[list[str], Field(min_length=1, max_length=1)]


class InputConfig(Strict):
    instances_format: Literal["jsonl"]
    gcs_source: Source


class Destination(Strict):
    output_uri_prefix: str


class OutputConfig(Strict):
    predictions_format: Literal["jsonl"]
    gcs_destination: Destination


class JobCreate(Strict):
    display_name: Annotated[str, Field(min_length=1, max_length=MAX_DISPLAY_NAME)]
    model: str
    input_config: InputConfig
    output_config: OutputConfig
    labels: dict[str, str] | None = None


def authenticate(request: Request, account: str, project: str, location: str) -> Caller:
    """Check the access token, the project and the location."""
    state: ProviderState = request.app.state.provider_state
    known = state.account(account, "vertex_ai")
    state.google_tokens.check(known.name, bearer(request), frozenset({CLOUD}))
    if project not in (GCP_PROJECT, GCP_NUMBER):
        raise Refusal(403, None, f"Permission 'aiplatform.batchPredictionJobs.list' denied on projects/{project}.")
    if location not in GCP_LOCATIONS:
        raise Refusal(404, None, f"Location {location} is not found.")
    return Caller(state, known, {})


AuthenticatedCaller = Annotated[Caller, Depends(authenticate)]
router = APIRouter(prefix="/v1/projects/{project}/locations/{location}/batchPredictionJobs")


@router.post("")
async def create_job(request: Request, location: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise Refusal(400, None, "Invalid JSON payload received.") from error
    asked = read(JobCreate, body, UNKNOWN_NAME)
    model = _model(caller, asked.model, location)
    bucket, prefix = _location(caller, asked.output_config.gcs_destination.output_uri_prefix)
    file = caller.state.files.spool(caller.account.name, "", _chunks(caller, asked), limit=MAX_BYTES)
    shape = VertexLines(model, late_as_errors=caller.state.variants.late_requests == "errors")
    batch = caller.state.batches.create(
        caller.account,
        file,
        shape,
        model=model,
        endpoint=location,
        batch_id=str(secrets.randbelow(9 * 10**18) + 10**18),
        deliver=lambda batch, _: _deliver(caller, batch, bucket, prefix),
    )
    batch.asked = asked
    log_create(request, batch, asked.display_name)
    return _job(caller, batch)


@router.get("")
def list_jobs(request: Request, location: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    query = request.query_params
    if query.keys() - LISTING:
        raise Refusal(400, None, f'Invalid JSON payload received. Unknown name "{min(query.keys() - LISTING)}".')
    size, token = query.get("pageSize", "100"), query.get("pageToken", "page-0")
    if not size.isdecimal() or int(size) > MAX_PAGE or not re.fullmatch(r"page-\d+", token):
        raise Refusal(400, None, "page_size or page_token is invalid.")
    batches = caller.state.batches.page(caller.account.name, None, ALL)[0]
    jobs = [_job(caller, batch) for batch in batches if batch.endpoint == location]
    jobs = [job for job in jobs if "filter" not in query or matches(query["filter"], _fields(job))]
    start = int(token.removeprefix("page-"))
    following = start + (int(size) or MAX_PAGE)
    more = {"nextPageToken": f"page-{following}"} if following < len(jobs) else {}
    return ({"batchPredictionJobs": jobs[start:following]} if jobs[start:following] else {}) | more


@router.get("/{job_id}")
def get_job(job_id: str, location: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return _job(caller, _found(caller, location, job_id))


@router.post("/{job_id}:cancel")
def cancel_job(job_id: str, location: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    batch = _found(caller, location, job_id)
    if batch.state in ENDED or batch.state == "cancelling":
        raise Refusal(400, "FAILED_PRECONDITION", f"The job is in the state {_state(caller, batch)}.")
    caller.state.batches.cancel(caller.account.name, batch.id)
    return {}


@router.delete("/{job_id}")
def delete_job(job_id: str, location: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    """A long-running operation, which is done."""
    batch = _found(caller, location, job_id)
    if batch.state not in ENDED:
        raise Refusal(400, "FAILED_PRECONDITION", f"The job is in the state {_state(caller, batch)}.")
    caller.state.batches.forget(batch.id)
    place, moment = f"projects/{GCP_NUMBER}/locations/{location}", _time(caller.state.clock.now())
    kind = "type.googleapis.com/google.cloud.aiplatform.v1.DeleteOperationMetadata"
    return {
        "name": f"{place}/operations/{secrets.randbelow(10**18)}",
        "metadata": {"@type": kind, "genericMetadata": {"createTime": moment, "updateTime": moment}},
        "done": True,
        "response": {"@type": "type.googleapis.com/google.protobuf.Empty"},
    }


def _model(caller: Caller, name: str, location: str) -> str:
    match = MODEL.fullmatch(name)
    model = match["model"] if match else ""
    is_claude = model.startswith("claude")
    if match is None or (match["publisher"] == "anthropic") != is_claude:
        raise Refusal(400, None, f"The model {name} is invalid.")
    caller.check_model(model, Refusal(404, None, f"The PublisherModel {name} does not exist."))
    if is_claude and location not in CLAUDE_LOCATIONS:
        raise Refusal(400, "FAILED_PRECONDITION", f"The model {name} is not served in {location}.")
    return model


def _location(caller: Caller, uri: str) -> tuple[str, str]:
    """Bucket and the beginning of a name."""
    match = URI.fullmatch(uri)
    if match is None:
        raise Refusal(400, None, f"{uri} is no URI of Cloud Storage.")
    if match["bucket"] not in caller.account.buckets:
        raise Refusal(400, "FAILED_PRECONDITION", f"The bucket {match['bucket']} does not exist, or may not be used.")
    return match["bucket"], match["name"] or ""


def _chunks(caller: Caller, asked: JobCreate) -> Iterator[bytes]:
    """The input as it is now. One that is not there has no line, and the job fails for it."""
    bucket, name = _location(caller, asked.input_config.gcs_source.uris[0])
    found = caller.state.objects.get(caller.account, bucket, name)
    return iter(()) if found is None else read_range(found.path, 0, found.size)


def _deliver(caller: Caller, batch: Batch, bucket: str, prefix: str) -> None:
    if batch.output_file_id is None:
        return
    file, objects = caller.state.files.get(caller.account.name, batch.output_file_id), caller.state.objects
    with objects.writer() as results:
        for chunk in read_range(file.path, 0, file.bytes):
            results.write(chunk)
    name = f"{_directory(batch, prefix)}/predictions.jsonl"
    objects.keep(caller.account, bucket, name, results, "application/octet-stream")


def _directory(batch: Batch, prefix: str) -> str:
    """A directory of the job's own, within that which it was given. Its time is not the job's `createTime`: the name
    can only be read."""
    return f"{prefix.rstrip('/')}/prediction-model-{_time(batch.created_at + DIRECTORY_DELAY)}".lstrip("/")


def _found(caller: Caller, location: str, job_id: str) -> Batch:
    name = f"projects/{GCP_NUMBER}/locations/{location}/batchPredictionJobs/{job_id}"
    try:
        batch = caller.state.batches.get(caller.account.name, job_id)
    except Refusal as refusal:
        raise Refusal(404, None, f"The BatchPredictionJob {name} does not exist.") from refusal
    if batch.endpoint != location:
        raise Refusal(404, None, f"The BatchPredictionJob {name} does not exist.")
    return batch


def _state(caller: Caller, batch: Batch) -> str:
    if batch.state != "validating":
        return f"JOB_STATE_{STATES[batch.state]}"
    age = caller.state.clock.now() - batch.since
    return "JOB_STATE_" + ("QUEUED" if age < caller.state.batches.pace.of("validating") / 2 else "PENDING")


def _job(caller: Caller, batch: Batch) -> dict[str, Any]:
    asked: JobCreate = batch.asked
    job = asked.model_dump(by_alias=True, exclude_none=True) | {
        "name": f"projects/{GCP_NUMBER}/locations/{batch.endpoint}/batchPredictionJobs/{batch.id}",
        "state": _state(caller, batch),
        "createTime": _time(batch.created_at),
        "updateTime": _time(batch.since),
        "modelVersionId": "1",
    }
    if "in_progress" in batch.times:
        job["startTime"] = _time(batch.times["in_progress"])
    if batch.state in ENDED:
        job |= {"endTime": _time(batch.since), **_ended(caller, batch, asked)}
    return job


def _ended(caller: Caller, batch: Batch, asked: JobCreate) -> dict[str, Any]:
    """Numbers are strings, and a zero is left out."""
    shown = caller.state.batches.shown(batch)
    counts = shown["request_counts"]
    numbers = {
        "successfulCount": counts["completed"],
        "failedCount": counts["failed"],
        "incompleteCount": counts["unanswered"],
    }
    told: dict[str, Any] = {"completionStats": {name: str(number) for name, number in numbers.items() if int(number)}}
    if batch.state == "failed":
        told["error"] = failure_of(batch)
    elif batch.state != "completed":
        told["error"] = {"code": CANCELLED, "message": f"The job was {batch.state}."}
    if shown["output_file_id"] is not None:
        bucket, prefix = _location(caller, asked.output_config.gcs_destination.output_uri_prefix)
        told["outputInfo"] = {"gcsOutputDirectory": f"gs://{bucket}/{_directory(batch, prefix)}"}
    return told


def _fields(job: dict[str, Any]) -> dict[str, str]:
    """What a filter may name."""
    labels = {f"labels.{key}": value for key, value in job.get("labels", {}).items()}
    return {name: str(job[name]) for name in ("displayName", "state", "createTime")} | labels


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
