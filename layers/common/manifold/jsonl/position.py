"""How far the pass over a file has come, and where its blocks begin."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

BLOCK_REQUESTS = 1000
"""Requests that a block has at most."""
BLOCK_BYTES = 4 * 1024 * 1024
"""A block ends with the request by which it has so many bytes."""


class Part(NamedTuple):
    """Which of some lines are in a block: those from `start` to before `stop`."""

    block: int
    start: int
    stop: int


class Position:
    """Counts the lines and bytes passed, and divides the requests into blocks."""

    def __init__(self) -> None:
        self.lines = 0
        self.requests = 0
        self.longest = 0
        self.firsts: list[int] = []
        """The number of the first request of each block."""
        self.starts: list[int] = []
        """Where it begins, in bytes."""
        self._bytes = 0

    def numbers(self, count: int) -> range:
        """The numbers of the next `count` lines; the file's first line is 1."""
        return range(self.lines + 1, self.lines + 1 + count)

    def pass_blank(self, line: bytes) -> None:
        self.lines += 1
        self._bytes += len(line)

    def pass_requests(self, sizes: Sequence[int]) -> list[Part]:
        """Passes lines of so many bytes, none of them blank. Returns in which blocks they are."""
        parts = list(self._parts(sizes))
        self.longest = max(self.longest, *sizes)
        return parts

    def _parts(self, sizes: Sequence[int]) -> Iterator[Part]:
        start = 0
        while start < len(sizes):
            requests, size = self._left()
            part = sizes[start : start + requests]
            total = sum(part)
            if total > size:
                part = part[: bisect_left(list(accumulate(part)), size) + 1]
                total = sum(part)
            self.lines += len(part)
            self.requests += len(part)
            self._bytes += total
            yield Part(len(self.firsts) - 1, start, start + len(part))
            start += len(part)

    def _left(self) -> tuple[int, int]:
        """The requests and bytes that the open block still takes; after a full block the next one is opened."""
        if self.firsts:
            requests = self.firsts[-1] + BLOCK_REQUESTS - self.requests
            size = self.starts[-1] + BLOCK_BYTES - self._bytes
            if requests > 0 and size > 0:
                return requests, size
        self.firsts.append(self.requests)
        self.starts.append(self._bytes)
        return BLOCK_REQUESTS, BLOCK_BYTES
