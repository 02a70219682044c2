"""What polls brought, written for many jobs at once: progress, ends, and the pause before each shard's next step."""

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from batches import cancellation, failures
from batches.rooms import grow_room, wake_line
from batches.running_job import RunningJob
from manifold import ids, observe
from manifold.batch_status import batch_error
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import Unavailable
from manifold.provider_errors import account_error, status_of
from manifold.providers import JobState, JobStatus, LineFailure
from manifold.queue import Message
from manifold.scrubbing import Scrubber
from manifold.store import Store, Tables
from manifold.store.batches import Outcome
from manifold.store.job_changes import Fault, JobEnd, JobPoll
from manifold.store.shards import Counts, ShardRow

POLL_PAUSES = (5.0, 15.0, 45.0, 60.0, 60.0, 60.0, 120.0, 120.0, 300.0)
"""Seconds between polls: short at first, for small batches, then five minutes."""
PREMATURE_END_SECONDS = 1200.0
"""How long an end that cannot be right yet is polled again, counted from when the provider first reported it."""
RESULTS_CHECK_SECONDS = 300.0
"""Pause before the engine checks that an ended job's results were stored."""
MISSED_SECONDS = 1.0
"""Pause of jobs for which their deployment had no time: they are due in the next run of the schedule."""
WRITTEN_TOGETHER = 500
"""The most jobs that one transaction writes."""
_OUTCOMES: dict[JobState, Outcome] = {
    "completed": "completed",
    "failed": "failed",
    "expired": "expired",
    "cancelled": "cancelled",
}
"""The states in which a job has ended at its provider, and how its batch ends then."""


class PollResult:
    """What one deployment answered about its running jobs within its time limit."""

    def __init__(self, jobs: Sequence[RunningJob]) -> None:
        self.jobs = jobs
        self.statuses: dict[str, JobStatus] = {}
        """By the provider's id of the job; those that came in time."""
        self.cancelled: set[str] = set()
        """The jobs, by our id, whose cancel the provider accepted."""

        # Filled in when the result is written.
        self.pauses: list[tuple[ShardRow, float]] = []
        """The shards, each with the seconds to its next step."""
        self.missed: list[tuple[ShardRow, float]] = []
        """The same, where many were polled and these got no answer: the schedule polls them again, no message does."""
        self.messages: list[Message] = []
        """For the jobs whose results are to be stored, and the shards that wait for the room that came free."""

    @property
    def deployment(self) -> Deployment:
        return self.jobs[0].deployment

    def ended(self, running: RunningJob) -> tuple[JobStatus, Outcome] | None:
        """How a job has ended, if it has; `None` also for an end that cannot be right yet."""
        status = self.statuses.get(running.ref)
        outcome = _OUTCOMES.get(status.state) if status else None
        if status is None or outcome is None or self.premature(running):
            return None
        return status, outcome

    def premature(self, running: RunningJob) -> bool:
        """Whether an end cannot be right yet: the provider does not know the job, or lacks files that it counts.

        After `PREMATURE_END_SECONDS` it is believed.
        """
        status = self.statuses.get(running.ref)
        if status is None or status.state not in _OUTCOMES:
            return False
        if not (status.lost or status.lacks_files(running.sent)):
            return False
        return (running.job.end_seen_for or 0) < PREMATURE_END_SECONDS

    def late(self, running: RunningJob) -> bool:
        """Whether the gateway is to run all of a job, as its provider has not ended it in time after the cancel."""
        if not running.is_rescued or running.job.id in self.cancelled:
            return False
        return running.until_given_up <= 0 and self.ended(running) is None


Write = Callable[[Sequence[RunningJob], PollResult], Awaitable[None]]


