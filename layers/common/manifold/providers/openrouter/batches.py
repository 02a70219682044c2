"""OpenRouter's batches: the requests travel with the create, and the batch itself has the results.

https://openrouter.ai/docs/batch-quickstart. A batch is listed without its results, and retrieved with them, which may
be hundreds of megabytes: so it is read as a stream, and polled by its listing.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, MutableMapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple, Self

import orjson

from manifold.errors import ProviderRefused, ProviderUnclear
from manifold.providers import ENDED, Endpoint, Job, JobStatus, batch_jobs, unclear_creates
from manifold.providers.addresses import openai_call
from manifold.providers.batch_client import BatchClient
from manifold.providers.batch_lines import LineTranslator
from manifold.providers.batch_polls import poll
from manifold.providers.content import json_array
from manifold.providers.failures import read_object
from manifold.providers.http_call import HttpCall
from manifold.providers.listings import MAX_PAGES, Cursor, by_last_id, pages
from manifold.providers.openai import batch_object
from manifold.providers.openai.batch_object import LOST, count, id_of, mapping, unix_time
from manifold.providers.openrouter.batch_lines import OpenRouterLines
from manifold.providers.openrouter.json_members import JsonMembers
from manifold.providers.sent_lines import SentLines
from manifold.providers.unclear_creates import Found
from manifold.reported_cost import cost_of

PAGE = 100
CANNOT_CANCEL = frozenset({400, 409, 422})
"""The statuses of a cancel of a batch that has ended."""
NO_CANCEL = frozenset({404, 405})
"""The statuses of a cancel where there is none."""


class Results(NamedTuple):
    """The `output_ref`: the batch, and what it cost as far as its listing says so."""

    batch_id: str
    cost: Decimal | None = None
    """US dollars of all requests."""
    tokens: int = 0
    """Of all requests."""

    @classmethod
    def of(cls, ref: str) -> Self:
        match = re.fullmatch(r"([^?]+)\?cost=([0-9.E+-]+)&tokens=([0-9]+)", ref)
        return cls(ref) if match is None else cls(match[1], Decimal(match[2]), int(match[3]))

    def __str__(self) -> str:
        return self.batch_id if self.cost is None else f"{self.batch_id}?cost={self.cost}&tokens={self.tokens}"

    def priced(self, line: bytes) -> bytes:
        """The line with its share of the cost, by its tokens, in its usage: a batch has only one cost for all."""
        result = None if self.cost is None else read_object(line)
        usage = _usage(result or {})
        if self.cost is None or usage is None or "cost" in usage or not self.tokens:
            return line
        usage["cost"] = float(self.cost * _tokens(usage) / self.tokens)
        try:
            return orjson.dumps(result)
        except orjson.JSONEncodeError:  # it reads 1,024 levels, and writes 254
            return line


class OpenRouterBatches(SentLines):
    """A `BatchProvider` of OpenRouter. The base URL is as for completions: `https://openrouter.ai/api/v1`.

    A `ref` is a batch's id; that of results has their cost, too.
    """

    def __init__(self, client: BatchClient) -> None:
        self._client = client

    def translator(self, endpoint: Endpoint) -> LineTranslator:
        return OpenRouterLines(endpoint)

    async def submit(self, endpoint: Endpoint, job: Job) -> str:
        if job.data is None:
            raise ValueError("the job has no lines")
        head = orjson.dumps({"endpoint": job.endpoint, "model": endpoint.model})  # they have to be before the requests
        answer = await self._client.send(
            "POST", openai_call(endpoint, "batches"), json_array(job.data, head[:-1] + b',"requests":[', b"]}")
        )
        return id_of(read_object(answer.body) or {})

    async def find(self, endpoint: Endpoint, job: Job) -> str | None:
        return await unclear_creates.find(job, self._pages(endpoint), _found, partial(self._first_id, endpoint))

    async def poll(self, endpoint: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        await poll(refs, statuses, lambda: self._listed(endpoint), lambda ref: self._retrieve(endpoint, ref), few=0)

    async def cancel(self, endpoint: Endpoint, ref: str) -> None:
        """Cancel the batch, if OpenRouter can: its documentation has no cancel, and then the batch runs to its end."""
        try:
            await self._client.call("POST", openai_call(endpoint, "batches", ref, "cancel"))
        except ProviderRefused as refusal:
            if refusal.status not in CANNOT_CANCEL | NO_CANCEL:
                raise
            status = await self._retrieve(endpoint, ref)
            if status is None or status.lost or (refusal.status in CANNOT_CANCEL and not batch_jobs.is_ending(status)):
                raise

    async def results(self, endpoint: Endpoint, ref: str) -> AsyncGenerator[bytes, None]:
        """The results within the batch or, where it has none, those of its pages of results."""
        results, batch = Results.of(ref), JsonMembers("results")
        async for lines in self._elements(openai_call(endpoint, "batches", results.batch_id), batch):
            for line in lines:
                yield results.priced(line) + b"\n"
        if not batch.has_array:
            async for lines in self._result_pages(endpoint, results.batch_id):
                for line in lines:
                    yield results.priced(line) + b"\n"

    async def discard(self, endpoint: Endpoint, ref: str) -> None:
        """Delete an ended batch, with its results."""
        await batch_jobs.discard(
            self._client.call("DELETE", openai_call(endpoint, "batches", Results.of(ref).batch_id))
        )

    def _pages(self, endpoint: Endpoint, limit: int = PAGE) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """The batches of the key's workspace, the newest first, page by page."""

        async def page(cursor: Cursor) -> Mapping[str, Any]:
            return await self._client.call("GET", openai_call(endpoint, "batches", limit=str(limit), **cursor))

        return pages(page, "data", by_last_id("after"))

    async def _listed(self, endpoint: Endpoint) -> AsyncIterator[Mapping[str, JobStatus | None]]:
        async for page in self._pages(endpoint):
            yield {str(batch.get("id")): job_status(batch) for batch in page}

    async def _retrieve(self, endpoint: Endpoint, ref: str) -> JobStatus | None:
        batch = await batch_jobs.known(ref, self._members(endpoint, ref), self._pages(endpoint, limit=1), id_of)
        return LOST if batch is None else job_status(batch)

    async def _members(self, endpoint: Endpoint, ref: str) -> Mapping[str, Any]:
        """The members of a batch, which is read up to its results."""
        batch = JsonMembers("results")
        elements = self._elements(openai_call(endpoint, "batches", ref), batch, until_array=True)
        try:
            async with asyncio.timeout(endpoint.timeout), contextlib.aclosing(elements):
                async for _ in elements:
                    pass
        except TimeoutError as error:
            raise ProviderUnclear("no answer in time") from error
        return batch.members

    async def _result_pages(self, endpoint: Endpoint, batch_id: str) -> AsyncIterator[Sequence[bytes]]:
        cursor: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            page = JsonMembers("data")
            async for lines in self._elements(openai_call(endpoint, "batches", batch_id, "results", **cursor), page):
                yield lines
            if not page.has_array:
                raise ProviderUnclear("a page of results without results")
            token = page.members.get("next_cursor")
            if not token:
                return
            following = {"cursor": str(token)}
            if following == cursor:
                break
            cursor = following
        raise ProviderUnclear("results that do not end")

    async def _elements(
        self, call: HttpCall, answer: JsonMembers, *, until_array: bool = False
    ) -> AsyncGenerator[Sequence[bytes], None]:
        """The elements of the answer's array, some at a time. `until_array`: stop where it begins."""
        async with contextlib.aclosing(self._client.download(call)) as chunks:
            async for chunk in chunks:
                if elements := list(answer.feed(chunk)):
                    yield elements
                if answer.ended or (until_array and answer.has_array):
                    return
        raise ProviderUnclear("an answer that broke off")

    async def _first_id(self, endpoint: Endpoint, ref: str) -> str | None:
        """The id of the first result. `ProviderUnclear` if there is none to be read."""
        async with contextlib.aclosing(self.results(endpoint, ref)) as lines:
            async for line in lines:
                custom_id = (read_object(line) or {}).get("custom_id")
                if isinstance(custom_id, str):
                    return custom_id
                break
        raise ProviderUnclear("a result that cannot be read")


