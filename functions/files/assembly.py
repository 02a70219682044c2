"""The parts of an upload on their way to being a file: one pass checks them, sums them up and joins them."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from manifold.errors import Unavailable
from manifold.jsonl import Check
from manifold.storage import Piece, Storage
from manifold.store import Store
from manifold.store.files import storage_key
from manifold.store.uploads import UploadRow

PIECE_BYTES = 2 * 1024 * 1024
"""Of what is fetched at once. Larger pieces take more memory, smaller ones wait for S3 more often."""


class Assembly:
    """S3 → check and sum → S3, as one stream: the next pieces come and the last ones go while one is checked."""

    def __init__(self, store: Store, storage: Storage) -> None:
        self._store = store
        self._storage = storage

    async def join(self, row: UploadRow) -> UploadRow:
        """Join the parts of an upload that the caller holds the lease on, and note what they make.

        A second attempt writes the same object again.
        """
        scan = Scan(lines=row.purpose == "batch")
        async with aclosing(self._storage.gather(await self._pieces(row))) as chunks:
            await self._storage.write(storage_key(row.file_id), scan.through(chunks))
        md5, report = scan.finish()
        async with self._store.session() as tables:
            held = await tables.uploads.joined(row, md5, report)
        if not held:
            raise Unavailable("Joining the parts took too long. Try again.")
        return replace(row, md5=md5, report=report)

    async def _pieces(self, row: UploadRow) -> list[Piece]:
        asked = row.part_ids or []
        async with self._store.session() as tables:
            parts = await tables.uploads.parts(row.id, asked)
        sizes = {part_id: parts[part_id].bytes if part_id in parts else row.bytes for part_id in asked}
        return [piece for one in asked for piece in Piece.of(row.part_key(one), sizes[one], PIECE_BYTES)]


class Scan:
    """What a stream holds, found as it passes."""

    def __init__(self, *, lines: bool) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._check = Check() if lines else None

    async def through(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same chunks."""
        async for chunk in chunks:
            self._md5.update(chunk)
            if self._check:
                self._check.feed(chunk)
            yield chunk

    def finish(self) -> tuple[str, dict[str, object] | None]:
        """The sum, and the report of a batch's lines."""
        return self._md5.hexdigest(), self._check.finish().to_json() if self._check else None
