"""From chunks of bytes, cut anywhere, to whole lines."""

from collections.abc import Iterator
from io import BytesIO
from itertools import chain

MAX_LINE_BYTES = 4 * 1024 * 1024
"""The longest line that is read, its line end included.

Room for images of 3 MB in base64, or a context of a million tokens. While it is parsed, a line of text takes 7 to 12
times its length, so up to 48 MB; one of nothing but tiny objects, the worst that JSON can do, takes 70 times.
"""

TOO_LONG = b"\0too long"
"""Stands for a line that is longer (compare with `is`)."""

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
        """The lines that end in this chunk. Each is made when it is asked for, so that its memory serves the next."""
        pieces = (chunk[start : start + self._max_bytes] for start in range(0, len(chunk), self._max_bytes))
        return chain.from_iterable(map(self._cut, pieces))  # `yield from` would take as long again

    def finish(self) -> Iterator[bytes]:
        """The last line, where the stream did not end with a newline."""
        if self._begun or self._too_long:
            yield self._take()

    def _cut(self, piece: bytes) -> Iterator[bytes]:
        """The lines that end in a piece that is no longer than the longest line."""
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
        line = TOO_LONG if self._too_long else bytes(self._begun)
        self._too_long = False
        self._begun.clear()
        if self._at_start and line.startswith(_BOM):
            self.bom_bytes = len(_BOM)
            line = line[len(_BOM) :]
        self._at_start = False
        return line
