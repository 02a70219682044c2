"""Runs with a real dialect: its adapter calls the simulated provider, where `Providers` has only what all promise.

The adapter and the provider go on together, within one step of the scheduler, in an event loop of their own. Faults
come before a call or after it, as at any provider, and jobs have the defects of `local.provider.defects`.
"""

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from unittest.mock import patch

from files.transfers.orphans import NAME
from local.provider import Fault, Simulator
from local.provider.batch import Batch
from local.provider.defects import Defects, Ending
from local.provider.pace import Pace
from local.provider.server import application
from local.provider.state import ProviderState
from manifold.providers import BatchProvider, Endpoint, Input, Job, JobStatus, Listed, Prepared, registry
from manifold.providers.batch_client import BatchClient
from manifold.providers.batch_lines import LineTranslator
from tests.faults.accounts import Account
from tests.faults.clock import Clock
from tests.faults.faults import Faults
from tests.faults.provider import Providers, ShardOf
from tests.faults.provider_jobs import Answered, Line, ProviderJob
from tests.faults.scheduler import Scheduler
from tests.support.batch_dialects import BATCH_DIALECTS, BatchDialect
from tests.support.in_process_provider import URL, InProcessTransport, ManualClock

Answer = TypeVar("Answer")
DIALECTS = {dialect.name: dialect for dialect in BATCH_DIALECTS}


class ProviderClock(ManualClock):
    """The run's time. A pause of the provider takes none."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


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
        self._loop = end.enter_context(_running_loop())
        client = BatchClient(InProcessTransport(application(state), time))
        with patch.object(registry, "_batch_client", lambda: client):
            self._adapter: BatchProvider = registry.batch_provider_for.__wrapped__(dialect.provider)
        self.model, self.sends_lines = dialect.model, self._adapter.sends_lines
        self._made: dict[str, tuple[str, str, Batch]] = {}
        """Our job's id, the adapter's id of it and the job, by the provider's own id."""
        self._expiring: set[str] = set()
        end.callback(state.batches.clear)

    def translator(self, endpoint: Endpoint) -> LineTranslator | None:
        return self._adapter.translator(self._at)

    def jobs(self) -> list[ProviderJob]:
        return [self._witness(*made) for made in self._made.values()]

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
        prepared = self._now(self._adapter.prepare(self._at, whole))
        if prepared.ref and prepared.expires_at is not None:
            self._expiring.add(prepared.ref)
        await self._answer(fault)
        return prepared

    async def submit(self, endpoint: Endpoint, job: Job) -> str:
        held = job if job.data is None else replace(job, data=await _held(job.data))
        return await super().submit(endpoint, held)

    async def find(self, endpoint: Endpoint, job: Job) -> str | None:
        _, fault = await self._begin("find", endpoint, job.id)
        found = self._now(self._adapter.find(self._at, job))
        await self._answer(fault)
        return found

    async def poll(self, endpoint: Endpoint, refs: Sequence[str], statuses: MutableMapping[str, JobStatus]) -> None:
        _, fault = await self._begin("poll", endpoint, ", ".join(refs))
        self._now(self._adapter.poll(self._at, refs, statuses))
        await self._answer(fault)

    async def cancel(self, endpoint: Endpoint, ref: str) -> None:
        _, fault = await self._begin("cancel", endpoint, ref)
        self._now(self._adapter.cancel(self._at, ref))
        await self._answer(fault)

    async def results(self, endpoint: Endpoint, ref: str) -> AsyncIterator[bytes]:
        _, fault = await self._begin("results", endpoint, ref)

        async def whole() -> bytes:
            return b"".join([chunk async for chunk in self._adapter.results(self._at, ref)])

        content = self._now(whole())
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

        for one in self._now(listed()):
            yield one

    async def discard(self, endpoint: Endpoint, ref: str) -> None:
        _, fault = await self._begin("discard", endpoint, ref, lasting=ref)
        self._now(self._adapter.discard(self._at, ref))
        await self._answer(fault)

    def _create(self, account: Account, job: Job, now: float) -> ProviderJob:
        """Submit the job by the adapter. The job that comes of it at the provider is known by being new there."""
        defects, batches = self._drawn_defects(), self._simulator.state.batches
        if defects is not None:
            self._simulator.fail(Fault(kind="job", account=self._dialect.account, job=defects))
        before = set(batches.ids())
        ref = self._now(self._adapter.submit(self._at, job))
        [made] = set(batches.ids()) - before
        self._made[made] = (job.id, ref, batches.known(made))
        witness = self._witness(*self._made[made])
        self._check(account, job, witness.lines)
        self._scheduler.trace.add(account.name, f"{ref} for {job.id}: {defects or 'no defects'}")
        return witness

    def _drawn_defects(self) -> Defects | None:
        random = self._random
        return _defects(random) if random.random() < self.odd else None

    def _witness(self, our_id: str, ref: str, batch: Batch) -> ProviderJob:
        """What the provider knows of a job, in the words of the invariants."""
        gone = batch.id not in self._simulator.state.batches.ids()
        if not gone:
            self._simulator.state.batches.update(batch)
        bill = Answered(failed=False, input_tokens=batch.input_tokens, output_tokens=batch.output_tokens)
        state: Any = "failed" if gone else batch.state
        return ProviderJob(
            ref=ref,
            our_id=our_id,
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

    def _now(self, call: Awaitable[Answer]) -> Answer:
        """What the call returns, which takes none of the run's time."""

        async def awaited() -> Answer:
            return await call

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result()


def _defects(random: Random) -> Defects:
    """How a job goes otherwise than well: passing, lasting, or in how it ends."""
    seconds = random.choice((0.0, 30.0, 3_000.0))
    code = random.choice(("token_limit_exceeded", "internal_error", "invalid_json_line"))
    return random.choice(
        (
            Defects(shuffled=True),
            Defects(late_counts=True),
            Defects(unnamed=2),
            Defects(missing=1),
            Defects(repeated=1),
            Defects(misnamed=1),
            Defects(stall="in_progress"),
            Defects(ending=Ending(state="expired", seconds=seconds, answered=random.randint(0, 3))),
            Defects(ending=Ending(state="failed", seconds=seconds, code=code)),
            Defects(ending=Ending(state="cancelled", seconds=seconds, answered=1)),
            Defects(ending=Ending(state="gone", seconds=seconds)),
        )
    )


async def _held(data: Input) -> Input:
    """The same input, whose lines are in memory: they are read in the loop of the run."""
    content = b"".join([chunk async for chunk in data.lines()])

    async def lines() -> AsyncIterator[bytes]:
        yield content

    return replace(data, lines=lines)


@contextmanager
def _running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="dialect")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


Make = Callable[[Clock, Scheduler, Faults, ShardOf, ExitStack], Providers]


def providers_of(name: str | None) -> Make:
    """What makes the providers of a run: those of a dialect, or of none."""
    if name is None:
        return lambda clock, scheduler, faults, shard_of, _: Providers(clock, scheduler, faults, shard_of)
    dialect = DIALECTS[name]
    return lambda clock, scheduler, faults, shard_of, end: DialectProviders(
        dialect, clock, scheduler, faults, shard_of, end
    )
