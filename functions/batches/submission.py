"""From a waiting shard to a running job: choose a deployment with room, submit once, find what became unclear.

A job's row is written before its provider is called. Only a definite refusal moves on to the next deployment. A job
whose submission is unclear is searched for at the provider by its id, and is `absent` only if it is still not listed
`LISTING_DELAY_SECONDS` after its row was written.
"""

from collections.abc import Sequence
from random import Random

from batches.errors import EXPIRED, FAILED_WITHOUT_CAUSE, no_endpoint, too_few_requests
from batches.poll_results import RESULTS_CHECK_SECONDS
from batches.provider_jobs import GetStorage, JobLines, provider_job
from batches.rooms import shrink_room, take_room, wake_line
from batches.selection import Candidate, candidates, choose, may_ever_take, to_prepare
from batches.shard_end import end_shard
from manifold import ids, observe
from manifold.batch_status import ErrorEntry, batch_error
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import InputLost, ProviderError, ProviderRefused, ProviderUnclear
from manifold.observe import Metric
from manifold.provider_errors import QUOTA_CODES, owner_message
from manifold.queue import Message, Queue
from manifold.store import Store
from manifold.store.batches import BatchRow, Outcome
from manifold.store.inputs import InputRow
from manifold.store.jobs import JobRow
from manifold.store.shards import ShardRow, WaitingFor

LISTING_DELAY_SECONDS = 90
"""How long after its row was written a job may come to be listed at its provider: a call takes 40 s at most."""
HOLD_SECONDS = 30
"""Age up to which a shard waits for deployments whose input is on its first attempt."""
FIRST_POLL_SECONDS = 5.0
"""Pause before a new job is polled."""
RECHECK_SECONDS = 10.0
"""Pause before a job whose submission is unclear is searched for again."""
RECHECK_SHARE = 0.1
"""The same as a share of the job's age: some providers tell only hours later whose a job is."""
WAIT_SECONDS = 60.0
"""Longest pause of a shard that waits for an input; it is woken when the input is ready."""
ROOM_SECONDS = 300.0
"""Longest pause of a shard that waits for room; it is woken when room comes free."""
MAX_CAUSES = 10
"""How many causes are listed in `errors.data` where every deployment refused a batch."""
COOLDOWN_SECONDS, MAX_COOLDOWN_SECONDS = 10.0, 300.0
"""Cooldown of a deployment after its first refusal of a shard, and the longest that it doubles up to."""
MAX_QUOTA_COOLDOWN_SECONDS = 60.0
"""The longest after a refusal for the quota: others may be small enough."""


