"""The tokens of a file's requests: the input estimated from some of them, the maximum output as the lines state it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from manifold.jsonl.token_estimate import request_tokens

MAX_OUTPUT = 1_000_000_000
"""The largest maximum that is believed of a request."""

LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
LONG = 16 * 1024
"""Each request of more bytes is offered to be read."""

_FIRST = 8  # requests that are all read, and of long ones so many of each size
_SHARE = 2  # then one in each half of what has passed
_LINES_APART = 1024  # and at last one in so many, on the average; of long ones one in eight is read


class TokenCounts:
    """Sums for each block of a file. Each request must be added, in order.

    The first requests are read, later one in 1024, at distances that vary by a fixed sequence, so that the same file
    always has the same sums. Long ones are read more often. A request that is not read has as many tokens for each of
    its bytes as those read of its size: between the same two powers of two. So requests with an image do not count for
    those without one. Memory: at most 28 numbers for each block.
    """

    def __init__(self) -> None:
        self.until_read = 1
        """Of so many requests the last is read."""
        self._passed = 0
        self._random = 1
        self._offered: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()
        self._tokens: Counter[int] = Counter()
        self._sizes: list[Counter[int]] = []
        self._output: list[int] = []
        self._stated = 0

    def passed(self, sizes: Sequence[int], last: Mapping[str, Any] | None) -> None:
        """So many requests passed, at most `until_read`; `last` is the body of the last."""
        self._passed += len(sizes)
        self.until_read -= len(sizes)
        if self.until_read == 0 and last is not None:
            if sizes[-1] <= LONG:
                self._read(last, sizes[-1])
            self.until_read = self._next()

    def _next(self) -> int:
        """After how many requests the next is read."""
        if self._passed < _FIRST:
            return 1
        self._random = (self._random * 69069 + 1) % 2**32
        apart = min(_LINES_APART, self._passed // _SHARE)
        return apart // 2 + 1 + apart * self._random // 2**32

    def offer(self, body: Mapping[str, Any], size: int) -> None:
        """A long request passes. It is read if it is one of the first of its size, or one in eight."""
        offered = self._offered[size.bit_length()]
        if offered < _FIRST or offered % 8 == 0:
            self._read(body, size)
        else:
            self._offered[size.bit_length()] += 1

    def _read(self, body: Mapping[str, Any], size: int) -> None:
        bits = size.bit_length()
        self._offered[bits] += 1
        self._bytes[bits] += size
        self._tokens[bits] += request_tokens(body)

    def add(self, block: int, sizes: Sequence[int], limits: Sequence[object]) -> None:
        """Add requests of a block: the bytes of each, and the maximum output that each states, or None."""
        while len(self._sizes) <= block:
            self._sizes.append(Counter())
            self._output.append(0)
        _add_sizes(self._sizes[block], sizes)
        for limit, count in _counted(limits):
            self._output[block] += limit * count
            self._stated += count

    def add_one(self, block: int, size: int, body: Mapping[str, Any]) -> None:
        """Add one request of a block."""
        if size > LONG:
            self.offer(body, size)
        self.passed([size], body)
        self.add(block, [size], [output_limit(body)])

    def input(self) -> tuple[int, ...]:
        """The estimated input tokens of each block, up to the last with a good request."""
        rates = {size: self._tokens[size] / self._bytes[size] for size in self._bytes}
        return tuple(
            round(sum(total * _nearest(rates, size) for size, total in sizes.items())) for sizes in self._sizes
        )

    def output(self) -> tuple[int, ...]:
        """The same of the maximum output, as far as it is stated."""
        return tuple(self._output)

    @property
    def stated(self) -> int:
        """How many requests state their maximum output."""
        return self._stated


def output_limit(body: Mapping[str, Any]) -> int | None:
    """The most output tokens that a request states, of all its choices; None without a limit."""
    limit = next((body[name] for name in LIMITS if body.get(name) is not None), None)
    if not _is_count(limit):
        return None
    choices = body.get("n")
    return int(limit) * (int(choices) if _is_count(choices) else 1)


def _counted(limits: Sequence[object]) -> Iterable[tuple[int, int]]:
    """Each limit that is one, and how many requests state it."""
    try:  # mostly all state the same
        is_one = limits.count(limits[0]) == len(limits)
        counts = Counter({limits[0]: len(limits)}) if is_one else Counter(limits)
    except TypeError:  # a list or an object
        counts = Counter(filter(_is_count, limits))
    return [(int(limit), count) for limit, count in counts.items() if _is_count(limit)]


def _is_count(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and 1 <= value <= MAX_OUTPUT and value == int(value)


def _add_sizes(total: Counter[int], sizes: Sequence[int]) -> None:
    """Add these sizes, each to those that have as many bits."""
    bits = min(sizes).bit_length()
    if bits == max(sizes).bit_length():
        total[bits] += sum(sizes)
        return
    for size in sizes:
        total[size.bit_length()] += size


def _nearest(rates: Mapping[int, float], size: int) -> float:
    """The tokens of a byte in requests of this size, or of the next one of which any was read."""
    return rates[min(rates, key=lambda other: (abs(other - size), other))]
