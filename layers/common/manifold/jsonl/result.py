"""One line of a provider's result file: the request that it answers, whether that failed, and its models."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from manifold import lenient_json
from manifold.jsonl.model_spans import Span
from manifold.jsonl.raw_members import Broken, Member, members
from manifold.provider_errors import CONTENT_POLICY_CODES, CONTEXT_LENGTH_EXCEEDED, is_error

FAILED = 400
MOST = 2**31 - 1
"""The largest number that counts: no answer has more tokens, and no sum of such numbers exceeds a bigint."""
_BOM = b"\xef\xbb\xbf"
_KEY = b'"model"'
_ESCAPED = b"\\u006"  # begins the escape of each letter of "model"
_MODEL = re.compile(rb'"model"[ \t\r\n]*+:[ \t\r\n]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")', re.DOTALL)
_DIGITS = re.compile("[0-9]{1,10}")
_BEGUN = re.compile(
    rb'\s*\{\s*(?:"id"\s*:\s*(?:"[^"\\]*"|null)\s*,\s*)?"custom_id"\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL
)
_BUSY, _BROKEN = 429, 500
_EXPIRED = frozenset({"batch_expired", "expired", "request_expired"})
"""Codes of an error that say that the request was not run in time."""
_UNSENT = _EXPIRED | {"batch_cancelled", "batch_canceled", "cancelled", "canceled"}
"""Likewise, or that its batch was cancelled before."""
_WRONG = CONTENT_POLICY_CODES | {CONTEXT_LENGTH_EXCEEDED, "invalid_request_error"}
"""Codes and types of an error that say that the request itself is wrong."""
_OF_ERRORS = ("error", "object", "status", "code", "type")
"""Members of a body that tell whether it is an error, and which."""
_NOTHING = (b"null", b"false", b"{}", b'""')


class Result(NamedTuple):
    """What is read of a line."""

    custom_id: str
    failed: bool
    """Whether the line has an error, also in place of an answer, or a status of 400 and above."""
    retriable: bool
    """Whether it failed with a 429 or a 5xx, or was not run in time: another attempt may change that."""
    unsent: bool
    """Whether it says that the request was not run, as its batch had expired or was cancelled."""
    usage: Mapping[str, Any]
    """The usage object, as far as it can be read."""
    models: tuple[Span, ...]
    """Where the values of `response.body.model` stand, of those that are texts."""


def read(line: bytes) -> Result | None:
    """The result of a line, as far as it can be read; `None` if the line is no object with a text as `custom_id`."""
    try:
        answer = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _search(line)
    custom_id = answer.get("custom_id") if isinstance(answer, dict) else None
    if not isinstance(custom_id, str):
        return None
    response = part(answer, "response")
    body = part(response, "body")
    error, status = answer.get("error"), number(response, "status_code")
    if status < FAILED and is_error(body):
        status = _status_within(body)
    failed = bool(error) or status >= FAILED
    retriable = failed and _may_change(status, error)
    models = _models_of_valid(line) if "model" in body else ()
    return Result(custom_id, failed, retriable, _has_code(status, error, _UNSENT), part(body, "usage"), models)


def begun_id(line: bytes) -> str | None:
    """The `custom_id` of a line of which only the beginning is known; `None` if it does not stand there."""
    match = _BEGUN.match(line)
    try:
        return None if match is None else str(lenient_json.answer(match[1]))
    except ValueError:
        return None


def part(of: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The first of these members that is an object, or an empty one."""
    return next((of[name] for name in names if isinstance(of.get(name), dict)), {})


def number(of: Mapping[str, Any], *names: str) -> int:
    """The first of these members that is a whole number from 0 to `MOST`, also as a text or a float; else 0."""
    return next((whole for name in names if (whole := _whole(of.get(name))) is not None), 0)


def _whole(value: object) -> int | None:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= MOST else None


def _models_of_valid(line: bytes) -> tuple[Span, ...]:
    """The models of a line that is valid JSON and has some. Where `"model"` stands once, and no escape could hide
    another spelling of it, it stands there: in a text it would read `\\"model\\"`."""
    if line.count(_KEY) == 1 and _ESCAPED not in line:
        match = _MODEL.match(line, line.find(_KEY))
        return (match.span(1),) if match else ()
    return tuple(_models(line, members(line, 0)[0]))


def _search(line: bytes) -> Result | None:
    """The result of a line that a strict parser refuses."""
    try:
        top, end = members(line, len(_BOM) if line.startswith(_BOM) else 0)
    except Broken:
        return None
    custom_id = _value(line, _last(top, "custom_id"))
    if line[end:].strip() or not isinstance(custom_id, str):
        return None
    response = list(_inner(line, top, "response"))
    body = list(_inner(line, response, "body"))
    usage = _value(line, _last(body, "usage"))
    member, status = _last(top, "error"), _status(line, _last(response, "status_code"))
    error = _value(line, member)
    answer = {name: _value(line, _last(body, name)) for name in _OF_ERRORS}
    if status < FAILED and is_error(answer):
        status = _status_within(answer)
    failed = _has_error(line, member) or status >= FAILED
    retriable, unsent = failed and _may_change(status, error), _has_code(status, error, _UNSENT)
    usage = usage if isinstance(usage, dict) else {}
    return Result(custom_id, failed, retriable, unsent, usage, tuple(_models(line, top)))


def _status_within(body: Mapping[str, Any]) -> int:
    """The status of an error that is the body of a success: the error's own, else 400 or 500."""
    error = part(body, "error") or body
    own = number(error, "status", "code")
    if FAILED <= own < 600:
        return own
    return FAILED if {str(error.get("code")), str(error.get("type"))} & _WRONG else _BROKEN


def _may_change(status: int, error: object) -> bool:
    """Whether another attempt may change a failure with this status (0: none) and error."""
    if status:
        return status == _BUSY or status >= _BROKEN
    return _has_code(status, error, _EXPIRED)


def _has_code(status: int, error: object, codes: frozenset[str]) -> bool:
    """Whether an error without a status has one of these codes."""
    return not status and isinstance(error, dict) and str(error.get("code")) in codes


def _models(line: bytes, top: Iterable[Member]) -> Iterator[Span]:
    for member in _inner(line, list(_inner(line, top, "response")), "body"):
        if member.name == "model" and line.startswith(b'"', member.start):
            yield member.start, member.end


def _inner(line: bytes, outer: Iterable[Member], name: str) -> Iterator[Member]:
    """The members of each object of this name; none of one that is broken inside."""
    for member in outer:
        if member.name == name and line.startswith(b"{", member.start):
            with contextlib.suppress(Broken):
                yield from members(line, member.start)[0]


def _last(candidates: Iterable[Member], name: str) -> Member | None:
    """The one that counts where a name is given twice."""
    return next((member for member in reversed(list(candidates)) if member.name == name), None)


def _value(line: bytes, member: Member | None, levels: int = 2) -> Any:
    """`None` also for what cannot be read; of an object, in so many levels, the members that can be."""
    if member is None:
        return None
    try:
        return lenient_json.answer(line[member.start : member.end])
    except ValueError:
        within = _inner(line, [member], member.name) if levels else ()
        return {inner.name: _value(line, inner, levels - 1) for inner in within}


def _has_error(line: bytes, member: Member | None) -> bool:
    """Whether there is an error, also one that cannot be read."""
    return member is not None and line[member.start : member.end] not in _NOTHING


def _status(line: bytes, member: Member | None) -> int:
    return _whole(_value(line, member)) or 0
