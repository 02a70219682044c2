"""The upload of a file's or a shard's lines to a deployment: S3 → the deployment's model in each → the provider."""

import secrets
from collections.abc import AsyncIterator
from functools import partial

from files.transfers.copies import Copies
from files.transfers.lease import LEASE_SECONDS, LeaseLost, run_leased
from files.transfers.line_translation import TranslatedRequests
from files.transfers.retry_policy import ATTEMPTS, UNCONFIGURED, Fault, is_exhausted, owner_message, pause
from files.transfers.shard_lines import shard_lines
from manifold import observe
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import ManifoldError, ProviderError
from manifold.jsonl.report import Report
from manifold.jsonl.rewrite import Rewrite
from manifold.providers import BatchProvider, Endpoint, Input, Prepared
from manifold.providers.batch_lines import LineTranslator
from manifold.queue import MAX_DELAY, Message, Queue
from manifold.selection import Selection
from manifold.storage import Storage
from manifold.store import Store, Tables
from manifold.store.files import FileRow
from manifold.store.inputs import InputKeys, InputRow

ALL = Selection.all()


class NotServed(Exception):
    """The provider's batches do not take what the lines call."""


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
        self._copies = Copies(store, deployments)

    async def run(self, input_id: str) -> None:
        """Upload a due input to its deployment and wake the shards that wait for it; or write when to try again.

        One that nobody needs any more is discarded, and its copy deleted.
        """
        claimed = await self._claim(input_id)
        if claimed is None:
            return
        row, file, selection = claimed
        if file is None:
            await self._discard_unneeded(row)
            return
        deployment = self._deployments.get(row.deployment_id)
        if deployment is None:
            await self._give_up(row, UNCONFIGURED)
        elif row.attempts > ATTEMPTS:  # its workers died, each time
            await self._give_up(row, "The transfer broke off too often.")
        else:
            await self._transfer(row, file, selection, deployment)

    async def _claim(self, input_id: str) -> tuple[InputRow, FileRow | None, Selection] | None:
        """The input and what it is of, if the input can be claimed; no file for one that nobody needs any more."""
        async with self._store.session() as tables:
            row = await tables.inputs.claim(input_id, secrets.token_hex(8), LEASE_SECONDS)
            if row is None:
                return None
            file_id, selection = await _source(tables, row)
            file = await tables.files.load(file_id) if file_id else None
            if file is not None and await tables.files.purgeable(file.id):
                file = None
        return row, file, selection

    async def _discard_unneeded(self, row: InputRow) -> None:
        try:
            await self._copies.discard(row)
        except (ProviderError, ManifoldError) as fault:
            observe.failed("input_delete_failed", fault, input_id=row.id, deployment_id=row.deployment_id)
            async with self._store.session() as tables:
                await tables.inputs.retry(row, owner_message(fault), pause(row.attempts, fault))

    async def _transfer(self, row: InputRow, file: FileRow, selection: Selection, deployment: Deployment) -> None:
        try:
            prepared = await run_leased(partial(self._renew, row), self._prepare(row, file, selection, deployment))
        except NotServed as error:
            await self._give_up(row, str(error))
        except LeaseLost:
            observe.warning("lease_lost", input_id=row.id)
        except (ProviderError, ManifoldError) as fault:
            await self._retry(row, fault)
        else:
            await self._ready(row, file, deployment, *prepared)

    async def _renew(self, row: InputRow, seconds: float) -> bool:
        async with self._store.session() as tables:
            return await tables.inputs.renew(row, seconds)

    async def _prepare(
        self, row: InputRow, file: FileRow, selection: Selection, deployment: Deployment
    ) -> tuple[Prepared, int]:
        """What the provider has now, and how many requests are not in it, as they cannot be translated."""
        assert file.report is not None  # noqa: S101 (only a file with a report has inputs)
        report = Report.from_json(file.report)
        translator = self._deployments.translator(deployment)
        if translator is not None:
            return await self._prepare_translated(row, file, report, selection, deployment, translator)

        def lines() -> AsyncIterator[bytes]:
            return rewritten(shard_lines(self._storage, file, report, selection), deployment.model, report)

        # the report has the exact length of the whole file alone
        size = report.rewritten_bytes(deployment.model) if selection == ALL else await _length(lines())
        return await self._upload(deployment, Input(id=row.id, bytes=size, lines=lines)), 0

    async def _prepare_translated(
        self,
        row: InputRow,
        file: FileRow,
        report: Report,
        selection: Selection,
        deployment: Deployment,
        translator: LineTranslator,
    ) -> tuple[Prepared, int]:
        """The same of lines in the provider's own form. They are in S3 first: so their length is known."""
        if missing := sorted(report.urls.keys() - translator.routes):
            raise NotServed(f"The deployment's provider runs no batches of {missing[0]}.")
        keys = InputKeys.of(file.id, row.id)
        with TranslatedRequests(translator, row.id, drop_params=self._deployments.drop_params) as requests:
            chunks = requests.through(shard_lines(self._storage, file, report, selection))
            size = await self._storage.write(keys.lines, chunks)
            if requests.refused:
                await self._storage.write(keys.refused, requests.failures())
        prepared = Prepared(None)
        if requests.requests:
            data = Input(
                row.id, size, lambda: self._storage.read(keys.lines), requests.requests, next(iter(report.urls))
            )
            prepared = await self._upload(deployment, data)
            if not self._deployments.sends_lines(deployment):
                await self._storage.delete(keys.lines)
        return prepared, requests.refused

    async def _upload(self, deployment: Deployment, data: Input) -> Prepared:
        return await self._deployments.call(deployment, lambda provider, at: provider.prepare(at, data), seconds=None)

    async def _ready(
        self, row: InputRow, file: FileRow, deployment: Deployment, prepared: Prepared, refused: int
    ) -> None:
        """Note the provider's copy, and wake the shards that wait for it."""
        async with self._store.transaction() as tables:
            waiting = await _wake_waiting(tables, row)
            noted = await tables.inputs.ready(row, prepared.ref, prepared.expires_at, refused)
        if not noted:
            await self._discard(row, file, deployment, prepared.ref)
            return
        observe.event("input_ready", input_id=row.id, deployment_id=row.deployment_id, attempts=row.attempts)
        observe.count(observe.Metric.INPUTS_READY)
        await self._queue.announce(Message("shard", shard_id) for shard_id in waiting)

    async def _discard(self, row: InputRow, file: FileRow, deployment: Deployment, ref: str | None) -> None:
        """Delete what no row names: the file was purged, or the lease ran out, during the upload."""
        async with self._store.session() as tables:
            current = await tables.inputs.get(row.id)
        if current is None or current.state == "discarded":  # else another worker may have written the same objects
            for key in InputKeys.of(file.id, row.id):
                await self._storage.delete(key)
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
            # A young shard waits for first attempts: where one failed, it need not wait any longer.
            waiting = await _wake_waiting(tables, row) if row.attempts == 1 else []
            await tables.inputs.retry(row, owner_message(fault), wait)
        await self._queue.announce(Message("shard", shard_id) for shard_id in waiting)
        if wait <= MAX_DELAY:  # the schedule sends what is due later
            await self._queue.announce([Message("input", row.id)], delay=wait)

    async def _give_up(self, row: InputRow, cause: str) -> None:
        """Fail the input, and wake the shards that wait for it: they choose another deployment, or end."""
        async with self._store.transaction() as tables:
            waiting = await _wake_waiting(tables, row)
            await tables.inputs.fail(row, cause)
        observe.event("input_failed", input_id=row.id, deployment_id=row.deployment_id, attempts=row.attempts)
        observe.count(observe.Metric.INPUTS_FAILED)
        await self._queue.announce(Message("shard", shard_id) for shard_id in waiting)


