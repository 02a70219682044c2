"""The engine moves batches and their shards on, step by step, until they have ended.

There is one verb: take the lease of a due row, read from the rows what the next step is, take that step, and write when
the one after it is due. So it does not matter who wakes the engine, how often, or where the last worker stopped. A
batch's own steps are to plan its shards, to have their results joined, and to end; all others are its shards'.
The states are in `manifold.store.batches`, `shards` and `jobs`, the steps in docs/architecture.md (A batch).
"""

import asyncio
import contextlib
import secrets
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from batches.admission import WaitingLine
from batches.cancellation import Cancellation
from batches.planning import Planning
from batches.poll_results import RESULTS_CHECK_SECONDS
from batches.polling import Polling
from batches.provider_jobs import GetStorage
from batches.running_job import RunningJob
from batches.settlement import LeaseLost, Settlement, ends_its_batch
from batches.submission import Submission
from batches.termination import Termination
from manifold import observe
from manifold.announcement import announce_end
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.queue import Message, Queue
from manifold.store import Store
from manifold.store.batches import GRACE_SECONDS, LAST_SECONDS, BatchRow
from manifold.store.jobs import JobRow
from manifold.store.shards import ShardRow

LEASE_SECONDS = 75
"""Longer than the longest run of a worker (60 s), so that the lease outlives the worker that took it."""
UNCONFIGURED_SECONDS = 300.0
"""Pause before the next step of a shard whose deployment is no longer in `config.yaml`."""
SELF_WAKE_SECONDS = 60.0
"""A step that is due within this gets a delayed message; a later one is found by the schedule."""


