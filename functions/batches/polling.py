"""Ask providers how running jobs stand, and write what changed: deployment by deployment, by one writer.

Each deployment has a time of its own, and is written as soon as it has answered: a slow one holds up nobody else.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from batches.validation import entry
from manifold import ids, observe
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import ProviderError
from manifold.providers import JobState, JobStatus, LineFailure
from manifold.queue import Message, Queue
from manifold.scrubbing import Scrubber
from manifold.store import Store, Tables
from manifold.store.batches import BatchRow, Outcome
from manifold.store.jobs import Ending, JobRow

POLL_SECONDS = 15.0
"""What one deployment gets for the cancels and the statuses of all its jobs that were claimed together."""
CANCELS_AT_ONCE = 8
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
DOUBT_SECONDS = 1200.0
"""How long an end that cannot be right yet is asked again, since it was first said."""
STORE_PATIENCE = 300.0
"""Seconds until somebody looks whether an ended job's results were stored."""


@dataclass(frozen=True, slots=True)
class Run:
    """A claimed batch, its running job, and the deployment that the job runs on."""

    batch: BatchRow
    job: JobRow
    deployment: Deployment


@dataclass(frozen=True, slots=True)
class Answers:
    """What one deployment answered about its jobs, as far as it did before its time was up."""

    runs: Sequence[Run]
    statuses: dict[str, JobStatus] = field(default_factory=dict)
    """By the provider's id."""
    cancelled: set[str] = field(default_factory=set)
    """The jobs, by our id, whose cancel it took."""
    waits: dict[str, float] = field(default_factory=dict)
    """Seconds to the next look, by batch id; there once the answers are written."""

    @property
    def deployment(self) -> Deployment:
        return self.runs[0].deployment


