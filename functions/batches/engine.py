"""The engine: it looks at a due batch under a lease, takes the one step that is next, and says when to look again.

There is one verb, so it does not matter who wakes it, how often, or where the last worker stopped: what to do next is
read from the rows each time.
"""

import contextlib
import secrets
from collections.abc import Collection, Mapping, Sequence

from batches.cancellation import Cancellation
from batches.ending import Ending
from batches.polling import RESULTS_CHECK_SECONDS, Polling
from batches.running_job import RunningJob
from batches.settlement import LeaseLost, Settlement
from batches.submission import Submission
from manifold import observe
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.prices import Prices
from manifold.queue import Message, Queue
from manifold.store import Store
from manifold.store.batches import BatchRow
from manifold.store.jobs import JobRow

LEASE_SECONDS = 75
"""Longer than the longest run of a worker (60 s), so that a lease outlives whoever took it."""
UNCONFIGURED_PATIENCE = 300.0
"""Seconds to the next look at a batch whose deployment `config.yaml` has lost."""
SELF_WAKE_SECONDS = 60.0
"""A look that is due sooner gets a delayed message; later ones are the schedule's."""


class Engine:
    def __init__(self, store: Store, queue: Queue, deployments: Deployments) -> None:
        self._store = store
        self._queue = queue
        self._deployments = deployments
        self._submission = Submission(store, queue, deployments)
        self._cancellation = Cancellation(store, deployments)
        self._polling = Polling(store, queue, deployments, self._cancellation)
        self._settlement = Settlement(store, Prices())
        self._ending = Ending(store)

    async def look(self, batch_id: str) -> None:
        """Take the next step of this batch, if it is due and nobody else holds it."""
        async with self._store.session() as tables:
            batch = await tables.batches.claim(batch_id, secrets.token_hex(8), LEASE_SECONDS)
            jobs = await tables.jobs.open([batch_id]) if batch else {}
        if batch is not None:
            await self._release(batch, await self._step(batch, jobs.get(batch.id)))

    async def poll_due(self, limit: int, silent: set[str]) -> int:
        """Poll up to `limit` due batches with running jobs, deployment by deployment; returns how many there were.

        No deployment in `silent` is asked. One of which nothing was heard is added to it.
        """
        async with self._store.session() as tables:
            batches = await tables.batches.claim_due(secrets.token_hex(8), LEASE_SECONDS, limit, silent)
            jobs = await tables.jobs.open([batch.id for batch in batches])
        running = self._running([(batch, jobs[batch.id]) for batch in batches if batch.id in jobs])
        await self._pass_over(batches, jobs, {one.batch.id for one in running})
        async with contextlib.aclosing(self._polling.poll(running)) as results:
            async for result in results:
                if not result.statuses:
                    silent.add(result.deployment.id)
                for one in result.jobs:
                    await self._release(one.batch, result.pauses[one.batch.id])
        return len(batches)

    async def _pass_over(self, batches: Sequence[BatchRow], jobs: Mapping[str, JobRow], asked: Collection[str]) -> None:
        """Give up what is overdue, and give back the leases of what cannot be asked."""
        for batch in batches:
            job = jobs.get(batch.id)
            if job is not None and batch.overdue:
                await self._step(batch, job)
            elif batch.id not in asked:
                await self._release(batch, UNCONFIGURED_PATIENCE)

    async def _step(self, batch: BatchRow, job: JobRow | None) -> float | None:
        """The seconds to the next look; `None` if the batch has ended."""
        if job is None:
            if batch.status == "cancelling":
                await self._cancellation.end_unsubmitted(batch)
                return None
            return await self._submission.start(batch)
        deployment = self._deployments.get(job.deployment_id)
        if batch.overdue and job.state != "stored":
            await self._ending.give_up(batch, job, configured=deployment is not None)
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
        """Its results are here, so it ends also where `config.yaml` has lost the deployment."""
        try:
            await self._settlement.settle(batch, job, deployment)
        except LeaseLost:
            observe.warning("lease_lost", batch_id=batch.id)
        except Exception as error:
            if not batch.overdue:
                raise
            observe.fault(error, batch_id=batch.id, job_id=job.id)
            await self._ending.give_up(batch, job, configured=deployment is not None)

    def _running(self, claimed: Sequence[tuple[BatchRow, JobRow]]) -> list[RunningJob]:
        """What can be polled; a job whose deployment is gone from the configuration is reported."""
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

    async def _release(self, batch: BatchRow, wait: float | None) -> None:
        """Give the lease back, and see that somebody comes when the next look is soon."""
        if wait is None:
            return
        async with self._store.session() as tables:
            woken = await tables.batches.release(batch, wait)
        if woken or wait <= SELF_WAKE_SECONDS:
            await self._queue.announce([Message("batch", batch.id)], delay=0 if woken else wait)


def _unconfigured(job: JobRow) -> float:
    """The job cannot be reached; until it is overdue, the deployment may come back into `config.yaml`."""
    observe.warning("deployment_not_configured", deployment_id=job.deployment_id, batch_id=job.batch_id)
    return UNCONFIGURED_PATIENCE
