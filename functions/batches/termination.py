"""The end of a batch whose provider has not ended it: a day after its completion window, or when an admin orders it.

What its provider may still do for it is not used. What was stored of its results is purged like a deleted file.
"""

from collections.abc import Callable, Sequence
from typing import Any

from batches.cancellation import outcome_of_overdue
from batches.errors import batch_not_found
from batches.rooms import wake_lines
from batches.shard_end import wake_if_last
from manifold import observe
from manifold.access import Caller
from manifold.batch_status import batch_error
from manifold.observe import Metric
from manifold.store import Store, Tables
from manifold.store.batches import BatchRow, Outcome
from manifold.store.jobs import JobRow
from manifold.store.result_files import purge_results
from manifold.store.shards import ShardRow

GIVEN_UP = (
    "The batch was given up a day after its completion window: its provider did not say how it ended, or did not give"
    " its results. What comes later is not used."
)
UNCONFIGURED = " The deployment that ran it is no longer in the gateway's configuration."
UNJOINED = "The batch was given up: for a day after its last part had ended, its results could not be put together."
ENDED = "An administrator of this gateway ended the batch. What its provider may still do for it is not used."


class Termination:
    """Ends a batch without its provider; used by `Engine` for overdue batches, and by the route of admins."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def give_up(self, batch: BatchRow, shards: Sequence[ShardRow], is_configured: Callable[[str], bool]) -> bool:
        """End an overdue batch, under its lease: its open shards as `expired`, or as `cancelled` where that was
        requested. What other shards brought is joined. Returns whether the batch has ended.

        `is_configured` tells whether a deployment (its id) is still in `config.yaml`.
        """
        async with self._store.transaction() as tables:
            jobs = await tables.jobs.abandon(batch.id)
            await _purge_results(tables, batch, jobs)
            lost = any(not is_configured(job.deployment_id) for job in jobs)
            causes = [f" The last cause: {job.error}" for job in jobs if job.error][:1]
            error = batch_error("batch_abandoned", "".join([GIVEN_UP, UNCONFIGURED if lost else "", *causes]))
            if len(shards) == 1:
                ended = await tables.batches.end(batch, outcome_of_overdue(batch), errors=[error])
            else:
                await tables.batches.lock(batch.id)
                await tables.shards.give_up(batch.id, outcome_of_overdue(batch), [error])
                await wake_if_last(tables, batch)
                ended = False
        if ended:
            observe.count(Metric.BATCHES_ENDED)
        await self._hand_on_room(jobs)
        _log(batch, jobs)
        return ended

    async def give_up_join(self, batch: BatchRow) -> None:
        """End an overdue batch, under its lease, whose results could not be joined: without files."""
        async with self._store.transaction() as tables:
            error = batch_error("batch_abandoned", UNJOINED)
            if not await tables.batches.end(batch, outcome_of_overdue(batch), errors=[error]):
                return
            jobs = await tables.jobs.settled_with_results(batch.id)
            await _purge_results(tables, batch, jobs)
        observe.count(Metric.BATCHES_ENDED)
        observe.warning("join_abandoned", batch_id=batch.id, jobs=len(jobs))

    async def close(self, batch: BatchRow, shard: ShardRow) -> None:
        """End a shard whose batch has ended without it, as old code ends one; under the shard's lease."""
        async with self._store.transaction() as tables:
            await _purge_results(tables, batch, await tables.jobs.abandon(batch.id))
            await tables.shards.end(shard, _outcome_of(batch))

    async def stop(self, batch_id: str, admin: Caller) -> BatchRow:
        """End a batch now, as `failed`, or as `cancelled` where that was requested; needs no lease.

        A batch that has ended stays as it is. Raises `NotFound`.
        """
        async with self._store.transaction() as tables:
            jobs = await tables.jobs.abandon(batch_id)  # as everywhere, jobs are locked before their batch
            stopped = await tables.batches.stop(batch_id, [batch_error("batch_ended_by_admin", ENDED)])
            jobs += await tables.jobs.abandon(batch_id)  # one that a worker wrote meanwhile
            row = stopped or await tables.batches.get(batch_id, admin)
            if row is None:
                raise batch_not_found(batch_id)
            await _purge_results(tables, row, jobs)
            if stopped:
                await _purge_results(tables, row, await tables.jobs.settled_with_results(batch_id))
        if stopped:
            observe.count(Metric.BATCHES_ENDED)
            _log(row, jobs)
        await self._hand_on_room(jobs)
        return row

    async def _hand_on_room(self, jobs: Sequence[JobRow]) -> None:
        """Make the shards due that wait for what these jobs held; the schedule sends their messages.

        Not in the transaction that ends the batch, which has locked its shards.
        """
        async with self._store.session() as tables:
            await wake_lines(tables, {job.deployment_id for job in jobs})


async def _purge_results(tables: Tables, batch: BatchRow, jobs: Sequence[JobRow]) -> None:
    """Have the objects purged that an unfinished transfer of results may have left."""
    named = [file_id for job in jobs for file_id in (job.output_file_id, job.error_file_id)]
    await purge_results(tables.files, batch, filter(None, named))


def _outcome_of(batch: BatchRow) -> Outcome:
    return batch.status if batch.status in ("completed", "expired", "cancelled") else "failed"


def _log(batch: BatchRow, jobs: Sequence[JobRow]) -> None:
    """Log each job with the ids by which an admin finds it at its provider."""
    for job in jobs:
        fields: dict[str, Any] = {"state": job.state, "provider_ref": job.provider_ref}
        observe.warning("job_abandoned", job_id=job.id, batch_id=batch.id, deployment_id=job.deployment_id, **fields)
