"""The pass over a provider's result file as it streams by: its lines are checked and counted, and so are their tokens.

Each `response.body.model` becomes the group's name on the way; every other byte of a line is kept.
"""

from collections.abc import AsyncIterator
from io import BytesIO

import orjson

from manifold.errors import ProviderError
from manifold.jsonl import CustomIds
from manifold.jsonl.model_spans import renamed
from manifold.jsonl.result import Result, number, part, read

LONGEST_LINE = 32 * 1024 * 1024
"""Bytes of a line that are held. A longer line is passed on unchanged and counted as a result, without tokens."""
_NEWLINE = ord("\n")


class AnsweredRequests:
    """The requests that have a result, in 12 bytes each."""

    def __init__(self) -> None:
        self._ids = CustomIds()
        self._count = 0

    def add(self, custom_id: str) -> None:
        """Note a result of the request with this id."""
        self._count += 1
        self._ids.extend([custom_id], [self._count])

    def repeated(self) -> int:
        """How many results answer a request that an earlier result answers."""
        return sum(1 for _ in self._ids.duplicates())


class ResultScan:
    """Scans one result file, and holds one line at a time. `Fetching` makes one for each file of a job.

    `answered` is shared by the files of a job. Counts are complete when `through` has ended.
    """

    def __init__(self, group: str, answered: AnsweredRequests) -> None:
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
        self.failed = 0
        """Results with an error."""
        self.input_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self.reasoning_tokens = 0
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
        is_object = line.lstrip().startswith(b"{")
        self.lines += is_object
        self.invalid += not is_object
        return line

    def _scan(self, line: bytes) -> bytes:
        result = read(line)
        if result is None:
            self.invalid += bool(line.strip())
            return line
        self.lines += 1
        self._count(result)
        return renamed(line, result.models, self._group)

    def _count(self, result: Result) -> None:
        self._answered.add(result.custom_id)
        self.failed += result.failed
        usage = result.usage
        input_tokens = number(usage, "prompt_tokens", "input_tokens")
        output_tokens = number(usage, "completion_tokens", "output_tokens")
        cached = number(part(usage, "prompt_tokens_details", "input_tokens_details"), "cached_tokens")
        reasoning = number(part(usage, "completion_tokens_details", "output_tokens_details"), "reasoning_tokens")
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.cached_tokens += min(cached, input_tokens)
        self.reasoning_tokens += min(reasoning, output_tokens)
