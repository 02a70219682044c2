"""Room as it is taken and handed on: the rules of `batches.room` on the rows, within a caller's transaction."""

from collections.abc import Collection, Sequence

from batches.room import Room, takers
from manifold.config import Deployment
from manifold.store import Tables
from manifold.store.jobs import JobRow
from manifold.store.shards import ShardRow

WOKEN_UNKNOWN = 10
"""How many shards are woken where a deployment's limits are not at hand."""


async def take_room(tables: Tables, deployment: Deployment, shard: ShardRow) -> bool:
    """Lock the room of a deployment until the transaction ends, and say whether it is this shard's turn to take it."""
    await tables.rooms.lock(deployment.id)
    line = await tables.rooms.line(deployment.id, shard.id)
    held = await tables.rooms.held([deployment.id])
    if shard.id not in takers(Room.of(deployment.limits, held.get(deployment.id)), line):
        return False
    await tables.rooms.take_turn(shard.batch_id)
    return True


async def grow_room(tables: Tables, deployment: Deployment, completed: Sequence[int]) -> None:
    """Believe in more room after jobs of so many tokens have completed, unless the gateway ran them."""
    if deployment.execution == "provider":
        await tables.rooms.grow(deployment.id, completed)


async def shrink_room(tables: Tables, job: JobRow) -> None:
    """Believe in less room after a job met the deployment's quota, unless the gateway ran it."""
    if job.execution == "provider":
        await tables.rooms.shrink(job.deployment_id, without=job.id)


async def wake_line(tables: Tables, deployment: Deployment) -> list[str]:
    """Make those shards due that may take the room of a deployment now; returns their ids.

    What the gateway runs takes none of the provider's room.
    """
    if deployment.execution == "gateway":
        return []
    line = await tables.rooms.line(deployment.id)
    if not line:
        return []
    held = await tables.rooms.held([deployment.id])
    return await tables.rooms.wake(takers(Room.of(deployment.limits, held.get(deployment.id)), line))


async def wake_lines(tables: Tables, deployment_ids: Collection[str]) -> list[str]:
    """The same where the deployments' limits are not at hand: the first in line look for themselves."""
    first: set[str] = set()
    for deployment_id in sorted(deployment_ids):
        first.update(shard.id for shard in (await tables.rooms.line(deployment_id))[:WOKEN_UNKNOWN])
    return await tables.rooms.wake(first)
