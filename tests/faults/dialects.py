"""Runs with a real dialect: its adapter calls the simulated provider, where `Providers` has only what all promise.

The adapter and the provider go on together, within one step of the scheduler, in an event loop of their own. Faults
come before a call or after it, as at any provider, and in some runs to one of the HTTP calls that the adapter makes for
it. Jobs have the defects of `local.provider.defects`. Where an unclear create is found by time and size, the account
has jobs of somebody else, too.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import orjson

from files.transfers.orphans import NAME
from local.provider import Fault, Simulator
from local.provider.batch import Batch
from local.provider.defects import Defects
from local.provider.pace import Pace
from local.provider.quotas import Quota
from local.provider.server import application
from local.provider.signed_urls import Storage
from local.provider.state import ProviderState
from manifold.providers import BatchProvider, Endpoint, Input, Job, JobStatus, Listed, Prepared, registry
from manifold.providers.batch_client import BatchClient
from manifold.providers.batch_lines import LineRequest, LineTranslator
from tests.faults.accounts import Account
from tests.faults.clients import Requests
from tests.faults.clock import Clock
from tests.faults.dialect_faults import call_fault, job_defects
from tests.faults.dialect_loop import ProviderClock, running_loop
from tests.faults.faults import Faults
from tests.faults.own_server import OwnServer
from tests.faults.provider import Providers, ShardOf
from tests.faults.provider_jobs import Answered, Line, ProviderJob
from tests.faults.scheduler import Scheduler
from tests.support.batch_dialects import BATCH_DIALECTS, BatchDialect
from tests.support.in_process_provider import URL, InProcessTransport

Answer = TypeVar("Answer")
DIALECTS = {dialect.name: dialect for dialect in BATCH_DIALECTS}
OWN = "own"
"""Own execution, at servers without batches."""
NAMES = (*DIALECTS, OWN)
FOREIGN = 0.2
"""How many creates are just after another job of the same size, which is somebody else's, and how many just before."""


