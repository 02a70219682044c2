"""A client's `GET` of batches: their rows, and how the shards and attempts of one stand. No provider is called."""

from collections.abc import Callable, Sequence

from batches.errors import batch_not_found
from batches.progress import attempts, shard_counts, waiting_for
from batches.serializers import batch_object
from manifold.config import Deployment
from manifold.errors import InvalidRequest
from manifold.queue import Message, Queue
from manifold.reading import Reading
from manifold.responses import Page
from manifold.schemas import Batch
from manifold.store import Store

FRESH_SECONDS = 15.0
"""Age of a running batch's status from which a GET has its provider polled again."""


class Retrieval:
    """Reads the batches that the holder of a key sees; used by the routes. `deployment` gives the deployment with an
    id."""

    def __init__(
        self, store: Store, queue: Queue, reading: Reading, deployment: Callable[[str], Deployment | None]
    ) -> None:
        self._store = store
        self._queue = queue
        self._reading = reading
        self._deployment = deployment

    async def retrieve(self, batch_id: str) -> Batch:
        """The batch as its rows have it, with a poll soon if the last was `FRESH_SECONDS` ago. Raises `NotFound`."""
        _, seen = await self._reading.read(lambda reads: reads.batch(batch_id, FRESH_SECONDS))
        if seen is None:
            raise batch_not_found(batch_id)
        row, progress = seen
        if progress.stale and row.status in ("in_progress", "cancelling"):
            await self._wake(batch_id)
        batch = batch_object(row)
        return batch.model_copy(
            update={
                "waiting_for": batch.waiting_for or waiting_for(row, progress),
                "shards": shard_counts(progress),
                "attempts": attempts(row, progress, self._deployment),
            }
        )

    async def page(self, *, after: str | None, limit: int, names: Sequence[str]) -> Page[Batch]:
        """The batches, newest first; with `names`, those that any of these model groups may run.

        Raises `InvalidRequest` (`invalid_cursor`) if `after` is no batch that the holder sees.
        """
        _, rows = await self._reading.read(lambda reads: reads.batches(after=after, names=names, limit=limit))
        if rows is None:
            raise InvalidRequest(f"No batch found with id '{after}'.", param="after", code="invalid_cursor")
        return Page[Batch].of([batch_object(row) for row in rows], limit)

    async def _wake(self, batch_id: str) -> None:
        async with self._store.session() as tables:
            stale = await tables.shard_leases.wake_stale(batch_id, FRESH_SECONDS)
        await self._queue.announce(Message("shard", shard_id) for shard_id in stale)
