"""From `validating` to a running job: check the lines, choose a deployment, submit once, find what became unclear.

A job's row is written before its provider is called. Only a definite refusal moves on to the next deployment; anything
unclear is looked for at the provider by the job's id, and taken as absent only after `SETTLING_SECONDS`.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from batches.selection import Outlet, choose, outlets
from batches.validation import entry, input_errors
from manifold import ids, observe
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import InputLost, ProviderError, ProviderRefused, ProviderUnclear
from manifold.observe import Metric
from manifold.providers import Job
from manifold.queue import Message, Queue
from manifold.store import Store
from manifold.store.batches import BatchRow
from manifold.store.files import FileRow
from manifold.store.jobs import JobRow

SETTLING_SECONDS = 90
"""How long after its row was written a job may still come to be listed: a call takes 40 s at most."""
HOLD_SECONDS = 30
"""How long a young batch waits for a deployment whose input is on its first attempt."""
FIRST_POLL, RECHECK, PATIENCE = 5.0, 10.0, 60.0
"""Seconds to the next look: at a fresh job, at an unclear one, and at a batch that waits for an input."""
MAX_CAUSES = 10
"""Causes that are named where every deployment refused a batch."""
COOL, MAX_COOL = 10.0, 300.0
"""Seconds to leave a deployment alone after its first refusal of a batch, doubling up to the second."""


class Submission:
    def __init__(self, store: Store, queue: Queue, deployments: Deployments, random: Random | None = None) -> None:
        self._store = store
        self._queue = queue
        self._deployments = deployments
        self._random = random or Random()

    async def start(self, batch: BatchRow) -> float | None:
        """Bring a validating batch one step on. Returns the seconds to the next look; `None`: the batch has ended."""
        async with self._store.session() as tables:
            file = await tables.files.load(batch.input_file_id)
        errors = input_errors(batch, file)
        if errors or file is None:
            await self._fail(batch, errors)
            return None
        if batch.left <= 0:
            await self._expire(batch)
            return None
        candidates = await self._outlets(batch, file)
        outlet = choose(candidates, self._random, hold=_hold(batch) > 0)
        if outlet is None:
            return await self._wait(batch, candidates)
        return await self._submit(batch, outlet)

    async def reconcile(self, batch: BatchRow, job: JobRow, deployment: Deployment) -> float:
        """Look for a job whose submission was unclear, or whose worker ended before it knew."""
        async with self._store.session() as tables:
            if job.state == "submitting":
                await tables.jobs.unknown(job, "the worker ended before the provider had answered")
            prepared = await tables.inputs.get(job.input_id)
            others = await tables.jobs.refs_of_input(job.input_id)
        wanted = replace(_provider_job(batch, job, prepared.provider_ref if prepared else None), others=others)
        try:
            ref = await self._deployments.call(deployment, lambda provider, at: provider.find(at, wanted))
        except ProviderError as error:
            observe.failed("job_not_found_out", error, job_id=job.id, deployment_id=deployment.id)
            return max(RECHECK, min(error.retry_after or 0, MAX_COOL, batch.left))
        if ref is not None and (wait := await self._running(batch, job, ref)) is not None:
            return wait
        if job.age <= SETTLING_SECONDS:
            return RECHECK
        async with self._store.session() as tables:
            await tables.jobs.absent(job)
        return 0

    async def _outlets(self, batch: BatchRow, file: FileRow) -> list[Outlet]:
        """The batch's deployments as they stand, each asked for an input if it has none."""
        deployments = self._deployments.of(batch.groups)
        async with self._store.transaction() as tables:
            wanted = await tables.inputs.ensure(file.id, [deployment.id for deployment in deployments])
            inputs = await tables.inputs.of_file(file.id)
            jobs = await tables.jobs.of_batch(batch.id)
            cooling = await tables.jobs.cooling(batch.id)
        await self._queue.announce(Message("input", input_id) for input_id in wanted)
        return outlets(deployments, inputs, jobs, cooling)

    async def _submit(self, batch: BatchRow, outlet: Outlet) -> float:
        deployment, prepared = outlet.deployment, outlet.input
        assert prepared is not None  # noqa: S101 (a chosen outlet has its input)
        async with self._store.session() as tables:
            job = await tables.jobs.insert(ids.new("job"), batch, prepared.id, deployment.id)
        if job is None:
            return 0  # cancelled meanwhile
        ahead = _provider_job(batch, job, prepared.provider_ref)
        try:
            ref = await self._deployments.call(deployment, lambda provider, at: provider.submit(at, ahead))
        except ProviderRefused as error:
            return await self._refused(job, outlet, error)
        except ProviderUnclear as error:
            observe.failed("job_unclear", error, job_id=job.id, deployment_id=deployment.id)
            observe.count(Metric.JOBS_UNCLEAR)
            async with self._store.session() as tables:
                await tables.jobs.unknown(job, error.explained)
            return RECHECK
        wait = await self._running(batch, job, ref)
        return RECHECK if wait is None else wait

    async def _running(self, batch: BatchRow, job: JobRow, ref: str) -> float | None:
        """The provider has it. A cancel that came meanwhile is the next thing to do. `None`: it is another job's."""
        async with self._store.transaction() as tables:
            if not await tables.jobs.running(job, ref):
                return None
            status = await tables.batches.started(batch.id)
        observe.event("job_submitted", job_id=job.id, batch_id=batch.id, deployment_id=job.deployment_id)
        observe.count(Metric.JOBS_SUBMITTED)
        return 0 if status == "cancelling" else FIRST_POLL

    async def _refused(self, job: JobRow, outlet: Outlet, error: ProviderRefused) -> float:
        observe.failed("job_refused", error, job_id=job.id, deployment_id=job.deployment_id)
        observe.count(Metric.JOBS_REFUSED)
        lost = isinstance(error, InputLost)
        cool = min(MAX_COOL, error.retry_after or COOL * 2**outlet.refusals)
        async with self._store.session() as tables:
            status = None if lost else error.status
            await tables.jobs.refused(job, error.explained, status=status, lasting=error.lasting, cool_seconds=cool)
            if lost:  # the next look asks for another
                await tables.inputs.discard(job.input_id)
        return 0

    async def _wait(self, batch: BatchRow, candidates: Sequence[Outlet]) -> float | None:
        """No deployment can be asked now: end the batch if none ever will, else wait for the first that may."""
        hopeful = [outlet for outlet in candidates if not outlet.hopeless]
        if not hopeful:
            await self._fail(batch, await self._causes(batch, candidates))
            return None
        cooling = [outlet.cooling for outlet in hopeful if outlet.cooling]
        held = [_hold(batch)] if any(outlet.ready for outlet in hopeful) else []  # it waits for the others alone
        return max(0.0, min([*cooling, *held, PATIENCE]))

    async def _causes(self, batch: BatchRow, candidates: Sequence[Outlet]) -> list[dict[str, object]]:
        """Each thing that a deployment said, once, the last one first."""
        if not candidates:
            message = "No deployment that runs batches serves the file's model."
            return [entry("model_not_found", message, param="model")]
        async with self._store.session() as tables:
            jobs = await tables.jobs.of_batch(batch.id)
        said = [job.error for job in jobs if job.error and job.state == "refused"]
        said += [outlet.input.error for outlet in candidates if outlet.input and outlet.input.error]
        causes = [f" {cause}" for cause in dict.fromkeys(reversed(said))][:MAX_CAUSES] or [""]
        return [
            entry("deployments_refused", f"Every deployment of the model refused the batch.{one}") for one in causes
        ]

    async def _fail(self, batch: BatchRow, errors: Sequence[dict[str, object]]) -> None:
        async with self._store.session() as tables:
            await tables.batches.end(batch, "failed", errors=errors)
        observe.count(Metric.BATCHES_ENDED)

    async def _expire(self, batch: BatchRow) -> None:
        late = entry("batch_expired", "No deployment had room for the batch within its completion window.")
        async with self._store.session() as tables:
            await tables.batches.end(batch, "expired", errors=[late])
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
