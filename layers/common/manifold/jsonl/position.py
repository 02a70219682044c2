"""How far the pass over a file has come."""

from collections.abc import Sequence

_INDEX_STEP = 1000


class Position:
    """Counts the lines and bytes passed, and notes where every 1000th request begins."""

    def __init__(self) -> None:
        self.lines = 0
        self.requests = 0
        self.longest = 0
        self.index: list[int] = []
        self._bytes = 0

    def numbers(self, count: int) -> range:
        """The numbers of the next `count` lines; the file's first line is 1."""
        return range(self.lines + 1, self.lines + 1 + count)

    def pass_blank(self, line: bytes) -> None:
        self.lines += 1
        self._bytes += len(line)

    def pass_requests(self, sizes: Sequence[int]) -> None:
        """Passes lines of so many bytes, none of them blank."""
        for due in range(-self.requests % _INDEX_STEP, len(sizes), _INDEX_STEP):
            self.index.append(self._bytes + sum(sizes[:due]))
        self.lines += len(sizes)
        self.requests += len(sizes)
        self.longest = max(self.longest, *sizes)
        self._bytes += sum(sizes)
