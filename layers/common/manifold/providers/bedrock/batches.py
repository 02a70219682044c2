"""Batches of Amazon Bedrock: records in S3, a model invocation job, and a folder of results in S3.

https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference.html
"""

import re
from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from manifold.errors import InputLost, ProviderRefused, ProviderUnclear
from manifold.provider_errors import QUOTA, RATE_LIMIT_STATUS
from manifold.providers import (
    ENDED,
    Endpoint,
    Input,
    Job,
    JobState,
    JobStatus,
    LineFailure,
    Listed,
    Prepared,
    Signature,
    batch_jobs,
)
from manifold.providers.batch_client import BatchClient
from manifold.providers.batch_lines import LineTranslator, whole
from manifold.providers.batch_polls import poll
from manifold.providers.bedrock.batch_lines import invocation_type, translator
from manifold.providers.bedrock.s3 import S3, Location
from manifold.providers.bedrock.signature import region_of, signer
from manifold.providers.http_call import HttpCall
from manifold.providers.listings import Cursor, by_token, pages
from manifold.providers.openai.batch_object import LOST, count

URL = "https://bedrock.{region}.amazonaws.com"
RUNTIME = re.compile(r"(?<=://)bedrock-runtime(?P<rest>(?:-fips)?\.[a-z0-9-]+\.)")
"""The host of completions. That of jobs has `bedrock` instead."""
JOB = re.compile(r"arn:[!-~]{1,400}:model-invocation-job/(?P<id>[A-Za-z0-9]{1,64})")
INPUTS, RESULTS = "manifold/inputs/", "manifold/results/"
"""The folders in the deployment's buckets."""
RESULT = ".jsonl.out"
PAGE = 100
STATES: Mapping[str, JobState] = {
    "Submitted": "validating",
    "Validating": "validating",
    "Scheduled": "in_progress",
    "InProgress": "in_progress",
    "Completed": "completed",
    "PartiallyCompleted": "expired",
    "Failed": "failed",
    "Stopping": "cancelling",
    "Stopped": "cancelled",
    "Expired": "expired",
}
"""A job in which some records failed is Completed; of a PartiallyCompleted one, not all could be processed in time."""


