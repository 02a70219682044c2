"""The first errors of a file, and how many there are."""

from bisect import insort

from manifold.jsonl.report import LineError
from manifold.jsonl.request import BadLine


class LineErrors:
    """Keeps the first `limit` errors in the order of their lines, those of the whole file before them."""

    def __init__(self, limit: int) -> None:
        self.count = 0
        self._limit = limit
        self._first: list[LineError] = []

    def add(self, line: int | None, bad: BadLine) -> None:
        """Note the error of a line, or of the whole file where `line` is `None`."""
        self.count += 1
        insort(self._first, LineError(line, bad.code, bad.message, bad.param), key=_place)
        del self._first[self._limit :]

    def first(self) -> tuple[LineError, ...]:
        """The errors that are kept, in the order of their lines."""
        return tuple(self._first)


def _place(error: LineError) -> int:
    return error.line or 0
