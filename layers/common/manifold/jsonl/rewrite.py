"""The pass over a checked file that gives every request another model."""

import orjson

from manifold.jsonl.common_text import with_model
from manifold.jsonl.lines import MAX_LINE_BYTES, TOO_LONG, Lines
from manifold.jsonl.model_spans import renamed, spans
from manifold.jsonl.report import Report


class Rewrite:
    """Replaces the values of `body.model`, drops a byte order mark, and keeps every other byte.

    The file must have passed `Check` without errors. With its report, lines need not be searched; the result is the
    same. Memory: one line, one chunk, and what is returned for the chunk.
    """

    def __init__(self, model: str, report: Report | None = None, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._token = orjson.dumps(model)
        self._common = report.common.encode() if report and report.common else b""
        self._renamed = with_model(self._common, model) if self._common else b""
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
            before, common, after = self._cut(line, self._common)
            return b"".join((before, self._renamed, after)) if common else line  # a blank one
        return renamed(line, spans(line), self._token)