class PollResults:
    """Writes what polls brought; used by `Polling`, under the shards' leases."""

    def __init__(self, store: Store, deployments: Deployments) -> None:
        self._store = store
        self._deployments = deployments

    async def write(self, result: PollResult) -> None:
        """Write how the jobs stand, and fill in the pauses, the missed shards and the messages. Raises nothing."""
        late = [running for running in result.jobs if result.late(running)]
        others = [running for running in result.jobs if not result.late(running)]
        for write, jobs in ((self._give_up, late), (self._write, others)):
            for start in range(0, len(jobs), WRITTEN_TOGETHER):
                await self._write_or_log(write, jobs[start : start + WRITTEN_TOGETHER], result)

    async def _write_or_log(self, write: Write, jobs: Sequence[RunningJob], result: PollResult) -> None:
        """Write jobs together. One that cannot be written is found by halving, and holds up no other."""
        try:
            await write(jobs, result)
        except Exception as error:
            if len(jobs) > 1 and not isinstance(error, Unavailable):
                half = len(jobs) // 2
                await self._write_or_log(write, jobs[:half], result)
                await self._write_or_log(write, jobs[half:], result)
                return
            first = jobs[0]
            observe.fault(error, batch_id=first.batch.id, job_id=first.job.id, jobs=len(jobs))
            result.pauses.extend((running.shard, POLL_PAUSES[-1]) for running in jobs)

    async def _write(self, jobs: Sequence[RunningJob], result: PollResult) -> None:
        """One transaction for all these jobs: their polls, ends and counts.

        As everywhere, rows are locked in this order: rooms, jobs, batches, shards.
        """
        ends = await self._ends(jobs, result)
        polls = [_poll(running, result) for running in jobs if running.job.id not in ends]
        completed = [one.job.tokens for one in jobs if (end := ends.get(one.job.id)) and end.outcome == "completed"]
        async with self._store.transaction() as tables:
            if completed:
                await grow_room(tables, result.deployment, completed)
            if polls:
                await tables.jobs.polled(polls)
            changed = await tables.jobs.ended(ends) if ends else set[str]()
            await _write_progress(tables, jobs, result)
            if ends:
                await tables.batches.finalizing([one.batch.id for one in jobs if _is_last(one, ends.get(one.job.id))])
            woken = await wake_line(tables, result.deployment) if ends else []
        result.messages.extend(Message("shard", shard_id) for shard_id in woken)
        result.messages.extend(
            Message("job", job_id) for job_id, end in ends.items() if end.stores and job_id in changed
        )
        for running in jobs:
            _set_pause(running, result, ends.get(running.job.id))

    async def _give_up(self, jobs: Sequence[RunningJob], result: PollResult) -> None:
        """Give up these jobs, and have all of their lines run again. Rows are locked in the same order."""
        async with self._store.transaction() as tables:
            given_up = await tables.jobs.give_up([running.job.id for running in jobs])
            again = [running for running in jobs if running.job.id in given_up]
            await tables.shards.uncount([running.shard for running in again])
            for running in again:
                await tables.shards.wait(running.shard)
            woken = await wake_line(tables, result.deployment)
        result.messages.extend(Message("shard", shard_id) for shard_id in woken)
        result.pauses.extend((running.shard, 0) for running in jobs)
        for running in again:
            observe.warning(
                "job_rescued",
                job_id=running.job.id,
                batch_id=running.batch.id,
                deployment_id=running.deployment.id,
                provider_ref=running.ref,
            )

    async def _ends(self, jobs: Sequence[RunningJob], result: PollResult) -> dict[str, JobEnd]:
        """The ends of those jobs that have ended, by the job's id."""
        ended = [(running, *end) for running in jobs if (end := result.ended(running))]
        if not ended:
            return {}
        with_errors = [one.job.input_id for one, status, _ in ended if status.errors and one.job.input_id]
        input_refs: dict[str, str] = {}
        if with_errors:  # only they may have the provider's names
            async with self._store.session() as tables:
                input_refs = await tables.inputs.refs(with_errors)
        return {
            running.job.id: self._end(running, status, outcome, input_refs.get(running.job.input_id or ""))
            for running, status, outcome in ended
        }

    def _end(self, running: RunningJob, status: JobStatus, outcome: Outcome, input_ref: str | None) -> JobEnd:
        """The end of a job. The provider's ids of it and of its input become those of ours that the client knows."""
        inputs = [one for one in (running.job.input_id, input_ref) if one]
        own = {running.ref: running.batch.id, **dict.fromkeys(inputs, running.batch.input_file_id)}
        scrubber = self._deployments.scrubber(running.deployment, own)
        fault = failures.fault_of(
            status,
            outcome,
            cancelled_by_us=running.batch.status == "cancelling",
            rescued=running.is_rescued,
        )
        has_output, has_error = self._result_files(running, status, fault)
        return JobEnd(
            outcome=outcome,
            output_ref=status.output_ref,
            error_ref=status.error_ref,
            output_file_id=ids.new("file") if has_output else None,
            error_file_id=ids.new("file") if has_error else None,
            errors=[*(_error_entry(error, scrubber) for error in status.errors), *_missing_results(running, status)],
            answers=status.answers(running.sent) + running.job.refused,
            fault=fault,
        )

    def _result_files(self, running: RunningJob, status: JobStatus, fault: Fault | None) -> tuple[bool, bool]:
        """Whether there may be an output file and an error file.

        A job that answered nothing and is tried again leaves also those requests to the next one that it never got.
        """
        output, error = self._deployments.result_files(running.deployment, status)
        return output, error or (running.job.refused > 0 and fault in (None, "input"))


