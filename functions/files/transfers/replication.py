"""The upload of a file's lines to one deployment: S3 → the deployment's own model in each line → the provider."""

import secrets
from collections.abc import AsyncIterator
from functools import partial

from files.transfers.lease import LEASE_SECONDS, LeaseLost, run_leased
from files.transfers.retry_policy import ATTEMPTS, UNCONFIGURED, Fault, is_exhausted, owner_message, pause
from manifold import observe
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import ManifoldError, ProviderError
from manifold.jsonl import Report, Rewrite
from manifold.providers import BatchProvider, Endpoint, Input, Prepared
from manifold.queue import MAX_DELAY, Message, Queue
from manifold.storage import Storage
from manifold.store import Store
from manifold.store.files import FileRow
from manifold.store.inputs import InputRow


class Replication:
    """Uploads inputs to their deployments. `worker` calls `run` for each `input` message.

    Holds the store, the storage, the queue and the deployments. A fault of a provider or of S3 is not raised: the
    input's row says when to try again, or why not. Raises `ManifoldError` if Postgres does not answer.
    """

    def __init__(self, store: Store, storage: Storage, queue: Queue, deployments: Deployments) -> None:
        self._store = store
        self._storage = storage
        self._queue = queue
        self._deployments = deployments

    async def run(self, input_id: str) -> None:
        """Upload a due input to its deployment and wake the batches that wait for it; or write when to try again."""
        claimed = await self._claim(input_id)
        if claimed is None:
            return
        row, file = claimed
        deployment = self._deployments.get(row.deployment_id)
        if deployment is None:
            await self._give_up(row, UNCONFIGURED)
        elif row.attempts > ATTEMPTS:  # its workers died, each time
            await self._give_up(row, "The transfer broke off too often.")
        else:
            await self._transfer(row, file, deployment)

    async def _claim(self, input_id: str) -> tuple[InputRow, FileRow] | None:
        """The input and its file, if the input can be claimed. An input that nobody needs any more is discarded."""
        async with self._store.session() as tables:
            row = await tables.inputs.claim(input_id, secrets.token_hex(8), LEASE_SECONDS)
            if row is None:
                return None
            file = await tables.files.load(row.file_id)
            if file is None or await tables.files.purgeable(file.id):
                await tables.inputs.discard(row.id)
                return None
        return row, file

    async def _transfer(self, row: InputRow, file: FileRow, deployment: Deployment) -> None:
        try:
            prepared = await run_leased(partial(self._renew, row), self._prepare(row, file, deployment))
        except LeaseLost:
            observe.warning("lease_lost", input_id=row.id)
        except (ProviderError, ManifoldError) as fault:
            await self._retry(row, fault)
        else:
            await self._ready(row, deployment, prepared)

    async def _renew(self, row: InputRow, seconds: float) -> bool:
        async with self._store.session() as tables:
            return await tables.inputs.renew(row, seconds)

    async def _prepare(self, row: InputRow, file: FileRow, deployment: Deployment) -> Prepared:
        assert file.report is not None  # noqa: S101 (only a file with a report has inputs)
        report = Report.from_json(file.report)
        data = Input(
            name=f"{row.id}.jsonl",
            bytes=report.rewritten_bytes(deployment.model),
            lines=lambda: rewritten(self._storage.read(file.storage_key), deployment.model, report),
        )
        return await self._deployments.call(deployment, lambda provider, at: provider.prepare(at, data), seconds=None)

    async def _ready(self, row: InputRow, deployment: Deployment, prepared: Prepared) -> None:
        """Note the provider's copy, and wake the batches that wait for it."""
        async with self._store.transaction() as tables:
            noted = await tables.inputs.ready(row, prepared.ref, prepared.expires_at)
            waiting = await tables.batch_leases.wake_waiting(row.file_id) if noted else []
        if not noted:
            await self._discard(row, deployment, prepared.ref)
            return
        observe.event("input_ready", input_id=row.id, deployment_id=row.deployment_id, attempts=row.attempts)
        observe.count(observe.Metric.INPUTS_READY)
        await self._queue.announce(Message("batch", batch_id) for batch_id in waiting)

    async def _discard(self, row: InputRow, deployment: Deployment, ref: str | None) -> None:
        """Delete a copy that no row names: the file was purged, or the lease ran out, during the upload."""
        if ref is None:
            return

        async def discard(provider: BatchProvider, at: Endpoint) -> None:
            await provider.discard(at, ref)

        try:
            await self._deployments.call(deployment, discard)
        except ProviderError as error:
            observe.failed("input_delete_failed", error, input_id=row.id, deployment_id=deployment.id)

    async def _retry(self, row: InputRow, fault: Fault) -> None:
        """Try again after a pause, or give up where no attempt is left."""
        observe.failed(
            "input_upload_failed", fault, input_id=row.id, deployment_id=row.deployment_id, attempts=row.attempts
        )
        if is_exhausted(row.attempts, fault):
            await self._give_up(row, owner_message(fault))
            return
        wait = pause(row.attempts, fault)
        async with self._store.transaction() as tables:
            noted = await tables.inputs.retry(row, owner_message(fault), wait)
            # A young batch waits for first attempts: where one failed, it need not wait any longer.
            waiting = await tables.batch_leases.wake_waiting(row.file_id) if noted and row.attempts == 1 else []
        await self._queue.announce(Message("batch", batch_id) for batch_id in waiting)
        if wait <= MAX_DELAY:  # the schedule sends what is due later
            await self._queue.announce([Message("input", row.id)], delay=wait)

    async def _give_up(self, row: InputRow, cause: str) -> None:
        """Fail the input, and wake the batches that wait for it: they choose another deployment, or end."""
        async with self._store.transaction() as tables:
            failed = await tables.inputs.fail(row, cause)
            waiting = await tables.batch_leases.wake_waiting(row.file_id) if failed else []
        observe.event("input_failed", input_id=row.id, deployment_id=row.deployment_id, attempts=row.attempts)
        observe.count(observe.Metric.INPUTS_FAILED)
        await self._queue.announce(Message("batch", batch_id) for batch_id in waiting)


async def rewritten(chunks: AsyncIterator[bytes], model: str, report: Report) -> AsyncIterator[bytes]:
    """The lines of a checked file, whose report this is, with this model in each."""
    rewrite = Rewrite(model, report)
    async for chunk in chunks:
        if lines := rewrite.feed(chunk):
            yield lines
    if last := rewrite.finish():
        yield last
