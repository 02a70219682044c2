"""What a provider's result file holds, counted as it streams by: bytes, lines, failures and tokens."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

LONGEST_LINE = 32 * 1024 * 1024
"""Bytes of a line that are kept to read its usage; a longer line is counted, and its tokens are not known."""


class Tally:
    """Holds one line at a time."""

    def __init__(self) -> None:
        self.bytes = 0
        self.lines = 0
        self.failed = 0
        self.input_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self.reasoning_tokens = 0
        self._line = bytearray()
        self._too_long = False

    async def through(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same chunks, counted on their way."""
        async for chunk in chunks:
            self.bytes += len(chunk)
            head, *rest = chunk.split(b"\n")
            self._grow(head)
            for part in rest:
                self._end_line()
                self._grow(part)
            yield chunk
        self._end_line()

    def _grow(self, part: bytes) -> None:
        if len(self._line) + len(part) > LONGEST_LINE:
            self._too_long = True
            self._line.clear()
        elif not self._too_long:
            self._line += part

    def _end_line(self) -> None:
        line, too_long = bytes(self._line).strip(), self._too_long
        self._line.clear()
        self._too_long = False
        if line or too_long:
            self.lines += 1
            self._count({} if too_long else _object(line))

    def _count(self, answer: Mapping[str, Any]) -> None:
        response = _part(answer, "response")
        if answer.get("error") or _number(response, "status_code") >= 400:
            self.failed += 1
        usage = _part(_part(response, "body"), "usage")
        self.input_tokens += _number(usage, "prompt_tokens", "input_tokens")
        self.output_tokens += _number(usage, "completion_tokens", "output_tokens")
        self.cached_tokens += _number(_part(usage, "prompt_tokens_details", "input_tokens_details"), "cached_tokens")
        details = _part(usage, "completion_tokens_details", "output_tokens_details")
        self.reasoning_tokens += _number(details, "reasoning_tokens")


def _object(line: bytes) -> Mapping[str, Any]:
    """The line, or the like of a failed one where it cannot be read."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {"error": "unreadable"}


def _part(of: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    return next((of[name] for name in names if isinstance(of.get(name), dict)), {})


def _number(of: Mapping[str, Any], *names: str) -> int:
    return next((of[name] for name in names if type(of.get(name)) is int), 0)
