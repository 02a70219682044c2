"""Files and batches of OpenAI's API, at OpenAI and at any server that is like it (Groq, DeepInfra, …).

https://platform.openai.com/docs/api-reference/batch
"""

from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence
from typing import Any

from manifold.errors import InputLost, ProviderError, ProviderRefused, ProviderUnclear
from manifold.profiles import COMPATIBLE, Profile
from manifold.providers import Endpoint, Input, Job, JobStatus, Listed, Prepared, batch_jobs
from manifold.providers.addresses import openai_call
from manifold.providers.batch_client import BatchClient
from manifold.providers.batch_lines import LineTranslator
from manifold.providers.batch_polls import poll
from manifold.providers.http_call import HttpCall
from manifold.providers.listings import MAX_PAGES
from manifold.providers.openai.batch_object import LOST, id_of, job_status, listed, reference, unix_time
from manifold.providers.openai.rooted_lines import OPENAI_ROOT, RootedLines, rooted

JOB_ID_KEY = "manifold_job_id"
"""The key of our job's id in the provider's metadata."""
INPUT_SECONDS = 30 * 86_400
"""How long a provider keeps an input. 30 days is OpenAI's default, and the most that OpenAI and Azure accept."""
OUTPUT_SECONDS = 14 * 86_400
"""How long a provider keeps a result that nobody discards. 14 days is the least that Azure accepts."""
PAGE = 100
SHORTEST_PAGE = 20
"""Entries from which on a listing without pages may be the first page of one: 20 is OpenAI's default."""
RESULTS = "batch_output"
"""The purpose of a file of results."""
NO_SUCH_INPUT = frozenset({400, 404, 422})
"""The statuses of a create that names a file which is gone."""
CANNOT_CANCEL = frozenset({400, 404, 409, 422})
"""The statuses of a cancel of a job that has ended."""


