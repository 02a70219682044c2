"""Batches of the Gemini API: a file of requests, a long-running operation, and a file of results.

https://ai.google.dev/api/batch-api, https://ai.google.dev/gemini-api/docs/batch-api
"""

import re
from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence
from typing import Any

import orjson

from manifold.errors import InputLost, ProviderRefused, ProviderUnclear
from manifold.profiles.profile import EMBEDDINGS
from manifold.providers import ENDED, Endpoint, Input, Job, JobState, JobStatus, Listed, Prepared, batch_jobs
from manifold.providers.batch_client import BatchClient
from manifold.providers.batch_lines import LineTranslator
from manifold.providers.batch_polls import poll
from manifold.providers.gemini.batch_lines import ChatLines, EmbeddingLines, embeds
from manifold.providers.gemini.calls import Calls
from manifold.providers.gemini.files import NAME, PAGE, Files
from manifold.providers.google_api import job_failures, job_state, number, pages, with_quota
from manifold.providers.openai.batch_object import LOST, mapping, unix_time

BATCH = re.compile(r"batches/(?P<id>[A-Za-z0-9_.-]{1,200})")
WITHIN = "batches/"
"""Before a batch's id: the ref of results that the batch itself holds."""
DELETABLE = len("files/") + 40
"""The longest name of a file that can be deleted. That of results is longer, and it can be downloaded alone:
https://github.com/googleapis/python-genai/issues/1759"""
NO_SUCH_INPUT = frozenset({400, 403, 404})
"""The statuses of a create that names a file which is gone, or not usable yet."""


