"""Amazon Bedrock's batch inference: https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference.html

A job reads one object of the account's S3, and writes its results and a manifest there.
"""

import json
import re
import secrets
import string
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import APIRouter, Depends, Request

from local.provider.accounts import BEDROCK_ACCOUNT, BEDROCK_REGION
from local.provider.batch import ENDED, Batch
from local.provider.native.bedrock import NO_MODEL, authenticated
from local.provider.native.bedrock_job_checks import check_listing, check_role, check_shape, location, moment, place
from local.provider.native.bedrock_lines import BedrockLines
from local.provider.native.common import Caller, log_create
from local.provider.object_store import StoredObject, read_range
from local.provider.refusal import Refusal

MIN_RECORDS = 100
MAX_BYTES = 1024**3
ALL = 100_000
TOKEN_LETTERS = string.ascii_lowercase + string.digits
STATES = {
    "in_progress": "InProgress",
    "finalizing": "InProgress",
    "completed": "Completed",
    "failed": "Failed",
    "cancelling": "Stopping",
    "cancelled": "Stopped",
}
UNKNOWN_JOB = Refusal(404, "ResourceNotFoundException", "The requested model invocation job was not found.")


async def authenticate(request: Request, account: str) -> Caller:
    return await authenticated(request, account)


AuthenticatedCaller = Annotated[Caller, Depends(authenticate)]
router = APIRouter()


@router.post("/model-invocation-job")
def create_job(request: Request, caller: AuthenticatedCaller) -> dict[str, str]:
    asked = caller.body
    check_shape(asked)
    check_role(asked["roleArn"])
    caller.check_model(asked["modelId"], NO_MODEL)
    token = asked.setdefault("clientRequestToken", secrets.token_hex(16))
    made = next((batch for batch in _own(caller) if batch.asked["clientRequestToken"] == token), None)
    if made is not None:
        return _repeated(made, asked)
    source = _source(caller, asked)
    output = location(caller.account, asked["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"])
    job_id = "".join(secrets.choice(TOKEN_LETTERS) for _ in range(12))
    batch = _enqueued(caller, asked, source, output, job_id)
    log_create(request, batch, token)
    return {"jobArn": _arn(batch)}


@router.get("/model-invocation-jobs")
def list_jobs(request: Request, caller: AuthenticatedCaller) -> dict[str, Any]:
    query = dict(request.query_params)
    check_listing(query)
    batches = [batch for batch in _own(caller) if _matches(caller, batch, query)]
    if query.get("sortOrder") == "Ascending":
        batches.reverse()
    start, limit = place(query.get("nextToken")), int(query.get("maxResults", "100"))
    following = start + limit
    more = {"nextToken": f"page-{following}"} if following < len(batches) else {}
    return {"invocationJobSummaries": [_job(caller, batch) for batch in batches[start:following]], **more}


