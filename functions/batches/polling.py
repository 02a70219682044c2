"""Ask providers how running jobs stand, and write what changed: all at once, by one writer."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from manifold import ids, observe
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import ProviderError
from manifold.providers import JobState, JobStatus, LineFailure
from manifold.queue import Message, Queue
from manifold.store import Store
from manifold.store.batches import BatchRow, Outcome
from manifold.store.jobs import Ending, JobRow

DELAYS = (5.0, 15.0, 45.0, 60.0, 60.0, 60.0, 120.0, 120.0, 300.0)
"""Seconds between polls: quick at first, for small batches, then every five minutes."""
CANCEL_DELAY = 2.0
"""Seconds to the look after a cancel: most providers stop at once."""
CANCEL_AGAIN = 15.0
"""Seconds until a cancel is sent again that the provider did not take: it may refuse until the job has ended."""
_OUTCOMES: dict[JobState, Outcome] = {
    "completed": "completed",
    "failed": "failed",
    "expired": "expired",
    "cancelled": "cancelled",
}
STORE_PATIENCE = 300.0
"""Seconds until somebody looks whether an ended job's results were stored."""


@dataclass(frozen=True, slots=True)
class Run:
    """A claimed batch, its running job, and the deployment that the job runs on."""

    batch: BatchRow
    job: JobRow
    deployment: Deployment


class Polling:
    def __init__(self, store: Store, queue: Queue, deployments: Deployments) -> None:
        self._store = store
        self._queue = queue
        self._deployments = deployments

    async def ask(self, runs: Sequence[Run]) -> dict[str, float]:
        """Poll these jobs, cancel those whose batch is to be cancelled, and write how they stand.

        Returns the seconds to the next look, by batch id.
        """
        cancelled = await self._cancel([run for run in runs if _is_to_cancel(run)])
        statuses = await self._statuses(runs)
        return {run.batch.id: await self._written(run, statuses.get(run.job.id), run in cancelled) for run in runs}

    async def _cancel(self, runs: Sequence[Run]) -> list[Run]:
        """Send the cancels; returns the runs whose provider took it."""
        taken = await asyncio.gather(*(self._send_cancel(run) for run in runs))
        done = [run for run, took in zip(runs, taken, strict=True) if took]
        for run in done:
            async with self._store.session() as tables:
                await tables.jobs.cancel_sent(run.job)
        return done

    async def _send_cancel(self, run: Run) -> bool:
        ref = _ref(run)
        try:
            await self._deployments.call(run.deployment, lambda provider, at: provider.cancel(at, ref))
        except ProviderError as error:
            observe.failed("job_not_cancelled_yet", error, job_id=run.job.id)
            return False
        return True

    async def _statuses(self, runs: Sequence[Run]) -> dict[str, JobStatus]:
        """What the providers say, by job id; without those that could not be had this time."""
        by_deployment: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            by_deployment[run.deployment.id].append(run)
        answers = await asyncio.gather(*(self._ask_one(group) for group in by_deployment.values()))
        return {job_id: status for answer in answers for job_id, status in answer.items()}

    async def _ask_one(self, runs: Sequence[Run]) -> dict[str, JobStatus]:
        refs = {_ref(run): run.job.id for run in runs}
        deployment = runs[0].deployment
        try:
            answer: Mapping[str, JobStatus] = await self._deployments.call(
                deployment, lambda provider, at: provider.poll(at, list(refs))
            )
        except ProviderError as error:
            observe.failed("jobs_not_polled", error, deployment_id=deployment.id, jobs=len(runs))
            return {}
        return {refs[ref]: status for ref, status in answer.items() if ref in refs}

    async def _written(self, run: Run, status: JobStatus | None, cancelled: bool) -> float:
        """One batch that cannot be written must not hold up the others that were claimed with it."""
        try:
            return await self._write(run, status, cancelled)
        except Exception as error:
            observe.fault(error, batch_id=run.batch.id, job_id=run.job.id)
            return DELAYS[-1]

    async def _write(self, run: Run, status: JobStatus | None, cancelled: bool) -> float:
        if status is not None and (outcome := _OUTCOMES.get(status.state)):
            return await self._ended(run, status, outcome)
        async with self._store.session() as tables:
            await tables.jobs.polled(run.job)
            if status is not None:
                await tables.batches.progress(run.batch.id, status.total, status.completed, status.failed)
        if cancelled:
            return CANCEL_DELAY
        if _is_to_cancel(run):
            return CANCEL_AGAIN
        return DELAYS[min(run.job.polls + 1, len(DELAYS) - 1)]

    async def _ended(self, run: Run, status: JobStatus, outcome: Outcome) -> float:
        """Its results are to be stored, by the worker that moves bytes; with none, it can be settled at once."""
        ending = Ending(
            outcome=outcome,
            output_ref=status.output_ref,
            error_ref=status.error_ref,
            output_file_id=ids.new("file") if status.output_ref else None,
            error_file_id=ids.new("file") if status.error_ref else None,
            errors=[_shown(error, run) for error in status.errors],
        )
        async with self._store.transaction() as tables:
            changed = await tables.jobs.ended(run.job, ending)
            await tables.batches.progress(run.batch.id, status.total, status.completed, status.failed)
            await tables.batches.finalizing(run.batch.id)
        if ending.output_ref is None and ending.error_ref is None:
            return 0
        if changed:
            await self._queue.announce([Message("job", run.job.id)])
        return STORE_PATIENCE


def _is_to_cancel(run: Run) -> bool:
    return run.batch.status == "cancelling" and run.job.cancel_sent_at is None


def _shown(error: LineFailure, run: Run) -> dict[str, Any]:
    """An entry of the batch's `errors.data`, in the client's words instead of the provider's."""
    message = error.message.replace(run.deployment.model, run.deployment.group)
    shown = asdict(error) | {"message": message.replace(_ref(run), run.batch.id)}
    return {name: value.replace("\0", "") if isinstance(value, str) else value for name, value in shown.items()}


def _ref(run: Run) -> str:
    ref = run.job.provider_ref
    assert ref is not None  # noqa: S101 (a running job has one, by a constraint)
    return ref
