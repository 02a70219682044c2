"""The file of a batch that runs the failed lines of another one: its lines that have no successful answer."""

import secrets
from collections.abc import AsyncIterator
from io import BytesIO
from typing import NamedTuple

from files.transfers.batch_lease import BatchLease
from files.transfers.held_lines import HeldLines
from files.transfers.lease import LEASE_SECONDS, LeaseLost
from files.transfers.request_ids import RequestIds
from files.transfers.shard_requests import ShardRequests, id_of
from manifold import observe
from manifold.announcement import announce_end
from manifold.batch_status import batch_error
from manifold.errors import ManifoldError
from manifold.jsonl.check import Check
from manifold.jsonl.report import Report
from manifold.jsonl.result import begun_id, read
from manifold.observe import Metric
from manifold.queue import Message, Queue
from manifold.storage import Storage
from manifold.store import Store
from manifold.store.batches import BatchRow
from manifold.store.files import storage_key

_GONE = batch_error("invalid_request", "A file of the batch is gone whose lines were to run again.")
_NOTHING = batch_error("empty_file", "Every line of the batch has a successful answer.")


class _Retry(NamedTuple):
    """A batch under our lease whose file is to be made; `lines` are those of the batch whose failed lines it runs."""

    batch: BatchRow
    lines: ShardRequests | None
    """`None` if a file that is needed is gone."""
    output_file_id: str | None


class BatchRetry:
    """Makes the files of batches of failed lines. `worker` calls `run` for each `retry` message.

    Holds the store, the storage and the queue. A fault of S3 is not raised: the next attempt follows after a pause that
    grows. Raises `ManifoldError` if Postgres does not answer.
    """

    def __init__(self, store: Store, storage: Storage, queue: Queue) -> None:
        self._store = store
        self._storage = storage
        self._queue = queue
        self._lease = BatchLease(store, queue)

    async def run(self, batch_id: str) -> None:
        """Make the file of a batch that waits for it, and wake the batch; or have it tried again after a pause."""
        retry = await self._claim(batch_id)
        if retry is None:
            return
        try:
            if retry.lines is None:
                await self._fail(retry.batch, _GONE)
                return
            report = await self._lease.run(retry.batch, self._write(retry, retry.lines))
            await (self._show(retry.batch, report) if report.lines else self._fail(retry.batch, _NOTHING))
        except LeaseLost:
            observe.warning("lease_lost", batch_id=batch_id)
        except ManifoldError as fault:
            batch = retry.batch
            await self._lease.retry(batch, Message("retry", batch.id), fault, "retry_file_failed", batch.age)

    async def _claim(self, batch_id: str) -> _Retry | None:
        async with self._store.session() as tables:
            batch = await tables.batch_leases.claim_retry(batch_id, secrets.token_hex(8), LEASE_SECONDS)
            if batch is None:
                return None
            before = (await tables.batches.of([batch.retry_of or ""])).get(batch.retry_of or "")
            file = await tables.files.load(before.input_file_id) if before else None
            output_id = before.output_file_id if before else None
            output = await tables.files.load(output_id) if output_id else None
        if file is None or file.report is None or (output_id and output is None):
            return _Retry(batch, None, None)
        return _Retry(batch, ShardRequests(file.id, file, Report.from_json(file.report)), output_id)

    async def _write(self, retry: _Retry, lines: ShardRequests) -> Report:
        """Write the file, which is reserved; returns its report."""
        succeeded = await self._succeeded(retry.output_file_id) if retry.output_file_id else RequestIds()
        check = Check()
        await self._storage.write(storage_key(retry.batch.input_file_id), self._others(lines, succeeded, check))
        return check.finish()

    async def _others(self, lines: ShardRequests, succeeded: RequestIds, check: Check) -> AsyncIterator[bytes]:
        async for some in lines.read(self._storage):
            if chunk := b"".join(line for line in BytesIO(some) if id_of(line) not in succeeded):
                check.feed(chunk)
                yield chunk

    async def _succeeded(self, file_id: str) -> RequestIds:
        """The requests that have a successful answer: 16 to 32 bytes each."""
        requests = RequestIds()

        def whole(line: bytes) -> bytes:
            result = read(line)
            if result is not None and not result.failed:
                requests.add(result.custom_id)
            return b""

        def long(line: bytes) -> bytes:
            if custom_id := begun_id(line):
                requests.add(custom_id)
            return b""

        held = HeldLines(whole, long)
        async for chunk in self._storage.read(storage_key(file_id)):
            held.feed(chunk)
        whole(held.take())
        return requests

    async def _show(self, batch: BatchRow, report: Report) -> None:
        """Show the file, and wake the batch, which is planned then."""
        async with self._store.transaction() as tables:
            await tables.files.fill(batch.input_file_id, size=report.bytes, report=report.to_json())
            shown = await tables.files.register(batch.input_file_id)
            if not (shown and await tables.batches.resize(batch, report.lines)):
                raise LeaseLost(batch.id)
            await tables.batch_leases.release(batch, 0)
        observe.event("retry_file_made", batch_id=batch.id, retry_of=batch.retry_of, requests=report.lines)
        await self._queue.announce([Message("batch", batch.id)])

    async def _fail(self, batch: BatchRow, error: dict[str, object]) -> None:
        async with self._store.transaction() as tables:
            if not await tables.batches.end(batch, "failed", errors=[error]):
                raise LeaseLost(batch.id)
        observe.count(Metric.BATCHES_ENDED)
        await announce_end(self._store, self._queue, batch.id)
