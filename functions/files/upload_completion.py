"""The completion of an upload: its parts become one file, also where several requests complete it at once.

A request takes the upload's lease and joins the parts; the worker joins those of a large file. Then one transaction
shows the file, with its inputs, and completes the upload. What an earlier attempt has joined is not joined again.
"""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from files import inputs
from files.assembly import Assembly
from files.presign import CONTENT_PART
from files.target_groups import TargetGroups
from files.uploads import ended
from manifold.access import Caller
from manifold.deployments import Deployments
from manifold.errors import InvalidRequest, Unavailable
from manifold.jsonl import Report
from manifold.queue import Message, Queue
from manifold.storage import Storage
from manifold.store import Store
from manifold.store.files import storage_key
from manifold.store.uploads import UploadRow

INLINE_BYTES = 256 * 1024 * 1024
"""Bytes of the largest file that is joined within its request: docs/decisions/0009-inline-complete.md."""
LEASE_SECONDS = 30
"""Longer than a request may take (29 s), so that the lease outlives the request that holds it."""
WAIT_SECONDS = 20.0
"""How long a request waits for another request, or for the worker, that works on the same upload."""
_CHECK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class CompletionOrder:
    """What a client wants the file to be made of."""

    part_ids: Sequence[str]
    """In the order of their bytes."""
    md5: str | None
    presigned: bool = False
    """Whether the one part is the content of a presigned file, which has no row."""

    def is_joined(self, row: UploadRow) -> bool:
        """Whether the upload's bytes are joined already, from these parts."""
        return row.md5 is not None and row.part_ids == list(self.part_ids)


