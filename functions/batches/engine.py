"""The engine moves a batch on, step by step, until it has ended.

There is one verb: take the lease of a due batch, read from its rows what the next step is, take that step, and write
when the one after it is due. So it does not matter who wakes the engine, how often, or where the last worker stopped.
The states are in `manifold.store.batches` and `manifold.store.jobs`, the steps in docs/architecture.md (A batch).
"""

import asyncio
import contextlib
import secrets
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from batches.announcement import announce_end
from batches.cancellation import Cancellation
from batches.poll_results import RESULTS_CHECK_SECONDS
from batches.polling import Polling
from batches.running_job import RunningJob
from batches.settlement import LeaseLost, Settlement
from batches.submission import Submission
from batches.termination import Termination
from manifold import observe
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.prices import Prices
from manifold.queue import Message, Queue
from manifold.store import Store
from manifold.store.batches import BatchRow
from manifold.store.jobs import JobRow

LEASE_SECONDS = 75
"""Longer than the longest run of a worker (60 s), so that the lease outlives the worker that took it."""
UNCONFIGURED_SECONDS = 300.0
"""Pause before the next step of a batch whose deployment is no longer in `config.yaml`."""
SELF_WAKE_SECONDS = 60.0
"""A step that is due within this gets a delayed message; a later one is found by the schedule."""


