"""Shards without an engine: the one of a batch, planned under leases named "mine"."""

from manifold import ids
from manifold.store import Tables
from manifold.store.batches import BatchRow
from manifold.store.shards import NewShard, ShardRow


async def plan_one(tables: Tables, batch: BatchRow, requests: int = 1) -> ShardRow:
    """The one shard of a batch that is claimed, leased as "mine"."""
    [shard] = await tables.shards.plan(batch, [NewShard(ids.new("shard"), 0, "", requests, 1, 1)], "mine", 60)
    return shard
