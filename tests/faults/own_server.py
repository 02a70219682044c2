"""Servers with completions alone, whose batches the gateway runs itself: vLLM as the simulated provider has it.

The gateway's adapter runs in the run's time, over a client that asks the simulated provider within one step of the
scheduler, in place of aiohttp's. How long an answer takes, what goes wrong, and when a server is down is decided here.
Each call is noted with what the provider's log says of it.
"""

import asyncio
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch
from urllib.parse import urlsplit

import httpx
import orjson

from batches.execution import chunk_run, permits, result_writer
from local.provider import Fault, Simulator
from local.provider.pace import Pace
from local.provider.server import application
from local.provider.state import ProviderState
from manifold.errors import ProviderError, ProviderRefused, ProviderUnclear
from manifold.execution import chunking, pace
from manifold.provider_errors import fault_of, is_error
from manifold.providers.completion_client import CompletionClient
from manifold.providers.failures import failure, failure_within, read_object
from manifold.providers.http_call import HttpCall
from manifold.providers.openai.completions import OpenAICompletions
from manifold.store.chunks import ChunkRow
from tests.faults.clients import Requests
from tests.faults.clock import BASE, Clock
from tests.faults.dialect_loop import ProviderClock, running_loop
from tests.faults.environments import current
from tests.faults.faults import Faults
from tests.faults.own_runs import OwnRun, run_of
from tests.faults.provider import Providers, ShardOf
from tests.faults.scheduler import Scheduler
from tests.support.in_process_provider import URL, InProcessTransport

ACCOUNT = "vllm"
POISON = "fail-this-line"
"""A prompt with these words is never answered: in each run one of these is."""
POISONED: tuple[Fault, ...] = (
    Fault(kind="error"),
    Fault(kind="error", status=404),
    Fault(kind="error", status=403),
    Fault(kind="rate_limit"),
)
REQUEST = re.compile("request-[0-9]+")
FOREVER = 1e9
HANG_SECONDS = 100.0
"""How long a call hangs: longer than any `timeout` that is set."""
MOST_LINES = 24
FAULTS: tuple[Fault, ...] = (
    Fault(kind="error"),
    Fault(kind="error", status=503, retry_after="3"),
    Fault(kind="error", when="after"),
    Fault(kind="cut"),
    Fault(kind="cut", when="after"),
    Fault(kind="truncate"),
    Fault(kind="garbage", when="after"),
    Fault(kind="rate_limit"),
    Fault(kind="rate_limit", retry_after="2"),
    Fault(kind="rate_limit", retry_after="40"),
)
"""What may go wrong with one call, beside answers that never come."""
Outcome = Literal["on its way", "under way", "answered", "failed", "cut"]


@dataclass(eq=False)
class Call:
    """A call to a server. Times are seconds that tasks have waited for."""

    deployment: str
    run: OwnRun
    custom_id: str
    """`""`: the smallest request, which is none of a batch."""
    began: float
    prompts: list[str]
    """What the model began to answer, by the provider's log: what is paid."""
    outcome: Outcome = "on its way"
    """`on its way` to the server, and `under way` there; `answered`, also with an error of the request's own;
    `failed`, by a fault of the server; or `cut` by the caller."""
    ended: float | None = None
    beside: int = 0
    """Other calls at the deployment, of workers that have their leases; 0 if this one's may be lost."""
    stopped_for: float = 0.0
    """Seconds since the batch was cancelled, or its window ended."""
    lost_for: float = 0.0
    """Seconds since the worker's lease was found lost."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A time (of the clock) in which a deployment's server answers nothing."""

    deployment: str
    began: float
    until: float


