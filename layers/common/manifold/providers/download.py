"""The progress of a download, and whether it can be resumed by a range request (RFC 9110 §14)."""

import re
from collections.abc import Mapping

from manifold.errors import ProviderUnclear

IDENTITY = {"accept-encoding": "identity"}
"""A range counts the bytes as sent, so they must be sent uncompressed."""
MAX_ANSWERS = 1000
"""The most answers to one download, each of which brought more bytes."""
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_UNSATISFIED = re.compile(r"(?:bytes )?\*/(\d+)")


class Download:
    """One file, received in one answer or in several.

    For each answer: `request_headers`, `starts`, `receive` for each piece, `finish`; until `whole`.
    """

    def __init__(self) -> None:
        self.whole = False
        self.received = 0
        """Bytes of the file."""
        self._last = b""
        self._length: int | None = None
        self._tag: str | None = None
        self._answers = 0
        self._start = 0
        self._has_ranges = False
        self._ended = False

    def request_headers(self) -> dict[str, str]:
        """The headers of the next request: for the whole file, or for the rest."""
        self._answers, self._start = self._answers + 1, self.received
        if not self.received:
            return IDENTITY
        condition = {"if-range": self._tag} if self._tag else {}
        return IDENTITY | {"range": f"bytes={self.received}-"} | condition

    def starts(self, status: int, headers: Mapping[str, str]) -> bool:
        """Whether this answer has bytes of the file. If not, the file is `whole`, or the answer is an error."""
        if not self.received:
            if 200 <= status < 300:
                self._read_headers(headers)
            return 200 <= status < 300
        if status == 206 and self._continues(headers):
            return True
        end = _UNSATISFIED.fullmatch(headers.get("content-range", "")) if status == 416 else None
        self.whole = self._ended or (end is not None and int(end[1]) == self.received)
        if not self.whole and status < 300:
            raise ProviderUnclear(f"the file broke off after {self.received} bytes, and cannot be resumed")
        return False

    def receive(self, chunk: bytes) -> None:
        """Count the next bytes."""
        self.received += len(chunk)
        self._last = chunk[-1:] or self._last

    def finish(self) -> None:
        """End an answer that did not visibly break off; `ProviderUnclear` if the file is short and cannot be resumed.

        An answer of unknown length may have broken off unseen: the file is `whole` if it ends with a line.
        """
        if self._length is None:
            has_more_bytes = self.received > self._start
            self.whole = not (has_more_bytes and self._can_ask_for_more) or self._last == b"\n"
            self._ended = True
        else:
            self.whole = self.received >= self._length
            if not self.whole and not self.can_resume:
                raise ProviderUnclear(f"the file ended after {self.received} of {self._length} bytes")

    @property
    def can_resume(self) -> bool:
        """Whether the rest can be requested, and the last answer brought bytes."""
        return self._can_ask_for_more and self.received > self._start

    @property
    def _can_ask_for_more(self) -> bool:
        return self._has_ranges and self._answers < MAX_ANSWERS

    def _read_headers(self, headers: Mapping[str, str]) -> None:
        plain = headers.get("content-encoding", "identity") == "identity"
        length, tag = headers.get("content-length", ""), headers.get("etag", "")
        self._has_ranges = plain and headers.get("accept-ranges") != "none"
        self._length = int(length) if plain and length.isdecimal() else None
        self._tag = tag if tag.startswith('"') else headers.get("last-modified")

    def _continues(self, headers: Mapping[str, str]) -> bool:
        """Whether this is the rest of the same file."""
        content_range = _RANGE.fullmatch(headers.get("content-range", ""))
        tag = headers.get("etag")
        if content_range is None or int(content_range[1]) != self.received or "content-encoding" in headers:
            return False
        if tag and self._tag and self._tag.startswith('"') and tag != self._tag:
            return False
        total = None if content_range[2] == "*" else int(content_range[2])
        if self._length is not None and total not in (None, self._length):
            return False
        self._length = total if self._length is None else self._length
        return True
