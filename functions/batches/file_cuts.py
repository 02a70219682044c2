"""Where a file of requests can be cut into shards of a size, by the sums of its blocks. Pure, without I/O."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import ceil
from typing import NamedTuple

from manifold.jsonl.report import Block


class Amounts(NamedTuple):
    """What a range of requests has."""

    requests: int
    bytes: int
    tokens: int
    """Of the input."""


class Size(NamedTuple):
    """What a shard may have at most; `None`: any number."""

    requests: int | None
    bytes: int | None
    tokens: int | None
    fewest: int = 1
    """Requests that a shard must have."""

    def holds(self, amounts: Amounts) -> bool:
        """Whether a shard of this size may have so much."""
        return amounts.requests >= self.fewest and self.shards(amounts) <= 1

    def shards(self, amounts: Amounts) -> float:
        """How many shards of this size have so much, at least."""
        pairs = zip(amounts, (self.requests, self.bytes, self.tokens), strict=True)
        return max((amount / most for amount, most in pairs if most is not None), default=0)

    def times(self, factor: float) -> "Size":
        """So many times this size, rounded up."""
        requests, size, tokens = (
            None if most is None else ceil(most * factor) for most in (self.requests, self.bytes, self.tokens)
        )
        return Size(requests, size, tokens, self.fewest)


class FileCuts:
    """The requests of a file with these blocks, each of which gains `growth` bytes.

    Of a part of a block only the requests are known. Its bytes and tokens are taken to be that part of the block's.
    """

    def __init__(self, blocks: Sequence[Block], growth: int) -> None:
        self._firsts = [*(block.first for block in blocks), sum(block.requests for block in blocks)]
        self._bytes = _Sums(self._firsts, [block.bytes + block.requests * growth for block in blocks])
        self._tokens = _Sums(self._firsts, [block.input_tokens or 0 for block in blocks])
        self.end = self._firsts[-1]

    def amounts(self, first: int, end: int) -> Amounts:
        """What the requests from `first` to before `end` have."""
        return Amounts(
            end - first,
            self._bytes.before(end) - self._bytes.before(first),
            self._tokens.before(end) - self._tokens.before(first),
        )

    def cut(self, size: Size, part: float, *, at_blocks: bool) -> Iterator[int]:
        """The end of each shard, if each has this size at most, and the first *n* together *n* times `part` of it.

        One request may be more. With `at_blocks`, a shard that has the end of a block ends with one. The bytes of a
        shard are certain where a block is not more than `size`: a block that is cut counts for both sides.
        """
        base = first = number = 0
        while first < self.end:
            number += 1
            end = min(
                self._reach(base, size.times(number * part)), self._reach(first, size), self._certain(first, size)
            )
            if at_blocks and self._block_start(end) > first:
                end = self._block_start(end)
            if end > first:
                first = end
            else:  # one request that is more: the parts are those of what follows
                base, first, number = first + 1, first + 1, 0
            yield first

    def _reach(self, first: int, size: Size) -> int:
        """The end of the longest range from this request on that has this size at most."""
        ends = [self.end]
        if size.requests is not None:
            ends.append(first + size.requests)
        if size.bytes is not None:
            ends.append(self._bytes.reach(first, size.bytes))
        if size.tokens is not None:
            ends.append(self._tokens.reach(first, size.tokens))
        return min(ends)

    def _certain(self, first: int, size: Size) -> int:
        """The same for bytes alone, with the whole of each block that the range has a part of, if that is possible."""
        if size.bytes is None:
            return self.end
        end = self._block_start(self._bytes.reach(self._block_start(first), size.bytes))
        return end if end > first else self._bytes.reach(first, size.bytes)

    def _block_start(self, request: int) -> int:
        return self._firsts[bisect_right(self._firsts, request) - 1]


class _Sums:
    """A measure of a file's requests, such as their bytes."""

    def __init__(self, firsts: Sequence[int], amounts: Sequence[int]) -> None:
        self._firsts = firsts
        self._amounts = amounts
        self._sums = list(accumulate(amounts, initial=0))

    def before(self, request: int) -> int:
        """The sum of all requests before this one."""
        block = bisect_right(self._firsts, request) - 1
        if block == len(self._amounts):
            return self._sums[-1]
        return self._sums[block] + self._amounts[block] * (request - self._firsts[block]) // self._requests(block)

    def reach(self, request: int, most: int) -> int:
        """The end of the longest range from this request on whose sum is at most this."""
        total = self.before(request) + most
        block = bisect_right(self._sums, total) - 1
        if block == len(self._amounts):
            return self._firsts[-1]
        left = total - self._sums[block]
        return self._firsts[block] + ((left + 1) * self._requests(block) - 1) // self._amounts[block]

    def _requests(self, block: int) -> int:
        return self._firsts[block + 1] - self._firsts[block]
