"""The completion of an upload: its parts become one file, also where several requests complete it at once.

A request takes the upload's lease, joins the parts and finishes. The worker does so for a large file, and where a
request takes too long or dies. What an earlier attempt has joined is not joined again.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from files.assembly import Assembly
from files.finishing import Finishing, wrong_md5
from files.presign import CONTENT_PART
from files.uploads import ended
from manifold.access import Caller
from manifold.deployments import Deployments
from manifold.errors import InvalidRequest, Unavailable
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
"""How long a request joins, or waits for another request or the worker that works on the same upload."""
_CHECK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class CompletionOrder:
    """What a client wants the file to be made of."""

    part_ids: Sequence[str]
    """In the order of their bytes."""
    md5: str | None
    presigned: bool = False
    """Whether the one part is the content of a presigned file, which has no row."""


class Completion:
    """Completes a caller's uploads. The routes `…/complete` of uploads and of presigned files call it.

    Holds the store, the storage, the queue, the deployments and an `Assembly`. Raises `InvalidRequest` for parts that
    are not the file that was announced, and `Unavailable` if the upload is busy, or Postgres or S3 does not answer.
    """

    def __init__(self, store: Store, storage: Storage, queue: Queue, deployments: Deployments, caller: Caller) -> None:
        self._store = store
        self._storage = storage
        self._queue = queue
        self._caller = caller
        self._assembly = Assembly(store, storage)
        self._finishing = Finishing(store, queue, deployments)

    async def complete(self, row: UploadRow, order: CompletionOrder) -> UploadRow:
        """Complete an upload. Returns it as `completed`, or as `pending` where that takes longer: the worker completes
        it then, without a further request.

        After an `InvalidRequest` the parts are kept, so that the upload may be completed with others.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + WAIT_SECONDS
        row = await self._accept(row, order)
        while row.status == "pending":
            done = await self._attempt(row, order, deadline)
            row = await self._reload(row)
            if row.status == "pending" and clock() >= deadline:
                return _still_pending(row, order)
            if not done:
                await asyncio.sleep(_CHECK_SECONDS)
        _check_end(row, order)
        return row

    async def _accept(self, row: UploadRow, order: CompletionOrder) -> UploadRow:
        """Check the order, and leave a large upload to the worker. Raises `InvalidRequest`."""
        if row.status == "pending":
            try:
                await self._check(row, order)
            except InvalidRequest:
                row = await self._reload(row)
                if row.status == "pending":  # else the parts are deleted since it was completed
                    raise
                return row
            if row.bytes > INLINE_BYTES:
                held = await self._claim(row, order)
                if held is not None:  # else the worker has it already
                    await self._hand_over(held)
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

    async def _hand_over(self, held: UploadRow) -> None:
        """Have the worker complete the upload."""
        async with self._store.session() as tables:
            await tables.uploads.release(held, due_in=0)
        await self._queue.announce([Message("upload", held.id)])

    async def _claim(self, row: UploadRow, order: CompletionOrder) -> UploadRow | None:
        lease, rejoin = secrets.token_hex(8), order.presigned  # whoever has the link may have sent other bytes
        async with self._store.session() as tables:
            return await tables.uploads.claim(row.id, order.part_ids, order.md5, lease, LEASE_SECONDS, rejoin=rejoin)

    async def _attempt(self, row: UploadRow, order: CompletionOrder, deadline: float) -> bool:
        """Join the parts and finish; false if another request or the worker does so."""
        held = None if row.bytes > INLINE_BYTES else await self._claim(row, order)
        if held is None:
            return False
        try:
            async with asyncio.timeout_at(deadline):
                joined = held if held.md5 else await self._assembly.join(held)
            await self._finish(joined)
        except TimeoutError:
            await self._hand_over(held)
            return False
        except Exception:
            await self._release(held)
            raise
        return True

    async def _finish(self, row: UploadRow) -> None:
        try:
            await self._finishing.finish(row, self._caller)
        except InvalidRequest:
            if not row.has_expected_md5:
                await self._drop(row)
            raise

    async def _release(self, row: UploadRow) -> None:
        async with self._store.session() as tables:
            await tables.uploads.release(row)

    async def _drop(self, row: UploadRow) -> None:
        """Forget what was joined: first in the row, which must not say that deleted bytes are there; then in S3."""
        async with self._store.session() as tables:
            forgotten = await tables.uploads.forget(row)
        if forgotten:  # else another attempt has the lease, and may have joined what the client meant
            await self._storage.delete(storage_key(row.file_id))

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
        raise wrong_md5(row)


def _still_pending(row: UploadRow, order: CompletionOrder) -> UploadRow:
    if row.part_ids != list(order.part_ids):
        raise Unavailable("Another request is completing this upload with other parts. Try again shortly.")
    return row
