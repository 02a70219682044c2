"""A transfer under a batch's own lease: it is renewed meanwhile, and after a fault given back for a later attempt."""

from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

from files.transfers.lease import run_leased
from files.transfers.retry_policy import join_pause
from manifold import observe
from manifold.errors import ManifoldError
from manifold.queue import MAX_DELAY, Message, Queue
from manifold.store import Store
from manifold.store.batches import BatchRow

Answer = TypeVar("Answer")


class BatchLease:
    """Keeps and gives back leases of batches. `ResultJoin` and `BatchRetry` use it. Holds the store and the queue."""

    def __init__(self, store: Store, queue: Queue) -> None:
        self._store = store
        self._queue = queue

    async def run(self, batch: BatchRow, work: Coroutine[Any, Any, Answer]) -> Answer:
        """What the work returns, while the batch's lease is renewed. Raises what it raises, and `LeaseLost`."""
        return await run_leased(partial(self._renew, batch), work)

    async def retry(self, batch: BatchRow, message: Message, fault: ManifoldError, event: str, waited: float) -> None:
        """Log the fault as `event`, and have the message sent again after a pause that grows with the seconds waited.

        Of an overdue batch it is not: the engine looks whether it is given up.
        """
        wait = join_pause(waited)
        observe.failed(event, fault, batch_id=batch.id, next_attempt=round(wait))
        async with self._store.session() as tables:
            await tables.batch_leases.release(batch, wait)
        if wait <= MAX_DELAY and not batch.overdue:
            await self._queue.announce([message], delay=wait)

    async def _renew(self, batch: BatchRow, seconds: float) -> bool:
        async with self._store.session() as tables:
            return await tables.batch_leases.renew(batch, seconds)
