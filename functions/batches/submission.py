"""From `validating` to a running job: check the lines, choose a deployment, submit once, find what became unclear.

A job's row is written before its provider is called. Only a definite refusal moves on to the next deployment. A job
whose submission is unclear is searched for at the provider by its id, and is `absent` only if it is still not listed
`LISTING_DELAY_SECONDS` after its row was written.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from batches.input_errors import input_errors
from batches.selection import Candidate, candidates, choose
from manifold import ids, observe
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import InputLost, ProviderError, ProviderRefused, ProviderUnclear
from manifold.observe import Metric
from manifold.provider_errors import owner_message
from manifold.providers import Job
from manifold.queue import Message, Queue
from manifold.schemas import batch_error
from manifold.store import Store
from manifold.store.batches import BatchRow
from manifold.store.files import FileRow
from manifold.store.jobs import JobRow

LISTING_DELAY_SECONDS = 90
"""How long after its row was written a job may come to be listed at its provider: a call takes 40 s at most."""
HOLD_SECONDS = 30
"""Age up to which a batch waits for deployments whose input is on its first attempt."""
FIRST_POLL_SECONDS = 5.0
"""Pause before a new job is polled."""
RECHECK_SECONDS = 10.0
"""Pause before a job whose submission is unclear is searched for again."""
WAIT_SECONDS = 60.0
"""Longest pause of a batch that waits for an input; it is woken when the input is ready."""
MAX_CAUSES = 10
"""How many causes are listed in `errors.data` where every deployment refused a batch."""
COOLDOWN_SECONDS, MAX_COOLDOWN_SECONDS = 10.0, 300.0
"""Cooldown of a deployment after its first refusal of a batch, and the longest that it doubles up to."""


class Submission:
    """Brings a batch without a running job to one, or ends it; used by `Engine`, under the batch's lease.

    Holds no state of a batch. A provider's error is written to the job's row and never raised.
    """

    def __init__(self, store: Store, queue: Queue, deployments: Deployments, random: Random | None = None) -> None:
        self._store = store
        self._queue = queue
        self._deployments = deployments
        self._random = random or Random()

    async def start(self, batch: BatchRow) -> float | None:
        """Take the next step of a `validating` batch; returns the seconds to the one after it, `None` at its end."""
        async with self._store.session() as tables:
            file = await tables.files.load(batch.input_file_id)
        errors = input_errors(batch, file)
        if errors or file is None:
            await self._fail(batch, errors)
            return None
        if batch.left <= 0:
            await self._expire(batch)
            return None
        options = await self._candidates(batch, file)
        chosen = choose(options, self._random, hold=_hold(batch) > 0)
        if chosen is None:
            return await self._wait(batch, options)
        return await self._submit(batch, chosen)

    async def reconcile(self, batch: BatchRow, job: JobRow, deployment: Deployment) -> float:
        """Find out whether the provider has a job that is `unknown`, or `submitting` since a worker ended too early.

        submitting → unknown, then → running where it is found, or → absent. Returns the seconds to the next step.
        """
        async with self._store.session() as tables:
            if job.state == "submitting":
                await tables.jobs.unknown(job, "the worker ended before the provider had answered")
            prepared = await tables.inputs.get(job.input_id)
            others = await tables.jobs.refs_of_input(job.input_id)
        submitted = replace(_provider_job(batch, job, prepared.provider_ref if prepared else None), others=others)
        try:
            ref = await self._deployments.call(deployment, lambda provider, at: provider.find(at, submitted))
        except ProviderError as error:
            observe.failed("job_search_failed", error, job_id=job.id, deployment_id=deployment.id)
            return max(RECHECK_SECONDS, min(error.retry_after or 0, MAX_COOLDOWN_SECONDS, batch.left))
        if ref is not None and (pause := await self._running(batch, job, ref)) is not None:
            return pause
        if job.age <= LISTING_DELAY_SECONDS:
            return RECHECK_SECONDS
        async with self._store.session() as tables:
            await tables.jobs.absent(job)
        return 0

    async def _candidates(self, batch: BatchRow, file: FileRow) -> list[Candidate]:
        """The batch's deployments as they stand. For those that have no input, one is written and announced."""
        deployments = self._deployments.of(batch.groups)
        async with self._store.transaction() as tables:
            pending = await tables.inputs.ensure(file.id, [deployment.id for deployment in deployments])
            inputs = await tables.inputs.of_file(file.id)
            jobs = await tables.jobs.of_batch(batch.id)
            cooldowns = await tables.jobs.cooldowns(batch.id)
        await self._queue.announce(Message("input", input_id) for input_id in pending)
        return candidates(deployments, inputs, jobs, cooldowns)

    async def _submit(self, batch: BatchRow, chosen: Candidate) -> float:
        """Write the job, then submit it; returns the seconds to the next step."""
        deployment, prepared = chosen.deployment, chosen.input
        assert prepared is not None  # noqa: S101 (a candidate that is ready has its input)
        async with self._store.session() as tables:
            job = await tables.jobs.insert(ids.new("job"), batch, prepared.id, deployment.id)
        if job is None:
            return 0  # cancelled meanwhile
        provider_job = _provider_job(batch, job, prepared.provider_ref)
        try:
            ref = await self._deployments.call(deployment, lambda provider, at: provider.submit(at, provider_job))
        except ProviderRefused as error:
            return await self._refused(job, chosen, error)
        except ProviderUnclear as error:
            observe.failed("job_submission_unclear", error, job_id=job.id, deployment_id=deployment.id)
            observe.count(Metric.JOBS_UNCLEAR)
            async with self._store.session() as tables:
                await tables.jobs.unknown(job, owner_message(error))
            return RECHECK_SECONDS
        pause = await self._running(batch, job, ref)
        return RECHECK_SECONDS if pause is None else pause

    async def _running(self, batch: BatchRow, job: JobRow, ref: str) -> float | None:
        """submitting | unknown → running; `None` if the provider's id is already another job's.

        Where the batch is `cancelling` by now, its cancel is sent in the next step, at once.
        """
        async with self._store.transaction() as tables:
            if not await tables.jobs.running(job, ref):
                return None
            status = await tables.batches.started(batch.id)
        observe.event("job_submitted", job_id=job.id, batch_id=batch.id, deployment_id=job.deployment_id)
        observe.count(Metric.JOBS_SUBMITTED)
        return 0 if status == "cancelling" else FIRST_POLL_SECONDS

    async def _refused(self, job: JobRow, chosen: Candidate, error: ProviderRefused) -> float:
        """submitting → refused, with a cooldown; the next step chooses again. An input that is lost is discarded."""
        observe.failed("job_refused", error, job_id=job.id, deployment_id=job.deployment_id)
        observe.count(Metric.JOBS_REFUSED)
        lost = isinstance(error, InputLost)
        cooldown = min(MAX_COOLDOWN_SECONDS, error.retry_after or COOLDOWN_SECONDS * 2**chosen.refusals)
        async with self._store.session() as tables:
            status = None if lost else error.status
            await tables.jobs.refused(
                job, owner_message(error), status=status, lasting=error.lasting, cooldown=cooldown
            )
            if lost:  # the next step has another one made
                await tables.inputs.discard(job.input_id)
        return 0

    async def _wait(self, batch: BatchRow, options: Sequence[Candidate]) -> float | None:
        """No candidate is ready: fail the batch if all are exhausted, else wait for the first that may become ready."""
        possible = [candidate for candidate in options if not candidate.exhausted]
        if not possible:
            await self._fail(batch, await self._causes(batch, options))
            return None
        cooldowns = [candidate.cooldown for candidate in possible if candidate.cooldown]
        # one that is ready and was not chosen waits for those that are about to be, for the rest of the hold
        hold = [_hold(batch)] if any(candidate.ready for candidate in possible) else []
        return max(0.0, min([*cooldowns, *hold, WAIT_SECONDS]))

    async def _causes(self, batch: BatchRow, options: Sequence[Candidate]) -> list[dict[str, object]]:
        """The entries of `errors.data`: each deployment's last causes, each once, the latest first."""
        if not options:
            message = "No deployment that runs batches serves the file's model."
            return [batch_error("model_not_found", message, param="model")]
        async with self._store.session() as tables:
            jobs = await tables.jobs.of_batch(batch.id)
        errors = [job.error for job in jobs if job.error and job.state == "refused"]
        errors += [candidate.input.error for candidate in options if candidate.input and candidate.input.error]
        causes = [f" {cause}" for cause in dict.fromkeys(reversed(errors))][:MAX_CAUSES] or [""]
        return [
            batch_error("deployments_refused", f"Every deployment of the model refused the batch.{one}")
            for one in causes
        ]

    async def _fail(self, batch: BatchRow, errors: Sequence[dict[str, object]]) -> None:
        async with self._store.session() as tables:
            await tables.batches.end(batch, "failed", errors=errors)
        observe.count(Metric.BATCHES_ENDED)

    async def _expire(self, batch: BatchRow) -> None:
        expired = batch_error("batch_expired", "No deployment accepted the batch within its completion window.")
        async with self._store.session() as tables:
            await tables.batches.end(batch, "expired", errors=[expired])
        observe.count(Metric.BATCHES_ENDED)


def _hold(batch: BatchRow) -> float:
    """Seconds for which the batch still waits for deployments whose inputs are on their first attempt."""
    return HOLD_SECONDS - batch.age


def _provider_job(batch: BatchRow, job: JobRow, input_ref: str | None) -> Job:
    return Job(
        id=job.id,
        input_ref=input_ref,
        endpoint=batch.endpoint,
        completion_window=batch.completion_window,
        created_at=int(job.created_at.timestamp()),
    )
