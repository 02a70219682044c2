"""A job's results on their way to us: provider → S3, as files that a batch will show once it is settled."""

import secrets
from functools import partial
from typing import Any

from files.lease import LEASE_SECONDS, LeaseLost, kept
from files.patience import ATTEMPTS, UNCONFIGURED, Fault, lasting, pause, public, spent
from files.tally import Tally
from manifold import observe
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import ManifoldError, ProviderError
from manifold.providers import Endpoint, Provider
from manifold.queue import MAX_DELAY, Message, Queue
from manifold.storage import Storage
from manifold.store import Store
from manifold.store.files import storage_key
from manifold.store.jobs import JobRow

UNCONFIGURED_PAUSE = 300.0
"""Seconds to the next attempt at a job whose deployment `config.yaml` has lost: it may come back."""


class Results:
    def __init__(self, store: Store, storage: Storage, queue: Queue, deployments: Deployments) -> None:
        self._store = store
        self._storage = storage
        self._queue = queue
        self._deployments = deployments

    async def run(self, job_id: str) -> None:
        """Store what an ended job left, count it, and wake its batch; or say when to try again."""
        async with self._store.session() as tables:
            job = await tables.jobs.claim_results(job_id, secrets.token_hex(8), LEASE_SECONDS)
        if job is None:
            return
        if job.attempts > ATTEMPTS:  # not given up: the provider keeps results for weeks, but somebody must look
            observe.warning("results_keep_failing", job_id=job.id, attempts=job.attempts, cause=job.error)
            observe.count(observe.Metric.FAULTS)
        deployment = self._deployments.get(job.deployment_id)
        if deployment is None:
            observe.warning("deployment_unconfigured", job_id=job.id, deployment_id=job.deployment_id)
            await self._retry(job, UNCONFIGURED, UNCONFIGURED_PAUSE)
        else:
            await self._transfer(job, deployment)

    async def _transfer(self, job: JobRow, deployment: Deployment) -> None:
        try:
            output, error = await kept(partial(self._renew, job), self._copies(job, deployment))
        except LeaseLost:
            observe.warning("lease_lost", job_id=job.id)
        except (ProviderError, ManifoldError) as fault:
            await self._put_off(job, fault)
        else:
            await self._stored(job, {"output": _size(output), "error": _size(error), "usage": _usage(output, error)})

    async def _renew(self, job: JobRow, seconds: float) -> bool:
        async with self._store.session() as tables:
            return await tables.jobs.renew_results(job, seconds)

    async def _copies(self, job: JobRow, deployment: Deployment) -> tuple[Tally, Tally]:
        output = await self._copy(deployment, job.output_ref, job.output_file_id)
        return output, await self._copy(deployment, job.error_ref, job.error_file_id)

    async def _copy(self, deployment: Deployment, ref: str | None, file_id: str | None) -> Tally:
        """Copy one result file whole, over whatever an earlier attempt left of it. An empty one is not kept."""
        if ref is None or file_id is None:
            return Tally()
        key = storage_key(file_id)

        async def copy(provider: Provider, at: Endpoint) -> Tally:
            tally = Tally()
            await self._storage.write(key, tally.through(provider.results(at, ref)))
            return tally

        tally = await self._deployments.call(deployment, copy, seconds=None)
        if not tally.lines:
            await self._storage.delete(key)
        return tally

    async def _stored(self, job: JobRow, results: dict[str, Any]) -> None:
        async with self._store.transaction() as tables:
            stored = await tables.jobs.stored(job, results)
            woken = stored and await tables.batches.wake(job.batch_id)
        if woken:
            observe.event("results_stored", job_id=job.id, batch_id=job.batch_id, attempts=job.attempts)
            await self._queue.announce([Message("batch", job.batch_id)])

    async def _put_off(self, job: JobRow, fault: Fault) -> None:
        """Try again for as long as the provider may still have the results; a lasting no means that it lost them."""
        observe.failed("results_not_had", fault, job_id=job.id, attempts=job.attempts)
        if lasting(fault) and spent(job.attempts, fault):
            lost = {"output": None, "error": None, "usage": _usage(), "lost": public(fault)}
            await self._stored(job, lost)
        else:
            await self._retry(job, public(fault), pause(job.attempts, fault))

    async def _retry(self, job: JobRow, cause: str, wait: float) -> None:
        async with self._store.session() as tables:
            await tables.jobs.retry_results(job, cause, wait)
        if wait <= MAX_DELAY:  # the schedule sends what is due later
            await self._queue.announce([Message("job", job.id)], delay=wait)


def _size(tally: Tally) -> dict[str, int] | None:
    return {"bytes": tally.bytes, "lines": tally.lines} if tally.lines else None


def _usage(*tallies: Tally) -> dict[str, int]:
    """What a job's result files say it used; the names are those of the table `usage`."""
    return {
        "requests": sum(tally.lines for tally in tallies),
        "failed_requests": sum(tally.failed for tally in tallies),
        "input_tokens": sum(tally.input_tokens for tally in tallies),
        "cached_tokens": sum(tally.cached_tokens for tally in tallies),
        "output_tokens": sum(tally.output_tokens for tally in tallies),
        "reasoning_tokens": sum(tally.reasoning_tokens for tally in tallies),
    }
