"""What a provider's result file holds, checked and counted as it streams by: results, failures and tokens.

Each `response.body.model` becomes the group's name on the way; every other byte of a line is kept.
"""

from collections.abc import AsyncIterator
from io import BytesIO

import orjson

from manifold.errors import ProviderError
from manifold.jsonl import CustomIds
from manifold.jsonl.result import Result, number, part, read, renamed

LONGEST_LINE = 32 * 1024 * 1024
"""Bytes of a line that are held; a longer one is passed on as it is, and counted, and its tokens are not known."""
_NEWLINE = ord("\n")


class Answered:
    """Which requests have a result, in 12 bytes each."""

    def __init__(self) -> None:
        self._ids = CustomIds()
        self._count = 0

    def add(self, custom_id: str) -> None:
        self._count += 1
        self._ids.extend([custom_id], [self._count])

    def repeated(self) -> int:
        """How many results answer a request that an earlier one answers."""
        return sum(1 for _ in self._ids.duplicates())


class Tally:
    """Holds one line at a time. `answered` is shared by the files of a job."""

    def __init__(self, group: str, answered: Answered) -> None:
        self.received = 0
        """Bytes that came."""
        self.cut: ProviderError | None = None
        """What broke them off. The lines that were whole by then are kept."""
        self.bytes = 0
        """Of the lines that are kept."""
        self.lines = 0
        """That are results."""
        self.strange = 0
        """That are none: not blank, and no object with a `custom_id`. They are kept where there are results, too."""
        self.torn = False
        """Whether it ended within a line, which is not kept."""
        self.failed = 0
        self.input_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self.reasoning_tokens = 0
        self._answered = answered
        self._group = orjson.dumps(group)
        self._held = bytearray()
        self._passing = False

    async def through(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The lines, with the group's name in them, as they come. A provider's fault before the first is raised."""
        async for chunk in self._received(chunks):
            if lines := b"".join(map(self._passed, BytesIO(chunk))):
                self.bytes += len(lines)
                yield lines
        if last := self._end():
            self.bytes += len(last)
            yield last

    async def _received(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for chunk in chunks:
                self.received += len(chunk)
                yield chunk
        except ProviderError as fault:
            if not self.received:
                raise
            self.cut = fault

    def _passed(self, piece: bytes) -> bytes:
        """What can go on when this has come: a line, or the end of one at most."""
        ends = piece[-1] == _NEWLINE
        if self._passing:
            self._passing = not ends
            return piece
        if not self._held and ends:
            return self._line(piece)
        self._held += piece
        if len(self._held) > LONGEST_LINE:
            self._passing = not ends
            return self._unread()
        return self._line(self._take()) if ends else b""

    def _end(self) -> bytes:
        """The last line, where the file does not end with a newline."""
        last = self._take()
        if not self._passing and (not last.strip() or read(last)):
            return self._line(last)
        self.torn = self._passing or last.lstrip().startswith(b"{")
        self.strange += not self.torn
        return b""

    def _take(self) -> bytes:
        line = bytes(self._held)
        self._held.clear()
        return line

    def _unread(self) -> bytes:
        """A line that is too long to be held. It counts as a result if it begins like one."""
        line = self._take()
        is_object = line.lstrip().startswith(b"{")
        self.lines += is_object
        self.strange += not is_object
        return line

    def _line(self, line: bytes) -> bytes:
        result = read(line)
        if result is None:
            self.strange += bool(line.strip())
            return line
        self.lines += 1
        self._count(result)
        return renamed(line, result.models, self._group)

    def _count(self, result: Result) -> None:
        self._answered.add(result.custom_id)
        self.failed += result.failed
        usage = result.usage
        taken, given = (
            number(usage, "prompt_tokens", "input_tokens"),
            number(usage, "completion_tokens", "output_tokens"),
        )
        cached = number(part(usage, "prompt_tokens_details", "input_tokens_details"), "cached_tokens")
        thought = number(part(usage, "completion_tokens_details", "output_tokens_details"), "reasoning_tokens")
        self.input_tokens += taken
        self.output_tokens += given
        self.cached_tokens += min(cached, taken)
        self.reasoning_tokens += min(thought, given)