class DialectProviders(Providers):
    """The `BatchProvider` of every deployment: all are at one account of the simulated provider."""

    bills_lines = False

    def __init__(
        self,
        dialect: BatchDialect,
        clock: Clock,
        scheduler: Scheduler,
        faults: Faults,
        shard_of: ShardOf,
        end: ExitStack,
    ) -> None:
        super().__init__(clock, scheduler, faults, shard_of)
        spool = end.enter_context(tempfile.TemporaryDirectory(prefix="faults-provider-"))
        seconds = self._random.choice((0.0, 5.0, 200.0))
        pace = Pace(validating=seconds / 10, in_progress=seconds, finalizing=0, cancelling=seconds / 10, processing=0)
        time = ProviderClock(clock)
        state = ProviderState(Path(spool), pace, time)
        self._dialect = dialect
        self._simulator = Simulator(URL, state)
        self._at = dialect.endpoint(self._simulator)
        self._loop = end.enter_context(running_loop())
        self._broken_calls = self._random.choice((0.0, 0.02, 0.1))
        """How many operations have a fault within."""
        self._draw_form()
        state.quotas.set((dialect.account, dialect.model), Quota(min_batch_requests=self.fewest))
        state.signed_urls.storage = Storage(origin="http://storage.test")
        client = BatchClient(InProcessTransport(application(state), time), _loopback)
        with patch.object(registry, "_batch_client", lambda: client):
            self._adapter: BatchProvider = registry.batch_provider_for.__wrapped__(dialect.provider)
        self.withholds = frozenset({"cancelled", "expired"}) - dialect.partial
        self.model, self.sends_lines = dialect.model, self._adapter.sends_lines
        self._made: dict[str, tuple[str, str, Batch]] = {}
        """Our job's id, the adapter's id of it and the job, by the provider's own id."""
        self._unanswered: dict[str, tuple[str, Batch]] = {}
        """The same of jobs whose id the adapter did not hear, without it."""
        self._expiring: set[str] = set()
        self._foreign: dict[str, Batch] = {}
        """Somebody else's jobs, by the adapter's ids."""
        end.callback(state.batches.clear)

    def _draw_form(self) -> None:
        random, (name, value) = self._random, self._dialect.untranslatable
        odd = {name: value} if name else {}
        self.requests = Requests(self._dialect.route, odd, random.choice((0.0, 0.5)) if odd else 0.0)
        self.drop_params = bool(odd) and random.random() < 0.3
        self.fewest = random.choice((1, 1, 3)) if self._dialect.minimum > 1 else 1

    def translator(self, endpoint: Endpoint) -> LineTranslator | None:
        return self._adapter.translator(self._at)

    def jobs(self) -> list[ProviderJob]:
        unanswered = [self._witness(our_id, batch.id, batch) for our_id, batch in self._unanswered.values()]
        return [*(self._witness(*made) for made in self._made.values()), *unanswered]

    def harmed(self) -> Iterator[str]:
        """The jobs of somebody else that were cancelled or deleted."""
        batches = self._simulator.state.batches
        for ref, batch in self._foreign.items():
            if batch.id not in batches.ids() or batch.state in ("cancelling", "cancelled"):
                yield ref

    def kept_inputs(self) -> Iterator[tuple[str, str, str]]:
        async def listed() -> list[Listed]:
            return [one async for one in self._adapter.inputs(self._at)]

        for one in self._now(listed()):
            if NAME.fullmatch(one.name) and one.ref not in self._expiring:
                yield self._dialect.account, one.ref, one.name

    async def prepare(self, endpoint: Endpoint, data: Input) -> Prepared:
        account, fault = await self._begin("prepare", endpoint, data.name)
        whole = await _held(data)
        await self._scheduler.point(f"the input {data.name} arrives at {account.name}")
        prepared = self._call("prepare", self._adapter.prepare(self._at, whole))
        if prepared.ref and prepared.expires_at is not None:
            self._expiring.add(prepared.ref)
        await self._answer(fault)
        return prepared

    async def submit(self, endpoint: Endpoint, job: Job) -> str:
        held = job if job.data is None else job._replace(data=await _held(job.data))
        return await super().submit(endpoint, held)

    async def find(self, endpoint: Endpoint, job: Job) -> str | None:
        _, fault = await self._begin("find", endpoint, job.id)
        found = self._call("find", self._adapter.find(self._at, job))
        if found is not None:
            self._hear(found)
            if found not in {made[1] for made in self._made.values() if made[0] == job.id}:
                self.wrong.append(f"{found} was found for {job.id}, and is another job")
        await self._answer(fault)
        return found

    async def poll(self, endpoint: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        _, fault = await self._begin("poll", endpoint, ", ".join(refs))
        self._call("poll", self._adapter.poll(self._at, refs, statuses))
        await self._answer(fault)

    async def cancel(self, endpoint: Endpoint, ref: str) -> None:
        _, fault = await self._begin("cancel", endpoint, ref)
        self._call("cancel", self._adapter.cancel(self._at, ref))
        await self._answer(fault)

    async def results(self, endpoint: Endpoint, ref: str) -> AsyncIterator[bytes]:
        _, fault = await self._begin("results", endpoint, ref)

        async def whole() -> bytes:
            return b"".join([chunk async for chunk in self._adapter.results(self._at, ref)])

        content = self._call("results", whole())
        half = len(content) // 2
        for chunk in (content[:half], content[half:]):
            yield chunk
            await self._scheduler.point(f"more of {ref}")
            if fault == "torn":
                await self._answer("unclear after")
        await self._answer(fault)

    async def inputs(self, endpoint: Endpoint) -> AsyncIterator[Listed]:
        await self._begin("inputs", endpoint, "all")

        async def listed() -> list[Listed]:
            return [one async for one in self._adapter.inputs(self._at)]

        for one in self._call("inputs", listed()):
            yield one

    async def discard(self, endpoint: Endpoint, ref: str) -> None:
        _, fault = await self._begin("discard", endpoint, ref, lasting=ref)
        self._call("discard", self._adapter.discard(self._at, ref))
        await self._answer(fault)

    def _create(self, account: Account, job: Job, now: float) -> ProviderJob:
        """Submit the job by the adapter. The job that comes of it at the provider is known by being new there."""
        defects, batches = self._drawn_defects(), self._simulator.state.batches
        if defects is not None:
            self._simulator.fail(Fault(kind="job", account=self._dialect.account, job=defects))
        foreign = self._random.random() if self._dialect.finds == "approximate" else 1.0
        if foreign < FOREIGN:
            self._add_foreign(job)
        before = set(batches.ids())
        try:
            ref = self._call("submit", self._adapter.submit(self._at, job))
        finally:
            for made in set(batches.ids()) - before:
                self._unanswered[made] = (job.id, batches.known(made))
                self._check(account, job, [Line("", self._dialect.model, "")] * batches.known(made).file.lines)
        [made] = set(batches.ids()) - before
        del self._unanswered[made]
        self._made[made] = (job.id, ref, batches.known(made))
        witness = self._witness(*self._made[made])
        self._scheduler.trace.add(account.name, f"{ref} for {job.id}: {defects or 'no defects'}")
        if FOREIGN <= foreign < 2 * FOREIGN:
            self._add_foreign(job)
        return witness

    def _hear(self, ref: str) -> None:
        """The adapter knows this job by now: the provider's own id is within the adapter's."""
        for made in [made for made in self._unanswered if made in ref]:
            our_id, batch = self._unanswered.pop(made)
            self._made[made] = (our_id, ref, batch)

    def _add_foreign(self, job: Job) -> None:
        """Somebody else's job of the same size, at the same time."""
        translator = self.translator(self._at)
        assert translator is not None
        chat = {"model": self._dialect.model, "messages": [{"role": "user", "content": "nobody's"}]}
        requests = [LineRequest(f"another-{number}", "/v1/chat/completions", chat) for number in range(job.requests)]
        content = b"".join(orjson.dumps(translator.request(one)) + b"\n" for one in requests)

        async def lines() -> AsyncIterator[bytes]:
            yield content

        data = Input("another", len(content), lines, job.requests)
        batches = self._simulator.state.batches
        before = set(batches.ids())
        ref = self._now(self._adapter.submit(self._at, job._replace(id="another", input_id="another", data=data)))
        [made] = set(batches.ids()) - before
        self._foreign[ref] = batches.known(made)

    def _drawn_defects(self) -> Defects | None:
        random = self._random
        return job_defects(random) if random.random() < self.odd else None

    def _witness(self, our_id: str, ref: str, batch: Batch) -> ProviderJob:
        """What the provider knows of a job, in the words of the invariants. One that is gone cannot be found by us."""
        gone = batch.id not in self._simulator.state.batches.ids()
        if not gone:
            self._simulator.state.batches.update(batch)
        bill = Answered(failed=False, input_tokens=batch.input_tokens, output_tokens=batch.output_tokens)
        state: Any = "failed" if gone else batch.state
        return ProviderJob(
            ref=ref,
            our_id=None if gone else our_id,
            input_ref="",
            lines=[Line("", self._dialect.model, "")] * batch.file.lines,
            created_at=batch.created_at,
            listed_at=batch.created_at,
            course="completes",
            ends_at=0.0,
            defects=frozenset({"lost"}) if gone else frozenset(),
            state=state,
            answered={"all": bill},
        )

    def _call(self, operation: str, call: Awaitable[Answer]) -> Answer:
        """What the call returns; one of the HTTP calls within it may have a fault."""
        if self._faults.over or self._random.random() >= self._broken_calls:
            return self._now(call)
        fault = call_fault(self._random, self._dialect, operation)
        if fault is None:
            return self._now(call)
        self._scheduler.trace.add(
            self._dialect.account, f"FAULT within {operation}: {fault.kind} {fault.when} {fault.route}"
        )
        self._simulator.fail(fault)
        try:
            return self._now(call)
        finally:
            self._simulator.state.faults.clear(self._dialect.account)

    def _now(self, call: Awaitable[Answer]) -> Answer:
        """What the call returns, which takes none of the run's time."""

        async def awaited() -> Answer:
            return await call

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result()


async def _loopback(host: str, port: int) -> Sequence[str]:
    """The address of every host: all of them are the simulated provider."""
    return ["127.0.0.1"]


async def _held(data: Input) -> Input:
    """The same input, whose lines are in memory: they are read in the loop of the run."""
    content = b"".join([chunk async for chunk in data.lines()])

    async def lines() -> AsyncIterator[bytes]:
        yield content

    return data._replace(lines=lines)


Make = Callable[[Clock, Scheduler, Faults, ShardOf, ExitStack], Providers]


def providers_of(name: str | None) -> Make:
    """What makes the providers of a run: those of a dialect or of own execution, by default of none."""
    if name == OWN:
        return OwnServer
    if name is None:
        return lambda clock, scheduler, faults, shard_of, _: Providers(clock, scheduler, faults, shard_of)
    dialect = DIALECTS[name]
    return lambda clock, scheduler, faults, shard_of, end: DialectProviders(
        dialect, clock, scheduler, faults, shard_of, end
    )