class Polling:
    def __init__(self, store: Store, queue: Queue, deployments: Deployments) -> None:
        self._store = store
        self._queue = queue
        self._deployments = deployments

    async def ask(self, runs: Sequence[Run]) -> AsyncGenerator[Answers, None]:
        """Poll these jobs, cancel those whose batch is to be cancelled, and write how they stand.

        Yields what a deployment answered as soon as it is written.
        """
        by_deployment: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            by_deployment[run.deployment.id].append(run)
        asked = [asyncio.create_task(self._answers(group)) for group in by_deployment.values()]
        try:
            for next_one in asyncio.as_completed(asked):
                answers = await next_one
                for run in answers.runs:
                    answers.waits[run.batch.id] = await self._written(run, answers)
                yield answers
        finally:
            for task in asked:
                task.cancel()

    async def ask_one(self, run: Run) -> float:
        """The same for one job; returns the seconds to the next look."""
        return await self._written(run, await self._answers([run]))

    async def _answers(self, runs: Sequence[Run]) -> Answers:
        answers = Answers(runs)
        gate = asyncio.Semaphore(CANCELS_AT_ONCE)
        cancels = [self._cancel(run, answers, gate) for run in runs if _is_to_cancel(run)]
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await asyncio.gather(self._poll(answers), *cancels)
        except TimeoutError:
            told = {"jobs": len(runs), "known": len(answers.statuses)}
            observe.warning("deployment_too_slow", deployment_id=answers.deployment.id, **told)
        return answers

    async def _cancel(self, run: Run, answers: Answers, gate: asyncio.Semaphore) -> None:
        ref = _ref(run)
        try:
            async with gate:
                await self._deployments.call(run.deployment, lambda provider, at: provider.cancel(at, ref))
        except ProviderError as error:
            observe.failed("job_not_cancelled_yet", error, job_id=run.job.id)
        else:
            answers.cancelled.add(run.job.id)

    async def _poll(self, answers: Answers) -> None:
        refs, known = [_ref(run) for run in answers.runs], answers.statuses
        try:
            await self._deployments.call(answers.deployment, lambda provider, at: provider.poll(at, refs, known))
        except ProviderError as error:
            observe.failed("jobs_not_polled", error, deployment_id=answers.deployment.id, jobs=len(refs))

    async def _written(self, run: Run, answers: Answers) -> float:
        """One batch that cannot be written must not hold up the others that were claimed with it."""
        try:
            return await self._write(run, answers)
        except Exception as error:
            observe.fault(error, batch_id=run.batch.id, job_id=run.job.id)
            return DELAYS[-1]

    async def _write(self, run: Run, answers: Answers) -> float:
        status, cancelled = answers.statuses.get(_ref(run)), run.job.id in answers.cancelled
        if status is not None and (outcome := _OUTCOMES.get(status.state)):
            if _is_doubtful(run, status):
                return await self._doubt(run, status)
            return await self._ended(run, status, outcome)
        async with self._store.session() as tables:
            await tables.jobs.polled(run.job, answered=status is not None)
            if cancelled:
                await tables.jobs.cancel_sent(run.job)
            if status is not None:
                await _progress(tables, run, status)
        if cancelled:
            return CANCEL_DELAY
        if _is_to_cancel(run):
            return CANCEL_AGAIN
        return DELAYS[min(run.job.polls + 1, len(DELAYS) - 1)]

    async def _doubt(self, run: Run, status: JobStatus) -> float:
        """An end that cannot be right yet is asked again, with the pauses of a fresh job."""
        observe.warning("job_end_doubted", job_id=run.job.id, batch_id=run.batch.id, lost=status.lost)
        async with self._store.session() as tables:
            await tables.jobs.end_seen(run.job)
            await _progress(tables, run, status)
        return DELAYS[0 if run.job.end_seen_for is None else min(run.job.polls + 1, len(DELAYS) - 1)]

    async def _ended(self, run: Run, status: JobStatus, outcome: Outcome) -> float:
        """Its results are to be stored, by the worker that moves bytes; with none, it can be settled at once."""
        scrubber = self._deployments.scrubber(run.deployment, await self._own(run))
        ending = Ending(
            outcome=outcome,
            output_ref=status.output_ref,
            error_ref=status.error_ref,
            output_file_id=ids.new("file") if status.output_ref else None,
            error_file_id=ids.new("file") if status.error_ref else None,
            errors=[*(_shown(error, scrubber) for error in status.errors), *_unnamed(run, status)],
            answers=status.answers(run.batch.total),
        )
        async with self._store.transaction() as tables:
            changed = await tables.jobs.ended(run.job, ending)
            await _progress(tables, run, status)
            await tables.batches.finalizing(run.batch.id)
        if ending.output_ref is None and ending.error_ref is None:
            return 0
        if changed:
            await self._queue.announce([Message("job", run.job.id)])
        return STORE_PATIENCE

    async def _own(self, run: Run) -> dict[str, str]:
        """The provider's ids of this job and its input, with those that the client knows."""
        async with self._store.session() as tables:
            prepared = await tables.inputs.get(run.job.input_id)
        ref = prepared.provider_ref if prepared else None
        return {_ref(run): run.batch.id} | ({ref: run.batch.input_file_id} if ref else {})


async def _progress(tables: Tables, run: Run, status: JobStatus) -> None:
    """How many requests there are is what the file says."""
    await tables.batches.progress(run.batch.id, run.batch.total or status.total, status.completed, status.failed)


def _is_doubtful(run: Run, status: JobStatus) -> bool:
    """Whether this end is to be asked again: the job is unknown, or its counts announce files that are not named."""
    if not (status.lost or status.lacks_files(run.batch.total)):
        return False
    return (run.job.end_seen_for or 0) < DOUBT_SECONDS


def _unnamed(run: Run, status: JobStatus) -> list[dict[str, Any]]:
    """The entry of `errors.data` of an end whose files were never named."""
    if not status.lacks_files(run.batch.total):
        return []
    counted = f"{status.completed} completed and {status.failed} failed requests"
    message = f"The provider counts {counted}, and named no file of results within {DOUBT_SECONDS / 60:.0f} minutes."
    return [entry("results_missing", message)]


def _is_to_cancel(run: Run) -> bool:
    return run.batch.status == "cancelling" and run.job.cancel_sent_at is None


def _shown(error: LineFailure, scrubber: Scrubber) -> dict[str, Any]:
    """An entry of the batch's `errors.data`, with nothing in it of where the job ran."""
    words = scrubber.text(error.message) or "The provider gave no reason."
    return entry(scrubber.word(error.code), words, param=scrubber.word(error.param), line=error.line)


def _ref(run: Run) -> str:
    ref = run.job.provider_ref
    assert ref is not None  # noqa: S101 (a running job has one, by a constraint)
    return ref
