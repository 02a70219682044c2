"""Cohere's batches: an input is a dataset, which Cohere checks before a batch may name it, and so are the results.

https://docs.cohere.com/reference/create-batch, https://docs.cohere.com/reference/create-dataset
"""

from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import quote

from manifold.errors import ProviderRefused, ProviderUnclear
from manifold.profiles.profile import EMBEDDINGS
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
    avro,
    batch_jobs,
    readiness,
    signed_urls,
)
from manifold.providers.batch_client import BatchClient
from manifold.providers.batch_lines import LineTranslator
from manifold.providers.batch_polls import poll
from manifold.providers.cohere.batch_lines import CohereLines
from manifold.providers.http_call import HttpCall
from manifold.providers.listings import MAX_PAGES, Cursor, by_token, pages
from manifold.providers.openai.batch_object import LOST, count, id_of, listed, reference, unix_time
from manifold.providers.openai.batches import CANNOT_CANCEL

STATES: Mapping[str, JobState] = {
    "BATCH_STATUS_QUEUED": "validating",
    "BATCH_STATUS_IN_PROGRESS": "in_progress",
    "BATCH_STATUS_CANCELING": "cancelling",
    "BATCH_STATUS_COMPLETED": "completed",
    "BATCH_STATUS_FAILED": "failed",
    "BATCH_STATUS_CANCELED": "cancelled",
}
"""There is no state for a batch that expired."""
VALIDATED, UNUSABLE = "validated", frozenset({"failed", "skipped"})
"""A dataset's `validation_status`. All others mean that it is being checked."""
PAGE, DATASETS_PAGE = 200, 100


