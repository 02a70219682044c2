"""The requests of a shard, to compare results with: their lines and ids, and a checksum of the ids."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import BytesIO
from typing import Self

import orjson

from files.transfers.shard_lines import shard_lines
from manifold.jsonl.custom_ids import custom_id_checksum
from manifold.jsonl.report import Report
from manifold.jsonl.selected_lines import selected
from manifold.selection import Selection
from manifold.storage import Storage
from manifold.store import Tables
from manifold.store.batches import BatchRow
from manifold.store.files import FileRow
from manifold.store.shards import ShardRow

ALL = Selection.all()


@dataclass(frozen=True, slots=True)
class ShardRequests:
    """Where the lines of a shard are, and what is known of them. What reads them raises `ManifoldError`."""

    batch_file_id: str
    """The batch's input file, which all its lines are of."""
    file: FileRow
    """The file that has them; that of lines that run again is reserved, so nobody sees it."""
    report: Report
    selection: Selection = ALL
    """All lines of that file, or a range."""

    @classmethod
    async def load(cls, tables: Tables, batch: BatchRow, shard: ShardRow) -> Self | None:
        """Those of a batch's shard; `None` if their file is purged."""
        selection = Selection.parse(shard.selection)
        file = await tables.files.load(selection.object_id or batch.input_file_id)
        if file is None or file.report is None:
            return None
        return cls(batch.input_file_id, file, Report.from_json(file.report), ALL if selection.object_id else selection)

    async def checksum(self, storage: Storage) -> int | None:
        """The `custom_id_checksum` of the requests; `None` if the report has none. Blocks that are cut are read."""
        count = self.selection.requests
        first, total = self.selection.first, 0
        end = self.report.lines if count is None else first + count
        for block in self.report.blocks():
            start, stop = max(first, block.first), min(end, block.first + block.requests)
            if block.checksum is None:
                return None
            if stop - start == block.requests:
                total += block.checksum
            elif start < stop:
                cut = Selection.range(start, stop - start)
                async for lines in shard_lines(storage, self.file, self.report, cut):
                    total += custom_id_checksum(map(id_of, BytesIO(lines)))
        return total

    async def read(self, storage: Storage) -> AsyncIterator[bytes]:
        """The lines, some at a time, each with its line end, as they were uploaded; no blank ones."""
        found = shard_lines(storage, self.file, self.report, self.selection)
        async for lines in found if self.selection != ALL else selected(found, 0, self.report.lines):
            yield lines if lines.endswith(b"\n") else lines + b"\n"

    async def ids(self, storage: Storage) -> AsyncIterator[list[str]]:
        """The `custom_id`s of the requests, some at a time."""
        async for lines in self.read(storage):
            yield list(map(id_of, BytesIO(lines)))


def id_of(line: bytes) -> str:
    """The `custom_id` of a line of a checked file."""
    return str(orjson.loads(line)["custom_id"])