def _poll(running: RunningJob, result: PollResult) -> JobPoll:
    """The poll of a job that goes on."""
    premature, status = result.premature(running), result.statuses.get(running.ref)
    if premature and status is not None:
        observe.warning("job_end_premature", job_id=running.job.id, batch_id=running.batch.id, lost=status.lost)
    return JobPoll(running.job.id, status is not None, premature, running.job.id in result.cancelled)


def _set_pause(running: RunningJob, result: PollResult, end: JobEnd | None) -> None:
    """Say when the shard's next step is due, now that this one is written."""
    pause = _pause(running, result, end)
    if end is not None or running.ref in result.statuses or len(result.jobs) == 1:
        result.pauses.append((running.shard, pause))
    else:  # a deployment that answered for others had too little time
        result.missed.append((running.shard, MISSED_SECONDS if result.statuses else pause))


def _pause(running: RunningJob, result: PollResult, end: JobEnd | None) -> float:
    if end is not None:
        return RESULTS_CHECK_SECONDS if end.stores else 0
    if result.premature(running):
        return _pause_after(0 if running.job.end_seen_for is None else running.job.polls + 1)
    pause = cancellation.pause(running, result.cancelled)
    return min(_pause_after(running.job.polls + 1), _until_next_rescue(running)) if pause is None else pause


def _until_next_rescue(running: RunningJob) -> float:
    """Seconds to the next step of a rescue that may come."""
    return min([left for left in (running.until_rescue, running.until_given_up) if left > 0], default=math.inf)


def _pause_after(polls: int) -> float:
    return POLL_PAUSES[min(polls, len(POLL_PAUSES) - 1)]


async def _write_progress(tables: Tables, jobs: Sequence[RunningJob], result: PollResult) -> None:
    """Write the counts that changed."""
    changed = [
        counts
        for running in jobs
        if (status := result.statuses.get(running.ref))
        and (counts := _counts(running.shard, status)) != running.shard.counts
    ]
    if changed:
        await tables.shards.progress(changed)


def _counts(shard: ShardRow, status: JobStatus) -> Counts:
    """The provider's counts. The number of requests is what our file says; the provider's where the file says none."""
    return Counts(shard.id, shard.requests or status.total, status.completed, status.failed)


def _is_last(running: RunningJob, end: JobEnd | None) -> bool:
    """Whether no job of the batch follows this one, for all that is known before its results are read."""
    return end is not None and end.fault is None and running.shard.alone and not running.batch.retry_rounds


def _missing_results(running: RunningJob, status: JobStatus) -> list[dict[str, Any]]:
    """The entry of `errors.data` for an end whose files were never named."""
    if not status.lacks_files(running.sent):
        return []
    counted = f"{status.completed} completed and {status.failed} failed requests"
    minutes = f"{PREMATURE_END_SECONDS / 60:.0f} minutes"
    message = f"The provider counted {counted}, but named no file of results within {minutes}."
    return [batch_error("results_missing", message)]


def _error_entry(error: LineFailure, scrubber: Scrubber) -> dict[str, Any]:
    """An entry of the batch's `errors.data` that tells nothing of where the job ran, nor of the gateway's account."""
    if (shown := account_error(status_of(error.code), error.code)) is not None:
        return batch_error(shown.code, shown.message)
    message = scrubber.text(error.message) or "The provider gave no reason."
    return batch_error(scrubber.word(error.code), message, param=scrubber.word(error.param), line=error.line)
