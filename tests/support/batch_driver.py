"""Drives one dialect's batches as the gateway does: OpenAI's lines in, OpenAI's results out, by `custom_id`."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from files.transfers.custom_id_index import CustomIdIndex
from files.transfers.line_translation import TranslatedRequests, TranslatedResults
from local.provider import Fault, Simulator
from local.provider.pace import Pace
from manifold.providers import ENDED, BatchProvider, Endpoint, Input, Job, JobStatus, Prepared
from manifold.providers.batch_lines import LineTranslator
from manifold.providers.registry import batch_provider_for, close_providers
from manifold.scrubbing import Scrubber
from tests.support.batch_dialects import BATCH_DIALECTS, BatchDialect

pytest_plugins = ("tests.support.provider_fixtures",)

CHAT, EMBEDDINGS, RESPONSES = "/v1/chat/completions", "/v1/embeddings", "/v1/responses"
Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sent:
    """An input in the provider's form, as the gateway keeps it, and the requests that are left out of it."""

    data: Input
    content: bytes
    custom_ids: Sequence[str]
    """By the number of the line in the client's file."""
    refused: Mapping[str, Line]
    """The error lines of requests that cannot be translated, by `custom_id`."""
    prepared: Prepared


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: OpenAI's output lines and error lines by `custom_id`."""

    status: JobStatus
    answers: Mapping[str, Line]
    failures: Mapping[str, Line]
    invalid: int
    """Lines that are no result of a request."""

    def body(self, custom_id: str) -> dict[str, Any]:
        body: dict[str, Any] = self.answers[custom_id]["response"]["body"]
        return body

    def error(self, custom_id: str) -> dict[str, Any]:
        """The error of a failed line, whether it has a response or not."""
        line = self.failures[custom_id]
        error: dict[str, Any] = line["error"] or line["response"]["body"]["error"]
        return error


class BatchDriver:
    """One dialect at the simulated provider."""

    def __init__(self, dialect: BatchDialect, simulator: Simulator, timeout: float = 5.0) -> None:
        self.dialect = dialect
        self.simulator = simulator
        self.provider: BatchProvider = batch_provider_for(dialect.provider)
        self.at: Endpoint = dialect.endpoint(simulator, timeout)

    @property
    def translator(self) -> LineTranslator | None:
        return self.provider.translator(self.at)

    def line(self, custom_id: str, text: str = "hello there", url: str = "", **body: Any) -> dict[str, Any]:
        """A line of the client's file, with the deployment's model in it; `url` is the dialect's by default."""
        url = url or self.dialect.route
        said = {"input": text} if url != CHAT else {"messages": [{"role": "user", "content": text}]}
        return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": self.at.model, **said, **body}}

    def use(self, model: str | None) -> None:
        """Take another model of the account."""
        assert model is not None
        self.at = replace(self.at, model=model)

    def lines(self, count: int | None = None, **body: Any) -> list[dict[str, Any]]:
        """So many lines, at least as many as the provider takes; `request-0` is the first."""
        count = max(count or 3, self.dialect.minimum)
        return [self.line(f"request-{number}", f"hello number {number}", **body) for number in range(count)]

    async def written(self, lines: Iterable[Line], input_id: str = "input_a1", *, drop_params: bool = False) -> Sent:
        """The lines as they are sent to the provider."""
        client = list(lines)
        content, refused = [_dumped(line) for line in client], dict[str, Line]()
        if (translator := self.translator) is not None:
            with TranslatedRequests(translator, input_id, drop_params=drop_params) as requests:
                whole = b"".join([chunk async for chunk in requests.through(_opener(content)())])
                content, refused = whole.splitlines(keepends=True), _by_id(await _read(requests.failures()))
                assert (len(content), len(refused)) == (requests.requests, requests.refused)
        whole = b"".join(content)
        data = Input(input_id, len(whole), _opener(content), len(content), client[0]["url"])
        return Sent(data, whole, [line["custom_id"] for line in client], refused, Prepared(None))

    async def prepare(self, lines: Iterable[Line], input_id: str = "input_a1", *, drop_params: bool = False) -> Sent:
        sent = await self.written(lines, input_id, drop_params=drop_params)
        return replace(sent, prepared=await self.provider.prepare(self.at, sent.data))

    def job(self, sent: Sent, job_id: str = "job_a1", others: Iterable[str] = ()) -> Job:
        return Job(
            id=job_id,
            input_ref=sent.prepared.ref,
            endpoint=sent.data.route,
            completion_window="24h",
            created_at=int(time.time()),
            input_id=sent.data.id,
            requests=sent.data.requests,
            data=sent.data if self.provider.sends_lines else None,
            others=frozenset(others),
        )

    async def submit(self, sent: Sent, job_id: str = "job_a1") -> str:
        return await self.provider.submit(self.at, self.job(sent, job_id))

    async def poll(self, *refs: str) -> dict[str, JobStatus]:
        known: dict[str, JobStatus] = {}
        await self.provider.poll(self.at, refs, known)
        return known

    async def ended(self, ref: str) -> JobStatus:
        for _ in range(500):
            status = (await self.poll(ref)).get(ref)
            if status is not None and status.state in ENDED:
                return status
            await asyncio.sleep(0.02)
        raise AssertionError(f"{ref} did not end")

    async def outcome(self, sent: Sent, ref: str) -> Outcome:
        """The results of the job, when it has ended. Each `custom_id` is there once at most."""
        status, invalid = await self.ended(ref), 0
        answers, failures = dict[str, Line](), dict(sent.refused)
        for named in filter(None, (status.output_ref, status.error_ref)):
            found, failed, unknown = await self._results(sent, named)
            for known, more in ((answers, found), (failures, failed)):
                assert not more.keys() & (answers.keys() | failures.keys())
                known.update(more)
            invalid += unknown
        return Outcome(status, answers, failures, invalid)

    async def run(self, lines: Iterable[Line], input_id: str = "input_a1", *, drop_params: bool = False) -> Outcome:
        """The whole way of a batch."""
        sent = await self.prepare(lines, input_id, drop_params=drop_params)
        return await self.outcome(sent, await self.submit(sent, input_id.replace("input", "job")))

    def fail(self, kind: str, act: str, **how: Any) -> None:
        """Let the next call of this method of `BatchProvider` go wrong."""
        fault = {"kind": kind, "account": self.dialect.account, "route": self.dialect.routes[act], **how}
        self.simulator.fail(Fault.model_validate(fault))

    def fail_job(self, **defects: Any) -> None:
        """The defects of the next job."""
        self.simulator.fail(Fault.model_validate({"kind": "job", "account": self.dialect.account, "job": defects}))

    def pace(self, **seconds: float) -> None:
        """How long jobs stay in these states; in all others, no time."""
        none = dict.fromkeys(("validating", "in_progress", "finalizing", "cancelling", "processing"), 0.0)
        self.simulator.state.batches.pace = Pace(**none | seconds)

    def created(self) -> list[str]:
        """The provider's ids of the jobs that were created, in order."""
        log = self.simulator.log(self.dialect.account, self.dialect.routes["submit"])
        return [entry["batch_id"] for entry in log if "batch_id" in entry]

    async def _results(self, sent: Sent, ref: str) -> tuple[dict[str, Line], dict[str, Line], int]:
        """OpenAI's output lines and error lines of a result, and how many lines belong to no request."""
        chunks, translator = self.provider.results(self.at, ref), self.translator
        if translator is None:
            lines = _by_id(await _read(chunks))
            return *_divided(lines), 0
        index = CustomIdIndex()
        index.extend(list(sent.custom_ids))
        with index, TranslatedResults(translator, sent.data.id, index, Scrubber()) as results:
            answers = _by_id(await _read(results.answers(chunks)))
            return answers, _by_id(await _read(results.failures())), results.invalid