class OwnServer(Providers):
    """The servers of all deployments. There are no batches at them."""

    runs_batches = False

    def __init__(self, clock: Clock, scheduler: Scheduler, faults: Faults, shard_of: ShardOf, end: ExitStack) -> None:
        super().__init__(clock, scheduler, faults, shard_of)
        random = self._random
        spool = end.enter_context(tempfile.TemporaryDirectory(prefix="faults-provider-"))
        time = ProviderClock(clock)
        state = ProviderState(Path(spool), Pace(), time)
        self.simulator = Simulator(URL, state)
        self.parallel: dict[str, int] = {}
        """Calls at once that each deployment's server takes."""
        self.calls: list[Call] = []
        self.runs: list[OwnRun] = []
        """Of chunks, the first one first."""
        self.standing: Callable[[ChunkRow], tuple[bool, float]]
        """Whether the holder of a chunk still has it, and the Unix time from which on it is not to run."""
        self.completions = OpenAICompletions(_Client(self), "hosted_vllm")
        self.requests = Requests(odd={"temperature": 99}, odd_files=random.choice((0.0, 0.3)), most_lines=MOST_LINES)
        self.poison = random.choice(POISONED)
        self.deadly_for = random.choice((0.0, 0.0, 20.0))
        """Seconds for which such a prompt has the server down."""
        self.broken = random.choice((0.0, 0.02, 0.1, 0.4))
        """How many calls have a fault."""
        self.hanging = random.choice((0.0, 0.0, 0.05))
        self.latencies = random.choice(((0.0,), (0.3, 1.0), (0.0, 2.0, 20.0)))
        self.sizes = random.choice(((64, 64, 16), (2, 3, 2), (1, 8, 16)))
        """The most calls of a worker, the fewest requests of a chunk, and the most answers of an object."""
        self.client = httpx.AsyncClient(transport=InProcessTransport(application(state), time))
        self._loop = end.enter_context(running_loop())
        self._outages = self._drawn_outages()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The sizes of own execution are such that a few lines are several chunks, for several workers."""
        calls, requests, together = self.sizes
        patched: tuple[tuple[object, str, int], ...] = (
            (pace, "WORKER_CALLS", calls),
            (permits, "WORKER_CALLS", calls),
            (chunk_run, "WORKER_CALLS", calls),
            (chunking, "FEWEST_REQUESTS", requests),
            (result_writer, "WRITTEN_TOGETHER", together),
        )
        with ExitStack() as patches:
            for module, name, size in patched:
                patches.enter_context(patch.object(module, name, size))
            yield

    def answer(self, call: HttpCall, body: bytes, fault: Fault | None) -> httpx.Response:
        """What the simulated provider answers, at once. Raises httpx's errors."""
        faults = self.simulator.state.faults
        if fault is not None:
            faults.add(fault.model_copy(update={"account": ACCOUNT}))
        headers = {"Content-Type": "application/json", **call.headers}

        async def post() -> httpx.Response:
            return await self.client.post(call.address, content=body, headers=headers)

        try:
            return asyncio.run_coroutine_threadsafe(post(), self._loop).result()
        finally:
            faults.clear(ACCOUNT)

    def is_down(self, deployment: str) -> bool:
        return any(one.deployment == deployment and one.began <= self.clock.now() < one.until for one in self._outages)

    def _drawn_outages(self) -> list[Outage]:
        """Times in which a server is down: none, some minutes, or all that is left of the run."""
        random, outages = self._random, list[Outage]()
        for deployment in ("solo", "pair-1", "pair-2", "first", "second"):
            if random.random() < 0.3:
                began = BASE + random.choice((0.0, 20.0, 60.0, 200.0))
                seconds = random.choice((20.0, 100.0, 1000.0, 1000.0, 20_000.0, FOREVER))
                outages.append(Outage(deployment, began, began + seconds))
        return outages

    async def post(self, call: HttpCall, content: bytes) -> dict[str, Any]:
        """Answer one call. Raises as `CompletionClient.post` does."""
        deployment = urlsplit(call.url).hostname or ""
        named = REQUEST.search(content.decode())
        custom_id = named.group() if named else ""
        made = Call(deployment, run_of(self.runs, current()), custom_id, self.clock.steady(), [])
        self.calls.append(made)
        try:
            await self._scheduler.point(f"call {custom_id} at {deployment}")
            made.began, made.outcome = self.clock.steady(), "under way"
            self._judge(made)
            answer = await self._answer_to(made, call, content)
        except ProviderError as error:
            self._end(made, "answered" if fault_of(error) == "request" else "failed")
            raise
        except BaseException:
            self._end(made, "cut")
            raise
        self._end(made, "answered")
        return answer

    def _judge(self, call: Call) -> None:
        """Note how the gateway stands as a call begins."""
        run, now = call.run, self.clock.now()
        if run.is_sure(now):
            others = [one for one in self.calls if one.outcome == "under way" and one is not call]
            under_way = [one for one in others if one.deployment == call.deployment]
            call.beside = sum(one.run.is_sure(now) for one in under_way)
        holds, stops_at = self.standing(run.chunk)
        call.stopped_for = max(0.0, self.clock.steady_since(stops_at))
        if holds:
            return
        if run.lost_at is None:
            run.lost_at = call.began
        call.lost_for = call.began - run.lost_at

    def _end(self, call: Call, outcome: Outcome) -> None:
        if call.ended is None:
            call.outcome, call.ended = outcome, self.clock.steady()

    async def _answer_to(self, made: Call, call: HttpCall, content: bytes) -> dict[str, Any]:
        random = self._random
        seconds, fault = random.choice(self.latencies), self._fault(made, content)
        down, hangs = self.is_down(made.deployment), not self._faults.over and random.random() < self.hanging
        what = "down" if down else "hangs" if hangs else f"{fault.kind} {fault.when}" if fault else "well"
        self._scheduler.trace.add(made.deployment, f"{made.custom_id or 'ping'} {what}, {seconds:g} s")
        if down and random.random() < 0.5:
            raise ProviderRefused(f"no connection to {call.host}")
        if (down or hangs) and random.random() < (0.03 if down else 0.5):
            await asyncio.sleep(HANG_SECONDS)
        if down:
            fault = Fault(kind="error", status=503)
        try:
            response = self.answer(call, content, fault)
        except httpx.HTTPError as error:
            raise ProviderUnclear(f"no answer from {call.host}: {type(error).__name__}") from error
        finally:
            made.prompts = self.simulator.log(ACCOUNT)[-1].get("prompts", [])
        await asyncio.sleep(HANG_SECONDS if hangs else seconds)
        await self._scheduler.point(f"answer to {made.custom_id} of {made.deployment}")
        return _read(response, call)

    def _fault(self, made: Call, content: bytes) -> Fault | None:
        if POISON.encode() in content:
            now = self.clock.now()
            self._outages.append(Outage(made.deployment, now, now + self.deadly_for))
            return self.poison
        if self._faults.over or self._random.random() >= self.broken:
            return None
        return self._random.choice(FAULTS)


class _Client(CompletionClient):
    """The adapter's way to the servers."""

    def __init__(self, server: OwnServer) -> None:
        super().__init__()
        self._server = server

    async def post(self, call: HttpCall, body: Mapping[str, Any] | bytes) -> dict[str, Any]:
        return await self._server.post(call, body if isinstance(body, bytes) else orjson.dumps(body))


def _read(response: httpx.Response, call: HttpCall) -> dict[str, Any]:
    """The answer's object, as `CompletionClient.post` reads it."""
    if not response.is_success:
        raise failure(response.status_code, response.headers, response.content, call)
    answer = read_object(response.content)
    if answer is None:
        raise ProviderUnclear("an answer that is not a JSON object", status=response.status_code)
    if is_error(answer):
        raise failure_within(answer, call)
    return answer
