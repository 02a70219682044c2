"""Batches that are cut into shards of so many requests, whatever their deployments take."""

import pytest

from batches.planning import Planning
from manifold import ids
from manifold.jsonl.report import Report
from manifold.selection import Selection
from manifold.store.batches import BatchRow
from manifold.store.files import FileRow
from manifold.store.shards import NewShard


def cut(monkeypatch: pytest.MonkeyPatch, requests: int) -> None:
    """Have each batch cut into shards of so many requests."""

    def shards(_: Planning, batch: BatchRow, file: FileRow) -> list[NewShard]:
        assert file.report is not None
        lines = Report.from_json(file.report).lines
        return [
            NewShard(ids.new("shard"), number, str(Selection.range(first, size)), size, 1, 1)
            for number, first in enumerate(range(0, lines, requests))
            for size in [min(requests, lines - first)]
        ]

    monkeypatch.setattr(Planning, "_shards", shards)
