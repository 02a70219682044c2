"""A client's batches: create and retry. No provider is called: a row is written, then a message is sent."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from batches.admission import Reserving
from batches.bodies import BatchCreate
from batches.failed_lines import RETRY_FILE_SECONDS, failed_lines
from batches.retry_rounds import retry_rounds
from batches.serializers import batch_object
from manifold import ids
from manifold.access import Caller
from manifold.errors import BudgetExceeded, InvalidRequest, NotFound
from manifold.idempotency import CreateAttempt
from manifold.jsonl.report import Report
from manifold.queue import Message, Queue
from manifold.schemas import Batch
from manifold.store import Store, Tables
from manifold.store.batches import NewBatch
from manifold.store.files import FileRow

WINDOW_SECONDS = 86_400
"""Length of the completion window, which is always `24h`."""


class Catalog:
    """Creates the batches of one caller; used by the routes. Reads are in `batches.retrieval`, a cancel in
    `batches.cancellation`."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        caller: Caller,
        reserving: Reserving,
        rounds_of_group: Callable[[str], int] = lambda _: 0,
    ) -> None:
        self._store = store
        self._queue = queue
        self._caller = caller
        self._reserving = reserving
        self._rounds_of_group = rounds_of_group

    async def create(self, request: BatchCreate, attempt: CreateAttempt) -> Batch:
        """Write a batch in `validating`, also while every provider is down. A retry gets the first attempt's batch.

        Bad lines fail it later, as at OpenAI. Raises `NotFound` for the file, `InvalidRequest` if the file or the model
        does not fit, what `Caller.require` raises if the caller may not use the file's models, and what
        `Reserving.reserve` raises if a limit of the caller's has no room.
        """
        async with self._transaction() as tables:
            earlier = await tables.idempotency.earlier(attempt)
            row = await tables.batches.get(earlier, self._caller) if earlier else None
            if row is None:
                file = await tables.files.get(request.input_file_id, self._caller, keep=True)
                batch, report = self._batch(request, file)
                batch = await self._reserving.reserve(tables, self._caller, batch, report)
                row = await tables.batches.insert(batch, self._caller)
                await tables.idempotency.remember(attempt, row.id)
        await self._queue.announce([Message("batch", row.id)])
        return batch_object(row)

    async def retry(self, batch_id: str, attempt: CreateAttempt) -> Batch:
        """Write a batch of those lines of an ended batch that have no successful answer. Its file is made by a worker.

        Raises `NotFound` for the batch and its files, `InvalidRequest` if it is open or nothing is left to do, and what
        a create raises.
        """
        async with self._transaction() as tables:
            earlier = await tables.idempotency.earlier(attempt)
            row = await tables.batches.get(earlier, self._caller) if earlier else None
            if row is None:
                before = await tables.batches.get(batch_id, self._caller)
                lines = failed_lines(before, batch_id)
                files = [await tables.files.get(file_id, self._caller, keep=True) for file_id in lines.files]
                report = lines.report(files)
                batch = lines.retry(self._usable(lines.batch.groups), WINDOW_SECONDS)
                batch = await self._reserving.reserve(tables, self._caller, batch, report)
                owner = lines.batch.owner if self._caller.admin else self._caller  # whose limits have room for it
                await tables.files.reserve(lines.file, owner, RETRY_FILE_SECONDS)
                row = await tables.batches.insert(batch, owner)
                await tables.idempotency.remember(attempt, row.id)
        await self._queue.announce([Message("batch", row.id)])
        return batch_object(row)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Tables]:
        """A transaction that is committed also where a budget refuses the batch: its period has begun."""
        refusal = None
        async with self._store.transaction() as tables:
            try:
                yield tables
            except BudgetExceeded as error:
                refusal = error
        if refusal is not None:
            raise refusal

    def _batch(self, request: BatchCreate, file: FileRow | None) -> tuple[NewBatch, Report]:
        """The batch that the request asks for, once its file and model are checked, and the file's report."""
        if file is None:
            message = f"No such File object: {request.input_file_id}. Upload the input file first, with this key."
            raise NotFound(message, param="input_file_id", code="file_not_found")
        if file.status == "error":
            message = f"The input file cannot be used: {file.status_details} Upload it again."
            raise InvalidRequest(message, param="input_file_id", code="invalid_file")
        if file.purpose != "batch" or file.report is None:
            message = f"The purpose of a batch's input file must be 'batch', not '{file.purpose}'. Upload it again."
            raise InvalidRequest(message, param="input_file_id", code="invalid_purpose")
        report, groups = Report.from_json(file.report), self._groups(request.model, file)
        batch = NewBatch(
            id=ids.new("batch"),
            input_file_id=file.id,
            endpoint=request.endpoint,
            completion_window=request.completion_window,
            groups=groups,
            metadata=request.metadata,
            total=report.lines,
            output_expires_after=request.output_expires_after.seconds if request.output_expires_after else None,
            expires_in=WINDOW_SECONDS,
            retry_rounds=retry_rounds(
                request.retry_failed_lines, self._caller.retry_failed_lines, groups, self._rounds_of_group
            ),
        )
        return batch, report

    def _groups(self, model: str | None, file: FileRow) -> list[str]:
        """The model groups that may run the batch: the file's, or the one of them that the client names."""
        if model is not None:
            group = self._caller.group(model)
            if group not in file.groups:
                names = ", ".join(file.groups) or "none"
                message = f"The input file is not meant for the model '{model}'. Its models: {names}."
                raise InvalidRequest(message, param="model", code="model_mismatch")
            self._caller.require([group])
            return [group]
        return self._usable(file.groups)

    def _usable(self, groups: list[str]) -> list[str]:
        usable = [group for group in groups if self._caller.may_use(group)]
        if not usable:
            self._caller.require(groups, param="input_file_id")
        return usable
