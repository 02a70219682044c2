"""A range of a checked file's requests: which of its bytes to read, and the lines among them.

part = byte_range(report.blocks(), first, requests)
lines = selected(read(key, part.start, part.bytes), part.skip, requests)
"""

from bisect import bisect_right
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from manifold.jsonl.lines import BLANK, TOO_LONG, Lines
from manifold.jsonl.report import Block


class ByteRange(NamedTuple):
    """The bytes of a file that hold a range of its requests: whole blocks."""

    start: int
    bytes: int
    skip: int
    """Requests that come before the range."""


def byte_range(blocks: Sequence[Block], first: int, requests: int) -> ByteRange:
    """The bytes of the blocks that have these requests. Raises `ValueError` if the file has not all of them."""
    end = blocks[-1].first + blocks[-1].requests if blocks else 0
    if first < 0 or requests < 1 or first + requests > end:
        raise ValueError(f"the file has {end} requests, but not {requests} from {first} on")
    number = attrgetter("first")
    opening = blocks[bisect_right(blocks, first, key=number) - 1]
    closing = blocks[bisect_right(blocks, first + requests - 1, key=number) - 1]
    return ByteRange(opening.start, closing.start + closing.bytes - opening.start, first - opening.first)


async def selected(chunks: AsyncIterable[bytes], skip: int, requests: int) -> AsyncIterator[bytes]:
    """So many requests after the skipped ones, each with its line end; blank lines are left out.

    `chunks` are a checked file's bytes from where a block begins, cut anywhere; they are read to their end. What is
    yielded ends with a line. Raises `ValueError` if there are fewer requests, or a line is too long.
    """
    lines = Lines()
    selector = _Selector(skip, requests)
    async for chunk in chunks:
        if found := selector.take(lines.feed(chunk)):
            yield found
    if found := selector.take(lines.finish()):
        yield found
    if selector.left:
        raise ValueError(f"the file ends {selector.left} requests before the range")


class _Selector:
    def __init__(self, skip: int, requests: int) -> None:
        self.left = requests
        self._skip = skip

    def take(self, lines: Iterator[bytes]) -> bytes:
        """Those of the next lines that are selected."""
        found = []
        for line in lines:
            if not line.lstrip(BLANK):
                continue
            if self._skip:
                self._skip -= 1
            elif self.left:
                if line is TOO_LONG:
                    raise ValueError("a line is too long: only a file that passed its check has selected lines")
                self.left -= 1
                found.append(line)
        return b"".join(found)
