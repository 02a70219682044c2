"""Polls: the statuses of running jobs, requested from all deployments at once and written by one writer.

Each deployment has a time limit of its own, and its result is written as soon as it comes: a slow one delays no other.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from batches import cancellation
from batches.cancellation import Cancellation
from batches.running_job import RunningJob
from manifold import ids, observe
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import ProviderError
from manifold.providers import JobState, JobStatus, LineFailure
from manifold.queue import Message, Queue
from manifold.schemas import batch_error
from manifold.scrubbing import Scrubber
from manifold.store import Store, Tables
from manifold.store.batches import Outcome
from manifold.store.jobs import JobEnd

POLL_SECONDS = 15.0
"""Time limit of one deployment for the statuses, and the cancels, of all its jobs that were claimed together."""
POLL_PAUSES = (5.0, 15.0, 45.0, 60.0, 60.0, 60.0, 120.0, 120.0, 300.0)
"""Seconds between polls: short at first, for small batches, then five minutes."""
PREMATURE_END_SECONDS = 1200.0
"""How long an end that cannot be right yet is polled again, counted from when the provider first reported it."""
RESULTS_CHECK_SECONDS = 300.0
"""Pause before the engine checks that an ended job's results were stored."""
_OUTCOMES: dict[JobState, Outcome] = {
    "completed": "completed",
    "failed": "failed",
    "expired": "expired",
    "cancelled": "cancelled",
}
"""The states in which a job has ended at its provider, and how its batch ends then."""


@dataclass(frozen=True, slots=True)
class PollResult:
    """What one deployment answered about its running jobs within its time limit."""

    jobs: Sequence[RunningJob]
    statuses: dict[str, JobStatus] = field(default_factory=dict)
    """By the provider's id of the job; those that came in time."""
    cancelled: set[str] = field(default_factory=set)
    """The jobs, by our id, whose cancel the provider accepted."""
    pauses: dict[str, float] = field(default_factory=dict)
    """Seconds to the next poll, by our id of the batch; filled in when the result is written."""

    @property
    def deployment(self) -> Deployment:
        return self.jobs[0].deployment


