"""A cancel, from the client's request to the end of the batch.

1. `CancelRequests.accept`: a client's request makes the batch `cancelling` and wakes its shards. No provider is called.
2. The engine takes the next step of each shard of a `cancelling` batch, as its open job stands:
   - none: `Cancellation.end_waiting` ends the shard as `cancelled`; a batch without shards, too;
   - `submitting`, `unknown`: `Submission.reconcile` finds out whether the provider has the job;
   - `running`: `Cancellation.send` cancels it at the provider while its status is polled, and sends the cancel again
     every `RETRY_SECONDS` until the provider accepts it;
   - `ended`, `stored`: nothing is left to cancel.
3. The batch ends as its jobs ended at their providers, and keeps the results that there are: `cancelled`, or
   `completed` where the providers were faster (docs/decisions/0004-cancel.md). Where a provider never says how its job
   ended, `outcome_of_overdue` decides.

A job is also cancelled at its provider where the gateway is to run the rest (`rescue_before_expiry`).
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from batches.errors import batch_not_found
from batches.running_job import RunningJob
from batches.shard_end import end_shard
from manifold import observe
from manifold.access import Caller
from manifold.errors import InvalidRequest, ProviderError
from manifold.observe import Metric
from manifold.queue import Message, Queue
from manifold.store import Store
from manifold.store.batches import BatchRow, Outcome
from manifold.store.shards import ShardRow

if TYPE_CHECKING:  # the app that accepts cancels calls no provider, and need not import what does
    from manifold.deployments import Deployments

CONCURRENT_CALLS = 8
"""How many cancels one deployment is sent at once."""
CHECK_SECONDS = 2.0
"""Pause before the next poll once the provider has accepted a cancel: most stop at once."""
RETRY_SECONDS = 15.0
"""Pause before a cancel is sent again that the provider did not accept: it may refuse until the job has ended."""


class CancelRequests:
    """What a client's request for a cancel does; used by the route."""

    def __init__(self, store: Store, queue: Queue) -> None:
        self._store = store
        self._queue = queue

    async def accept(self, batch_id: str, caller: Caller) -> BatchRow:
        """validating | in_progress → cancelling, and wake the engine. A second cancel changes nothing.

        Raises `NotFound`, and `InvalidRequest` (`batch_not_cancellable`) if the batch is finalizing or has ended.
        """
        shard_ids: list[str] = []
        async with self._store.transaction() as tables:
            row = await tables.batches.cancel(batch_id, caller)
            row = row or await tables.batches.get(batch_id, caller)
            if row is not None and row.status == "cancelling":
                shard_ids = await tables.shard_leases.wake_batch(batch_id)
        if row is None:
            raise batch_not_found(batch_id)
        if row.status != "cancelling":
            message = f"The batch cannot be cancelled: it is already {row.status}."
            raise InvalidRequest(message, code="batch_not_cancellable")
        shards = [Message("shard", shard_id) for shard_id in shard_ids]
        await self._queue.announce(shards or [Message("batch", batch_id)])
        return row


class Cancellation:
    """What the engine does for a batch in `cancelling`, under the lease of a shard; used by `Engine` and `Polling`."""

    def __init__(self, store: Store, deployments: "Deployments") -> None:
        self._store = store
        self._deployments = deployments

    async def end_unsubmitted(self, batch: BatchRow) -> None:
        """cancelling → cancelled, for a batch that has no shards yet."""
        async with self._store.session() as tables:
            await tables.batches.end(batch, "cancelled")
        observe.count(Metric.BATCHES_ENDED)

    async def end_waiting(self, batch: BatchRow, shard: ShardRow) -> None:
        """waiting → ended as `cancelled`, for a shard that has no job at a provider."""
        async with self._store.transaction() as tables:
            await end_shard(tables, batch, shard, "cancelled")

    async def send(self, jobs: Sequence[RunningJob], accepted: set[str]) -> None:
        """Cancel those of one deployment's jobs whose cancel its provider has not accepted yet.

        The ids (ours) of the jobs whose cancel it accepts are added to `accepted` one by one, so that they are known
        also where the caller's time is up first. A provider's error is logged; the next poll sends the cancel again.
        """
        limit = asyncio.Semaphore(CONCURRENT_CALLS)
        await asyncio.gather(*(self._send(job, accepted, limit) for job in jobs if _is_due(job)))

    async def _send(self, running: RunningJob, accepted: set[str], limit: asyncio.Semaphore) -> None:
        try:
            async with limit:
                await self._deployments.call(running.deployment, lambda provider, at: provider.cancel(at, running.ref))
        except ProviderError as error:
            observe.failed("job_cancel_failed", error, job_id=running.job.id)
        else:
            accepted.add(running.job.id)


def pause(running: RunningJob, accepted: Collection[str]) -> float | None:
    """Seconds to the next poll of a job whose cancel was sent just now; `None` where none was due."""
    if not _is_due(running):
        return None
    return CHECK_SECONDS if running.job.id in accepted else RETRY_SECONDS


def outcome_of_overdue(batch: BatchRow) -> Outcome:
    """The end of a batch whose provider never said how its job ended: `cancelled` if a client cancelled it."""
    return "cancelled" if batch.status == "cancelling" else "expired"


def _is_due(running: RunningJob) -> bool:
    is_to_end = running.batch.status == "cancelling" or running.is_rescued
    return is_to_end and running.job.cancel_sent_for is None
