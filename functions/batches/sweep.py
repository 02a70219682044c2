"""The safety net under the messages: what has waited too long is sent again, what has expired is deleted."""

from collections.abc import Mapping
from datetime import timedelta

from manifold.config import Deployment
from manifold.execution.pace import PaceLimits
from manifold.idempotency import KEY_SECONDS
from manifold.queue import Message, Queue
from manifold.store import Store, Tables

MANY = 500
"""How many rows of each kind one sweep takes; the next one takes the rest."""
MANY_WEBHOOKS = 40
"""How many messages for webhooks: each has twenty of them called, and one that has more due sends another."""
ANNOUNCE_SECONDS = 10.0
"""Time limit for sending the messages of one sweep."""
MANY_CALLS = 5_000
"""How many rows of calls one statement deletes."""
MANY_SUMMED = 20_000
"""How many rows of calls, and of usage, one statement adds to the sums of spend."""
STATEMENTS = 10
"""How many such statements one sweep runs: it keeps up with 800 calls a second."""


class Sweep:
    """What the schedule does to rows that nobody waits for; used by `batches.poller`.

    `deployments` are those of `config.yaml`, by id. `retention` is how long the rows of calls are kept,
    `batch_retention` those of ended batches and purged files; `None`: for ever.
    """

    def __init__(
        self,
        store: Store,
        queue: Queue,
        deployments: Mapping[str, Deployment],
        retention: timedelta | None,
        batch_retention: timedelta | None = None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._deployments = deployments
        self._retention = retention
        self._batch_retention = batch_retention
        self._behind = True

    async def run(self) -> int:
        """Send messages of what is overdue again, sum up spend, delete what has expired; returns how many were sent."""
        async with self._store.session() as tables:
            await tables.idempotency.forget(KEY_SECONDS)
            expired = await tables.files.expire(MANY)
            await tables.uploads.expire(MANY)
            await tables.deliveries.expire(MANY)
            overdue = [
                *(Message("batch", batch_id) for batch_id in await tables.batch_leases.due(MANY)),
                *(Message("shard", shard_id) for shard_id in await tables.shard_leases.due(MANY)),
                *(Message("input", input_id) for input_id in await tables.inputs.due(MANY)),
                *(Message("chunk", chunk_id) for chunk_id in await self._activated(tables)),
                *(Message("chunk", chunk_id) for chunk_id in await tables.chunks.due(MANY)),
                *(Message("job", job_id) for job_id in await tables.job_results.due(MANY)),
                *(Message("file", file_id) for file_id in [*expired, *await tables.files.to_purge(MANY)]),
                *(Message("deployment", deployment_id) for deployment_id in await tables.inputs.due_orphan_checks()),
                *(Message("upload", upload_id) for upload_id in await tables.uploads.due(MANY)),
                *(Message("webhook", webhook_id) for webhook_id in await tables.webhooks.due(MANY_WEBHOOKS)),
            ]
        await self._queue.announce(overdue, seconds=ANNOUNCE_SECONDS)
        done = [await self._sum_up_spend(), await self._forget_calls(), await self._forget_batches()]
        self._behind = not all(done)
        return len(overdue)

    async def nothing_left(self) -> bool:
        """Whether `run` succeeded, summed up and deleted all that it could, and nothing is open."""
        async with self._store.session() as tables:
            return not self._behind and not await tables.open_work.any()

    async def _activated(self, tables: Tables) -> list[str]:
        """Make queued chunks due in place of those that ended without a worker; returns their ids."""
        activated = list[str]()
        for deployment_id in await tables.chunks.with_queued():
            deployment = self._deployments.get(deployment_id)
            workers = PaceLimits.of(deployment).workers if deployment else 1
            activated += await tables.chunks.activate(deployment_id, workers)
        return activated

    async def _sum_up_spend(self) -> bool:
        """Whether all that can be summed up is."""
        async with self._store.session() as tables:
            for _ in range(STATEMENTS):
                if await tables.spend.sum_up(MANY_SUMMED):
                    return True
        return False

    async def _forget_calls(self) -> bool:
        """Whether all old rows are deleted."""
        if self._retention is None:
            return True
        async with self._store.session() as tables:
            for _ in range(STATEMENTS):
                if await tables.calls.forget(self._retention.total_seconds(), MANY_CALLS) < MANY_CALLS:
                    return True
        return False

    async def _forget_batches(self) -> bool:
        """Delete the rows of batches first, as those of their files can be deleted only then; whether all are."""
        if self._batch_retention is None:
            return True
        seconds, finished = self._batch_retention.total_seconds(), True
        async with self._store.session() as tables:
            for forget in (tables.retention.forget_batches, tables.retention.forget_files):
                for _ in range(STATEMENTS):
                    if await forget(seconds, MANY) < MANY:
                        break
                else:
                    finished = False
        return finished
