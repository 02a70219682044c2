"""The end of a shard, and of its batch where it was the last one."""

from collections.abc import Sequence

from manifold import observe
from manifold.batch_status import ErrorEntry
from manifold.observe import Metric
from manifold.store import Tables
from manifold.store.batches import BatchRow, Outcome
from manifold.store.shards import ShardRow


async def end_shard(
    tables: Tables, batch: BatchRow, shard: ShardRow, outcome: Outcome, errors: Sequence[ErrorEntry] = ()
) -> bool:
    """End a shard that leaves no results, by the holder of its lease, in a transaction of the caller's; false if the
    lease is lost.

    A batch without another shard ends with it. Of several, the last one wakes the batch, whose results are then joined.
    """
    if shard.alone:
        ended = await tables.batches.end(batch, outcome, errors=errors, shard=shard)
        if ended:
            observe.count(Metric.BATCHES_ENDED)
        return ended
    await tables.batches.lock(batch.id)
    return await tables.shards.end(shard, outcome, errors) and await wake_if_last(tables, batch)


async def wake_if_last(tables: Tables, batch: BatchRow) -> bool:
    """Make the batch due if all of its shards have ended, in a transaction of the caller's. Always true.

    The caller has locked the batch, before it ended its shard: rows are locked in the order jobs, batches, shards. So
    the last one sees that the others have ended.
    """
    if await tables.shards.are_ended(batch.id):
        await tables.batches.finalizing([batch.id])
        await tables.batch_leases.wake(batch.id)
    return True
