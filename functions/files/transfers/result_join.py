"""The join: the results of a batch's shards become its one output and its one error file, and the batch ends.

It is taken where a batch has several shards, or results that do not answer each request once. Each line of the input
is answered once, in one of both files: docs/decisions/0026-joined-results.md.
"""

import secrets
from typing import NamedTuple

from files.transfers import join_plan
from files.transfers.batch_lease import BatchLease
from files.transfers.join_plan import Family
from files.transfers.joined_results import JoinedResults
from files.transfers.lease import LEASE_SECONDS, LeaseLost
from files.transfers.shard_requests import ShardRequests
from manifold import ids, observe
from manifold.announcement import announce_end
from manifold.errors import ManifoldError
from manifold.observe import Metric
from manifold.queue import Message, Queue
from manifold.storage import Composition, Storage
from manifold.store import Store, Tables
from manifold.store.batches import BatchRow
from manifold.store.files import NewFile, storage_key
from manifold.store.result_files import purge_results, result_file
from manifold.store.shards import ShardRow


class _Join(NamedTuple):
    """A batch under our lease whose shards have all ended."""

    batch: BatchRow
    shards: list[ShardRow]
    families: list[Family]
    lines: dict[str, ShardRequests]
    """The lines of each family, by the id of its first shard."""
    output: NewFile
    error: NewFile


class _Counts(NamedTuple):
    succeeded: int
    missing: int
    unknown: int
    bytes: dict[str, int]
    """Of each file that is written, by its id."""


class ResultJoin:
    """Joins the results of a batch's shards, and ends the batch. `worker` calls `run` for each `join` message.

    Holds the store, the storage and the queue. A fault of S3 is not raised: the next attempt follows after a pause that
    grows. Raises `ManifoldError` if Postgres does not answer.
    """

    def __init__(self, store: Store, storage: Storage, queue: Queue) -> None:
        self._store = store
        self._storage = storage
        self._queue = queue
        self._lease = BatchLease(store, queue)

    async def run(self, batch_id: str) -> None:
        """Join the results of a batch whose shards have all ended; or have it tried again after a pause."""
        join = await self._claim(batch_id)
        if join is None:
            return
        batch = join.batch
        try:
            counts = await self._lease.run(batch, self._write(join))
            await self._end(join, counts)
        except LeaseLost:
            observe.warning("lease_lost", batch_id=batch.id)
        except ManifoldError as fault:
            waited = min((shard.ended_for or 0.0 for shard in join.shards), default=0.0)
            await self._lease.retry(batch, Message("join", batch.id), fault, "join_failed", waited)

    async def _claim(self, batch_id: str) -> _Join | None:
        async with self._store.session() as tables:
            batch = await tables.batch_leases.claim_join(batch_id, secrets.token_hex(8), LEASE_SECONDS)
            if batch is None:
                return None
            shards = await tables.shards.of_batch(batch.id)
            jobs = await tables.jobs.settled_with_results(batch.id)
            families = join_plan.families(shards, jobs)
            lines = {}
            if any(member.objects for family in families for member in family.members):
                for first in [family.first.shard for family in families if not family.is_exact]:
                    found = await ShardRequests.load(tables, batch, first)
                    assert found is not None  # noqa: S101 (no file is purged that an open batch needs)
                    lines[first.id] = found
        output, error = result_file(batch, ids.new("file"), "output"), result_file(batch, ids.new("file"), "error")
        return _Join(batch, shards, families, lines, output, error)

    async def _write(self, join: _Join) -> _Counts | None:
        """Write both files. They are reserved first: what a killed worker leaves is purged. `None`: no results."""
        if not any(member.objects for family in join.families for member in family.members):
            return None
        async with self._store.session() as tables:
            await tables.files.reserve(join.output, join.batch.owner)
            await tables.files.reserve(join.error, join.batch.owner)
        async with (
            self._storage.compose(storage_key(join.output.id)) as output,
            self._storage.compose(storage_key(join.error.id)) as error,
        ):
            joined = JoinedResults(self._storage, output, error)
            for family in join.families:
                await joined.add(family, join.lines.get(family.first.shard.id))
            written = {join.output.id: await _finished(output), join.error.id: await _finished(error)}
        return _Counts(joined.succeeded, joined.missing, joined.unknown, written)

    async def _end(self, join: _Join, counts: _Counts | None) -> None:
        """End the batch, with its files, and have the parts purged of which they are made, in one transaction."""
        batch, lines = join.batch, sum(family.first.shard.requests for family in join.families)
        missing = counts.missing if counts else lines
        outcome = join_plan.outcome(batch, join.families, missing, lines - missing)
        errors = join_plan.errors(join.families, counts.unknown if counts else 0)
        async with self._store.transaction() as tables:
            output, error = [await _register(tables, file, counts) for file in (join.output, join.error)]
            if counts:
                await tables.batches.count(batch, counts.succeeded, max(0, lines - counts.succeeded))
            ended = await tables.batches.end(batch, outcome, errors=errors, output_file_id=output, error_file_id=error)
            if not ended:
                raise LeaseLost(batch.id)
            parts = await self._purge_parts(tables, join)  # after the end: an admin's has them purged itself
        observe.count(Metric.BATCHES_ENDED)
        observe.event("results_joined", batch_id=batch.id, shards=len(join.shards), outcome=outcome, missing=missing)
        await announce_end(self._store, self._queue, batch.id)
        await self._queue.announce(Message("file", file_id) for file_id in parts)

    async def _purge_parts(self, tables: Tables, join: _Join) -> list[str]:
        """Have the results of the shards purged, and the lines that ran again; returns the ids of their files."""
        members = [member for family in join.families for member in family.members]
        results = [found.file_id for member in members for found in member.objects]
        await purge_results(tables.files, join.batch, results)
        again = [member.again["file_id"] for member in members if member.again]
        await tables.files.end_reservations(again)
        return [*results, *again]


async def _finished(file: Composition) -> int:
    """The size of the file, which is shown now if it is not empty."""
    if file.bytes:
        await file.finish()
    return file.bytes


async def _register(tables: Tables, file: NewFile, counts: _Counts | None) -> str | None:
    """Show a file that was reserved; `None` where it is empty. Raises `LeaseLost` if its reservation is over."""
    if counts is None:
        return None
    if not counts.bytes[file.id]:
        await tables.files.end_reservations([file.id])
        return None
    await tables.files.fill(file.id, size=counts.bytes[file.id])
    if await tables.files.register(file.id) is None:
        raise LeaseLost(file.id)
    return file.id
