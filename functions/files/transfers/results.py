"""Where a batch's results are stored: provider → S3, as the files that the batch shows once it has ended.

Results are accepted if they are what the provider announced (`result_checks`). Others are fetched again; after
`RECHECK_SECONDS` they are accepted as they are, and the batch's `errors` say what is wrong with them.
"""

import secrets
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

from files.transfers.fetched_results import FetchedResults
from files.transfers.fetching import Fetching
from files.transfers.lease import LEASE_SECONDS, LeaseLost, run_leased
from files.transfers.rerun import Rerun, RunsAgain
from files.transfers.result_checks import is_exact, problems, summary, warnings
from files.transfers.result_usage import cost, summed
from files.transfers.retry_policy import (
    ATTEMPTS,
    UNCONFIGURED,
    Fault,
    is_exhausted,
    owner_message,
    pause,
)
from files.transfers.shard_requests import ShardRequests
from manifold import ids, observe
from manifold.batch_status import ErrorEntry
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import ManifoldError, ProviderError, ProviderUnclear, Unavailable
from manifold.prices import Prices
from manifold.provider_errors import is_key_refused
from manifold.providers import ENDED, JobStatus
from manifold.queue import MAX_DELAY, Message, Queue
from manifold.storage import Storage
from manifold.store import Store
from manifold.store.batches import LAST_SECONDS, BatchRow
from manifold.store.job_results import ResultFiles
from manifold.store.jobs import JobRow
from manifold.store.shards import ShardRow

UNCONFIGURED_PAUSE = 300.0
"""Seconds to the next attempt at a job whose deployment is no longer in `config.yaml`: it may come back."""
RECHECK_SECONDS = 1200.0
"""How long results that are not what was announced are fetched again, since that was first seen."""
LATE_SECONDS = LAST_SECONDS / 2
"""From when on a part of the results is accepted: one more attempt keeps it, before the batch is given up."""
REFUSED_PAUSE = 400.0
"""Least pause in seconds after the provider refused the results for good. All attempts then take 20 minutes."""

Answer = TypeVar("Answer")


