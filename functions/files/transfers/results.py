"""A job's results on their way to us: provider → S3, as files that a batch will show once it is settled.

They are believed if they are what the provider announced. What is not is fetched again, and after `DOUBT_SECONDS` what
came is kept, and the batch's `errors` say what is wrong with it.
"""

import secrets
from collections.abc import Coroutine
from typing import Any

from files.transfers.fetching import Fetching, Found
from files.transfers.lease import LEASE_SECONDS, LeaseLost, kept
from files.transfers.retry_policy import ATTEMPTS, UNCONFIGURED, Fault, pause, public, spent
from files.transfers.verdict import Entry, flaws, oddities, told
from manifold import ids, observe
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import ManifoldError, ProviderError, ProviderUnclear, Unavailable
from manifold.provider_errors import is_key_refused
from manifold.providers import ENDED, JobStatus
from manifold.queue import MAX_DELAY, Message, Queue
from manifold.storage import Storage
from manifold.store import Store
from manifold.store.batches import LAST_SECONDS
from manifold.store.job_results import ResultFiles
from manifold.store.jobs import JobRow

UNCONFIGURED_PAUSE = 300.0
"""Seconds to the next attempt at a job whose deployment `config.yaml` has lost: it may come back."""
DOUBT_SECONDS = 1200.0
"""How long results are fetched again that are not what was announced, since that was first seen."""
LATE_SECONDS = LAST_SECONDS / 2
"""From when on a part of the results is enough: one more attempt keeps it, before the batch is given up."""
REFUSED_PAUSE = 400.0
"""Seconds at least to the next attempt at results that the provider refuses for good: 20 minutes in all."""


class Results:
    def __init__(self, store: Store, storage: Storage, queue: Queue, deployments: Deployments) -> None:
        self._store = store
        self._queue = queue
        self._deployments = deployments
        self._fetching = Fetching(storage, deployments)

    async def run(self, job_id: str) -> None:
        """Store what an ended job left, count it, and wake its batch; or say when to try again."""
        async with self._store.session() as tables:
            job = await tables.job_results.claim(job_id, secrets.token_hex(8), LEASE_SECONDS)
        if job is None:
            return
        if job.attempts > ATTEMPTS:  # not given up: the provider keeps results for weeks, but somebody must look
            observe.warning("results_fetch_stalled", job_id=job.id, attempts=job.attempts, cause=job.error)
            observe.count(observe.Metric.FAULTS)
        deployment = self._deployments.get(job.deployment_id)
        try:
            if deployment is None:
                await self._unreachable(job)
            else:
                found = await self._leased(job, self._fetching.fetch(job, deployment))
                await self._judge(job, deployment, found)
        except LeaseLost:
            observe.warning("lease_lost", job_id=job.id)

    async def _unreachable(self, job: JobRow) -> None:
        observe.warning("deployment_not_configured", job_id=job.id, deployment_id=job.deployment_id)
        found = Found(faults=[Unavailable(UNCONFIGURED)])
        if _is_enough(job, found):
            await self._keep(job, found)
        else:
            await self._retry(job, UNCONFIGURED, UNCONFIGURED_PAUSE)

    async def _leased(self, job: JobRow, work: Coroutine[Any, Any, Found]) -> Found:
        """What the work finds, while the job stays ours."""

        async def renew(seconds: float) -> bool:
            async with self._store.session() as tables:
                return await tables.job_results.renew(job, seconds)

        return await kept(renew, work)

    async def _judge(self, job: JobRow, deployment: Deployment, found: Found) -> None:
        wrong = flaws(job, found)
        if not wrong:
            await self._stored(job, _results(found, oddities(job, found)))
        elif _is_enough(job, found):
            await self._keep(job, found)
        elif found.faults:
            await self._put_off(job, found, found.faults[-1])
        else:
            await self._doubt(job, deployment, found, told(wrong))

    async def _put_off(self, job: JobRow, found: Found, fault: Fault) -> None:
        """Try again for as long as the provider may still have the results; a lasting no of its own means that it
        lost them."""
        observe.failed("results_fetch_failed", fault, job_id=job.id, attempts=job.attempts)
        wait = pause(job.attempts, fault)
        if not _is_lost(fault):
            await self._retry(job, public(fault), wait, found)
        elif spent(job.attempts, fault) and job.error == public(fault):
            await self._keep(job, found)
        else:
            await self._retry(job, public(fault), max(wait, REFUSED_PAUSE), found)

    async def _doubt(self, job: JobRow, deployment: Deployment, found: Found, cause: str) -> None:
        """Fetch them again, and any file that the provider names only now."""
        observe.warning("results_incomplete", job_id=job.id, attempts=job.attempts, cause=cause)
        await self._ask_again(job, deployment)
        await self._retry(job, cause, pause(job.attempts, ProviderUnclear(cause)), found, doubted=True)

    async def _keep(self, job: JobRow, found: Found) -> None:
        """Give up waiting for better ones."""
        wrong = flaws(job, found)
        observe.warning("results_stored_incomplete", job_id=job.id, attempts=job.attempts, cause=told(wrong))
        try:
            held = await self._leased(job, self._fetching.kept(job))
        except ManifoldError as fault:
            await self._retry(job, fault.message, pause(job.attempts, fault), found)
            return
        if held.lines:
            await self._stored(job, _results(held, [*wrong, *oddities(job, held)]))
        else:
            cause = public(found.faults[-1]) if found.faults else told(wrong)
            await self._stored(job, {**_results(held, []), "lost": cause})

    async def _ask_again(self, job: JobRow, deployment: Deployment) -> None:
        """Note what the provider names and counts by now."""
        ref, known = job.provider_ref or "", dict[str, JobStatus]()
        try:
            await self._deployments.call(deployment, lambda provider, at: provider.poll(at, [ref], known))
        except ProviderError as fault:
            observe.failed("results_poll_failed", fault, job_id=job.id)
            return
        status = known.get(ref)
        if status is not None and status.state in ENDED and not status.lost:
            async with self._store.session() as tables:
                await tables.job_results.named(job, _names(job, status))

    async def _stored(self, job: JobRow, results: dict[str, Any]) -> None:
        async with self._store.transaction() as tables:
            stored = await tables.job_results.stored(job, results)
            woken = stored and await tables.batch_leases.wake(job.batch_id)
        if woken:
            observe.event("results_stored", job_id=job.id, batch_id=job.batch_id, attempts=job.attempts)
            await self._queue.announce([Message("batch", job.batch_id)])

    async def _retry(
        self, job: JobRow, cause: str, wait: float, found: Found | None = None, *, doubted: bool = False
    ) -> None:
        """`found` is what may have been written by then."""
        kept = dict(job.kept)
        for name, tally in found.files.items() if found else ():
            kept[name] = max(kept.get(name, 0), tally.lines)
        async with self._store.session() as tables:
            await tables.job_results.retry(job, cause, wait, kept=kept, doubted=doubted)
        if wait <= MAX_DELAY:  # the schedule sends what is due later
            await self._queue.announce([Message("job", job.id)], delay=wait)


