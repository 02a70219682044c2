"""The pass over a provider's result file as it streams by: its lines are checked and counted, and so are their tokens.

Each `response.body.model` becomes the group's name on the way; every other byte of a line is kept.
"""

from array import array
from collections.abc import AsyncIterator
from io import BytesIO

import orjson

from files.transfers.result_usage import LinePrices, ResultUsage
from manifold.errors import ProviderError
from manifold.jsonl.model_spans import renamed
from manifold.jsonl.result import read

LONGEST_LINE = 32 * 1024 * 1024
"""Bytes of a line that are held. A longer line is passed on unchanged and counted as a result, without tokens."""
FEWEST_SLOTS = 1024
"""Slots of an empty table, a power of two."""
_NEWLINE = ord("\n")


class AnsweredRequests:
    """The requests that have a result: a 64-bit hash of each one's id, in a table of 16 to 32 bytes a request.

    Python's string hash is keyed at random, so nobody can make ids that collide.
    """

    def __init__(self) -> None:
        self._hashes = array("q", bytes(8 * FEWEST_SLOTS))
        self._count = 0
        self._repeated = 0

    def add(self, custom_id: str) -> bool:
        """Note a result of the request with this id; whether it is the first one."""
        key = hash(custom_id) or 1
        slot = self._slot(key)
        if self._hashes[slot]:
            self._repeated += 1
            return False
        self._hashes[slot] = key
        self._count += 1
        if 2 * self._count > len(self._hashes):
            self._grow()
        return True

    def repeated(self) -> int:
        """How many results answer a request that an earlier result answers."""
        return self._repeated

    def _slot(self, key: int) -> int:
        """Where the hash is, or may be put: the table has free slots (0), and the next one is taken if one is not."""
        mask = len(self._hashes) - 1
        slot = key & mask
        while self._hashes[slot] not in (0, key):
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        before = self._hashes
        self._hashes = array("q", bytes(16 * len(before)))
        for key in before:
            if key:
                self._hashes[self._slot(key)] = key


class ResultScan:
    """Scans one result file, and holds one line at a time. `Fetching` makes one for each file of a job.

    `answered` is shared by the files of a job; `prices` are those of the deployment that ran it.
    Counts are complete when `through` has ended.
    """

    def __init__(self, group: str, answered: AnsweredRequests, prices: LinePrices) -> None:
        self.received = 0
        """Bytes that the provider sent."""
        self.fault: ProviderError | None = None
        """The provider's fault that broke the file off. The lines that were whole by then are kept."""
        self.bytes = 0
        """Bytes of the lines that are kept."""
        self.lines = 0
        """Lines that are results."""
        self.invalid = 0
        """Lines that are neither blank nor an object with a `custom_id`. They are kept where there are results, too."""
        self.is_torn = False
        """Whether the file ended within a line. That line is not kept."""
        self.usage = ResultUsage()
        self._prices = prices
        self._answered = answered
        self._group = orjson.dumps(group)
        self._held = bytearray()
        self._passing = False

    async def through(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The lines, with the group's name in them, as they come. Raises a `ProviderError` that comes before any byte;
        a later one ends the file, and is kept as `fault`."""
        async for chunk in self._until_fault(chunks):
            if lines := b"".join(map(self._feed, BytesIO(chunk))):
                self.bytes += len(lines)
                yield lines
        if last := self._finish():
            self.bytes += len(last)
            yield last

    async def _until_fault(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                self.received += len(chunk)
                yield chunk
        except ProviderError as fault:
            if not self.received:
                raise
            self.fault = fault

    def _feed(self, piece: bytes) -> bytes:
        """Take in a line, or a piece of one; returns what can be passed on now."""
        ends = piece[-1] == _NEWLINE
        if self._passing:
            self._passing = not ends
            return piece
        if not self._held and ends:
            return self._scan(piece)
        self._held += piece
        if len(self._held) > LONGEST_LINE:
            self._passing = not ends
            return self._pass_on()
        return self._scan(self._take()) if ends else b""

    def _finish(self) -> bytes:
        """The last line, where the file does not end with a newline."""
        last = self._take()
        if not self._passing and (not last.strip() or read(last)):
            return self._scan(last)
        self.is_torn = self._passing or last.lstrip().startswith(b"{")
        self.invalid += not self.is_torn
        return b""

    def _take(self) -> bytes:
        line = bytes(self._held)
        self._held.clear()
        return line

    def _pass_on(self) -> bytes:
        """A line that is too long to be held. It counts as a result if it begins like one."""
        line = self._take()
        if line.lstrip().startswith(b"{"):
            self.lines += 1
            self.usage.add_unread()
        else:
            self.invalid += 1
        return line

    def _scan(self, line: bytes) -> bytes:
        result = read(line)
        if result is None:
            self.invalid += bool(line.strip())
            return line
        self.lines += 1
        if self._answered.add(result.custom_id):
            self.usage.add(result, self._prices)
        return renamed(line, result.models, self._group)
