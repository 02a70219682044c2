"""How many lines of a file use each `url`, and which lines first."""

from collections.abc import Sequence

from manifold.jsonl.report import MAX_ERRORS, UrlUse
from manifold.jsonl.request import BadLine

_MAX_URLS = 20  # a batch runs one; what a file of mistakes holds must not fill the memory


class Urls:
    """Counts the uses of each `url`, and keeps the numbers of the first lines of each."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._lines: dict[str, list[int]] = {}

    def add(self, url: str, lines: Sequence[int]) -> None:
        """Count a url's uses in these lines. Raises `BadLine` if the file has too many urls already."""
        if url not in self._counts:
            if len(self._counts) == _MAX_URLS:
                reason = f"The lines before have {_MAX_URLS} other urls. Give every line the same 'url'."
                raise BadLine("url_mismatch", reason, "url")
            self._counts[url], self._lines[url] = 0, []
        self._counts[url] += len(lines)
        first = self._lines[url]
        if len(first) < MAX_ERRORS:
            first.extend(lines[: MAX_ERRORS - len(first)])

    def uses(self) -> dict[str, UrlUse]:
        """The uses of each url, in the order of its first line."""
        return {url: UrlUse(count, tuple(self._lines[url])) for url, count in self._counts.items()}