async def _source(tables: Tables, row: InputRow) -> tuple[str | None, Selection]:
    """The file (id) whose lines the input has, and which of them; no file for a shard that has ended."""
    if row.shard_id is None:
        return row.file_id, ALL
    shard = await tables.shards.get(row.shard_id)
    if shard is None or shard.state == "ended":
        return None, ALL
    batches = await tables.batches.of([shard.batch_id])
    return batches[shard.batch_id].input_file_id, Selection.parse(shard.selection)


async def _length(chunks: AsyncIterator[bytes]) -> int:
    return sum([len(chunk) async for chunk in chunks])


async def _wake_waiting(tables: Tables, row: InputRow) -> list[str]:
    """Wake the shards that wait for this input; returns their ids.

    It comes before the change of the input, also where that fails: the end of a batch locks its shards before their
    inputs.
    """
    if row.shard_id is not None:
        return [row.shard_id] if await tables.shard_leases.wake(row.shard_id) else []
    return await tables.shard_leases.wake_waiting(row.file_id) if row.file_id else []


async def rewritten(chunks: AsyncIterator[bytes], model: str, report: Report) -> AsyncIterator[bytes]:
    """The lines of a checked file, whose report this is, with this model in each."""
    rewrite = Rewrite(model, report)
    async for chunk in chunks:
        if lines := rewrite.feed(chunk):
            yield lines
    if last := rewrite.finish():
        yield last
