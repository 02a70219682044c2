"""The pass over an uploaded file that checks each line and collects the report."""

from collections.abc import Iterator
from itertools import islice

from manifold.jsonl import request
from manifold.jsonl.common_text import CommonText, Proof
from manifold.jsonl.custom_ids import CustomIds
from manifold.jsonl.errors import LineErrors
from manifold.jsonl.lines import BLANK, MAX_BRACKETS, MAX_LINE_BYTES, PLAIN_BYTES, TOO_LONG, Lines
from manifold.jsonl.model_spans import Span, spans
from manifold.jsonl.position import Position
from manifold.jsonl.report import MAX_ERRORS, Report
from manifold.jsonl.request import BadLine, shown
from manifold.jsonl.token_counts import TokenCounts
from manifold.jsonl.urls import Urls

MAX_LINES = 1_000_000
"""Requests of a file. What one deployment takes at most is in its limits."""


class Check:
    """Finds the bad lines of a file whose bytes come in chunks, cut anywhere.

    Memory: a line, a chunk, and 12 bytes for each request. A line has one error, its first, and perhaps that of an id
    given twice. The first `max_errors` are kept, all are counted. After `max_lines` requests, lines are only counted.
    """

    def __init__(
        self, max_lines: int = MAX_LINES, max_line_bytes: int = MAX_LINE_BYTES, max_errors: int = MAX_ERRORS
    ) -> None:
        self._max_lines = max_lines
        self._max_line_bytes = max_line_bytes
        self._lines = Lines(max_line_bytes)
        self._position = Position()
        self._errors = LineErrors(max_errors)
        self._custom_ids = CustomIds()
        self._urls = Urls()
        self._tokens = TokenCounts()
        self._model: str | None = None
        self._common: CommonText | None = None
        self._in_common = 0
        self._models = 0
        self._model_bytes = 0
        self._bytes = 0
        self._beyond = 0

    @classmethod
    def whole(cls, content: bytes) -> Report:
        """The report of a whole file's bytes."""
        check = cls()
        check.feed(content)
        return check.finish()

    def feed(self, chunk: bytes) -> None:
        """Check the next bytes of the file."""
        self._bytes += len(chunk)
        self._check(self._lines.feed(chunk))

    def finish(self) -> Report:
        """End the file: check what only shows at its end, and return the report."""
        self._check(self._lines.finish())
        self._check_file()
        common = self._common if self._in_common == self._position.requests else None
        return Report(
            bytes=self._bytes,
            lines=self._position.requests + self._beyond,
            longest_line=self._position.longest,
            model=self._model,
            urls=self._urls.uses(),
            index=tuple(self._lines.bom_bytes + start for start in self._position.starts),
            firsts=tuple(self._position.firsts),
            common=common.model.decode() if common else None,
            common_last=common.last if common else False,
            models=self._models,
            kept_bytes=self._bytes - self._lines.bom_bytes - self._model_bytes,
            errors=self._errors.first(),
            error_count=self._errors.count,
            input_tokens=self._tokens.input(),
            output_tokens=self._tokens.output(),
            output_limits=self._tokens.stated,
            checksums=tuple(self._custom_ids.checksums),
        )

    def _check(self, lines: Iterator[bytes]) -> None:
        while (line := self._prove(lines)) is not None:
            self._search(line)

    def _prove(self, lines: Iterator[bytes]) -> bytes | None:
        """Takes in the lines that hold what all have in common, and returns the first that does not, if one is left."""
        while self._common and (room := self._max_lines - self._position.requests) > 0:
            room = min(room, self._tokens.until_read)
            proof = self._common.prove(islice(lines, room), self._tokens)
            self._take(self._common, proof)
            if len(proof.sizes) < room:
                return proof.unproved
        return next(lines, None)

    def _take(self, common: CommonText, proof: Proof) -> None:
        proved = len(proof.sizes)
        if proved:
            numbers = self._position.numbers(proved)
            self._urls.add(common.url, numbers)
            self._in_common += proved
            self._models += proved
            self._model_bytes += proved * common.model_bytes
            for block, start, stop in self._position.pass_requests(proof.sizes):
                self._custom_ids.extend(proof.custom_ids[start:stop], numbers[start:stop], block)
                self._tokens.add(block, proof.sizes[start:stop], proof.limits[start:stop])

    def _search(self, line: bytes) -> None:
        """Takes in a line by itself: a blank one, a bad one, or one that is written in another way."""
        if not line.lstrip(BLANK):
            self._position.pass_blank(line)
            return
        if self._position.requests == self._max_lines:
            self._beyond += 1
            self._position.pass_blank(line)
            return
        [(block, _, _)] = self._position.pass_requests([len(line)])
        try:
            self._request(line, block)
        except BadLine as bad:
            self._errors.add(self._position.lines, bad)

    def _request(self, line: bytes, block: int) -> None:
        if line is TOO_LONG:
            limit = f"{self._max_line_bytes:,} bytes, the most that a request can have"
            dense = f"{PLAIN_BYTES:,} bytes and has more than {MAX_BRACKETS:,} brackets"
            raise BadLine("line_too_long", f"This line is longer than {limit}, or than {dense}. Shorten it.")
        parsed = request.parsed(line)
        number = self._position.lines
        self._custom_ids.extend([request.custom_id(parsed)], [number], block)
        url = request.url(parsed)
        self._one_model(request.model(parsed))
        self._urls.add(url, [number])
        self._tokens.add_one(block, len(line), parsed["body"])
        del parsed  # it takes many times the line's length, and the line may be parsed again below
        models = spans(line)
        self._models += len(models)
        self._model_bytes += sum(end - start for start, end in models)
        if self._position.requests == 1 and len(models) == 1:
            self._learn(line, models[0])

    def _one_model(self, model: str) -> None:
        self._model = self._model or model
        if model != self._model:
            reason = f"'body.model' is {shown(model)}, but {shown(self._model)} in the lines before."
            raise BadLine(
                "model_mismatch", f"{reason} Put the requests of each model into their own file.", "body.model"
            )

    def _learn(self, line: bytes, model: Span) -> None:
        """Takes from the file's first request what the others are likely to have in common with it."""
        common = CommonText.of(line, model)
        if common and common.prove([line], TokenCounts()).sizes:
            self._common = common
            self._in_common = 1

    def _check_file(self) -> None:
        for line, first in self._custom_ids.duplicates():
            reason = f"'custom_id' is the same as on line {first}. Give every line its own."
            self._errors.add(line, BadLine("duplicate_custom_id", reason, "custom_id"))
        if not self._position.requests:
            self._errors.add(None, BadLine("empty_file", "The file has no requests. Put one on each line."))
        if self._beyond:
            requests = f"{self._position.requests + self._beyond:,}"
            reason = f"The file has {requests} requests, but a batch takes at most {self._max_lines:,}. Split it."
            self._errors.add(None, BadLine("too_many_tasks", reason))