class CohereBatches:
    """A `BatchProvider` of Cohere. A batch's `name` is our job's id."""

    def __init__(self, client: BatchClient) -> None:
        self._client = client

    sends_lines = False

    def translator(self, endpoint: Endpoint) -> LineTranslator:
        return CohereLines(endpoint.model)

    async def prepare(self, endpoint: Endpoint, data: Input) -> Prepared:
        """Create the dataset, and wait for a minute that it is checked: `submit` looks again.

        Cohere leaves out a row that it finds malformed, and takes the others. It gets no result.
        """
        kind = "batch-embed-v2-input" if data.route == EMBEDDINGS else "batch-chat-v2-input"
        call = _call(endpoint, "v1", "datasets", name=data.name, type=kind, skip_malformed_input="true")
        ref = id_of(await self._client.upload(call, {}, data, file="data"))
        await readiness.wait(lambda: self._is_usable(endpoint, ref))
        return Prepared(ref)

    async def submit(self, endpoint: Endpoint, job: Job) -> str:
        await readiness.check(self._is_usable(endpoint, str(job.input_ref)))
        body = {"name": job.id, "input_dataset_id": job.input_ref, "model": endpoint.model}
        return id_of(_member(await self._client.call("POST", _call(endpoint, "v2", "batches"), body), "batch"))

    async def find(self, endpoint: Endpoint, job: Job) -> str | None:
        async for page in self._batches(endpoint):
            for batch in page:
                if _is_of(batch, job):
                    return id_of(batch)
        return None

    async def poll(self, endpoint: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        await poll(refs, statuses, lambda: self._listed(endpoint), lambda ref: self._retrieve(endpoint, ref))

    async def cancel(self, endpoint: Endpoint, ref: str) -> None:
        cancelled = self._client.call("POST", _call(endpoint, "v2", "batches", ref, verb="cancel"))
        await batch_jobs.cancel(cancelled, lambda: self._retrieve(endpoint, ref), CANNOT_CANCEL)

    async def results(self, endpoint: Endpoint, ref: str) -> AsyncIterator[bytes]:
        """The records of the dataset's Avro files, one after the other."""
        call = _call(endpoint, "v1", "datasets", ref)
        dataset = _member(await self._client.call("GET", call), "dataset")
        if not _is_checked(dataset):
            raise ProviderUnclear("results that the provider is still checking")
        for url in _part_urls(dataset):
            async for lines in avro.json_lines(signed_urls.download(self._client, url, call)):
                yield lines

    async def inputs(self, endpoint: Endpoint) -> AsyncIterator[Listed]:
        """All datasets, by pages. A server that knows no pages repeats the first."""
        first: object = None
        for number in range(MAX_PAGES):
            params = {"limit": str(DATASETS_PAGE), "offset": str(number * DATASETS_PAGE)}
            page = listed(await self._client.call("GET", _call(endpoint, "v1", "datasets", **params)), "datasets")
            if not page or page[0].get("id") == first:
                return
            first = page[0].get("id")
            for dataset in page:
                yield Listed(id_of(dataset), str(dataset.get("name")), unix_time(dataset.get("created_at")))
        raise ProviderUnclear("a listing that does not end")

    async def discard(self, endpoint: Endpoint, ref: str) -> None:
        await batch_jobs.discard(self._client.call("DELETE", _call(endpoint, "v1", "datasets", ref)))

    async def _is_usable(self, endpoint: Endpoint, ref: str) -> bool:
        """Whether a batch may name the dataset. `ProviderRefused` if none ever may."""
        return _is_checked(_member(await self._client.call("GET", _call(endpoint, "v1", "datasets", ref)), "dataset"))

    def _batches(self, endpoint: Endpoint, size: int = PAGE) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        async def page(cursor: Cursor) -> Mapping[str, Any]:
            return await self._client.call("GET", _call(endpoint, "v2", "batches", page_size=str(size), **cursor))

        return pages(page, "batches", by_token("page_token", "next_page_token"))

    async def _listed(self, endpoint: Endpoint) -> AsyncIterator[Mapping[str, JobStatus | None]]:
        async for page in self._batches(endpoint):
            yield {str(batch.get("id")): job_status(batch) for batch in page}

    async def _retrieve(self, endpoint: Endpoint, ref: str) -> JobStatus | None:
        batch = await batch_jobs.known(ref, self._batch(endpoint, ref), self._batches(endpoint, size=1), id_of)
        return LOST if batch is None else job_status(batch)

    async def _batch(self, endpoint: Endpoint, ref: str) -> Mapping[str, Any]:
        return _member(await self._client.call("GET", _call(endpoint, "v2", "batches", ref)), "batch")


def job_status(batch: Mapping[str, Any]) -> JobStatus | None:
    """The status of Cohere's batch, or `None` if its `status` is unknown."""
    state = STATES.get(str(batch.get("status")))
    if state is None:
        return None
    reason = batch.get("status_reason")
    return JobStatus(
        state=state,
        total=count(batch.get("num_records")),
        completed=count(batch.get("num_successful_records")),
        failed=count(batch.get("num_failed_records")),
        output_ref=reference(batch.get("output_dataset_id")) if state in ENDED else None,
        errors=(LineFailure(None, str(reason or "The provider gave no reason.")),) if state == "failed" else (),
    )


def _call(
    endpoint: Endpoint, version: Literal["v1", "v2"], *path: str, verb: str | None = None, **params: str
) -> HttpCall:
    """A call of the API, at a base URL with or without the version."""
    root = endpoint.base_url.rstrip("/").removesuffix("/chat").removesuffix("/v2").removesuffix("/v1")
    url = "/".join([root, version, *(quote(part, safe="") for part in path)])
    headers = {"Authorization": f"Bearer {endpoint.api_key}"}
    return HttpCall(f"{url}:{verb}" if verb else url, headers, params, endpoint.timeout, endpoint.model)


def _member(answer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = answer.get(name)
    if not isinstance(value, dict):
        raise ProviderUnclear(f"an answer without a {name}")
    return value


def _is_of(batch: Mapping[str, Any], job: Job) -> bool:
    """Whether the batch is this job: by our id, or by its input if the name is not kept."""
    if batch.get("name") == job.id:
        return True
    if batch.get("name") or reference(batch.get("id")) in job.others or job.input_ref is None:
        return False
    created = unix_time(batch.get("created_at")) or 0
    return batch.get("input_dataset_id") == job.input_ref and created >= job.created_at - batch_jobs.CLOCK_MARGIN


def _is_checked(dataset: Mapping[str, Any]) -> bool:
    """Whether the dataset is valid. `ProviderRefused` if it never will be."""
    status = str(dataset.get("validation_status"))
    if status in UNUSABLE:
        reason = str(dataset.get("validation_error") or status)[:500]
        raise ProviderRefused("the provider cannot use the dataset", raw_detail=reason, lasting=True)
    return status == VALIDATED


def _part_urls(dataset: Mapping[str, Any]) -> list[str]:
    parts = listed(dataset, "dataset_parts")
    with suppress(KeyError, TypeError):
        ordered = sorted(parts, key=lambda part: part.get("index") or 0)
        urls = [part["url"] for part in ordered]
        if urls and all(isinstance(url, str) for url in urls):
            return urls
    raise ProviderUnclear("results without files")
