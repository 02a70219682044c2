"""Server-sent events, parsed as they arrive.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import re
from dataclasses import dataclass

LINE_END = re.compile(rb"\r\n|\r|\n")
DONE = b"[DONE]"
"""The data of the last event of OpenAI's streams, and of some other providers'."""
BOM = b"\xef\xbb\xbf"
MAX_PENDING = 8 * 1024 * 1024
"""Bytes of one event: more than any answer that the gateway could return."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event."""

    name: str
    """The value of `event:`, `message` if there is none."""
    data: bytes


class Reader:
    """Turns chunks, cut anywhere, into events. An event is complete after a blank line."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._rest_size = 0
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0
        self._ended_with_cr = False
        self._begun = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end within `chunk`. `ValueError` if one has more than `MAX_PENDING` bytes."""
        if self._ended_with_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._ended_with_cr = False
        self._ended_with_cr = self._ended_with_cr or chunk.endswith(b"\r")
        first, *lines = LINE_END.split(chunk)
        events = []
        for piece in lines:
            if (event := self._take(self._line(first))) is not None:
                events.append(event)
            first = piece
        self._rest.append(first)
        self._rest_size += len(first)
        if self._size + self._rest_size > MAX_PENDING:
            raise ValueError("an event without an end")
        return events

    def _line(self, end: bytes) -> bytes:
        """The line that ends with `end`."""
        line = b"".join([*self._rest, end])
        self._rest, self._rest_size = [], 0
        return line

    def _take(self, line: bytes) -> Event | None:
        if not self._begun:
            line, self._begun = line.removeprefix(BOM), True
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size += len(value) + 1  # 1, so that empty lines count, too
        elif field == b"event":
            self._name = value.decode(errors="replace")
        return None

    def _dispatch(self) -> Event | None:
        event = Event(self._name or "message", b"\n".join(self._data)) if self._data else None
        self._name, self._data, self._size = "", [], 0
        return event
