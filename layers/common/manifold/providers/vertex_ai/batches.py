"""Batches at Vertex AI: `batchPredictionJobs`, whose requests and results are objects in Cloud Storage.

https://docs.cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.batchPredictionJobs
"""

import re
from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import quote

from manifold.errors import InputLost, ProviderRefused, ProviderUnclear
from manifold.providers import ENDED, Endpoint, Input, Job, JobStatus, Listed, Prepared, batch_jobs
from manifold.providers.batch_client import BatchClient
from manifold.providers.batch_lines import LineTranslator, whole
from manifold.providers.batch_polls import poll
from manifold.providers.gemini.batch_lines import embeds
from manifold.providers.google_api import job_failures, job_state, number, pages, with_quota
from manifold.providers.openai.batch_object import LOST, mapping, reference, unix_time
from manifold.providers.vertex_ai.batch_lines import ClaudeLines, EmbeddingLines, GeminiLines
from manifold.providers.vertex_ai.calls import Calls, option
from manifold.providers.vertex_ai.storage import Object, Storage, parsed

PAGE = "100"
INPUTS, OUTPUTS = "manifold/inputs", "manifold/outputs"
"""The folders in the bucket."""
PREDICTIONS = re.compile(r"predictions?[\w.-]*\.jsonl(?:-\d+-of-\d+)?|prediction\.results-\d+-of-\d+")
"""The names of files of results: one, or several pieces. Beside them may be a partial copy (`incremental_…`)."""
JOB = re.compile(r"projects/[^/]+/locations/[^/]+/batchPredictionJobs/(?P<id>[A-Za-z0-9_-]{1,128})")
MULTI_REGIONS = frozenset({"eu", "us"})