class Polling:
    """Asks providers for the statuses of running jobs, and writes progress and ends; used by `Engine`.

    Holds no state of its own. A provider's error is logged and polled again later; it raises none.
    """

    def __init__(self, store: Store, queue: Queue, deployments: Deployments, cancellation: Cancellation) -> None:
        self._store = store
        self._queue = queue
        self._deployments = deployments
        self._cancellation = cancellation

    async def poll(self, jobs: Sequence[RunningJob]) -> AsyncGenerator[PollResult, None]:
        """Poll these jobs, all deployments at once; yields each deployment's result as soon as it is written."""
        by_deployment: dict[str, list[RunningJob]] = defaultdict(list)
        for running in jobs:
            by_deployment[running.deployment.id].append(running)
        tasks = [asyncio.create_task(self._request(group)) for group in by_deployment.values()]
        try:
            for finished in asyncio.as_completed(tasks):
                result = await finished
                for running in result.jobs:
                    result.pauses[running.batch.id] = await self._write_or_log(running, result)
                yield result
        finally:
            for task in tasks:
                task.cancel()

    async def poll_one(self, running: RunningJob) -> float:
        """Poll one job; returns the seconds to the next step of its batch."""
        return await self._write_or_log(running, await self._request([running]))

    async def _request(self, jobs: Sequence[RunningJob]) -> PollResult:
        """The statuses of one deployment's jobs, as far as they come in time. Cancels that are due go out beside it."""
        result = PollResult(jobs)
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await asyncio.gather(self._request_statuses(result), self._cancellation.send(jobs, result.cancelled))
        except TimeoutError:
            counts = {"jobs": len(jobs), "known": len(result.statuses)}
            observe.warning("jobs_poll_timed_out", deployment_id=result.deployment.id, **counts)
        return result

    async def _request_statuses(self, result: PollResult) -> None:
        refs, statuses = [running.ref for running in result.jobs], result.statuses
        try:
            await self._deployments.call(result.deployment, lambda provider, at: provider.poll(at, refs, statuses))
        except ProviderError as error:
            observe.failed("jobs_poll_failed", error, deployment_id=result.deployment.id, jobs=len(refs))

    async def _write_or_log(self, running: RunningJob, result: PollResult) -> float:
        """One batch that cannot be written must not hold up the others that were claimed with it."""
        try:
            return await self._write(running, result)
        except Exception as error:
            observe.fault(error, batch_id=running.batch.id, job_id=running.job.id)
            return POLL_PAUSES[-1]

    async def _write(self, running: RunningJob, result: PollResult) -> float:
        """Write how one job stands; returns the seconds to the next step of its batch."""
        status = result.statuses.get(running.ref)
        if status is not None and (outcome := _OUTCOMES.get(status.state)):
            if _is_premature(running, status):
                return await self._write_premature_end(running, status)
            return await self._write_end(running, status, outcome)
        async with self._store.session() as tables:
            await tables.jobs.polled(running.job, answered=status is not None)
            await cancellation.record(tables, running, result.cancelled)
            if status is not None:
                await _write_progress(tables, running, status)
        pause = cancellation.pause(running, result.cancelled)
        return _pause_after(running.job.polls + 1) if pause is None else pause

    async def _write_premature_end(self, running: RunningJob, status: JobStatus) -> float:
        """An end that cannot be right yet is polled again, with the pauses of a new job."""
        observe.warning("job_end_premature", job_id=running.job.id, batch_id=running.batch.id, lost=status.lost)
        async with self._store.session() as tables:
            await tables.jobs.end_seen(running.job)
            await _write_progress(tables, running, status)
        return _pause_after(0 if running.job.end_seen_for is None else running.job.polls + 1)

    async def _write_end(self, running: RunningJob, status: JobStatus, outcome: Outcome) -> float:
        """running → ended, and have `files.transfers` store the results; without any, the next step ends the batch."""
        scrubber = self._deployments.scrubber(running.deployment, await self._ids_to_replace(running))
        end = JobEnd(
            outcome=outcome,
            output_ref=status.output_ref,
            error_ref=status.error_ref,
            output_file_id=ids.new("file") if status.output_ref else None,
            error_file_id=ids.new("file") if status.error_ref else None,
            errors=[*(_error_entry(error, scrubber) for error in status.errors), *_missing_results(running, status)],
            answers=status.answers(running.batch.total),
        )
        async with self._store.transaction() as tables:
            changed = await tables.jobs.ended(running.job, end)
            await _write_progress(tables, running, status)
            await tables.batches.finalizing(running.batch.id)
        if end.output_ref is None and end.error_ref is None:
            return 0
        if changed:
            await self._queue.announce([Message("job", running.job.id)])
        return RESULTS_CHECK_SECONDS

    async def _ids_to_replace(self, running: RunningJob) -> dict[str, str]:
        """The provider's ids of this job and of its input, each with the id of ours that the client knows."""
        async with self._store.session() as tables:
            prepared = await tables.inputs.get(running.job.input_id)
        input_ref = prepared.provider_ref if prepared else None
        return {running.ref: running.batch.id} | ({input_ref: running.batch.input_file_id} if input_ref else {})


def _pause_after(polls: int) -> float:
    return POLL_PAUSES[min(polls, len(POLL_PAUSES) - 1)]


async def _write_progress(tables: Tables, running: RunningJob, status: JobStatus) -> None:
    """The number of requests is what our file says; the provider's where the file says none."""
    total = running.batch.total or status.total
    await tables.batches.progress(running.batch.id, total, status.completed, status.failed)


def _is_premature(running: RunningJob, status: JobStatus) -> bool:
    """Whether an end cannot be right yet: the provider does not know the job, or lacks files that its counts announce.

    After `PREMATURE_END_SECONDS` it is believed.
    """
    if not (status.lost or status.lacks_files(running.batch.total)):
        return False
    return (running.job.end_seen_for or 0) < PREMATURE_END_SECONDS


def _missing_results(running: RunningJob, status: JobStatus) -> list[dict[str, Any]]:
    """The entry of `errors.data` for an end whose files were never named."""
    if not status.lacks_files(running.batch.total):
        return []
    counted = f"{status.completed} completed and {status.failed} failed requests"
    minutes = f"{PREMATURE_END_SECONDS / 60:.0f} minutes"
    message = f"The provider counted {counted}, but named no file of results within {minutes}."
    return [batch_error("results_missing", message)]


def _error_entry(error: LineFailure, scrubber: Scrubber) -> dict[str, Any]:
    """An entry of the batch's `errors.data` that tells nothing of where the job ran."""
    message = scrubber.text(error.message) or "The provider gave no reason."
    return batch_error(scrubber.word(error.code), message, param=scrubber.word(error.param), line=error.line)
