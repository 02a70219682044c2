"""The lines of a batch in a provider's own form: requests on their way out, results on their way back.

Both stream, and hold one line. What goes into the other of the two files, a failure among answers or a request that
cannot be translated, is kept in a temporary file meanwhile.
"""

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from tempfile import SpooledTemporaryFile
from typing import Any, Self

import orjson

from files.transfers.custom_id_index import CustomIdIndex
from files.transfers.held_lines import HeldLines
from manifold import lenient_json
from manifold.errors import CallFailed, InvalidRequest, ProviderUnclear
from manifold.jsonl.lines import BLANK, Lines
from manifold.provider_errors import account_error, status_of
from manifold.providers.batch_lines import LineRequest, LineResult, LineTranslator
from manifold.providers.error_patterns import prompt_error_code
from manifold.providers.failures import UNREADABLE, error_details
from manifold.scrubbing import Scrubber

HELD_BYTES = 4 * 1024 * 1024
"""Bytes of failures in memory; more of them are on the disk."""
READ_BYTES = 1024 * 1024
NUMBER = re.compile("[0-9]{1,9}")
ODD_REQUEST = "The request has a value of another type than OpenAI's API takes."
ODD_RESULT = "The provider answered this request, but its answer cannot be read."


class TranslatedRequests:
    """Translates the lines of one input. `through` is read once; counts are complete when it has ended."""

    def __init__(self, translator: LineTranslator, input_id: str, *, drop_params: bool = False) -> None:
        self.requests = 0
        """The lines that were translated."""
        self.refused = 0
        """The others: `failures` has their results, which the provider cannot give."""
        self._translator = translator
        self._input_id = input_id
        self._drop_params = drop_params
        self._lines = Lines()
        self._failures = Failures()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._failures.close()

    async def through(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The provider's lines of a checked file's, each with its line end."""
        async for chunk in chunks:
            if translated := self._translated(self._lines.feed(chunk)):
                yield translated
        if translated := self._translated(self._lines.finish()):
            yield translated

    def failures(self) -> AsyncIterator[bytes]:
        """The error lines, in OpenAI's form, of the requests that were refused."""
        return self._failures.read()

    def _translated(self, lines: Iterable[bytes]) -> bytes:
        return b"".join(self._line(line) for line in lines if line.strip(BLANK))

    def _line(self, line: bytes) -> bytes:
        parsed = orjson.loads(line)
        request_id = f"{self._input_id}-{self.requests + self.refused}"
        request = LineRequest(request_id, parsed["url"], parsed["body"], self._drop_params)
        try:
            translated = orjson.dumps(self._translator.request(request), option=orjson.OPT_APPEND_NEWLINE)
        except InvalidRequest as error:
            self._refuse(parsed["custom_id"], LineResult.invalid(request_id, error))
        except UNREADABLE:
            odd = InvalidRequest(ODD_REQUEST, param="body", code="invalid_value")
            self._refuse(parsed["custom_id"], LineResult.invalid(request_id, odd))
        else:
            self.requests += 1
            return translated
        return b""

    def _refuse(self, custom_id: str, result: LineResult) -> None:
        self.refused += 1
        self._failures.add(result_line(custom_id, result))


class TranslatedResults:
    """Translates the result lines of one job. `answers` is read once; `failures` and the count come after it."""

    def __init__(self, translator: LineTranslator, input_id: str, index: CustomIdIndex, scrubber: Scrubber) -> None:
        self.invalid = 0
        """Lines that are no result of a request of this input. They are left out."""
        self._translator = translator
        self._prefix = f"{input_id}-"
        self._own_id = re.compile(re.escape(self._prefix) + NUMBER.pattern)
        self._index = index
        self._scrubber = scrubber
        self._lines = HeldLines(self._line, self._long)
        self._failures = Failures()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._failures.close()

    async def answers(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The lines of OpenAI's output file. Those of its error file are kept for `failures`."""
        async for chunk in chunks:
            if lines := self._lines.feed(chunk):
                yield lines
        if lines := self._line(self._lines.take()):
            yield lines

    def failures(self) -> AsyncIterator[bytes]:
        """The lines of OpenAI's error file."""
        return self._failures.read()

    def _long(self, _: bytes) -> bytes:
        """The beginning of a line that is too long to be held: it is left out."""
        self.invalid += 1
        return b""

    def _line(self, line: bytes) -> bytes:
        if not line.strip(BLANK):
            return b""
        parsed = self._parsed(line)
        result = self._result(parsed) if parsed is not None else None
        custom_id = self._custom_id(result.id) if result else None
        if result is None or custom_id is None:
            self.invalid += 1
            return b""
        if not result.failed:
            try:
                return result_line(custom_id, result)
            except TypeError:  # a number of more than 64 bits, which no count of tokens has
                result = LineResult.refused(result.id, ODD_RESULT, status=502)
        self._failures.add(result_line(custom_id, self._scrubbed(result, custom_id)))
        return b""

    def _parsed(self, line: bytes) -> Mapping[str, Any] | None:
        try:
            parsed = lenient_json.answer(line)
        except ValueError:
            return None
        return parsed if isinstance(parsed, dict) else None

    def _result(self, line: Mapping[str, Any]) -> LineResult | None:
        """The result; a failed one where its answer cannot be read, `None` where even its request is not known."""
        try:
            return self._translator.result(line)
        except (ProviderUnclear, *UNREADABLE):
            # an adapter may have put something after our id
            found = next((match for value in _texts(line) if (match := self._own_id.match(value))), None)
            return None if found is None else LineResult.refused(found[0], ODD_RESULT, status=502)

    def _custom_id(self, request_id: object) -> str | None:
        if not isinstance(request_id, str) or not request_id.startswith(self._prefix):
            return None
        number = request_id.removeprefix(self._prefix)
        return self._index.get(int(number)) if NUMBER.fullmatch(number) else None

    def _scrubbed(self, result: LineResult, custom_id: str) -> LineResult:
        """A failure that tells nothing of where the job ran, and calls the request by the caller's own id."""
        if (shown := _account_error(result)) is not None:
            return LineResult(result.id, shown.body(), shown.status)
        if result.body is None:
            message = self._scrubber.text(result.message.replace(result.id, custom_id))
            return LineResult(result.id, code=result.code, message=message)
        error = result.body.get("error")
        if not isinstance(error, dict):
            return LineResult.refused(result.id, ODD_RESULT, status=502)
        text = str(error.get("message") or "").replace(result.id, custom_id)
        message = self._scrubber.text(text) or "The provider gave no reason."
        clean = {
            "message": message,
            "type": self._scrubber.word(error.get("type")),
            "param": self._scrubber.word(error.get("param")),
            "code": self._scrubber.word(error.get("code")),
        }
        return LineResult(result.id, {"error": clean}, result.status)


class Failures:
    """Lines that are written one by one and then read: in memory, or on the disk if they are many."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(HELD_BYTES)  # noqa: SIM115 (closed by `close`)

    def add(self, line: bytes) -> None:
        self._file.write(line)

    async def read(self) -> AsyncIterator[bytes]:
        """The lines, some at a time."""
        self._file.seek(0)
        while chunk := self._file.read(READ_BYTES):
            yield chunk

    def close(self) -> None:
        self._file.close()


def result_line(custom_id: str, result: LineResult) -> bytes:
    """A line of OpenAI's output or error file, with its line end."""
    response = error = None
    if result.code is None:
        response = {"status_code": result.status, "request_id": f"req_{result.id}", "body": result.body}
    else:
        error = {"code": result.code, "message": result.message}
    line = {"id": f"batch_req_{result.id}", "custom_id": custom_id, "response": response, "error": error}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _account_error(result: LineResult) -> CallFailed | None:
    """What is told of a failure that is about the gateway's own key or bill; `None` for any other."""
    if result.body is None:
        status, code, message = status_of(result.code), result.code, result.message
    else:
        text, code, _ = error_details(result.body)
        status, message = result.status, text or ""
    shown = account_error(status, code)
    return None if shown and prompt_error_code(status or 500, code, message) is not None else shown


def _texts(line: Mapping[str, Any]) -> Iterator[str]:
    return (value for value in line.values() if isinstance(value, str))