class OpenAIBatches:
    """A `BatchProvider` of OpenAI's API. The profile says in what the server differs from OpenAI.

    The adapters of Azure, Mistral, Together and xAI override the methods below `# Overridden by …`.
    """

    def __init__(self, client: BatchClient, profile: Profile = COMPATIBLE) -> None:
        self._client = client
        self._profile = profile

    sends_lines = False

    def translator(self, endpoint: Endpoint) -> LineTranslator | None:
        if self._profile.root == OPENAI_ROOT:
            return None
        return RootedLines(endpoint.model, self._profile)

    async def prepare(self, endpoint: Endpoint, data: Input) -> Prepared:
        fields = {"purpose": "batch"}
        if self._expires(endpoint):
            fields |= self._expiry_fields()
        return self._prepared(await self._client.upload(self._call(endpoint, "files"), fields, data))

    async def submit(self, endpoint: Endpoint, job: Job) -> str:
        try:
            answer = await self._client.call("POST", self._create_call(endpoint, job), self._create_body(endpoint, job))
            return id_of(self._batch(answer))
        except ProviderRefused as refusal:
            if refusal.status in NO_SUCH_INPUT and await self._is_lost(endpoint, str(job.input_ref)):
                raise InputLost(refusal.message, status=refusal.status, lasting=True) from refusal
            raise

    async def find(self, endpoint: Endpoint, job: Job) -> str | None:
        since = job.created_at - batch_jobs.CLOCK_MARGIN
        async for page in self._pages(endpoint, "batches", **self._limit(PAGE)):
            for batch in map(self._batch, page):
                if _is_of(batch, job, since):
                    return id_of(batch)
            if self._is_past(page, since):
                return None
            if not self._profile.paged and len(page) >= SHORTEST_PAGE:
                raise ProviderUnclear("a listing that may not be whole")
        return None

    async def poll(self, endpoint: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        await poll(refs, statuses, lambda: self._listed(endpoint), lambda ref: self._retrieve(endpoint, ref))

    async def cancel(self, endpoint: Endpoint, ref: str) -> None:
        cancelled = self._client.call("POST", self._cancel_call(endpoint, ref))
        await batch_jobs.cancel(cancelled, lambda: self._retrieve(endpoint, ref), CANNOT_CANCEL)

    def results(self, endpoint: Endpoint, ref: str) -> AsyncIterator[bytes]:
        return self._client.download(self._call(endpoint, "files", ref, "content"))

    async def inputs(self, endpoint: Endpoint) -> AsyncIterator[Listed]:
        async for page in self._pages(endpoint, "files", **self._input_filter(endpoint)):
            for file in page:
                if file.get("purpose") == RESULTS:  # of a listing that cannot be filtered
                    continue
                yield Listed(id_of(file), str(file.get("filename")), unix_time(file.get("created_at")))

    async def discard(self, endpoint: Endpoint, ref: str) -> None:
        try:
            await self._client.call("DELETE", self._call(endpoint, "files", ref))
        except ProviderRefused as refusal:
            if not self._is_gone(refusal):
                raise

    # Overridden by the adapters of other providers.

    def _expires(self, endpoint: Endpoint) -> bool:
        return self._profile.expires

    def _expiry_fields(self) -> dict[str, str]:
        return {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(INPUT_SECONDS)}

    def _input_filter(self, endpoint: Endpoint) -> dict[str, str]:
        return {"purpose": "batch", "limit": str(self._profile.files_page)} if self._profile.paged else {}

    def _endpoint(self, endpoint: str) -> str:
        return rooted(endpoint, self._profile.root)

    def _call(self, endpoint: Endpoint, *path: str, **params: str) -> HttpCall:
        return openai_call(endpoint, *path, **params)

    def _create_body(self, endpoint: Endpoint, job: Job) -> dict[str, Any]:
        body: dict[str, Any] = {
            "input_file_id": job.input_ref,
            "endpoint": self._endpoint(job.endpoint),
            **self._profile.create,
        }
        if "metadata" in self._profile.abilities:
            body["metadata"] = {JOB_ID_KEY: job.id}
        if self._profile.names_window:
            body["completion_window"] = job.completion_window
        if self._expires(endpoint):
            body["output_expires_after"] = {"anchor": "created_at", "seconds": OUTPUT_SECONDS}
        return body

    def _create_call(self, endpoint: Endpoint, job: Job) -> HttpCall:
        call = self._call(endpoint, "batches")
        header = self._profile.key_header
        return call._replace(headers={**call.headers, header: job.id}) if header else call

    def _cancel_call(self, endpoint: Endpoint, ref: str) -> HttpCall:
        return self._call(endpoint, "batches", ref, "cancel")

    def _batch(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """The provider's batch as OpenAI's object."""
        return answer

    def _page(self, answer: Mapping[str, Any]) -> tuple[Sequence[Mapping[str, Any]], dict[str, str] | None]:
        """The entries of one page of a listing, and the query parameters of the next page, `None` after the last."""
        page = listed(answer, "data", "value")
        if not page or not answer.get("has_more"):
            return page, None
        return page, {"after": str(answer.get("last_id") or id_of(page[-1]))}

    def _is_past(self, page: Sequence[Mapping[str, Any]], since: int) -> bool:
        """Whether no later page can hold a batch created at `since` (Unix seconds) or later."""
        return _newest_first(page) and 0 < _created(page[-1]) < since

    async def _pages(self, endpoint: Endpoint, path: str, **params: str) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """The provider's listing of `files` or `batches`, page by page; empty pages are left out."""
        cursor: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            page, following = self._page(await self._client.call("GET", self._call(endpoint, path, **params, **cursor)))
            if page:
                yield page
            if following is None:
                return
            if following == cursor:
                break
            cursor = following
        raise ProviderUnclear("a listing that does not end")

    def _is_gone(self, refusal: ProviderRefused) -> bool:
        """Whether the API itself answered 404: a proxy's 404 does not mean that the file is gone."""
        return refusal.status == batch_jobs.GONE and refusal.code is not None

    # Not overridden.

    def _limit(self, entries: int) -> dict[str, str]:
        return {"limit": str(entries)} if self._profile.paged else {}

    def _prepared(self, file: Mapping[str, Any]) -> Prepared:
        return Prepared(ref=id_of(file), expires_at=unix_time(file.get("expires_at")))

    async def _listed(self, endpoint: Endpoint) -> AsyncIterator[Mapping[str, JobStatus | None]]:
        """The statuses that the newest pages list, page by page."""
        async for page in self._pages(endpoint, "batches", **self._limit(PAGE)):
            yield dict(map(_read, map(self._batch, page)))

    async def _retrieve(self, endpoint: Endpoint, ref: str) -> JobStatus | None:
        listing = self._pages(endpoint, "batches", **self._limit(1))
        batch = await batch_jobs.known(ref, self._retrieved(endpoint, ref), listing, id_of)
        return LOST if batch is None else job_status(batch)

    async def _retrieved(self, endpoint: Endpoint, ref: str) -> Mapping[str, Any]:
        return self._batch(await self._client.call("GET", self._call(endpoint, "batches", ref)))

    async def _is_lost(self, endpoint: Endpoint, ref: str) -> bool:
        """Whether the provider no longer has this input. `False` if that cannot be found out."""
        try:
            await self._client.call("GET", self._call(endpoint, "files", ref))
        except ProviderError as error:
            return isinstance(error, ProviderRefused) and self._is_gone(error)
        return False


def _read(batch: Mapping[str, Any]) -> tuple[str, JobStatus | None]:
    return str(batch.get("id")), job_status(batch)


def _is_of(batch: Mapping[str, Any], job: Job, since: int) -> bool:
    """Whether the batch is this job: by our id, or by the input if the provider did not keep the metadata."""
    metadata = batch.get("metadata")
    job_id = metadata.get(JOB_ID_KEY) if isinstance(metadata, dict) else None
    if job_id is not None:
        return bool(job_id == job.id)
    if reference(batch.get("id")) in job.others:
        return False
    return job.input_ref is not None and batch.get("input_file_id") == job.input_ref and _created(batch) >= since


def _newest_first(page: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the page is in OpenAI's order. In any other order, an old batch does not end the search."""
    times = [_created(batch) for batch in page]
    return times == sorted(times, reverse=True)


def _created(batch: Mapping[str, Any]) -> int:
    return unix_time(batch.get("created_at")) or 0
