"""The engine moves a batch on, step by step, until it has ended.

There is one verb: take the lease of a due batch, read from its rows what the next step is, take that step, and write
when the one after it is due. So it does not matter who wakes the engine, how often, or where the last worker stopped.
The states are in `manifold.store.batches` and `manifold.store.jobs`, the steps in docs/architecture.md (A batch).
"""

import contextlib
import secrets
from collections.abc import Collection, Mapping, Sequence

from batches.cancellation import Cancellation
from batches.polling import RESULTS_CHECK_SECONDS, Polling
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
        self._polling = Polling(store, queue, deployments, self._cancellation)
        self._settlement = Settlement(store, Prices())
        self._termination = Termination(store)

    async def advance(self, batch_id: str) -> None:
        """Take the next step of this batch; nothing if it has ended, is not due, or another worker has its lease."""
        async with self._store.session() as tables:
            batch = await tables.batch_leases.claim(batch_id, secrets.token_hex(8), LEASE_SECONDS)
            jobs = await tables.jobs.open([batch_id]) if batch else {}
        if batch is not None:
            await self._release(batch, await self._step(batch, jobs.get(batch.id)))

    async def poll_due(self, limit: int, unresponsive: set[str]) -> int:
        """Poll up to `limit` due batches with running jobs, all deployments at once; returns how many were claimed.

        Batches of the deployments in `unresponsive` (ids) are not claimed. A deployment that gives no status at all in
        its time is added to the set.
        """
        async with self._store.session() as tables:
            batches = await tables.batch_leases.claim_due(secrets.token_hex(8), LEASE_SECONDS, limit, unresponsive)
            jobs = await tables.jobs.open([batch.id for batch in batches])
        running = self._running([(batch, jobs[batch.id]) for batch in batches if batch.id in jobs])
        await self._pass_over(batches, jobs, {one.batch.id for one in running})
        async with contextlib.aclosing(self._polling.poll(running)) as results:
            async for result in results:
                if not result.statuses:
                    unresponsive.add(result.deployment.id)
                for one in result.jobs:
                    await self._release(one.batch, result.pauses[one.batch.id])
        return len(batches)

    async def _pass_over(
        self, batches: Sequence[BatchRow], jobs: Mapping[str, JobRow], polled: Collection[str]
    ) -> None:
        """Of the claimed batches that are not polled, end those that are overdue and release the others."""
        for batch in batches:
            job = jobs.get(batch.id)
            if job is not None and batch.overdue:
                await self._step(batch, job)
            elif batch.id not in polled:
                await self._release(batch, UNCONFIGURED_SECONDS)

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
            return await self._polling.poll_one(RunningJob(batch, job, deployment))
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

    def _running(self, claimed: Sequence[tuple[BatchRow, JobRow]]) -> list[RunningJob]:
        """The jobs that can be polled; one whose deployment is no longer in `config.yaml` is logged."""
        running = []
        for batch, job in claimed:
            deployment = self._deployments.get(job.deployment_id)
            if batch.overdue:
                continue
            if deployment is None:
                _unconfigured(job)
            elif job.state == "running":
                running.append(RunningJob(batch, job, deployment))
        return running

    async def _release(self, batch: BatchRow, pause: float | None) -> None:
        """Give the lease back, and send the message for the next step if that is due soon; `None`: there is none."""
        if pause is None:
            return
        async with self._store.session() as tables:
            woken = await tables.batch_leases.release(batch, pause)
        if woken or pause <= SELF_WAKE_SECONDS:
            await self._queue.announce([Message("batch", batch.id)], delay=0 if woken else pause)


def _unconfigured(job: JobRow) -> float:
    """The pause for a job that cannot be reached: until it is overdue, its deployment may return to `config.yaml`."""
    observe.warning("deployment_not_configured", deployment_id=job.deployment_id, batch_id=job.batch_id)
    return UNCONFIGURED_SECONDS