class Engine:
    """Takes the steps of batches; `batches.worker` calls `advance` for one, `batches.poller` `poll_due` for many.

    Holds one use case for each kind of step, and no state of a batch: that is in Postgres. A provider's error is
    logged or written to the rows, and never raised; what Postgres raises is passed on.
    """

    def __init__(self, store: Store, queue: Queue, deployments: Deployments) -> None:
        self._store = store
        self._queue = queue
        self._deployments = deployments
        self._submission = Submission(store, queue, deployments)
        self._cancellation = Cancellation(store, deployments)
        self._polling = Polling(store, deployments, self._cancellation)
        self._settlement = Settlement(store, Prices())
        self._termination = Termination(store)

    async def advance(self, batch_id: str) -> None:
        """Take the next step of this batch; nothing if it has ended, is not due, or another worker has its lease."""
        async with self._store.session() as tables:
            batch = await tables.batch_leases.claim(batch_id, secrets.token_hex(8), LEASE_SECONDS)
            jobs = await tables.jobs.open([batch_id]) if batch else {}
        if batch is not None:
            pause = await self._step(batch, jobs.get(batch.id))
            if pause is None:
                await announce_end(self._store, self._queue, batch.id)
            else:
                await self._announce(await self._release([(batch, pause)]))

    async def poll_due(self, limit: int) -> int:
        """Poll up to `limit` due batches with running jobs, all deployments at once; returns how many were claimed.

        Each deployment's batches are released as soon as its answers are written. Messages are sent meanwhile.
        """
        async with self._store.session() as tables:
            batches = await tables.batch_leases.claim_due(secrets.token_hex(8), LEASE_SECONDS, limit)
            jobs = await tables.jobs.open([batch.id for batch in batches])
        running, passed_over = self._sorted(batches, jobs)
        sending = [asyncio.create_task(self._announce(await self._release(passed_over)))]
        try:
            async with contextlib.aclosing(self._polling.poll(running)) as results:
                async for result in results:
                    wakes = await self._release(result.pauses, result.missed)
                    sending.append(asyncio.create_task(self._announce(wakes, result.messages)))
        finally:
            await asyncio.gather(*sending)
        return len(batches)

    def _sorted(
        self, batches: Sequence[BatchRow], jobs: Mapping[str, JobRow]
    ) -> tuple[list[RunningJob], list[tuple[BatchRow, float]]]:
        """The jobs that can be polled, and the other batches with their pauses.

        An overdue batch, and one whose job runs no more, is due at once: `batches.worker` takes its step.
        """
        running, passed_over, unconfigured = list[RunningJob](), list[tuple[BatchRow, float]](), Counter[str]()
        for batch in batches:
            job = jobs.get(batch.id)
            if job is None or job.state != "running" or batch.overdue:
                passed_over.append((batch, 0))
            elif deployment := self._deployments.get(job.deployment_id):
                running.append(RunningJob(batch, job, deployment))
            else:
                passed_over.append((batch, UNCONFIGURED_SECONDS))
                unconfigured[job.deployment_id] += 1
        for deployment_id, count in unconfigured.items():
            observe.warning("deployment_not_configured", deployment_id=deployment_id, jobs=count)
        return running, passed_over

    async def _step(self, batch: BatchRow, job: JobRow | None) -> float | None:
        """Take the step that the batch and its open job need; returns the seconds to the next, `None` at the end."""
        if job is None:
            if batch.status == "cancelling":
                await self._cancellation.end_unsubmitted(batch)
                return None
            return await self._submission.start(batch)
        deployment = self._deployments.get(job.deployment_id)
        if batch.overdue and job.state != "stored":
            await self._termination.give_up(batch, job, configured=deployment is not None)
            return None
        if job.state == "stored":
            await self._settle(batch, job, deployment)
            return None
        if deployment is None:
            return _unconfigured(job)
        if job.state in ("submitting", "unknown"):
            return await self._submission.reconcile(batch, job, deployment)
        if job.state == "running":
            return await self._poll(RunningJob(batch, job, deployment))
        await self._queue.announce([Message("job", job.id)])
        return RESULTS_CHECK_SECONDS

    async def _settle(self, batch: BatchRow, job: JobRow, deployment: Deployment | None) -> None:
        """End the batch with its stored results, also where its deployment is no longer in `config.yaml`."""
        try:
            await self._settlement.settle(batch, job, deployment)
        except LeaseLost:
            observe.warning("lease_lost", batch_id=batch.id)
        except Exception as error:
            if not batch.overdue:
                raise
            observe.fault(error, batch_id=batch.id, job_id=job.id)
            await self._termination.give_up(batch, job, configured=deployment is not None)

    async def _poll(self, running: RunningJob) -> float:
        """Poll one job; returns the seconds to the next step of its batch."""
        result = await self._polling.poll_one(running)
        await self._queue.announce(result.messages)
        [(_, pause)] = result.pauses
        return pause

    async def _release(
        self, pauses: Sequence[tuple[BatchRow, float]], missed: Sequence[tuple[BatchRow, float]] = ()
    ) -> dict[float, list[Message]]:
        """Give leases back; returns the messages of the steps that are due soon, by their delay in seconds.

        `missed` batches are left to the schedule, and get a message only if they were woken meanwhile.
        """
        if not (pauses or missed):
            return {}
        async with self._store.session() as tables:
            woken = await tables.batch_leases.release([*pauses, *missed])
        messages: dict[float, list[Message]] = defaultdict(list)
        messages[0] = [Message("batch", batch_id) for batch_id in woken]
        for batch, pause in pauses:
            if pause <= SELF_WAKE_SECONDS and batch.id not in woken:
                messages[pause].append(Message("batch", batch.id))
        return messages

    async def _announce(self, wakes: Mapping[float, Sequence[Message]], messages: Sequence[Message] = ()) -> None:
        """Send messages without a delay, and those of the next steps with theirs."""
        announcements = [(messages, 0.0), *((batches, delay) for delay, batches in wakes.items())]
        await asyncio.gather(*(self._queue.announce(some, delay=delay) for some, delay in announcements))


def _unconfigured(job: JobRow) -> float:
    """The pause for a job that cannot be reached: until it is overdue, its deployment may return to `config.yaml`."""
    observe.warning("deployment_not_configured", deployment_id=job.deployment_id, batch_id=job.batch_id)
    return UNCONFIGURED_SECONDS