class GeminiBatches:
    """A `BatchProvider` of the Gemini API. The base URL is as for `Gemini`. Our job's id is the batch's `displayName`.

    The ref of a job is the id in its name, that of an input and of results the file's name, `files/…`.
    """

    sends_lines = False

    def __init__(self, client: BatchClient) -> None:
        self._calls = Calls(client)
        self._files = Files(self._calls)

    def translator(self, endpoint: Endpoint) -> LineTranslator:
        return EmbeddingLines(endpoint) if embeds(endpoint) else ChatLines(endpoint)

    async def prepare(self, endpoint: Endpoint, data: Input) -> Prepared:
        file = await self._files.upload(endpoint, data)
        return Prepared(file["name"], unix_time(file.get("expirationTime")))

    async def submit(self, endpoint: Endpoint, job: Job) -> str:
        method = "asyncBatchEmbedContent" if job.endpoint == EMBEDDINGS else "batchGenerateContent"
        path = f"models/{endpoint.model.removeprefix('models/')}:{method}"
        body = {"batch": {"displayName": job.id, "inputConfig": {"fileName": job.input_ref}}}
        try:
            return _id(await self._calls.json("POST", endpoint, path, body))
        except ProviderRefused as refusal:
            if refusal.status in NO_SUCH_INPUT:
                await self._check_input(endpoint, str(job.input_ref), refusal)
            raise with_quota(refusal) from refusal.__cause__

    async def find(self, endpoint: Endpoint, job: Job) -> str | None:
        async for page in self._pages(endpoint):
            for batch in page:
                if batch.get("displayName") == job.id:
                    return _id(batch)
        return None

    async def poll(self, endpoint: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        await poll(refs, statuses, lambda: self._listed(endpoint), lambda ref: self._retrieve(endpoint, ref))

    async def cancel(self, endpoint: Endpoint, ref: str) -> None:
        cancelled = self._calls.json("POST", endpoint, f"batches/{ref}:cancel", {})
        await batch_jobs.cancel(cancelled, lambda: self._retrieve(endpoint, ref))

    async def results(self, endpoint: Endpoint, ref: str) -> AsyncIterator[bytes]:
        if NAME.fullmatch(ref):
            async for chunk in self._files.content(endpoint, ref):
                yield chunk
        else:
            for line in _inlined(_batch(await self._calls.json("GET", endpoint, ref))):
                yield orjson.dumps(line) + b"\n"

    async def inputs(self, endpoint: Endpoint) -> AsyncIterator[Listed]:
        async for page in self._files.listed(endpoint):
            for file in page:
                name = file.get("name")
                if isinstance(name, str) and NAME.fullmatch(name) and file.get("source") != "GENERATED":
                    yield Listed(name, str(file.get("displayName")), unix_time(file.get("createTime")))

    async def discard(self, endpoint: Endpoint, ref: str) -> None:
        """Delete a file. Results expire: those within a batch cannot be deleted alone, nor can a file of them."""
        if NAME.fullmatch(ref) and len(ref) <= DELETABLE:
            await self._files.delete(endpoint, ref)

    async def _pages(self, endpoint: Endpoint, **params: str) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        async def page(cursor: Mapping[str, str]) -> Mapping[str, Any]:
            return await self._calls.json("GET", endpoint, "batches", params={"pageSize": PAGE, **params, **cursor})

        async for operations in pages(page, "operations"):
            yield [_batch(operation) for operation in operations]

    async def _listed(self, endpoint: Endpoint) -> AsyncIterator[Mapping[str, JobStatus | None]]:
        async for page in self._pages(endpoint):
            yield {_id(batch): job_status(batch) for batch in page}

    async def _retrieve(self, endpoint: Endpoint, ref: str) -> JobStatus | None:
        retrieved = self._calls.json("GET", endpoint, f"batches/{ref}")
        operation = await batch_jobs.known(
            ref, retrieved, self._pages(endpoint, pageSize="1"), lambda found: _id(_batch(found))
        )
        return LOST if operation is None else job_status(_batch(operation))

    async def _check_input(self, endpoint: Endpoint, ref: str, refusal: ProviderRefused) -> None:
        """Raise what a refused create means where its input is gone, or not usable yet."""
        if await self._files.is_absent(endpoint, ref):
            raise InputLost(refusal.message, status=refusal.status, lasting=True) from refusal
        if await self._files.is_processing(endpoint, ref):
            raise ProviderRefused(refusal.message, status=refusal.status) from refusal


def job_status(batch: Mapping[str, Any]) -> JobStatus | None:
    """The status of a batch whose operation's and metadata's members are in one object; `None` for an unknown state."""
    state = job_state(batch.get("state")) or _state_of_end(batch)
    if state is None:
        return None
    stats, output = mapping(batch.get("batchStats")), _output(batch) if state in ENDED else None
    # What was answered before an early end is counted, and given to nobody.
    kept = output is not None or state not in ("cancelled", "expired")
    return JobStatus(
        state=state,
        total=number(stats.get("requestCount")),
        completed=number(stats.get("successfulRequestCount")) if kept else 0,
        failed=number(stats.get("failedRequestCount")) if kept else 0,
        output_ref=output,
        errors=job_failures(batch.get("error")) if state == "failed" else (),
    )


def _state_of_end(batch: Mapping[str, Any]) -> JobState | None:
    """The state of an operation that has ended, if it says no other."""
    if batch.get("done") is not True or "state" in batch:
        return None
    return "failed" if batch.get("error") else "completed"


def _batch(operation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Operation and metadata in one: most answers have the batch as `metadata`, some have its members beside it."""
    return {**mapping(operation.get("metadata")), **operation}


def _id(operation: Mapping[str, Any]) -> str:
    name = operation.get("name")
    match = BATCH.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise ProviderUnclear("an answer without a batch's name")
    return match["id"]


def _output(batch: Mapping[str, Any]) -> str | None:
    """Where the results are: a file, or the batch itself if it holds them."""
    for output in _outputs(batch):
        name = output.get("responsesFile")
        if isinstance(name, str) and NAME.fullmatch(name):
            return name
    return f"{WITHIN}{_id(batch)}" if _inlined(batch) else None


def _inlined(batch: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The results within a batch, as lines of a file."""
    for output in _outputs(batch):
        for member in ("inlinedResponses", "inlinedEmbedContentResponses"):
            entries = mapping(output.get(member)).get("inlinedResponses")
            if isinstance(entries, list):
                return [_line(entry) for entry in entries if isinstance(entry, dict)]
    return []


def _line(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"key": mapping(entry.get("metadata")).get("key"), **entry}


def _outputs(batch: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return mapping(batch.get("response")), mapping(batch.get("output"))
