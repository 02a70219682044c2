"""The pass over a provider's result file as it streams by: its lines are checked and counted, and so are their tokens.

Each `response.body.model` becomes the group's name on the way; a second result of a request is left out, as is a byte
order mark at the start. Every other byte of a line is kept.
"""

from collections.abc import AsyncIterator

import orjson

from files.transfers.held_lines import HeldLines
from files.transfers.request_ids import AnsweredRequests
from files.transfers.result_usage import LinePrices, ResultUsage
from manifold.deployments import unreadable
from manifold.errors import ManifoldError, ProviderError
from manifold.jsonl.model_spans import renamed
from manifold.jsonl.result import begun_id, read


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
        """Lines that are results, each of another request."""
        self.unread = 0
        """Those of them whose request is not known: they are too long to be held, and do not begin with it."""
        self.retriable = 0
        """Those that are failures which another attempt may change: marked in `answered`."""
        self.unsent = 0
        """Those that say that their request was not run: `unsent` of `answered`."""
        self.invalid = 0
        """Lines that are neither blank nor an object with a `custom_id`. They are kept where there are results, too."""
        self.is_stored = False
        """Whether S3 has these lines."""
        self.is_torn = False
        """Whether the file ended within a line. That line is not kept."""
        self.usage = ResultUsage()
        self._prices = prices
        self._answered = answered
        self._group = orjson.dumps(group)
        self._lines = HeldLines(self._scan, self._pass_on)

    async def through(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The lines, with the group's name in them, as they come. Raises a `ProviderError` that comes before any byte;
        a later one ends the file, and is kept as `fault`."""
        async for chunk in self._until_fault(chunks):
            if lines := self._lines.feed(chunk):
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
        except ManifoldError:
            raise
        except Exception as error:  # what nobody thought of takes no line away that has come
            if not self.received:
                raise
            self.fault = unreadable(error)

    def _finish(self) -> bytes:
        """The last line, where the file does not end with a newline."""
        last = self._lines.take()
        within = self._lines.is_within_long
        if not within and (not last.strip() or read(last)):
            return self._scan(last)
        self.is_torn = within or last.lstrip().startswith(b"{")
        self.invalid += not self.is_torn
        return b""

    def _pass_on(self, line: bytes) -> bytes:
        """The beginning of a line that is too long to be held. It counts as a result, without tokens, if it begins like
        one."""
        if not line.lstrip().startswith(b"{"):
            self.invalid += 1
            return line
        custom_id = begun_id(line)
        if custom_id is not None and not self._answered.add(custom_id):
            return b""
        self.lines += 1
        self.unread += custom_id is None
        self.usage.add_unread()
        return line

    def _scan(self, line: bytes) -> bytes:
        result = read(line)
        if result is None:
            self.invalid += bool(line.strip())
            return line
        if not self._answered.add(result.custom_id):
            return b""
        self.lines += 1
        self.usage.add(result, self._prices)
        if result.retriable:
            self._answered.mark(result.custom_id)
            self.retriable += 1
        if result.unsent:
            self._answered.unsent.add(result.custom_id)
            self.unsent += 1
        return renamed(line, result.models, self._group)