def job_status(batch: Mapping[str, Any]) -> JobStatus | None:
    """The status of a batch, listed or retrieved; `None` for an unknown one."""
    status = batch_object.job_status(batch)
    if status is None or status.state not in ENDED:
        return status
    answered = status.completed + status.failed > 0 or status.state == "completed"
    if not answered or (status.state == "failed" and not status.completed):
        return status
    usage = mapping(batch.get("usage"))
    cost, tokens = cost_of("openrouter", usage), _tokens(usage)
    results = Results(id_of(batch), cost, tokens) if tokens else Results(id_of(batch))
    return JobStatus(
        status.state, status.total, status.completed, status.failed, output_ref=str(results), errors=status.errors
    )


def _found(batch: Mapping[str, Any]) -> Found:
    status = job_status(batch)
    ended = status is not None and status.state in ENDED
    return Found(
        ref=id_of(batch),
        created_at=unix_time(batch.get("created_at")),
        requests=0 if status is None else status.total,
        ended=ended,
        empty=ended and status is not None and status.output_ref is None,
    )


def _usage(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The usage within the response of a result."""
    value: object = result
    for name in ("response", "body", "usage"):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else None


def _tokens(usage: Mapping[str, Any]) -> int:
    """The tokens of a usage, of any of OpenAI's APIs."""
    named = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
    return count(usage.get("total_tokens")) or sum(count(usage.get(name)) for name in named)