class BedrockBatches:
    """A `BatchProvider` of Bedrock. The base URL is that of completions: the host of jobs follows from it.

    Jobs are found by their `clientRequestToken`, which makes a repeated create harmless, too. A `ref` is the ARN of a
    job, or a URI in S3: of an object or, with `/` at its end, of the folder of a job's results.
    """

    sends_lines = False

    def __init__(self, client: BatchClient) -> None:
        self._client = client
        self._s3 = S3(client)

    def translator(self, endpoint: Endpoint) -> LineTranslator:
        return translator(endpoint)

    async def prepare(self, endpoint: Endpoint, data: Input) -> Prepared:
        at = Location(_bucket(endpoint), f"{INPUTS}{data.name}")
        await self._s3.write(endpoint, at, data)
        return Prepared(str(at))

    async def submit(self, endpoint: Endpoint, job: Job) -> str:
        try:
            answer = await self._client.call("POST", _call(endpoint, "model-invocation-job"), _create(endpoint, job))
        except ProviderRefused as refusal:
            raise await self._refusal(endpoint, job, refusal) from refusal
        return _arn(answer)

    async def find(self, endpoint: Endpoint, job: Job) -> str | None:
        since = datetime.fromtimestamp(job.created_at - batch_jobs.CLOCK_MARGIN, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        async for page in self._pages(endpoint, submitTimeAfter=since):
            for one in page:
                if one.get("clientRequestToken") == _token(job):
                    return _arn(one)
        return None

    async def poll(self, endpoint: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        await poll(refs, statuses, lambda: self._listed(endpoint), lambda ref: self._retrieve(endpoint, ref))

    async def cancel(self, endpoint: Endpoint, ref: str) -> None:
        """Stop the job. Of one that has ended, AWS says ConflictException, with a 400."""
        stopped = self._client.send("POST", _call(endpoint, "model-invocation-job", ref, "stop"))
        await batch_jobs.cancel(stopped, lambda: self._retrieve(endpoint, ref))

    async def results(self, endpoint: Endpoint, ref: str) -> AsyncIterator[bytes]:
        """The lines of all result files of the job's folder. Its manifest is none."""
        folder, files = Location.of(ref), 0
        if folder is None:
            raise ProviderUnclear("no folder of results")
        async for stored in self._s3.listed(endpoint, folder):
            if stored.key.endswith(RESULT):
                files += 1
                async for chunk in whole(self._s3.read(endpoint, Location(folder.bucket, stored.key))):
                    yield chunk
        if not files:
            raise ProviderUnclear("a folder without results")

    async def inputs(self, endpoint: Endpoint) -> AsyncIterator[Listed]:
        bucket = _bucket(endpoint)
        async for stored in self._s3.listed(endpoint, Location(bucket, INPUTS)):
            yield Listed(str(Location(bucket, stored.key)), stored.key.removeprefix(INPUTS), stored.modified_at)

    async def discard(self, endpoint: Endpoint, ref: str) -> None:
        at = Location.of(ref)
        if at is None or not at.key.startswith((INPUTS, RESULTS)):
            return
        if not at.key.endswith("/"):
            await self._s3.delete(endpoint, at)
            return
        async for stored in self._s3.listed(endpoint, at):
            await self._s3.delete(endpoint, Location(at.bucket, stored.key))

    def _pages(self, endpoint: Endpoint, size: int = PAGE, **params: str) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """The account's jobs, the newest first, page by page."""
        order = {"maxResults": str(size), "sortBy": "CreationTime", "sortOrder": "Descending"}

        async def page(cursor: Cursor) -> Mapping[str, Any]:
            call = _call(endpoint, "model-invocation-jobs", **order, **params, **cursor)
            return await self._client.call("GET", call)

        return pages(page, "invocationJobSummaries", by_token("nextToken", "nextToken"))

    async def _listed(self, endpoint: Endpoint) -> AsyncIterator[Mapping[str, JobStatus | None]]:
        async for page in self._pages(endpoint):
            yield {str(one.get("jobArn")): job_status(one) for one in page}

    async def _retrieve(self, endpoint: Endpoint, ref: str) -> JobStatus | None:
        retrieved = self._client.call("GET", _call(endpoint, "model-invocation-job", ref))
        job = await batch_jobs.known(ref, retrieved, self._pages(endpoint, size=1), _arn)
        return LOST if job is None else job_status(job)

    async def _refusal(
        self, endpoint: Endpoint, job: Job, refusal: ProviderRefused
    ) -> ProviderRefused | ProviderUnclear:
        """What a refused create means."""
        if refusal.code == "ServiceQuotaExceededException":
            message, detail = refusal.message, refusal.detail
            return ProviderRefused(message, status=RATE_LIMIT_STATUS, code=QUOTA, detail=detail)
        if refusal.code == "ConflictException":  # a job has this token already
            return ProviderUnclear(refusal.message, status=refusal.status, code=refusal.code)
        at = Location.of(job.input_ref)
        if refusal.status in (400, batch_jobs.GONE) and at is not None and await self._s3.is_absent(endpoint, at):
            return InputLost(refusal.message, status=refusal.status, lasting=True)
        return refusal


def job_status(job: Mapping[str, Any]) -> JobStatus | None:
    """The status of a job, from its own answer or from a listing; `None` for an unknown one."""
    state = STATES.get(str(job.get("status")))
    if state is None:
        return None
    completed, failed = count(job.get("successRecordCount")), count(job.get("errorRecordCount"))
    has_results = state in ENDED and (state == "completed" or completed + failed > 0)
    message = job.get("message")
    reason = message if isinstance(message, str) and message else "The provider gave no reason."
    return JobStatus(
        state=state,
        total=count(job.get("totalRecordCount")),
        completed=completed,
        failed=failed,
        output_ref=_folder(job) if has_results else None,
        errors=(LineFailure(None, reason),) if state == "failed" else (),
    )


def _create(endpoint: Endpoint, job: Job) -> dict[str, Any]:
    bucket = endpoint.options.get("s3_output_bucket_name") or _bucket(endpoint)
    output = {"s3Uri": str(Location(bucket, f"{RESULTS}{_token(job)}/"))}
    if key_id := endpoint.options.get("s3_encryption_key_id"):
        output["s3EncryptionKeyId"] = key_id
    return {
        "jobName": f"manifold-{_token(job)}"[:63],
        "clientRequestToken": _token(job),
        "roleArn": _option(endpoint, "aws_batch_role_arn"),
        "modelId": endpoint.model,
        "modelInvocationType": invocation_type(endpoint),
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": job.input_ref, "s3InputFormat": "JSONL"}},
        "outputDataConfig": {"s3OutputDataConfig": output},
    }


def _token(job: Job) -> str:
    """Our job's id as AWS accepts it: without `_`."""
    return job.id.replace("_", "-")


def _folder(job: Mapping[str, Any]) -> str | None:
    """The folder of the job's results: its id, in the folder that its create named."""
    config = job.get("outputDataConfig")
    output = config.get("s3OutputDataConfig") if isinstance(config, dict) else None
    at = Location.of(output.get("s3Uri")) if isinstance(output, dict) else None
    match = JOB.fullmatch(_arn(job))
    if at is None or match is None:
        return None
    return str(Location(at.bucket, f"{at.key.rstrip('/')}/{match['id']}/"))


def _arn(answer: Mapping[str, Any]) -> str:
    arn = answer.get("jobArn")
    if not isinstance(arn, str) or not JOB.fullmatch(arn):
        raise ProviderUnclear("an answer without a job's ARN")
    return arn


def _bucket(endpoint: Endpoint) -> str:
    return _option(endpoint, "s3_bucket_name")


def _option(endpoint: Endpoint, name: str) -> str:
    value = endpoint.options.get(name)
    if not value:
        raise ProviderRefused(f"a batch at Bedrock needs {name} in litellm_params", lasting=True)
    return value


def _call(endpoint: Endpoint, *path: str, **params: str) -> HttpCall:
    """A call of the host of jobs: signed, or with a Bedrock API key where there is no other."""
    url = "/".join([_root(endpoint), *(quote(part, safe="") for part in path)])
    if endpoint.api_key and endpoint.signature is None:
        headers = {"Authorization": f"Bearer {endpoint.api_key}"}
        return HttpCall(url, headers, params, endpoint.timeout, endpoint.model)
    sign = signer(endpoint.signature or Signature(None), region_of(endpoint))
    return HttpCall(url, {}, params, endpoint.timeout, endpoint.model, sign)


def _root(endpoint: Endpoint) -> str:
    base = endpoint.base_url.rstrip("/") or URL.format(region=region_of(endpoint))
    return RUNTIME.sub(r"bedrock\g<rest>", base)
