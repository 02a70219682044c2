"""Answers as a response: OpenAI's objects and error values as JSON, no more of it than Lambda holds, and headers."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import quote

import orjson

from manifold.dispatch.attempts import Answer
from manifold.errors import CallFailed, InvalidRequest, ManifoldError, whole_seconds
from manifold.responses import carried_bytes

Body = TypeVar("Body")
Completion = Answer[dict[str, Any]]
Outcome = Completion | ManifoldError
"""What one place of a response holds: an answer, or an error as a value."""

MAX_BYTES = 6_291_556 - 64 * 1024
"""Of a body within Lambda's response, whose limit was measured; the rest is for headers and what is around them."""
ERROR_BYTES = 512
"""Kept free for an error value in each place."""


def too_large() -> InvalidRequest:
    """The error in place of an answer that has no room."""
    message = "The answer is larger than the gateway can return. Ask for less in one request."
    return InvalidRequest(message, code="response_too_large")


def single(answer: Completion, *, held: bool) -> bytes:
    """The one answer; `InvalidRequest` if it is too large for Lambda, which holds it."""
    content = json_of(answer.body)
    if held and carried_bytes(content) > MAX_BYTES:
        raise too_large()
    return content


class Array:
    """The JSON of so many places, one after the other; `width` is how many make a row of their own, if any do.

    Where Lambda holds it (`held`), a place that no longer fits becomes an error value, for which bytes are kept free.
    """

    def __init__(self, places: int, width: int | None, *, held: bool) -> None:
        self._width = width
        self._index = 0
        self._left = MAX_BYTES - ERROR_BYTES * places if held else math.inf

    def next(self, content: bytes) -> bytes:
        """The next place, with what is between it and the one before."""
        if self._left != math.inf:
            content = self._fitting(content)
        first = self._index == 0
        self._index += 1
        if self._width is None:
            return content if first else b"," + content
        column = (self._index - 1) % self._width
        begin = b"" if column else b"["
        end = b"]" if column == self._width - 1 else b""
        return (b"" if first else b",") + begin + content + end

    def _fitting(self, content: bytes) -> bytes:
        size = max(carried_bytes(content) - ERROR_BYTES, 0)
        if size > self._left:
            return too_large_in_place()
        self._left -= size
        return content


def too_large_in_place() -> bytes:
    """The error in the place of an answer among several."""
    return orjson.dumps(too_large().body())


def in_place(outcome: Outcome) -> bytes:
    """An answer or an error as one of several."""
    if isinstance(outcome, ManifoldError):
        return json_of(outcome.body())
    try:
        return json_of(outcome.body)
    except CallFailed as error:  # it takes no other place's answer with it
        return json_of(error.body())


def json_of(body: dict[str, Any]) -> bytes:
    """The JSON of an answer, a chunk or an error; `CallFailed` for one that cannot be written."""
    try:
        return orjson.dumps(body)
    except TypeError as error:  # orjson reads 1,024 levels, and writes 254
        message = "The provider's answer is nested too deep to be passed on."
        raise CallFailed(message, status=502, code="provider_error") from error


def headers(answer: Answer[Body]) -> dict[str, str]:
    """Which deployment gave an answer, after how many attempts, and how many milliseconds the last one took."""
    return {
        "x-manifold-deployment": _quoted(answer.deployment.id),
        "x-manifold-attempts": str(answer.attempts),
        "x-manifold-latency-ms": f"{answer.seconds * 1000:.1f}",
    }


@lru_cache
def _quoted(deployment_id: str) -> str:
    """An id may hold any character, a header may not."""
    return quote(deployment_id)


def headers_of_failure(error: CallFailed) -> Mapping[str, str]:
    """Those that keep an SDK from making each call again, as the gateway has retried them, and its `Retry-After`."""
    wait = {} if error.retry_after is None else {"retry-after": whole_seconds(error.retry_after)}
    return {"x-should-retry": "false", **wait}
