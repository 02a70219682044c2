"""The lines of a shard, or of a whole file, as they are stored: read from S3, from the start at each call."""

from collections.abc import AsyncIterator

from manifold.jsonl.report import Report
from manifold.jsonl.selected_lines import byte_range, selected
from manifold.selection import Selection
from manifold.storage import Piece, Storage
from manifold.store.files import FileRow, storage_key

PIECE_BYTES = 2 * 1024 * 1024
"""Bytes that one request fetches; four are under way at once."""


def shard_lines(storage: Storage, file: FileRow, report: Report, selection: Selection) -> AsyncIterator[bytes]:
    """The bytes of the selected lines of a checked file with this report, cut anywhere.

    A line of a range ends with a line end; blank lines of it are left out. Raises `Unavailable` if S3 does not answer.
    """
    if selection.object_id is not None:
        return storage.read(storage_key(selection.object_id))
    if selection.requests is None:
        return storage.read(file.storage_key)
    part = byte_range(report.blocks(), selection.first, selection.requests)
    chunks = storage.gather(Piece.of(file.storage_key, part.bytes, PIECE_BYTES, start=part.start))
    return selected(chunks, part.skip, selection.requests)
