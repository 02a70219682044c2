"""Lines of a stream, of which as much is held as a result usually has."""

from codecs import BOM_UTF8
from collections.abc import Callable
from io import BytesIO

LONGEST_LINE = 32 * 1024 * 1024
"""Bytes of a line that are held. What comes after so many is passed on as it is, or left out."""
_NEWLINE = ord("\n")


class HeldLines:
    """Cuts a stream into lines, without a byte order mark at its start, and holds one at a time.

    `line` gets each whole line and returns what is passed on of it. `long` gets the beginning of a line that is too
    long to be held; if it returns that, the rest of the line is passed on, too, and if it returns nothing, left out.
    """

    def __init__(self, line: Callable[[bytes], bytes], long: Callable[[bytes], bytes]) -> None:
        self.is_within_long = False
        """Whether the stream has come to within a line that is too long to be held."""
        self._line = line
        self._long = long
        self._held = bytearray()
        self._passes = False
        self._begun = False

    def feed(self, chunk: bytes) -> bytes:
        """What is passed on of the lines that end in this chunk, and of a long one."""
        return b"".join(map(self._feed, BytesIO(chunk)))

    def take(self) -> bytes:
        """The line that is held: at the end, the last one, which has no newline."""
        line = bytes(self._held)
        self._held.clear()
        if not self._begun:
            self._begun = True
            line = line.removeprefix(BOM_UTF8)
        return line

    def _feed(self, piece: bytes) -> bytes:
        """Take in a line, or a piece of one."""
        ends = piece[-1] == _NEWLINE
        if self.is_within_long:
            self.is_within_long = not ends
            return piece if self._passes else b""
        if self._begun and not self._held and ends:
            return self._line(piece)
        self._held += piece
        if len(self._held) > LONGEST_LINE:
            self.is_within_long = not ends
            passed = self._long(self.take())
            self._passes = bool(passed)
            return passed
        return self._line(self.take()) if ends else b""