class Completion:
    """Completes a caller's uploads. The routes `…/complete` of uploads and of presigned files call it.

    Holds the store, the storage, the queue, the deployments and an `Assembly`. Raises `InvalidRequest` for parts that
    are not the file that was announced, and `Unavailable` if the upload is busy, or Postgres or S3 does not answer.
    """

    def __init__(self, store: Store, storage: Storage, queue: Queue, deployments: Deployments, caller: Caller) -> None:
        self._store = store
        self._storage = storage
        self._queue = queue
        self._deployments = deployments
        self._caller = caller
        self._assembly = Assembly(store, storage)

    async def complete(self, row: UploadRow, order: CompletionOrder) -> UploadRow:
        """Complete an upload. Returns it as `completed`, or as `pending` if the worker needs more time for the file.

        The client then completes it again. After an `InvalidRequest` the parts are kept, so that the upload may be
        completed with others.
        """
        if row.status == "pending":
            await self._check(row, order)
            await self._delegate(row, order)
        deadline = time.monotonic() + WAIT_SECONDS
        while row.status == "pending":
            done = await self._attempt(row, order)
            if not done and time.monotonic() > deadline:
                return _still_pending(row)
            if not done:
                await asyncio.sleep(_CHECK_SECONDS)
            row = await self._reload(row)
        _check_end(row, order)
        return row

    async def _check(self, row: UploadRow, order: CompletionOrder) -> None:
        """Check what can be checked without reading the parts. Raises `InvalidRequest`."""
        if order.presigned:
            await self._check_content(row)
        else:
            await self._check_parts(row, order.part_ids)

    async def _check_content(self, row: UploadRow) -> None:
        size = await self._storage.size(row.part_key(CONTENT_PART))
        if size is None:
            message = "The file's bytes are not there yet. PUT them to the link first."
            raise InvalidRequest(message, param="file_id", code="content_missing")
        _check_sum(row, size, "file_id")

    async def _check_parts(self, row: UploadRow, part_ids: Sequence[str]) -> None:
        twice = [part_id for part_id, count in Counter(part_ids).items() if count > 1]
        if twice:
            message = f"'part_ids' has {twice[0]} more than once. Name each part once."
            raise InvalidRequest(message, param="part_ids", code="duplicate_part")
        async with self._store.session() as tables:
            parts = await tables.uploads.parts(row.id, part_ids)
        for part_id in part_ids:
            if part_id not in parts:
                message = f"The upload has no part {part_id[:50]!r}. Name the parts that it was given."
                raise InvalidRequest(message, param="part_ids", code="part_not_found")
        _check_sum(row, sum(part.bytes for part in parts.values()), "part_ids")

    async def _delegate(self, row: UploadRow, order: CompletionOrder) -> None:
        """Have the worker join a file that would take too long here."""
        if row.bytes <= INLINE_BYTES or order.is_joined(row):
            return
        async with self._store.session() as tables:
            held = await tables.uploads.claim(row.id, order.part_ids, secrets.token_hex(8), LEASE_SECONDS)
            if held is not None:  # else the worker has it already
                await tables.uploads.release(held, due_in=0)
        await self._queue.announce([Message("upload", row.id)])

    async def _attempt(self, row: UploadRow, order: CompletionOrder) -> bool:
        """Join the parts and finish; false if another request or the worker holds the upload."""
        if row.bytes > INLINE_BYTES and not order.is_joined(row):
            return False
        async with self._store.session() as tables:
            held = await tables.uploads.claim(row.id, order.part_ids, secrets.token_hex(8), LEASE_SECONDS)
        if held is None:
            return False
        try:
            await self._finish(held if order.is_joined(held) else await self._assembly.join(held), order)
        except Exception:
            async with self._store.session() as tables:
                await tables.uploads.release(held)
            raise
        return True

    async def _finish(self, row: UploadRow, order: CompletionOrder) -> None:
        """Show the file, complete the upload and add the inputs, in one transaction."""
        if order.md5 and order.md5.lower() != row.md5:
            await self._drop(row)
            raise _wrong_md5(row)
        groups, report = self._target_groups(row)
        async with self._store.transaction() as tables:
            file = await tables.files.register(row.file_id, groups=groups, report=report.to_json() if report else None)
            if file is None or not await tables.uploads.complete(row):
                raise Unavailable("The upload ended meanwhile. Send the request again to see how.")
            pending = await inputs.ensure(tables, file, self._deployments)
        await self._queue.announce(Message("input", input_id) for input_id in pending)
        await self._queue.announce([Message("upload", row.id)])

    async def _drop(self, row: UploadRow) -> None:
        """Forget what was joined: first in the row, which must not say that deleted bytes are there; then in S3."""
        async with self._store.session() as tables:
            await tables.uploads.forget(row)
        await self._storage.delete(storage_key(row.file_id))

    def _target_groups(self, row: UploadRow) -> tuple[list[str], Report | None]:
        if row.report is None:
            return [], None
        return TargetGroups(self._deployments, self._caller).for_report(row.names, Report.from_json(row.report))

    async def _reload(self, row: UploadRow) -> UploadRow:
        async with self._store.session() as tables:
            current = await tables.uploads.load(row.id)
        assert current is not None  # noqa: S101 (the row of a pending upload is never deleted)
        return current


def _check_sum(row: UploadRow, sent: int, param: str) -> None:
    if sent != row.bytes:
        message = (
            f"The upload was announced with {row.bytes} bytes, but these are {sent}. Send exactly those announced."
        )
        raise InvalidRequest(message, param=param, code="bytes_mismatch")


def _check_end(row: UploadRow, order: CompletionOrder) -> None:
    """Give a repeated complete the first one's answer. Raises `InvalidRequest` for other parts, or another MD5."""
    if row.status != "completed" or row.part_ids != list(order.part_ids):
        raise ended(row)
    if order.md5 and order.md5.lower() != row.md5:
        raise _wrong_md5(row)


def _still_pending(row: UploadRow) -> UploadRow:
    if row.bytes <= INLINE_BYTES:
        raise Unavailable("Another request is completing this upload. Try again shortly.")
    return row


def _wrong_md5(row: UploadRow) -> InvalidRequest:
    message = f"The file's md5 is {row.md5}, which is not the one that was sent. Check the parts and their order."
    return InvalidRequest(message, param="md5", code="md5_mismatch")