def _opener(content: Sequence[bytes]) -> Callable[[], AsyncIterator[bytes]]:
    async def lines() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 100):
            yield b"".join(content[start : start + 100])

    return lines


def _dumped(line: Line) -> bytes:
    return json.dumps(line).encode() + b"\n"


async def _read(chunks: AsyncIterator[bytes]) -> list[Line]:
    return [json.loads(line) for line in b"".join([chunk async for chunk in chunks]).split(b"\n") if line]


def _by_id(lines: Sequence[Line]) -> dict[str, Line]:
    """Checks that each is a line of OpenAI's output or error file, and that no `custom_id` is there twice."""
    for line in lines:
        assert isinstance(line["custom_id"], str)
        assert (line["response"] is None) != (line["error"] is None)
    known = {line["custom_id"]: line for line in lines}
    assert len(known) == len(lines)
    return known


def _divided(lines: Mapping[str, Line]) -> tuple[dict[str, Line], dict[str, Line]]:
    """The answers and the failures."""
    failed = {one for one, line in lines.items() if line["error"] or line["response"]["status_code"] >= 400}
    answers = {one: line for one, line in lines.items() if one not in failed}
    return answers, {one: lines[one] for one in failed}


def dialects(which: Callable[[BatchDialect], bool] = lambda _: True) -> list[Any]:
    """Parameters of the fixture `batches`: the dialects of which this is true."""
    return [pytest.param(one, id=one.name) for one in BATCH_DIALECTS if which(one)]


@pytest.fixture
async def closed_batches() -> AsyncIterator[None]:
    """Adapters of its own for each test: they may hold access tokens, which a reset of the provider takes back."""
    batch_provider_for.cache_clear()
    yield
    await close_providers()


@pytest.fixture(params=dialects())
def batches(request: pytest.FixtureRequest, simulated_provider: Simulator, closed_batches: None) -> BatchDriver:
    """A driver of each dialect."""
    return BatchDriver(request.param, simulated_provider)
