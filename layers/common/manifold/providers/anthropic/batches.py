"""Anthropic's Message Batches: the requests travel with the create, and one stream has all results.

https://platform.claude.com/docs/en/build-with-claude/batch-processing
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from manifold.errors import ProviderRefused, ProviderUnclear
from manifold.providers import (
    ENDED,
    Endpoint,
    Job,
    JobState,
    JobStatus,
    batch_jobs,
    unclear_creates,
)
from manifold.providers.anthropic import VERSION, Anthropic
from manifold.providers.anthropic.batch_lines import MessageLines
from manifold.providers.batch_client import BatchClient
from manifold.providers.batch_lines import LineTranslator
from manifold.providers.batch_polls import poll
from manifold.providers.content import json_array
from manifold.providers.dialect import translate_refusal
from manifold.providers.failures import read_object
from manifold.providers.http_call import HttpCall
from manifold.providers.listings import Cursor, by_last_id, pages
from manifold.providers.openai.batch_object import LOST, count, id_of, mapping, unix_time
from manifold.providers.sent_lines import SentLines
from manifold.providers.unclear_creates import Found

PATH = "v1/messages/batches"
PAGE = 100
MAX_LINE = 16 * 1024 * 1024
"""Bytes within which the first result must end."""
ENDS = ("succeeded", "errored", "canceled", "expired")
"""The counts of requests that have ended. All are 0 until the whole batch has."""


class AnthropicBatches(SentLines):
    """A `BatchProvider` of Anthropic. The base URL is as for `Anthropic`.

    A `ref` is a batch's id: of a job, and of its results.
    """

    def __init__(self, client: BatchClient) -> None:
        self._client = client

    def translator(self, endpoint: Endpoint) -> LineTranslator:
        return MessageLines(endpoint)

    async def submit(self, endpoint: Endpoint, job: Job) -> str:
        if job.data is None:
            raise ValueError("the job has no lines")
        body = json_array(job.data, b'{"requests":[', b"]}")
        try:
            answer = await self._client.send("POST", _call(endpoint), body)
        except ProviderRefused as refusal:
            raise translate_refusal(refusal, Anthropic.refusal_rules) from refusal.__cause__
        return id_of(read_object(answer.body) or {})

    async def find(self, endpoint: Endpoint, job: Job) -> str | None:
        return await unclear_creates.find(job, self._pages(endpoint), _found, partial(self._first_id, endpoint))

    async def poll(self, endpoint: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        await poll(refs, statuses, lambda: self._listed(endpoint), lambda ref: self._retrieve(endpoint, ref))

    async def cancel(self, endpoint: Endpoint, ref: str) -> None:
        cancelled = self._client.call("POST", _call(endpoint, ref, "cancel"))
        await batch_jobs.cancel(cancelled, lambda: self._retrieve(endpoint, ref))

    async def results(self, endpoint: Endpoint, ref: str) -> AsyncGenerator[bytes, None]:
        batch = await self._client.call("GET", _call(endpoint, ref))
        async for chunk in self._client.download(_results_call(endpoint, ref, batch.get("results_url"))):
            yield chunk

    async def discard(self, endpoint: Endpoint, ref: str) -> None:
        """Delete an ended batch, with its results."""
        await batch_jobs.discard(self._client.call("DELETE", _call(endpoint, ref)))

    def _pages(self, endpoint: Endpoint, limit: int = PAGE) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """The batches of the key's workspace, the newest first, page by page."""

        async def page(cursor: Cursor) -> Mapping[str, Any]:
            return await self._client.call("GET", _call(endpoint, limit=str(limit), **cursor))

        return pages(page, "data", by_last_id("after_id"))

    async def _listed(self, endpoint: Endpoint) -> AsyncIterator[Mapping[str, JobStatus | None]]:
        async for page in self._pages(endpoint):
            yield {str(batch.get("id")): job_status(batch) for batch in page}

    async def _retrieve(self, endpoint: Endpoint, ref: str) -> JobStatus | None:
        retrieved = self._client.call("GET", _call(endpoint, ref))
        batch = await batch_jobs.known(ref, retrieved, self._pages(endpoint, limit=1), id_of)
        return LOST if batch is None else job_status(batch)

    async def _first_id(self, endpoint: Endpoint, ref: str) -> str | None:
        """The id of the first result. `ProviderUnclear` if there is none to be read."""
        line = b""
        async with contextlib.aclosing(self.results(endpoint, ref)) as chunks:
            async for chunk in chunks:
                line += chunk
                if b"\n" in chunk or len(line) > MAX_LINE:
                    break
        result = read_object(line.partition(b"\n")[0])
        if result is None or not isinstance(result.get("custom_id"), str):
            raise ProviderUnclear("a result that cannot be read")
        return str(result["custom_id"])


def job_status(batch: Mapping[str, Any]) -> JobStatus | None:
    """The status of a batch; `None` for an unknown `processing_status`."""
    counts = _counts(batch)
    state = _state(batch, counts)
    if state is None:
        return None
    completed = counts["succeeded"]
    failed = count(sum(counts[name] for name in ENDS) - completed)
    return JobStatus(
        state=state,
        total=count(sum(counts.values())),
        completed=completed,
        failed=failed,
        output_ref=id_of(batch) if state in ENDED and completed + failed else None,
    )


def _state(batch: Mapping[str, Any], counts: Mapping[str, int]) -> JobState | None:
    """A batch that has ended says only in its counts how."""
    match batch.get("processing_status"):
        case "in_progress":
            return "in_progress"
        case "canceling":
            return "cancelling"
        case "ended" if counts["canceled"]:
            return "cancelled"
        case "ended" if counts["expired"]:
            return "expired"
        case "ended":
            return "completed"
    return None


def _counts(batch: Mapping[str, Any]) -> dict[str, int]:
    counts = mapping(batch.get("request_counts"))
    return {name: count(counts.get(name)) for name in ("processing", *ENDS)}


def _found(batch: Mapping[str, Any]) -> Found:
    requests = sum(_counts(batch).values())
    return Found(
        id_of(batch), unix_time(batch.get("created_at")), requests, ended=batch.get("processing_status") == "ended"
    )


def _call(endpoint: Endpoint, *path: str, **params: str) -> HttpCall:
    headers = {"x-api-key": endpoint.api_key, "anthropic-version": endpoint.api_version or VERSION}
    url = "/".join([_root(endpoint), PATH, *(quote(part, safe="") for part in path)])
    return HttpCall(url, headers, params, endpoint.timeout, endpoint.model)


def _results_call(endpoint: Endpoint, ref: str, results_url: object) -> HttpCall:
    """The call that Anthropic names in `results_url`; at a proxy, which passes that on, the one of its documentation.

    `ProviderUnclear` while the batch has no results.
    """
    if not isinstance(results_url, str):
        raise ProviderUnclear("a batch without results")
    call = _call(endpoint, ref, "results")
    if _origin(results_url) != _origin(call.url):
        return call
    return HttpCall(results_url, call.headers, {}, endpoint.timeout, endpoint.model)


def _origin(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return parts.scheme, parts.netloc


def _root(endpoint: Endpoint) -> str:
    return endpoint.base_url.rstrip("/").removesuffix("/v1")