class Results:
    """Stores the results of a job that ended at its provider. `worker` calls `run` for each `job` message.

    Holds the store, the queue, the deployments and a `Fetching`. A fault of a provider or of S3 is not raised: the
    job's row says when to try again. Raises `ManifoldError` if Postgres does not answer.
    """

    def __init__(self, store: Store, storage: Storage, queue: Queue, deployments: Deployments, prices: Prices) -> None:
        self._store = store
        self._queue = queue
        self._deployments = deployments
        self._storage = storage
        self._fetching = Fetching(storage, deployments, prices)
        self._rerun = Rerun(store, storage)

    async def run(self, job_id: str) -> None:
        """Store the results of an ended job, count them, and wake its shard; or write when to try again."""
        async with self._store.session() as tables:
            job = await tables.job_results.claim(job_id, secrets.token_hex(8), LEASE_SECONDS)
        if job is None:
            return
        if job.attempts > ATTEMPTS:  # not given up: the provider keeps results for weeks, but somebody must look
            observe.warning("results_fetch_stalled", job_id=job.id, attempts=job.attempts, cause=job.error)
            observe.count(observe.Metric.FAULTS)
        deployment = self._deployments.get(job.deployment_id, job.execution)
        try:
            if deployment is None:
                await self._wait_for_deployment(job)
            else:
                results = await self._leased(job, self._fetching.fetch(job, deployment, partial(self._requests, job)))
                await self._decide(job, deployment, results)
        except LeaseLost:
            observe.warning("lease_lost", job_id=job.id)

    async def _wait_for_deployment(self, job: JobRow) -> None:
        observe.warning("deployment_not_configured", job_id=job.id, deployment_id=job.deployment_id)
        results = FetchedResults(faults=[Unavailable(UNCONFIGURED)])
        if _is_last_chance(job, results):
            await self._accept_partial(job, results)
        else:
            await self._retry(job, UNCONFIGURED, UNCONFIGURED_PAUSE)

    async def _requests(self, job: JobRow) -> ShardRequests:
        """The requests of a job. Raises `Unavailable` if they are gone."""
        _, _, requests = await self._shard(job)
        if requests is None:
            raise Unavailable("The batch's input file is gone.")
        return requests

    async def _shard(self, job: JobRow) -> tuple[BatchRow | None, ShardRow | None, ShardRequests | None]:
        """The batch and the shard of a job, and where its requests are."""
        async with self._store.session() as tables:
            batch = (await tables.batches.of([job.batch_id])).get(job.batch_id)
            shard = await tables.shards.get(job.shard_id) if job.shard_id else None
            requests = await ShardRequests.load(tables, batch, shard) if batch and shard else None
        return batch, shard, requests

    async def _leased(self, job: JobRow, work: Coroutine[Any, Any, Answer]) -> Answer:
        """What the work returns, while the job's lease is renewed."""

        async def renew(seconds: float) -> bool:
            async with self._store.session() as tables:
                return await tables.job_results.renew(job, seconds)

        return await run_leased(renew, work)

    async def _decide(self, job: JobRow, deployment: Deployment, results: FetchedResults) -> None:
        """Accept the results, or fetch them again."""
        wrong = problems(job, results)
        if not wrong:
            await self._keep(job, results, warnings(results))
        elif _is_last_chance(job, results):
            await self._accept_partial(job, results)
        elif results.faults:
            await self._retry_after_fault(job, results, results.faults[-1])
        else:
            await self._recheck(job, deployment, results, summary(wrong))

    async def _retry_after_fault(self, job: JobRow, results: FetchedResults, fault: Fault) -> None:
        """Try again for as long as the provider may have the results. Where it says that it has not, give up."""
        observe.failed("results_fetch_failed", fault, job_id=job.id, attempts=job.attempts)
        wait, cause = pause(job.attempts, fault), owner_message(fault)
        if not _says_gone(fault):
            await self._retry(job, cause, wait, results)
        elif is_exhausted(job.attempts, fault) and job.error == cause:
            await self._accept_partial(job, results)
        else:
            await self._retry(job, cause, max(wait, REFUSED_PAUSE), results)

    async def _recheck(self, job: JobRow, deployment: Deployment, results: FetchedResults, cause: str) -> None:
        """Fetch results again that are not what was announced, and any file that the provider names only now."""
        observe.warning("results_incomplete", job_id=job.id, attempts=job.attempts, cause=cause)
        await self._update_references(job, deployment)
        await self._retry(job, cause, pause(job.attempts, ProviderUnclear(cause)), results, mismatch=True)

    async def _accept_partial(self, job: JobRow, results: FetchedResults) -> None:
        """Accept what is in S3; with nothing there, the results are lost."""
        wrong = problems(job, results)
        observe.warning("results_stored_incomplete", job_id=job.id, attempts=job.attempts, cause=summary(wrong))
        try:
            stored = await self._leased(job, self._fetching.read_stored(job))
        except ManifoldError as fault:
            await self._retry(job, fault.message, pause(job.attempts, fault), results)
            return
        if stored.lines:
            await self._keep(job, stored, [*wrong, *warnings(stored)])
        else:
            cause = owner_message(results.faults[-1]) if results.faults else summary(wrong)
            await self._finish(job, {**_summed(stored, []), "cost": None, "lost": cause})

    async def _update_references(self, job: JobRow, deployment: Deployment) -> None:
        """Note the files that the provider names by now, and its counts."""
        ref, statuses = job.provider_ref, dict[str, JobStatus]()
        if ref is None:
            return
        try:
            await self._deployments.call(deployment, lambda provider, at: provider.poll(at, [ref], statuses))
        except ProviderError as fault:
            observe.failed("results_poll_failed", fault, job_id=job.id)
            return
        status = statuses.get(ref)
        if status is not None and status.state in ENDED and not status.lost:
            async with self._store.session() as tables:
                await tables.job_results.named(job, self._references(job, deployment, status))

    def _references(self, job: JobRow, deployment: Deployment, status: JobStatus) -> ResultFiles:
        output, error = self._deployments.result_files(deployment, status)
        return ResultFiles(
            output_ref=status.output_ref,
            error_ref=status.error_ref,
            output_file_id=ids.new("file") if output else None,
            error_file_id=ids.new("file") if error else None,
            answers=status.answers(job.requests - job.refused) + job.refused,
        )

    async def _keep(self, job: JobRow, results: FetchedResults, errors: list[ErrorEntry]) -> None:
        """Accept the copies that are in S3, and have the lines made ready that run again."""
        try:
            more = await self._leased(job, self._compared(job, results))
        except ManifoldError as fault:
            await self._retry(job, fault.message, pause(job.attempts, fault), results)
        else:
            await self._finish(job, _summed(results, errors) | more)

    async def _compared(self, job: JobRow, results: FetchedResults) -> dict[str, Any]:
        """What the lines of the shard say of the results: whether these are `exact`, and what runs `again`."""
        batch, shard, lines = await self._shard(job)
        exact = is_exact(job, results, await lines.checksum(self._storage) if lines else None)
        if not (batch and shard and lines):
            return {"exact": exact}
        which = RunsAgain.of(batch, shard, job)
        fewest = self._deployments.fewest_requests(batch.groups, batch.endpoint, left=batch.left)
        again = await self._rerun.write(which, batch, shard, lines, results, exact=exact, fewest=fewest)
        return {"exact": exact, "again": again} if again else {"exact": exact}

    async def _finish(self, job: JobRow, results: dict[str, Any]) -> None:
        """Mark the job as stored, with these facts of its results, and wake its shard."""
        async with self._store.session() as tables:
            stored, woken = await tables.job_results.stored(job, results)
        if stored and job.execution == "gateway":
            await self._discard(job)
        if woken and job.shard_id:
            observe.event("results_stored", job_id=job.id, batch_id=job.batch_id, attempts=job.attempts)
            await self._queue.announce([Message("shard", job.shard_id)])

    async def _discard(self, job: JobRow) -> None:
        """Delete what the gateway itself had stored, now that it is copied. What is left goes with the file."""
        deployment, ref = self._deployments.get(job.deployment_id, job.execution), job.provider_ref
        if deployment is None or ref is None:
            return
        try:
            await self._deployments.call(deployment, lambda provider, at: provider.discard(at, ref))
        except (ProviderError, ManifoldError) as error:
            observe.failed("results_delete_failed", error, job_id=job.id)

    async def _retry(
        self, job: JobRow, cause: str, wait: float, results: FetchedResults | None = None, *, mismatch: bool = False
    ) -> None:
        """Try again after `wait` seconds. `results` are those of this attempt, some of which S3 has now."""
        kept = dict(job.kept)
        for kind, scan in results.files.items() if results else ():
            if scan.is_stored:
                kept[kind] = max(kept.get(kind, 0), scan.lines)
        async with self._store.session() as tables:
            await tables.job_results.retry(job, cause, wait, kept=kept, mismatch=mismatch)
        if wait <= MAX_DELAY:  # the schedule sends what is due later
            await self._queue.announce([Message("job", job.id)], delay=wait)


