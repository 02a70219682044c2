"""The pass over a checked file that gives every request another model."""

import orjson

from manifold.jsonl.common import renamed
from manifold.jsonl.lines import MAX_LINE_BYTES, TOO_LONG, Lines
from manifold.jsonl.models import spans
from manifold.jsonl.report import Report


class Rewrite:
    """Replaces the values of `body.model`, and keeps every other byte but a byte order mark.

    The file must have passed `Check` without errors. Without its report the result is the same, but each line has to
    be searched. Memory: one line, one chunk, and what is returned for it.
    """

    def __init__(self, model: str, report: Report | None = None, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._token = orjson.dumps(model)
        self._common = report.common.encode() if report and report.common else b""
        self._renamed = renamed(self._common, model) if self._common else b""
        self._cut = bytes.rpartition if report and report.common_last else bytes.partition
        self._lines = Lines(max_line_bytes)

    def feed(self, chunk: bytes) -> bytes:
        """The rewritten lines that end in this chunk. Raises ValueError at a line that is too long."""
        return b"".join(map(self._rewritten, self._lines.feed(chunk)))

    def finish(self) -> bytes:
        """The last line, where the file does not end with a newline."""
        return b"".join(map(self._rewritten, self._lines.finish()))

    def _rewritten(self, line: bytes) -> bytes:
        if line is TOO_LONG:
            raise ValueError("a line is too long: only a file that passed its check can be rewritten")
        if self._common:
            before, found, after = self._cut(line, self._common)
            return b"".join((before, self._renamed, after)) if found else line  # a blank one
        pieces, kept = [], 0
        for start, end in spans(line):
            pieces += [line[kept:start], self._token]
            kept = end
        return b"".join([*pieces, line[kept:]])
