"""Whole lines from chunks of bytes that are cut anywhere."""

from collections.abc import Iterator
from io import BytesIO
from itertools import chain

MAX_LINE_BYTES = 32 * 1024 * 1024
"""The longest line that is read, its line end included.

It is the longest request that any provider documents (docs/providers.md). While it is checked, a line of base64 takes 4
times its length, one of text with a character beyond the Basic Multilingual Plane 10 times, so up to 320 MB.
"""
PLAIN_BYTES = 4 * 1024 * 1024
"""A line of so many bytes may hold anything: parsed, the worst one, only tiny objects, takes 70 times its length."""
MAX_BRACKETS = 2_000_000
"""Opening brackets that a longer line may have: as many objects take 400 MB."""

BLANK = b" \t\r\n"
"""A line of nothing but these bytes is no request."""

TOO_LONG = b"\0too long"
"""Stands for a line that is longer than the most, or long and dense. Compare with `is`."""

_BOM = b"\xef\xbb\xbf"
_NEWLINE = ord("\n")


class Lines:
    """Cuts a stream into lines, with their line ends, and drops the byte order mark at its start."""

    def __init__(self, max_bytes: int = MAX_LINE_BYTES) -> None:
        self.bom_bytes = 0
        self._max_bytes = max_bytes
        self._begun = bytearray()
        self._too_long = False
        self._at_start = True

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that end in this chunk. Each is made when it is needed, so that its memory serves the next."""
        size = min(self._max_bytes, PLAIN_BYTES)
        pieces = (chunk[start : start + size] for start in range(0, len(chunk), size))
        return chain.from_iterable(map(self._cut, pieces))  # `yield from` would take as long again

    def finish(self) -> Iterator[bytes]:
        """The last line, where the stream did not end with a newline. It gets one when it is sent, which counts."""
        self._too_long = self._too_long or len(self._begun) >= self._max_bytes
        if self._begun or self._too_long:
            yield self._take()

    def _cut(self, piece: bytes) -> Iterator[bytes]:
        """The lines that end in a piece that is no longer than a line that may hold anything."""
        lines = BytesIO(piece)
        first = lines.readline()
        self._hold(first)
        if first[-1] == _NEWLINE:
            yield self._take()
        for line in lines:
            if line[-1] == _NEWLINE:
                yield line
            else:
                self._hold(line)

    def _hold(self, piece: bytes) -> None:
        self._too_long = self._too_long or len(self._begun) + len(piece) > self._max_bytes
        if self._too_long:
            self._begun.clear()
        else:
            self._begun += piece

    def _take(self) -> bytes:
        line = TOO_LONG if self._too_long or _is_dense(self._begun) else bytes(self._begun)
        self._too_long = False
        self._begun.clear()
        if self._at_start and line.startswith(_BOM):
            self.bom_bytes = len(_BOM)
            line = line[len(_BOM) :]
        self._at_start = False
        return line


def _is_dense(line: bytearray) -> bool:
    return len(line) > PLAIN_BYTES and line.count(b"{") + line.count(b"[") > MAX_BRACKETS
