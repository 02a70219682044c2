"""Answers as a response: OpenAI's objects and error values as JSON, no more of it than Lambda carries, and headers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import orjson

from manifold.dispatch.attempts import Answer
from manifold.errors import CallFailed, InvalidRequest, ManifoldError, whole_seconds

Body = TypeVar("Body")
Completion = Answer[dict[str, Any]]
Outcome = Completion | ManifoldError
"""What one place of a response holds: an answer, or an error as a value."""

MAX_BYTES = 6_291_556 - 64 * 1024
"""Of a body within Lambda's response, whose limit was measured; the rest is for headers and what is around them."""
MAX_STREAMED_BYTES = 64 * 1024 * 1024
"""Of a body that is streamed to API Gateway: a bound of our own, as what is not a stream of events is held."""
ERROR_BYTES = 512
"""Kept free for an error value in each place."""


def carried_bytes(content: bytes) -> int:
    """The bytes that a body takes within Lambda's response, which is JSON: these characters are escaped there."""
    return len(content) + content.count(b'"') + content.count(b"\\") + content.count(b"\n")


def too_large() -> InvalidRequest:
    """The error in place of an answer that has no room."""
    message = "The answer is larger than the gateway can return. Ask for less in one request."
    return InvalidRequest(message, code="response_too_large")


def single(answer: Completion, room: int = MAX_BYTES) -> bytes:
    """The one answer; `InvalidRequest` if it is too large."""
    content = json_of(answer.body)
    if carried_bytes(content) > room:
        raise too_large()
    return content


def several(rows: Sequence[Sequence[Outcome]], room: int = MAX_BYTES, *, nested: bool) -> bytes:
    """An array of the answers in their order; with `nested`, an array of one array for each row."""
    elements = _elements([outcome for row in rows for outcome in row], room)
    if not nested:
        return _array(list(elements))
    return _array([_array([next(elements) for _ in row]) for row in rows])


def _array(elements: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(elements) + b"]"


def _elements(outcomes: Sequence[Outcome], room: int) -> Iterator[bytes]:
    """Each outcome as JSON. One that no longer fits becomes an error value, for which bytes were kept free."""
    left = room - ERROR_BYTES * len(outcomes)
    for outcome in outcomes:
        content = _content(outcome)
        size = carried_bytes(content) - ERROR_BYTES
        if size > left:
            content = orjson.dumps(too_large().body())
        else:
            left -= max(size, 0)
        yield content


def _content(outcome: Outcome) -> bytes:
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
        "x-manifold-deployment": quote(answer.deployment.id),  # an id may hold any character, a header may not
        "x-manifold-attempts": str(answer.attempts),
        "x-manifold-latency-ms": f"{answer.seconds * 1000:.1f}",
    }


def headers_of_several(rows: Sequence[Sequence[Outcome]]) -> dict[str, str]:
    """How many answers and how many errors there are, and how many milliseconds the slowest answer took."""
    outcomes = [outcome for row in rows for outcome in row]
    answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
    return {
        "x-manifold-answers": str(len(answers)),
        "x-manifold-errors": str(len(outcomes) - len(answers)),
        "x-manifold-latency-ms": f"{max((answer.seconds for answer in answers), default=0.0) * 1000:.1f}",
    }


def headers_of_failure(error: CallFailed) -> Mapping[str, str]:
    """Those that keep an SDK from making each call again, as the gateway has retried them, and its `Retry-After`."""
    wait = {} if error.retry_after is None else {"retry-after": whole_seconds(error.retry_after)}
    return {"x-should-retry": "false", **wait}