class Engine:
    """Takes the steps of batches; `batches.worker` calls `advance` and `advance_shard` for one, `batches.poller`
    `poll_due` for many.

    Holds one use case for each kind of step, and no state of a batch: that is in Postgres. A provider's error is
    logged or written to the rows, and never raised; what Postgres raises is passed on.
    """

    def __init__(self, store: Store, queue: Queue, deployments: Deployments, storage: GetStorage) -> None:
        self._store = store
        self._queue = queue
        self._deployments = deployments
        self._line = WaitingLine(store, queue)
        self._planning = Planning(store, deployments)
        self._submission = Submission(store, queue, deployments, storage)
        self._cancellation = Cancellation(store, deployments)
        self._polling = Polling(store, deployments, self._cancellation)
        self._settlement = Settlement(store, queue)
        self._termination = Termination(store)

    async def advance(self, batch_id: str) -> None:
        """Take the batch's own next step; nothing if it has ended, is not due, or another worker has its lease."""
        async with self._store.session() as tables:
            batch = await tables.batch_leases.claim(batch_id, secrets.token_hex(8), LEASE_SECONDS)
            shards = await tables.shards.of_batch(batch_id) if batch else []
        if batch is None:
            return
        if not shards:
            await self._begin(batch)
        elif all(shard.state == "ended" for shard in shards):
            if batch.overdue and min(shard.ended_for or 0.0 for shard in shards) >= GRACE_SECONDS:
                await self._termination.give_up_join(batch)
                await announce_end(self._store, self._queue, batch.id)
                return
            await self._release_batch(batch, RESULTS_CHECK_SECONDS)
            await self._queue.announce([Message("join", batch.id)])
        elif not batch.overdue:
            await self._release_batch(batch, _last_step(batch))
        elif await self._termination.give_up(batch, shards, self._is_configured):
            await announce_end(self._store, self._queue, batch.id)
        else:
            await self._release_batch(batch, 0)

    async def advance_shard(self, shard_id: str) -> None:
        """Take the next step of this shard; nothing if it has ended, is not due, or another worker has its lease."""
        async with self._store.session() as tables:
            shard = await tables.shard_leases.claim(shard_id, secrets.token_hex(8), LEASE_SECONDS)
            if shard is None:
                return
            batches = await tables.batches.of([shard.batch_id])
            jobs = await tables.jobs.open([shard.id])
        await self._advance(batches[shard.batch_id], shard, jobs.get(shard.id))

    async def poll_due(self, limit: int) -> int:
        """Poll up to `limit` due shards with running jobs, all deployments at once; returns how many were claimed.

        Each deployment's shards are released as soon as its answers are written. Messages are sent meanwhile.
        """
        async with self._store.session() as tables:
            shards = await tables.shard_leases.claim_due(secrets.token_hex(8), LEASE_SECONDS, limit)
            batches = await tables.batches.of([shard.batch_id for shard in shards]) if shards else {}
            jobs = await tables.jobs.open([shard.id for shard in shards]) if shards else {}
        running, passed_over = self._sorted(shards, batches, jobs)
        sending = [asyncio.create_task(self._announce(await self._release(passed_over)))]
        try:
            async with contextlib.aclosing(self._polling.poll(running)) as results:
                async for result in results:
                    wakes = await self._release(result.pauses, result.missed)
                    sending.append(asyncio.create_task(self._announce(wakes, result.messages)))
        finally:
            await asyncio.gather(*sending)
        return len(shards)

    def _is_configured(self, deployment_id: str) -> bool:
        return self._deployments.get(deployment_id) is not None

    async def _begin(self, batch: BatchRow) -> None:
        """Plan a batch that has no shards, and take the first step of its first shard at once.

        One that waits for a limit of its owners waits on, unless there is room for it now.
        """
        if batch.status == "cancelling":
            await self._cancellation.end_unsubmitted(batch)
            await announce_end(self._store, self._queue, batch.id)
            return
        pause = await self._line.admit(batch) if batch.held_for is not None and batch.left > 0 else None
        if pause is not None:
            await self._release_batch(batch, pause)
            return
        if await self._planning.lacks_file(batch):
            await self._release_batch(batch, RESULTS_CHECK_SECONDS)
            await self._queue.announce([Message("retry", batch.id)])
            return
        shards = await self._planning.plan(batch, LEASE_SECONDS)
        if shards is None:
            await announce_end(self._store, self._queue, batch.id)
            return
        await self._release_batch(batch, _last_step(batch) if shards else 0)
        if shards:
            await self._queue.announce(Message("shard", shard.id) for shard in shards[1:])
            await self._advance(batch, shards[0], None)

    async def _advance(self, batch: BatchRow, shard: ShardRow, job: JobRow | None) -> None:
        """Take the step that a leased shard needs, and give its lease back."""
        pause = await self._step(batch, shard, job)
        if pause is not None:
            await self._announce(await self._release([(shard, pause)]))
            return
        if ends_its_batch(batch, shard, job):
            await announce_end(self._store, self._queue, batch.id)
            return
        async with self._store.session() as tables:
            joinable = await tables.batch_leases.is_due(batch.id)
        if joinable:
            await self._queue.announce([Message("join", batch.id)])

    def _sorted(
        self, shards: Sequence[ShardRow], batches: Mapping[str, BatchRow], jobs: Mapping[str, JobRow]
    ) -> tuple[list[RunningJob], list[tuple[ShardRow, float]]]:
        """The jobs that can be polled, and the other shards with their pauses.

        One whose job runs no more is due at once: `batches.worker` takes its step.
        """
        running, passed_over, unconfigured = list[RunningJob](), list[tuple[ShardRow, float]](), Counter[str]()
        for shard in shards:
            job = jobs.get(shard.id)
            if job is None or job.state != "running":
                passed_over.append((shard, 0))
            elif deployment := self._deployments.get(job.deployment_id, job.execution):
                running.append(self._running(batches[shard.batch_id], shard, job, deployment))
            else:
                passed_over.append((shard, UNCONFIGURED_SECONDS))
                unconfigured[job.deployment_id] += 1
        for deployment_id, count in unconfigured.items():
            observe.warning("deployment_not_configured", deployment_id=deployment_id, jobs=count)
        return running, passed_over

    def _running(self, batch: BatchRow, shard: ShardRow, job: JobRow, deployment: Deployment) -> RunningJob:
        rescue = self._deployments.rescue_before_expiry(deployment, batch.groups, batch.endpoint)
        return RunningJob(batch, shard, job, deployment, rescue)

    async def _step(self, batch: BatchRow, shard: ShardRow, job: JobRow | None) -> float | None:
        """Take the step that the shard and its open job need; returns the seconds to the next, `None` at the end."""
        if batch.due_at is None:  # old code ended it
            await self._termination.close(batch, shard)
            return None
        if job is None:
            return await self._start(batch, shard)
        deployment = self._deployments.get(job.deployment_id, job.execution)
        if job.state == "stored":
            return await self._settle(batch, shard, job, deployment)
        if deployment is None:
            return _unconfigured(job)
        if job.state in ("submitting", "unknown"):
            return await self._submission.reconcile(batch, shard, job, deployment)
        if job.state == "running":
            return await self._poll(self._running(batch, shard, job, deployment))
        await self._queue.announce([Message("job", job.id)])
        return RESULTS_CHECK_SECONDS

    async def _start(self, batch: BatchRow, shard: ShardRow) -> float | None:
        """Take the step of a shard without an open job; returns the seconds to the next, `None` at the end."""
        if batch.status == "cancelling":
            await self._cancellation.end_waiting(batch, shard)
            return None
        if shard.state == "running":  # old code has closed its job
            async with self._store.session() as tables:
                await tables.shards.wait(shard)
            return 0
        return await self._submission.start(batch, shard)

    async def _settle(
        self, batch: BatchRow, shard: ShardRow, job: JobRow, deployment: Deployment | None
    ) -> float | None:
        """Settle the job, also where its deployment is no longer in `config.yaml`; the pause if it is tried again."""
        try:
            return None if await self._settlement.settle(batch, shard, job, deployment) else 0
        except LeaseLost:
            observe.warning("lease_lost", batch_id=batch.id, shard_id=shard.id)
            return None

    async def _poll(self, running: RunningJob) -> float:
        """Poll one job; returns the seconds to the next step of its shard."""
        result = await self._polling.poll_one(running)
        await self._queue.announce(result.messages)
        [(_, pause)] = result.pauses
        return pause

    async def _release_batch(self, batch: BatchRow, pause: float) -> None:
        async with self._store.session() as tables:
            is_due = await tables.batch_leases.release(batch, pause)
        if is_due:
            await self._queue.announce([Message("batch", batch.id)])

    async def _release(
        self, pauses: Sequence[tuple[ShardRow, float]], missed: Sequence[tuple[ShardRow, float]] = ()
    ) -> dict[float, list[Message]]:
        """Give leases back; returns the messages of the steps that are due soon, by their delay in seconds.

        `missed` shards are left to the schedule, and get a message only if they were woken meanwhile.
        """
        if not (pauses or missed):
            return {}
        async with self._store.session() as tables:
            woken = await tables.shard_leases.release([*pauses, *missed])
        messages: dict[float, list[Message]] = defaultdict(list)
        messages[0] = [Message("shard", shard_id) for shard_id in woken]
        for shard, pause in pauses:
            if pause <= SELF_WAKE_SECONDS and shard.id not in woken:
                messages[pause].append(Message("shard", shard.id))
        return messages

    async def _announce(self, wakes: Mapping[float, Sequence[Message]], messages: Sequence[Message] = ()) -> None:
        """Send messages without a delay, and those of the next steps with theirs."""
        announcements = [(messages, 0.0), *((shards, delay) for delay, shards in wakes.items())]
        await asyncio.gather(*(self._queue.announce(some, delay=delay) for some, delay in announcements))


def _last_step(batch: BatchRow) -> float:
    """The seconds to the batch's step after its shards have had their time."""
    if batch.overdue_for is None:
        return max(0.0, batch.left + GRACE_SECONDS)
    return max(0.0, LAST_SECONDS - batch.overdue_for)


def _unconfigured(job: JobRow) -> float:
    """The pause for a job that cannot be reached: until it is overdue, its deployment may return to `config.yaml`."""
    observe.warning("deployment_not_configured", deployment_id=job.deployment_id, batch_id=job.batch_id)
    return UNCONFIGURED_SECONDS
