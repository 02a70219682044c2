"""Reads a JSON object piece by piece: its members, and the elements of one large array of it as they come."""

import re
from collections.abc import Iterator
from typing import Any

import orjson

from manifold.errors import ProviderUnclear

MAX_ITEM = 16 * 1024 * 1024
"""Bytes of one element, or of one other member."""
_TOKEN = re.compile(rb'"[^"\\]*"|["\[\]{},]')
"""A text without escapes as a whole; else its first quotation mark."""
_IN_TEXT = re.compile(rb'["\\]')


class JsonMembers:
    """One object, cut anywhere; `array` is the name of the member whose elements are not kept."""

    def __init__(self, array: str) -> None:
        self.members: dict[str, Any] = {}
        """Those that have been read, without the array."""
        self.has_array = False
        """Whether the member is there, and an array."""
        self.ended = False
        """Whether the object is complete."""
        self._array = re.compile(rb'\s*"%s"\s*:\s*' % re.escape(array).encode())
        self._rest = bytearray()
        self._at = self._start = 0
        """Where the search goes on, and where the present element or member begins, in `_rest`."""
        self._depth = 0
        self._is_in_text = self._is_in_array = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The elements that end within `chunk`, each on one line. `ProviderUnclear` if this is no JSON object."""
        self._rest += chunk
        while not self.ended:
            token = (_IN_TEXT if self._is_in_text else _TOKEN).search(self._rest, self._at)
            if token is None:
                self._at = max(self._at, len(self._rest))
                break
            self._at = token.end()
            if self._is_in_text:
                self._in_text(token[0])
            else:
                yield from self._between_texts(token)
        del self._rest[: self._start]
        self._at, self._start = self._at - self._start, 0
        if len(self._rest) > MAX_ITEM:
            raise ProviderUnclear(f"an answer with a value of more than {MAX_ITEM} bytes")

    @property
    def _base(self) -> int:
        """How deep the commas are that separate elements, or members."""
        return 2 if self._is_in_array else 1

    def _between_texts(self, token: "re.Match[bytes]") -> Iterator[bytes]:
        match token[0]:
            case b"{" | b"[":
                self._open(token)
            case b"}" | b"]":
                yield from self._close(token.start())
            case b"," if self._depth == self._base:
                yield from self._item(token.start())
            case b'"':
                self._is_in_text = True

    def _in_text(self, token: bytes | bytearray) -> None:
        if token == b"\\":
            self._at += 1
        else:
            self._is_in_text = False

    def _open(self, token: "re.Match[bytes]") -> None:
        if self._depth == 0:
            self._start = self._at
        elif self._depth == 1 and token[0] == b"[" and self._array.fullmatch(self._rest, self._start, token.start()):
            self._is_in_array = self.has_array = True
            self._start = self._at
        self._depth += 1

    def _close(self, end: int) -> Iterator[bytes]:
        if self._depth == self._base:
            yield from self._item(end)
            self._is_in_array = False
        self._depth -= 1
        self.ended = self._depth <= 0

    def _item(self, end: int) -> Iterator[bytes]:
        """End the present element or member. Behind the array there is none."""
        item = bytes(self._rest[self._start : end]).strip()
        self._start = self._at
        if item and self._is_in_array:
            yield item.replace(b"\n", b" ")
        elif item:
            try:
                self.members |= orjson.loads(b"{%s}" % item)
            except orjson.JSONDecodeError as error:
                raise ProviderUnclear("an answer that is no JSON object") from error