class Submission:
    """Brings a shard without an open job to one, or ends it; used by `Engine`, under the shard's lease.

    Holds no state of a shard. A provider's error is written to the job's row and never raised.
    """

    def __init__(
        self,
        store: Store,
        queue: Queue,
        deployments: Deployments,
        storage: GetStorage,
        random: Random | None = None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._deployments = deployments
        self._lines = JobLines(deployments, storage)
        self._random = random or Random()

    async def start(self, batch: BatchRow, shard: ShardRow) -> float | None:
        """Take the next step of a `waiting` shard; returns the seconds to the one after it, `None` at its end."""
        if batch.left <= 0:
            await self._end(batch, shard, "expired", [await self._expired(shard)])
            return None
        options = await self._candidates(batch, shard)
        while chosen := choose(options, self._random, hold=_hold(shard) > 0):
            if shard.selection and (other := to_prepare(options, self._random, chosen)):
                return await self._prepare(shard, other)
            job = await self._insert(shard, chosen)
            if job is not None:
                return await self._submit(batch, shard, chosen, job)
            if not chosen.room.is_bounded:
                return 0
            options = [one._replace(fits=False) if one is chosen else one for one in options]
        if shard.selection and (chosen := to_prepare(options, self._random)):
            return await self._prepare(shard, chosen)
        return await self._wait(batch, shard, options)

    async def reconcile(self, batch: BatchRow, shard: ShardRow, job: JobRow, deployment: Deployment) -> float:
        """Find out whether the provider has a job that is `unknown`, or `submitting` since a worker ended too early.

        submitting → unknown, then → running where it is found, or → absent. Returns the seconds to the next step.
        """
        async with self._store.session() as tables:
            if job.state == "submitting":
                await tables.jobs.unknown(job, "the worker ended before the provider had answered")
            prepared = await tables.inputs.get(job.input_id) if job.input_id else None
            others = await tables.jobs.refs_beside(job)
        submitted = provider_job(batch, job, prepared.provider_ref if prepared else None, others)
        try:
            ref = await self._deployments.call(deployment, lambda provider, at: provider.find(at, submitted))
        except ProviderError as error:
            observe.failed("job_search_failed", error, job_id=job.id, deployment_id=deployment.id)
            wished = max(error.retry_after or 0, RECHECK_SHARE * job.age)
            return max(RECHECK_SECONDS, min(wished, MAX_COOLDOWN_SECONDS, batch.left))
        if ref is not None and (pause := await self._running(batch, job, ref)) is not None:
            return pause
        if job.age <= LISTING_DELAY_SECONDS:
            return RECHECK_SECONDS
        async with self._store.transaction() as tables:
            await tables.jobs.absent(job)
            await tables.shards.wait(shard)
        await self._hand_on_room(deployment)
        return 0

    async def _candidates(self, batch: BatchRow, shard: ShardRow) -> list[Candidate]:
        """The shard's deployments as they stand. For those that have no input of all lines, one is written and
        announced."""
        deployments = self._deployments.able(batch.groups, batch.endpoint, requests=shard.requests, left=batch.left)
        deployment_ids = [deployment.id for deployment in deployments]
        by_provider = [one for one in deployments if one.execution == "provider"]
        large = [one for one in by_provider if shard.requests >= one.limits.fewest_requests]
        able = [one.id for one in large if may_ever_take(one, shard)] or [one.id for one in large]
        async with self._store.session() as tables:
            jobs = await tables.jobs.of_shard(shard.id)
            cooldowns = await tables.jobs.cooldowns(batch.id)
            held = await tables.rooms.held(deployment_ids)
            of_shard = await tables.inputs.of_shard(shard.id) if shard.selection else None
        inputs = await self._inputs(batch.input_file_id, able) if of_shard is None else of_shard
        found = candidates(shard, deployments, inputs, jobs, cooldowns, held)
        here = self._deployments.executing(deployments, batch.endpoint)
        if here and all(one.too_small for one in found):  # without what cannot be translated
            return candidates(shard, here, [], jobs, cooldowns, held)
        return found

    async def _inputs(self, file_id: str, deployment_ids: Sequence[str]) -> list[InputRow]:
        """The file's inputs. Where a deployment has none, or none that stays, one is written and announced."""
        async with self._store.session() as tables:
            inputs = await tables.inputs.of_file(file_id)
        kept = {one.deployment_id for one in inputs if one.state == "pending" or (one.state == "ready" and one.fresh)}
        if kept.issuperset(deployment_ids):
            return inputs
        async with self._store.transaction() as tables:
            pending = await tables.inputs.ensure(file_id, deployment_ids)
            inputs = await tables.inputs.of_file(file_id)
        await self._queue.announce(Message("input", input_id) for input_id in pending)
        return inputs

    async def _submit(self, batch: BatchRow, shard: ShardRow, chosen: Candidate, job: JobRow) -> float:
        """Submit a job whose row is written; returns the seconds to the next step."""
        deployment = chosen.deployment
        if 0 < shard.requests <= job.refused:
            return await self._end_unsent(batch, job)
        try:
            input_ref = chosen.input.provider_ref if chosen.input else None
            submitted = await self._lines.added(provider_job(batch, job, input_ref), batch, deployment)
            ref = await self._deployments.call(deployment, lambda provider, at: provider.submit(at, submitted))
        except ProviderRefused as error:
            return await self._refused(shard, job, chosen, error)
        except ProviderUnclear as error:
            observe.failed("job_submission_unclear", error, job_id=job.id, deployment_id=deployment.id)
            observe.count(Metric.JOBS_UNCLEAR)
            async with self._store.session() as tables:
                await tables.jobs.unknown(job, owner_message(error))
            return RECHECK_SECONDS
        pause = await self._running(batch, job, ref)
        return RECHECK_SECONDS if pause is None else pause

    async def _end_unsent(self, batch: BatchRow, job: JobRow) -> float:
        """submitting → ended, without a call: none of the requests can be translated for the provider."""
        async with self._store.transaction() as tables:
            ended = await tables.jobs.ended_unsent(job, ids.new("file"))
            await tables.batches.started(batch.id)
        if ended:
            await self._queue.announce([Message("job", job.id)])
        return RESULTS_CHECK_SECONDS

    async def _insert(self, shard: ShardRow, chosen: Candidate) -> JobRow | None:
        """Write the job, and take its room with it; `None` if the shard was cancelled, or others come first."""
        deployment = chosen.deployment
        job_id, input_id = ids.new("job"), chosen.input.id if chosen.input else None
        if not chosen.room.is_bounded:
            async with self._store.session() as tables:
                return await tables.jobs.insert(job_id, shard, input_id, deployment.id, deployment.execution)
        async with self._store.transaction() as tables:
            if not await take_room(tables, deployment, shard):
                return None
            return await tables.jobs.insert(job_id, shard, input_id, deployment.id)

    async def _running(self, batch: BatchRow, job: JobRow, ref: str) -> float | None:
        """submitting | unknown → running; `None` if the provider's id is already another job's.

        Where the batch is `cancelling` by now, its cancel is sent in the next step, at once.
        """
        async with self._store.session() as tables:
            status = await tables.jobs.running(job, ref)
        if status is None:
            return None
        observe.event("job_submitted", job_id=job.id, batch_id=batch.id, deployment_id=job.deployment_id)
        observe.count(Metric.JOBS_SUBMITTED)
        return 0 if status == "cancelling" else FIRST_POLL_SECONDS

    async def _refused(self, shard: ShardRow, job: JobRow, chosen: Candidate, error: ProviderRefused) -> float:
        """submitting → refused, with a cooldown; the next step chooses again. An input that is lost is discarded."""
        deployment_id = job.deployment_id
        observe.failed("job_refused", error, job_id=job.id, deployment_id=deployment_id)
        observe.count(Metric.JOBS_REFUSED)
        lost = isinstance(error, InputLost)
        quota = error.code in QUOTA_CODES
        longest = MAX_QUOTA_COOLDOWN_SECONDS if quota else MAX_COOLDOWN_SECONDS
        cooldown = min(longest, error.retry_after or COOLDOWN_SECONDS * 2.0 ** min(chosen.attempts, 10))
        async with self._store.transaction() as tables:
            status = None if lost else error.status
            if quota:
                await shrink_room(tables, job)
            await tables.jobs.refused(
                job, owner_message(error), status=status, lasting=error.lasting, cooldown=cooldown
            )
            await tables.shards.wait(shard)
            if lost and job.input_id:  # the next step has another one made
                await tables.inputs.discard(job.input_id)
        await self._hand_on_room(chosen.deployment)
        return 0

    async def _hand_on_room(self, deployment: Deployment) -> None:
        """Wake the shards that may take what a closed job held. If the wake is lost, they come within `ROOM_SECONDS`.

        Not in the transaction that closes the job: that has locked a shard, and their ids may come before its id.
        """
        async with self._store.session() as tables:
            woken = await wake_line(tables, deployment)
        await self._queue.announce(Message("shard", shard_id) for shard_id in woken)

    async def _prepare(self, shard: ShardRow, chosen: Candidate) -> float:
        """Have the shard's lines uploaded to the deployment that is to run them."""
        async with self._store.session() as tables:
            pending = await tables.inputs.ensure_for_shard(shard.id, chosen.deployment.id)
            await tables.shards.note_waiting(shard, "input", [chosen.deployment.id] if chosen.room.is_bounded else ())
        if pending:
            await self._queue.announce([Message("input", pending)])
        return WAIT_SECONDS

    async def _wait(self, batch: BatchRow, shard: ShardRow, options: Sequence[Candidate]) -> float | None:
        """No candidate is ready: end the shard if all are exhausted, else wait for the first that may become ready."""
        possible = [candidate for candidate in options if not candidate.exhausted]
        if not possible:
            await self._end(batch, shard, "failed", await self._causes(batch, shard, options))
            return None
        return await self._note_waiting(batch, shard, possible)

    async def _note_waiting(self, batch: BatchRow, shard: ShardRow, possible: Sequence[Candidate]) -> float:
        """Write what the shard waits for, and return the seconds to its next step."""
        full = [candidate.deployment.id for candidate in possible if candidate.in_line]
        cooldowns = [candidate.cooldown for candidate in possible if candidate.cooldown]
        # one that is ready and was not chosen waits for those that are about to be, for the rest of the hold
        is_held = any(one.ready for one in possible) and any(one.preparing for one in possible)
        hold = [_hold(shard)] if is_held and _hold(shard) > 0 else []
        inputs = any(one.needs_input and (one.input is None or one.input.state == "pending") for one in possible)
        cause: WaitingFor = "input" if hold else "room" if full else "input" if inputs else "cooldown"
        async with self._store.session() as tables:
            await tables.shards.note_waiting(shard, cause, [] if hold else full)
        longest = ROOM_SECONDS if cause == "room" else WAIT_SECONDS
        rescue = self._deployments.until_rescue(batch.groups, batch.endpoint, left=batch.left)
        return max(0.0, min([*cooldowns, *hold, longest, batch.left, rescue if rescue > 0 else longest]))

    async def _causes(self, batch: BatchRow, shard: ShardRow, options: Sequence[Candidate]) -> list[ErrorEntry]:
        """The entries of `errors.data`: the provider's of the last job that failed, else each deployment's last
        causes, each once, the latest first."""
        if not options and self._deployments.of(batch.groups):
            return [no_endpoint(batch.endpoint)]
        if not options:
            message = "No deployment that runs batches serves the file's model."
            return [batch_error("model_not_found", message, param="model")]
        if all(candidate.too_small for candidate in options):
            refused = max(one.input.refused if one.input else 0 for one in options)
            return [too_few_requests(min(one.deployment.limits.fewest_requests for one in options), refused)]
        async with self._store.session() as tables:
            jobs = await tables.jobs.of_shard(shard.id)
        failed = [job for job in jobs if job.state == "settled" and job.fault]
        if failed:
            return failed[-1].errors or [FAILED_WITHOUT_CAUSE]
        errors = [job.error for job in jobs if job.error and job.state == "refused"]
        errors += [candidate.input.error for candidate in options if candidate.input and candidate.input.error]
        causes = [f" {cause}" for cause in dict.fromkeys(reversed(errors))][:MAX_CAUSES] or [""]
        return [
            batch_error("deployments_refused", f"Every deployment of the model refused the batch.{one}")
            for one in causes
        ]

    async def _expired(self, shard: ShardRow) -> ErrorEntry:
        """The entry of a shard whose time is over, with what a provider said last."""
        async with self._store.session() as tables:
            jobs = await tables.jobs.of_shard(shard.id)
        causes = [job.error or (job.errors or [{}])[0].get("message") for job in jobs]
        last = next((cause for cause in reversed(causes) if cause), None)
        return EXPIRED if last is None else {**EXPIRED, "message": f"{EXPIRED['message']} The last cause: {last}"}

    async def _end(self, batch: BatchRow, shard: ShardRow, outcome: Outcome, errors: Sequence[ErrorEntry]) -> None:
        async with self._store.transaction() as tables:
            await end_shard(tables, batch, shard, outcome, errors)


def _hold(shard: ShardRow) -> float:
    """Seconds for which the shard still waits for deployments whose inputs are on their first attempt."""
    return HOLD_SECONDS - shard.age
