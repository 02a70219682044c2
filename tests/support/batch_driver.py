"""Drives one dialect's batches as the gateway does: OpenAI's lines in, OpenAI's results out, by `custom_id`."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from local.provider import Fault, Simulator
from local.provider.pace import Pace
from manifold.errors import InvalidRequest
from manifold.providers import ENDED, BatchProvider, Endpoint, Input, Job, JobStatus, Prepared
from manifold.providers.batch_lines import LineRequest, LineResult, LineTranslator
from manifold.providers.registry import batch_provider_for, close_providers
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
    refused: Mapping[str, LineResult]
    """The requests that cannot be translated, by `custom_id`."""
    prepared: Prepared


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: OpenAI's output lines and error lines by `custom_id`."""

    status: JobStatus
    answers: Mapping[str, Line]
    failures: Mapping[str, Line]

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

    def line(self, custom_id: str, text: str = "hello there", url: str = CHAT, **body: Any) -> dict[str, Any]:
        """A line of the client's file, with the deployment's model in it."""
        said = {"input": text} if url != CHAT else {"messages": [{"role": "user", "content": text}]}
        return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": self.at.model, **said, **body}}

    def lines(self, count: int | None = None, **body: Any) -> list[dict[str, Any]]:
        """So many lines, at least as many as the provider takes; `request-0` is the first."""
        count = max(count or 3, self.dialect.minimum)
        return [self.line(f"request-{number}", f"hello number {number}", **body) for number in range(count)]

    def written(self, lines: Iterable[Line], input_id: str = "input_a1", *, drop_params: bool = False) -> Sent:
        """The lines as they are sent to the provider."""
        translator, custom_ids, refused, content = self.translator, list[str](), dict[str, LineResult](), list[bytes]()
        route = CHAT
        for number, line in enumerate(lines):
            custom_ids.append(line["custom_id"])
            request_id, route = f"{input_id}-{number}", line["url"]
            if translator is None:
                content.append(_dumped(line))
                continue
            try:
                content.append(_dumped(translator.request(LineRequest(request_id, route, line["body"], drop_params))))
            except InvalidRequest as error:
                refused[line["custom_id"]] = LineResult.invalid(request_id, error)
        whole = b"".join(content)
        data = Input(input_id, len(whole), _opener(content), len(content), route)
        return Sent(data, whole, custom_ids, refused, Prepared(None))

    async def prepare(self, lines: Iterable[Line], input_id: str = "input_a1", *, drop_params: bool = False) -> Sent:
        sent = self.written(lines, input_id, drop_params=drop_params)
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
        status = await self.ended(ref)
        answers, failures = dict[str, Line](), {one: _line(one, result) for one, result in sent.refused.items()}
        for named in (status.output_ref, status.error_ref):
            async for line, failed in self._results(sent, named):
                assert line["custom_id"] not in (*answers, *failures)
                assert (line["response"] is None) != (line["error"] is None)
                (failures if failed else answers)[line["custom_id"]] = line
        return Outcome(status, answers, failures)

    async def run(self, lines: Iterable[Line], input_id: str = "input_a1", *, drop_params: bool = False) -> Outcome:
        """The whole way of a batch."""
        sent = await self.prepare(lines, input_id, drop_params=drop_params)
        return await self.outcome(sent, await self.submit(sent))

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

    async def _results(self, sent: Sent, ref: str | None) -> AsyncIterator[tuple[Line, bool]]:
        """The lines of a result in OpenAI's form, and whether each belongs into the error file."""
        if ref is None:
            return
        content = b"".join([chunk async for chunk in self.provider.results(self.at, ref)])
        translator = self.translator
        for raw in content.splitlines():
            if translator is None:
                line = json.loads(raw)
                yield line, line["response"] is None or line["response"]["status_code"] >= 400
            else:
                result = translator.result(json.loads(raw))
                assert result.id.startswith(f"{sent.data.id}-")
                yield _line(sent.custom_ids[int(result.id.rpartition("-")[2])], result), result.failed


def _opener(content: Sequence[bytes]) -> Any:
    async def lines() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 100):
            yield b"".join(content[start : start + 100])

    return lines


def _dumped(line: Line) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _line(custom_id: str, result: LineResult) -> Line:
    response = None if result.code else {"status_code": result.status, "request_id": result.id, "body": result.body}
    error = {"code": result.code, "message": result.message} if result.code else None
    return {"custom_id": custom_id, "response": response, "error": error}


def dialects(which: Callable[[BatchDialect], bool] = lambda _: True) -> list[Any]:
    """Parameters of the fixture `batches`: the dialects of which this is true."""
    return [pytest.param(one, id=one.name) for one in BATCH_DIALECTS if which(one)]


@pytest.fixture
async def closed_batches() -> AsyncIterator[None]:
    yield
    await close_providers()


@pytest.fixture(params=dialects())
def batches(request: pytest.FixtureRequest, simulated_provider: Simulator, closed_batches: None) -> BatchDriver:
    """A driver of each dialect."""
    return BatchDriver(request.param, simulated_provider)
