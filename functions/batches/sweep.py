"""The safety net under the messages: what has waited too long is sent again, what expired is let go."""

from datetime import timedelta

from manifold.idempotency import KEY_SECONDS
from manifold.queue import Message, Queue
from manifold.store import Store

MANY = 500
"""How many of each kind one sweep takes; the next one takes the rest."""
ANNOUNCE_SECONDS = 25.0
"""How long sending them takes at most."""
MANY_CALLS = 5_000
"""Rows of calls that one statement deletes."""
STATEMENTS = 10
"""Such statements in one sweep, so that it keeps up with 800 calls a second."""


class Sweep:
    """`retention` is how long the rows of calls are kept, `batch_retention` those of what ended; `None`: for good."""

    def __init__(
        self, store: Store, queue: Queue, retention: timedelta | None, batch_retention: timedelta | None = None
    ) -> None:
        self._store = store
        self._queue = queue
        self._retention = retention
        self._batch_retention = batch_retention

    async def run(self) -> int:
        """Send again what nobody came for, and return how many messages that were."""
        async with self._store.session() as tables:
            await tables.idempotency.forget(KEY_SECONDS)
            expired = await tables.files.expire(MANY)
            await tables.uploads.expire(MANY)
            overdue = [
                *(Message("batch", batch_id) for batch_id in await tables.batches.due(MANY)),
                *(Message("input", input_id) for input_id in await tables.inputs.due(MANY)),
                *(Message("job", job_id) for job_id in await tables.jobs.due_results(MANY)),
                *(Message("file", file_id) for file_id in [*expired, *await tables.files.to_purge(MANY)]),
                *(Message("deployment", deployment_id) for deployment_id in await tables.inputs.doubtful()),
                *(Message("upload", upload_id) for upload_id in await tables.uploads.due(MANY)),
            ]
        await self._queue.announce(overdue, seconds=ANNOUNCE_SECONDS)
        await self._forget_calls()
        await self._forget_batches()
        return len(overdue)

    async def _forget_calls(self) -> None:
        if self._retention is None:
            return
        async with self._store.session() as tables:
            for _ in range(STATEMENTS):
                if await tables.calls.forget(self._retention.total_seconds(), MANY_CALLS) < MANY_CALLS:
                    break

    async def _forget_batches(self) -> None:
        """Batches first: their files may go then."""
        if self._batch_retention is None:
            return
        seconds = self._batch_retention.total_seconds()
        async with self._store.session() as tables:
            for forget in (tables.retention.forget_batches, tables.retention.forget_files):
                for _ in range(STATEMENTS):
                    if await forget(seconds, MANY) < MANY:
                        break
