"""A client's `GET` of one batch: its row, and how its shards and attempts stand. No provider is called."""

from collections.abc import Callable

from batches.errors import batch_not_found
from batches.progress import attempts, shard_counts, waiting_for
from batches.serializers import batch_object
from manifold.access import Caller
from manifold.config import Deployment
from manifold.queue import Message, Queue
from manifold.schemas import Batch
from manifold.store import Store

FRESH_SECONDS = 15.0
"""Age of a running batch's status from which a GET has its provider polled again."""


class Retrieval:
    """Reads one batch for a caller; used by the route. `deployment` gives the deployment with an id."""

    def __init__(
        self, store: Store, queue: Queue, caller: Caller, deployment: Callable[[str], Deployment | None]
    ) -> None:
        self._store = store
        self._queue = queue
        self._caller = caller
        self._deployment = deployment

    async def retrieve(self, batch_id: str) -> Batch:
        """The batch as its rows have it, with a poll soon if the last was `FRESH_SECONDS` ago. Raises `NotFound`."""
        async with self._store.session() as tables:
            row = await tables.batches.get(batch_id, self._caller)
            if row is None:
                raise batch_not_found(batch_id)
            progress = await tables.progress.of(batch_id)
            running = progress.running and row.status in ("in_progress", "cancelling")
            stale = await tables.shard_leases.wake_stale(batch_id, FRESH_SECONDS) if running else []
        await self._queue.announce(Message("shard", shard_id) for shard_id in stale)
        batch = batch_object(row)
        return batch.model_copy(
            update={
                "waiting_for": batch.waiting_for or waiting_for(row, progress),
                "shards": shard_counts(progress),
                "attempts": attempts(row, progress, self._deployment),
            }
        )