class VertexBatches:
    """A `BatchProvider` of Vertex AI. The base URL is that of the location, or `api_base`, with or without `/v1`.

    The ref of an input is the object's URI, that of results the folder's, that of a job its number. Our job's id is the
    `displayName`.
    """

    sends_lines = False

    def __init__(self, client: BatchClient) -> None:
        self._calls = Calls(client)
        self._storage = Storage(self._calls)

    def translator(self, endpoint: Endpoint) -> LineTranslator:
        if _is_claude(endpoint):
            return ClaudeLines(endpoint)
        return EmbeddingLines(endpoint) if embeds(endpoint) else GeminiLines(endpoint)

    async def prepare(self, endpoint: Endpoint, data: Input) -> Prepared:
        target = _in_bucket(endpoint, f"{INPUTS}/{data.name}")
        await self._storage.upload(endpoint, target, data)
        return Prepared(target.uri)

    async def submit(self, endpoint: Endpoint, job: Job) -> str:
        source = parsed(job.input_ref)
        # A job without its input may be accepted, and fail hours later.
        if source is None or await self._storage.is_absent(endpoint, source):
            raise InputLost("there is no such object", status=batch_jobs.GONE, lasting=True)
        body = {
            "displayName": job.id,
            "model": _model(endpoint),
            "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [source.uri]}},
            "outputConfig": {
                "predictionsFormat": "jsonl",
                "gcsDestination": {"outputUriPrefix": _in_bucket(endpoint, f"{OUTPUTS}/{job.id}").uri},
            },
        }
        try:
            return _id(await self._calls.json("POST", endpoint, _url(endpoint), body))
        except ProviderRefused as refusal:
            raise with_quota(refusal) from refusal.__cause__

    async def find(self, endpoint: Endpoint, job: Job) -> str | None:
        async for page in self._pages(endpoint, filter=f'displayName="{job.id}"'):
            for one in page:
                if one.get("displayName") == job.id:
                    return _id(one)
        return None

    async def poll(self, endpoint: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        await poll(refs, statuses, lambda: self._listed(endpoint), lambda ref: self._retrieve(endpoint, ref))

    async def cancel(self, endpoint: Endpoint, ref: str) -> None:
        cancelled = self._calls.json("POST", endpoint, f"{_url(endpoint, ref)}:cancel", {})
        await batch_jobs.cancel(cancelled, lambda: self._retrieve(endpoint, ref))

    async def results(self, endpoint: Endpoint, ref: str) -> AsyncIterator[bytes]:
        for one in await self._results(endpoint, ref):
            async for chunk in whole(self._storage.download(endpoint, one)):
                yield chunk

    async def inputs(self, endpoint: Endpoint) -> AsyncIterator[Listed]:
        async for one, known in self._storage.listed(endpoint, _in_bucket(endpoint, INPUTS)):
            yield Listed(one.uri, one.name.rpartition("/")[2], unix_time(known.get("timeCreated")))

    async def discard(self, endpoint: Endpoint, ref: str) -> None:
        """Delete an input, or all objects of a job's results."""
        one = parsed(ref)
        if one is None:
            return
        if f"{OUTPUTS}/" in one.name:
            for each in [each async for each, _ in self._storage.listed(endpoint, one)]:
                await self._storage.delete(endpoint, each)
        else:
            await self._storage.delete(endpoint, one)

    async def _results(self, endpoint: Endpoint, ref: str) -> Sequence[Object]:
        folder = parsed(ref)
        if folder is None:
            raise ProviderRefused("no folder of results", lasting=True)
        objects = [one async for one, _ in self._storage.listed(endpoint, folder)]
        return sorted(one for one in objects if PREDICTIONS.fullmatch(one.name.rpartition("/")[2]))

    def _pages(self, endpoint: Endpoint, **params: str) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        async def page(cursor: Mapping[str, str]) -> Mapping[str, Any]:
            return await self._calls.json(
                "GET", endpoint, _url(endpoint), params={"pageSize": PAGE, **params, **cursor}
            )

        return pages(page, "batchPredictionJobs")

    async def _listed(self, endpoint: Endpoint) -> AsyncIterator[Mapping[str, JobStatus | None]]:
        async for page in self._pages(endpoint):
            yield {_id(job): job_status(job) for job in page}

    async def _retrieve(self, endpoint: Endpoint, ref: str) -> JobStatus | None:
        retrieved = self._calls.json("GET", endpoint, _url(endpoint, ref))
        job = await batch_jobs.known(ref, retrieved, self._pages(endpoint, pageSize="1"), _id)
        return LOST if job is None else job_status(job)


def job_status(job: Mapping[str, Any]) -> JobStatus | None:
    """The status of a `BatchPredictionJob`; `None` for an unknown state."""
    state = job_state(job.get("state"))
    if state is None:
        return None
    stats, output = mapping(job.get("completionStats")), mapping(job.get("outputInfo"))
    completed, failed = number(stats.get("successfulCount")), number(stats.get("failedCount"))
    folder = parsed(output.get("gcsOutputDirectory")) if state in ENDED else None
    has_results = state != "failed" or completed + failed > 0
    return JobStatus(
        state=state,
        total=completed + failed + number(stats.get("incompleteCount")),
        completed=completed,
        failed=failed,
        output_ref=reference(folder.uri) if folder is not None and has_results else None,
        errors=job_failures(job.get("error")) if state == "failed" else (),
    )


def _id(job: Mapping[str, Any]) -> str:
    """The number in the job's name, in which the project may be a name or a number."""
    name = job.get("name")
    match = JOB.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise ProviderUnclear("an answer without a job's name")
    return match["id"]


def _url(endpoint: Endpoint, ref: str = "") -> str:
    """The URL of the location's jobs, or of one."""
    project, location = option(endpoint, "vertex_project"), option(endpoint, "vertex_location")
    root = (endpoint.base_url or f"https://{_host(location)}").rstrip("/").removesuffix("/v1")
    parent = f"projects/{quote(project, safe='')}/locations/{quote(location, safe='')}"
    return f"{root}/v1/{parent}/batchPredictionJobs{'/' if ref else ''}{quote(ref, safe='')}"


def _host(location: str) -> str:
    if location == "global":
        return "aiplatform.googleapis.com"
    if location in MULTI_REGIONS:
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-aiplatform.googleapis.com"


def _model(endpoint: Endpoint) -> str:
    """The model's resource. A tuned model is named by its own, `projects/…/models/…`."""
    if "/" in endpoint.model:
        return endpoint.model
    return f"publishers/{'anthropic' if _is_claude(endpoint) else 'google'}/models/{endpoint.model}"


def _is_claude(endpoint: Endpoint) -> bool:
    return "claude" in endpoint.family


def _in_bucket(endpoint: Endpoint, path: str) -> Object:
    """An object in the deployment's bucket, which may be written with a folder: `bucket/folder`."""
    bucket, _, folder = option(endpoint, "gcs_bucket_name").removeprefix("gs://").strip("/").partition("/")
    one = parsed(f"gs://{bucket}/{folder}{'/' if folder else ''}{path}")
    if one is None or reference(one.uri) is None:
        raise ProviderRefused("gcs_bucket_name is no name of a bucket", lasting=True)
    return one