def _says_gone(fault: Fault) -> bool:
    """Whether the provider says that it has no such results. A wrong key, bill or address of ours may be corrected."""
    return isinstance(fault, ProviderError) and fault.lasting and fault.status is not None and not is_key_refused(fault)


def _is_last_chance(job: JobRow, results: FetchedResults) -> bool:
    """Whether to accept what is there: it did not get better for long enough, or the batch is about to be given up."""
    if not results.faults and (job.mismatch_for or 0) >= RECHECK_SECONDS:
        return True
    return (job.overdue_for or 0) >= LATE_SECONDS and (results.lines > 0 or any(job.kept.values()))


def _summed(results: FetchedResults, errors: list[ErrorEntry]) -> dict[str, Any]:
    """What the job's row keeps of the results: `output`, `error`, `usage`, `cost` and, if there are any, `errors`.

    Beside them are `exact` and `again`, or `lost`.

    `cost` is in US dollars, as text, which keeps its digits.
    """
    usages = [scan.usage for scan in results.files.values()]
    dollars = cost(usages)
    kept = {
        "output": _size(results, "output"),
        "error": _size(results, "error"),
        "usage": summed(usages),
        "cost": None if dollars is None else str(dollars),
    }
    return {**kept, "errors": errors} if errors else kept


def _size(results: FetchedResults, kind: str) -> dict[str, int] | None:
    scan = results.files.get(kind)
    return {"bytes": scan.bytes, "lines": scan.lines} if scan and scan.lines else None
