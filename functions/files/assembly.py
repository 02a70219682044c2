"""The joining of an upload's parts into one file, in one pass that also checks the lines and computes the MD5."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing

from manifold.errors import Unavailable
from manifold.jsonl.check import Check
from manifold.storage import Piece, Storage
from manifold.store import Store
from manifold.store.files import storage_key
from manifold.store.uploads import UploadRow

PIECE_BYTES = 2 * 1024 * 1024
"""Bytes that one request fetches. Larger pieces take more memory, smaller ones wait for S3 more often."""


class Assembly:
    """Joins parts: S3 → check and sum → S3, as one stream. While one piece is checked, the next ones are fetched and
    the last ones written. `Completion` and the worker's `Joining` call it.

    Holds the store and the storage. Raises `Unavailable` if Postgres or S3 does not answer.
    """

    def __init__(self, store: Store, storage: Storage) -> None:
        self._store = store
        self._storage = storage

    async def join(self, row: UploadRow) -> UploadRow:
        """Join the parts of an upload whose lease the caller holds, and note MD5 and report in its row.

        A second attempt writes the same object again. Raises `Unavailable` if the lease ended meanwhile.
        """
        scan = Scan(lines=row.purpose == "batch")
        async with aclosing(self._storage.gather(await self._pieces(row))) as chunks:
            await self._storage.write(storage_key(row.file_id), scan.through(chunks))
        md5, report = scan.finish()
        async with self._store.session() as tables:
            held = await tables.uploads.joined(row, md5, report)
        if not held:
            raise Unavailable("Joining the parts took too long. Try again.")
        return row._replace(md5=md5, report=report)

    async def _pieces(self, row: UploadRow) -> list[Piece]:
        part_ids = row.part_ids or []
        async with self._store.session() as tables:
            parts = await tables.uploads.parts(row.id, part_ids)
        sizes = {part_id: parts[part_id].bytes if part_id in parts else row.bytes for part_id in part_ids}
        return [piece for part_id in part_ids for piece in Piece.of(row.part_key(part_id), sizes[part_id], PIECE_BYTES)]


class Scan:
    """Computes the MD5 of a stream and, with `lines`, checks the lines of a batch file."""

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
        """The MD5 in hex, and the report of the lines, if they were checked."""
        return self._md5.hexdigest(), self._check.finish().to_json() if self._check else None
