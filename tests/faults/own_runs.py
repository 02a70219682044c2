"""Runs of chunks by workers, as they are watched: who holds a chunk until when, and what was stored before."""

import json
from dataclasses import dataclass
from typing import Protocol

from batches.execution.chunk_execution import WORK_SECONDS, ChunkExecution
from batches.execution.chunk_run import LEASE_SECONDS, ChunkRun, Stop
from batches.execution.result_writer import ResultWriter
from manifold.config import Config, Deployment
from manifold.deployments import Deployments
from manifold.dispatch.dispatcher import Dispatcher
from manifold.execution.pace import Claim, Grant, PaceLimits
from manifold.execution.parts import job_prefix
from manifold.prices import Prices
from manifold.queue import Queue
from manifold.storage import Storage
from manifold.store import Store
from manifold.store.chunks import ChunkRow
from tests.faults.clock import Clock
from tests.faults.environments import Environment, current


@dataclass(eq=False)
class OwnRun:
    """One attempt at a chunk. Times are seconds that tasks have waited for, unless they are said to be Unix times."""

    chunk: ChunkRow
    environment: Environment
    began: float
    stored: frozenset[str]
    """The requests (custom_ids) whose results were in the bucket when it began."""
    sure_until: float = 0.0
    """The Unix time until which it has its lease and its share, at least."""
    lapsed: bool = False
    """Whether it may have been without its lease meanwhile."""
    missed: bool = False
    """Whether a renewal failed."""
    told_at: float | None = None
    """When a renewal told it that the lease is lost."""
    lost_at: float | None = None
    """When a call began that found the lease lost, for the first time."""
    stop: Stop | None = None
    ended: float | None = None
    how: str = "goes on"
    """`killed`, `failed`, `returned`, or `goes on`."""

    def end(self, at: float, how: str) -> None:
        if self.ended is None:
            self.ended, self.how = at, how

    def is_sure(self, now: float) -> bool:
        """Whether it has the lease and the share without doubt, and never was without (Unix time)."""
        return self.ended is None and not self.lapsed and now <= self.sure_until


class Watcher(Protocol):
    """The simulation, as far as it is watched here."""

    clock: Clock
    objects: dict[str, bytes]
    runs: list[OwnRun]


class WatchedExecution(ChunkExecution):
    """The execution of an environment, whose runs are noted."""

    watcher: Watcher

    @classmethod
    def made(
        cls,
        store: Store,
        storage: Storage,
        queue: Queue,
        deployments: Deployments,
        prices: Prices,
        config: Config,
        watcher: Watcher,
    ) -> "WatchedExecution":
        settings = config.router_settings
        dispatcher = Dispatcher(deployments, settings, store, prices, WORK_SECONDS)
        execution = cls(store, storage, queue, deployments, dispatcher, settings)
        execution.watcher = watcher
        return execution

    async def _run(self, chunk: ChunkRow, deployment: Deployment, began: float) -> None:
        environment, clock = current(), self.watcher.clock
        assert environment is not None
        run = OwnRun(chunk, environment, clock.steady(), frozenset(stored(self.watcher.objects, chunk)))
        self.watcher.runs.append(run)
        environment.on_kill.append(lambda: run.end(clock.steady(), "killed"))
        try:
            await super()._run(chunk, deployment, began)
        except BaseException:
            run.end(clock.steady(), "failed")
            raise
        run.end(clock.steady(), "returned")

    async def _renew(
        self, chunk: ChunkRow, limits: PaceLimits, claim: Claim, writer: ResultWriter
    ) -> tuple[Grant, float] | None:
        run = run_of(self.watcher.runs, current())
        began = self.watcher.clock.now()
        try:
            renewed = await super()._renew(chunk, limits, claim, writer)
        except BaseException:
            run.missed = True
            raise
        if run.sure_until and self.watcher.clock.now() > run.sure_until:
            run.lapsed = True
        if renewed is not None:
            run.sure_until = began + LEASE_SECONDS
        elif run.told_at is None:
            run.told_at = self.watcher.clock.steady()
        return renewed

    async def _write_end(
        self, chunk: ChunkRow, limits: PaceLimits, run: ChunkRun, writer: ResultWriter, stop: Stop | None
    ) -> None:
        watched = run_of(self.watcher.runs, current())
        watched.stop = stop
        await super()._write_end(chunk, limits, run, writer, stop)


def run_of(runs: list[OwnRun], environment: Environment | None) -> OwnRun:
    """The run that is under way in an environment."""
    return next(run for run in reversed(runs) if run.environment is environment)


def stored(objects: dict[str, bytes], chunk: ChunkRow) -> list[str]:
    """The requests of a chunk whose results are in the bucket."""
    prefix = f"{job_prefix(chunk.input_file_id, chunk.job_id)}{chunk.id}/"
    contents = [content for key, content in objects.items() if key.startswith(prefix)]
    return [json.loads(line)["custom_id"] for content in contents for line in content.splitlines()]
