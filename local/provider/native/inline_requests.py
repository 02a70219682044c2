"""The requests that are within the JSON body of a create, spooled as lines without holding the body in memory."""

import asyncio
import codecs
import json
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from fastapi import Request

from local.provider.files import File, Files
from local.provider.refusal import Refusal
from local.provider.validation import repeated_values

CHUNK = 256 * 1024
UNPARSEABLE = Refusal(400, None, "The request body is not valid JSON.")
Check = Callable[[int, Any], str]
"""Checks the request of an index, and returns its id. Raises a `Refusal`."""


class InlineBody:
    """A JSON object with an array `requests`, read from a file."""

    def __init__(self, source: BinaryIO) -> None:
        self.members: dict[str, Any] = {}
        """The other members. Those before `requests` are here once the first request is read."""
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder()
        self._text = ""
        self._at = 0
        self._whole = False

    def requests(self) -> Iterator[tuple[str, Any]]:
        """The JSON of each request, without line breaks, and its value. Raises a `Refusal` for what is no JSON."""
        self._take("{")
        if self._peek() == "}":
            return
        while True:
            name = self._value()[1]
            self._take(":")
            if name == "requests" and self._peek() == "[":
                self.members["requests"] = ()
                yield from self._elements()
            else:
                self.members[str(name)] = self._value()[1]
            if self._take(",}") == "}":
                break
        if self._peek():
            raise UNPARSEABLE

    def _elements(self) -> Iterator[tuple[str, Any]]:
        self._take("[")
        if self._peek() == "]":
            self._take("]")
            return
        while True:
            yield self._value()
            if self._take(",]") == "]":
                return

    def _peek(self) -> str:
        """The next character that is no blank, which stays; none at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _take(self, expected: str) -> str:
        character = self._peek()
        if not character or character not in expected:
            raise UNPARSEABLE
        self._at += 1
        return character

    def _value(self) -> tuple[str, Any]:
        self._peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except ValueError:
                end = len(self._text)
            # A number that ends where the text does may go on.
            if end < len(self._text) or self._whole:
                break
            self._more(len(self._text) - self._at)
        if end == len(self._text):
            raise UNPARSEABLE
        written, self._at = self._text[self._at : end], end
        return written.replace("\n", " ").replace("\r", " "), value

    def _more(self, least: int = 0) -> bool:
        """Read on: at least as many bytes, so that a long value is not read again at each chunk."""
        chunk = self._source.read(max(CHUNK, least))
        self._whole = not chunk
        try:
            self._text = self._text[self._at :] + self._decoder.decode(chunk, final=self._whole)
        except UnicodeDecodeError as error:
            raise UNPARSEABLE from error
        self._at = 0
        return not self._whole


async def spool(
    request: Request,
    files: Files,
    account: str,
    check: Callable[[InlineBody], Check],
    *,
    limit: int,
    too_large: Refusal,
    model_at: Sequence[str] = ("body", "model"),
) -> tuple[File, dict[str, Any]]:
    """The requests of the body as a file of lines, and its other members; all of a body over the limit is read, too.

    `check` is asked once the first request is there, or the end. Two requests of one id raise a `Refusal`.
    """
    with tempfile.TemporaryFile() as body:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size <= limit:
                body.write(chunk)
        if size > limit:
            raise too_large
        body.seek(0)
        inline = InlineBody(body)
        lines = _lines(inline, check)
        file = await asyncio.to_thread(
            files.spool, account, "requests.jsonl", lines, limit=2 * limit, model_at=model_at
        )
    return file, inline.members


def _lines(inline: InlineBody, check: Callable[[InlineBody], Check]) -> Iterator[bytes]:
    checked, hashes = None, array("q")
    for index, (text, value) in enumerate(inline.requests()):
        checked = checked or check(inline)
        hashes.append(hash(checked(index, value)))
        yield text.encode("utf-8", "surrogatepass") + b"\n"
    if checked is None:
        check(inline)
    if repeated_values(hashes):
        raise Refusal(400, None, "requests: each request must have a `custom_id` of its own")