def _is_lost(fault: Fault) -> bool:
    """Whether the provider has no such results. A key, a bill or an address of ours that is wrong may be mended."""
    return isinstance(fault, ProviderError) and fault.lasting and fault.status is not None and not is_key_refused(fault)


def _is_enough(job: JobRow, found: Found) -> bool:
    """Whether nothing better is waited for: in vain for long enough, or the batch is given up else, with what came."""
    if not found.faults and (job.doubted_for or 0) >= DOUBT_SECONDS:
        return True
    return (job.late_for or 0) >= LATE_SECONDS and (found.lines > 0 or any(job.kept.values()))


def _names(job: JobRow, status: JobStatus) -> ResultFiles:
    return ResultFiles(
        output_ref=status.output_ref,
        error_ref=status.error_ref,
        output_file_id=ids.new("file") if status.output_ref else None,
        error_file_id=ids.new("file") if status.error_ref else None,
        answers=status.answers(job.requests),
    )


def _results(found: Found, errors: list[Entry]) -> dict[str, Any]:
    """What the job's row keeps of them; the names of the usage are those of the table `usage`."""
    tallies = found.files.values()
    usage = {
        "requests": sum(tally.lines for tally in tallies),
        "failed_requests": sum(tally.failed for tally in tallies),
        "input_tokens": sum(tally.input_tokens for tally in tallies),
        "cached_tokens": sum(tally.cached_tokens for tally in tallies),
        "output_tokens": sum(tally.output_tokens for tally in tallies),
        "reasoning_tokens": sum(tally.reasoning_tokens for tally in tallies),
    }
    results = {"output": _size(found, "output"), "error": _size(found, "error"), "usage": usage}
    return {**results, "errors": errors} if errors else results


def _size(found: Found, name: str) -> dict[str, int] | None:
    tally = found.files.get(name)
    return {"bytes": tally.bytes, "lines": tally.lines} if tally and tally.lines else None
