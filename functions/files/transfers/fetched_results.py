"""What is known of a job's result files once they were copied, or read, to their end."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from files.transfers.request_ids import AnsweredRequests
from files.transfers.result_scan import ResultScan
from files.transfers.result_usage import LinePrices
from files.transfers.retry_policy import Fault
from manifold.storage import Storage


@dataclass(slots=True)
class FetchedResults:
    """The scans of a job's result files."""

    answered: AnsweredRequests = field(default_factory=AnsweredRequests)
    files: dict[str, ResultScan] = field(default_factory=dict)
    """By kind, "output" or "error": the files that the provider names."""
    faults: list[Fault] = field(default_factory=list)
    """Of the files that could not be downloaded. After one that is not lasting, no other file is asked for."""
    prices: LinePrices = field(default_factory=LinePrices)
    has_repeated: bool = False
    """Whether the copies in S3 hold two results of a request: those of two attempts."""

    @property
    def lines(self) -> int:
        """The results in all files, each of another request."""
        return sum(scan.lines for scan in self.files.values())

    def new_scan(self, kind: str, group: str) -> ResultScan:
        """The scan of one file, in whose lines the model becomes this group."""
        self.files[kind] = ResultScan(group, self.answered, self.prices)
        return self.files[kind]


async def store(storage: Storage, key: str, scan: ResultScan, least: int, chunks: AsyncIterator[bytes]) -> None:
    """Store what the scan lets through of a file, unless it has fewer than `least` results, as the copy in S3 may."""
    with contextlib.suppress(_FewerLines):
        await storage.write(key, _at_least(least, scan, scan.through(chunks)))
        scan.is_stored = True


class _FewerLines(Exception):
    """The file has no result, or fewer than the copy that is in S3."""


async def _at_least(least: int, scan: ResultScan, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks. Raises `_FewerLines` at their end, so that they do not replace a better copy."""
    async for chunk in chunks:
        yield chunk
    if scan.lines < least:
        raise _FewerLines