@router.post("/model-invocation-job/{identifier:path}/stop")
def stop_job(request: Request, identifier: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    batch = _found(request, caller, identifier, "/stop")
    if batch.state in ENDED or batch.state == "cancelling":
        raise Refusal(400, "ConflictException", f"The job is in the status {_status(caller, batch)}.")
    caller.state.batches.cancel(caller.account.name, batch.id)
    return {}


@router.get("/model-invocation-job/{identifier:path}")
def get_job(request: Request, identifier: str, caller: AuthenticatedCaller) -> dict[str, Any]:
    return _job(caller, _found(request, caller, identifier))


def _own(caller: Caller) -> list[Batch]:
    """The account's jobs, newest first."""
    return caller.state.batches.page(caller.account.name, None, ALL)[0]


def _repeated(made: Batch, asked: Mapping[str, Any]) -> dict[str, str]:
    if made.asked != asked:
        raise Refusal(400, "ConflictException", "The clientRequestToken was used with other parameters.")
    return {"jobArn": _arn(made)}


def _source(caller: Caller, asked: Mapping[str, Any]) -> StoredObject:
    """The one object that the job reads: that of this URI, or the one in this folder."""
    uri = asked["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]
    bucket, key = location(caller.account, uri)
    found = caller.state.objects.get(caller.account, bucket, key)
    if found is None:
        folder = key if key.endswith("/") or not key else f"{key}/"
        page = caller.state.objects.page(caller.account, bucket, folder, "", 100)
        within = [one for one in page.objects if one.key.endswith(".jsonl")]
        found = within[0] if len(within) == 1 else None
    if found is None or not found.key.endswith(".jsonl"):
        raise Refusal(400, "ValidationException", f"The provided S3 URI {uri} has no JSONL file, or more than one.")
    return found


def _enqueued(
    caller: Caller, asked: Mapping[str, Any], source: StoredObject, output: tuple[str, str], job_id: str
) -> Batch:
    state, account, model = caller.state, caller.account, asked["modelId"]
    chunks = read_range(source.path, 0, source.size)
    file = state.files.spool(account.name, source.key.rpartition("/")[2], chunks, limit=MAX_BYTES)
    least = state.quotas.of((account.name, model)).min_batch_requests
    least = MIN_RECORDS if least is None else least
    words = f"Batch job {job_id} contains less records ({file.lines}) than the required minimum of: {least}"
    shape = BedrockLines(
        model,
        asked.get("modelInvocationType", "InvokeModel"),
        late_as_errors=state.variants.late_requests == "errors",
        too_few=words if file.lines < least else None,
    )
    try:
        batch = state.batches.create(
            account,
            file,
            shape,
            model=model,
            batch_id=job_id,
            deliver=lambda batch, _: _deliver(caller, batch, output),
        )
    except Refusal as refusal:
        if (refusal.code or "").endswith("_limit_exceeded"):
            raise Refusal(400, "ServiceQuotaExceededException", refusal.message) from refusal
        raise
    batch.asked = asked
    return batch


def _deliver(caller: Caller, batch: Batch, output: tuple[str, str]) -> None:
    """Write the results and the manifest, unless the job failed before it began."""
    if not batch.started:
        return
    bucket, prefix = output
    folder = f"{prefix.rstrip('/')}/{batch.id}".lstrip("/")
    objects = caller.state.objects
    with objects.writer() as results:
        if batch.output_file_id is not None:
            file = caller.state.files.get(caller.account.name, batch.output_file_id)
            for chunk in read_range(file.path, 0, file.bytes):
                results.write(chunk)
    objects.keep(caller.account, bucket, f"{folder}/{batch.file.name}.out", results, "application/octet-stream")
    tokens = {"inputTokenCount": batch.input_tokens, "outputTokenCount": batch.output_tokens}
    with objects.writer() as manifest:
        manifest.write(json.dumps(_counts(batch, batch.done) | tokens).encode())
    objects.keep(caller.account, bucket, f"{folder}/manifest.json.out", manifest, "application/octet-stream")


def _counts(batch: Batch, done: int) -> dict[str, int]:
    return {
        "totalRecordCount": batch.total,
        "processedRecordCount": done,
        "successRecordCount": done - batch.failed,
        "errorRecordCount": batch.failed,
    }


def _found(request: Request, caller: Caller, identifier: str, suffix: str = "") -> Batch:
    """The job of an ARN, whose slash is encoded, or of its last part."""
    path = request.scope["raw_path"].decode().partition("/model-invocation-job/")[2].removesuffix(suffix)
    if "/" in path:
        raise Refusal(404, "UnknownOperationException", "There is no such operation.")
    known = unquote(path).removeprefix(_arn_prefix())
    if not re.fullmatch("[a-z0-9]{12}", known):
        raise Refusal(400, "ValidationException", "The provided job identifier is invalid.")
    try:
        return caller.state.batches.get(caller.account.name, known)
    except Refusal as refusal:
        raise UNKNOWN_JOB from refusal


def _arn_prefix() -> str:
    return f"arn:aws:bedrock:{BEDROCK_REGION}:{BEDROCK_ACCOUNT}:model-invocation-job/"


def _arn(batch: Batch) -> str:
    return _arn_prefix() + batch.id


def _status(caller: Caller, batch: Batch) -> str:
    if batch.state == "expired":
        return "PartiallyCompleted" if batch.done else "Expired"
    if batch.state != "validating":
        return STATES[batch.state]
    age = caller.state.clock.now() - batch.since
    return "Submitted" if age < caller.state.batches.pace.of("validating") / 2 else "Validating"


def _job(caller: Caller, batch: Batch) -> dict[str, Any]:
    asked = batch.asked
    shown = caller.state.batches.shown(batch)["request_counts"]
    told = {
        "jobArn": _arn(batch),
        **{name: value for name, value in asked.items() if name != "tags"},
        "modelInvocationType": asked.get("modelInvocationType", "InvokeModel"),
        "timeoutDurationInHours": asked.get("timeoutDurationInHours", 24),
        "status": _status(caller, batch),
        "submitTime": _time(batch.created_at),
        "lastModifiedTime": _time(batch.since),
        "jobExpirationTime": _time(batch.created_at + asked.get("timeoutDurationInHours", 24) * 3_600),
        "totalRecordCount": shown["total"],
        "processedRecordCount": int(shown["completed"]) + int(shown["failed"]),
        "successRecordCount": shown["completed"],
        "errorRecordCount": shown["failed"],
    }
    if batch.state in ENDED:
        told["endTime"] = _time(batch.since)
    if batch.errors:
        told["message"] = batch.errors[0]["message"]
    return told


def _matches(caller: Caller, batch: Batch, query: Mapping[str, str]) -> bool:
    if query.get("statusEquals", _status(caller, batch)) != _status(caller, batch):
        return False
    if query.get("nameContains", "") not in batch.asked["jobName"]:
        return False
    after, before = query.get("submitTimeAfter"), query.get("submitTimeBefore")
    return not (after and batch.created_at <= moment(after)) and not (before and batch.created_at >= moment(before))


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
