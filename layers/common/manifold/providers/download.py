"""How far a download has come, and whether its server can go on from there (RFC 9110 §14)."""

import re
from collections.abc import Mapping

from manifold.errors import ProviderUnclear

IDENTITY = {"accept-encoding": "identity"}
"""A range is one of the bytes that are sent, so they are to be those of the file."""
MAX_ANSWERS = 1000
"""To one download, each of which brought more of it."""
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_UNSATISFIED = re.compile(r"(?:bytes )?\*/(\d+)")


class Download:
    """The file as it comes, in one answer or in several."""

    def __init__(self) -> None:
        self.whole = False
        self.received = 0
        """Bytes of it."""
        self._last = b""
        self._length: int | None = None
        self._tag: str | None = None
        self._answers = 0
        self._start = 0
        self._has_ranges = False
        self._ended = False

    def asks(self) -> dict[str, str]:
        """The headers of the next request: for all of it, or for the rest."""
        self._answers, self._start = self._answers + 1, self.received
        if not self.received:
            return IDENTITY
        condition = {"if-range": self._tag} if self._tag else {}
        return IDENTITY | {"range": f"bytes={self.received}-"} | condition

    def begins(self, status: int, headers: Mapping[str, str]) -> bool:
        """Whether this answer has bytes of the file; where not, it is a failure, or the file is `whole`."""
        if not self.received:
            return 200 <= status < 300 and self._opens(headers)
        if status == 206 and self._continues(headers):
            return True
        end = _UNSATISFIED.fullmatch(headers.get("content-range", "")) if status == 416 else None
        self.whole = self._ended or (end is not None and int(end[1]) == self.received)
        if not self.whole and status < 300:
            raise ProviderUnclear(f"the file broke off after {self.received} bytes, and is not given from there")
        return False

    def takes(self, chunk: bytes) -> None:
        self.received += len(chunk)
        self._last = chunk[-1:] or self._last

    def ends(self) -> None:
        """The answer is over, and nothing says that it broke off. One of no known length may have, within a line."""
        if self._length is None:
            brought = self.received > self._start
            self.whole = not (brought and self._can_go_on) or self._last == b"\n"
            self._ended = True
        else:
            self.whole = self.received >= self._length
            if not self.whole and not self.goes_on:
                raise ProviderUnclear(f"the file ended after {self.received} of {self._length} bytes")

    @property
    def goes_on(self) -> bool:
        """Whether the rest can be asked for, and the last answer brought something."""
        return self._can_go_on and self.received > self._start

    @property
    def _can_go_on(self) -> bool:
        return self._has_ranges and self._answers < MAX_ANSWERS

    def _opens(self, headers: Mapping[str, str]) -> bool:
        plain = headers.get("content-encoding", "identity") == "identity"
        length, tag = headers.get("content-length", ""), headers.get("etag", "")
        self._has_ranges = plain and headers.get("accept-ranges") != "none"
        self._length = int(length) if plain and length.isdecimal() else None
        self._tag = tag if tag.startswith('"') else headers.get("last-modified")
        return True

    def _continues(self, headers: Mapping[str, str]) -> bool:
        """Whether this is the rest of the same file."""
        found = _RANGE.fullmatch(headers.get("content-range", ""))
        tag = headers.get("etag")
        if found is None or int(found[1]) != self.received or "content-encoding" in headers:
            return False
        if tag and self._tag and self._tag.startswith('"') and tag != self._tag:
            return False
        total = None if found[2] == "*" else int(found[2])
        if self._length is not None and total not in (None, self._length):
            return False
        self._length = total if self._length is None else self._length
        return True
