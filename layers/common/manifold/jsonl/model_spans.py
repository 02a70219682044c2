"""Where the values of `body.model` stand in the raw bytes of a request line, and the line with another model.

A line may give a key twice. JSON readers mostly take the last, but not all do, so every `model` of every top-level
`body` counts; and no other, neither one that is nested deeper nor one in a text.
"""

import re
from collections.abc import Iterable

import orjson

Span = tuple[int, int]

_KEY = b'"model"'
_HIDDEN = b"\\u006"  # begins the escape of each letter of "model"

_SPACE = rb"[ \t\r\n]*+"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NESTING = 6  # the levels of brackets that an expression skips by itself


def _balanced(levels: int) -> bytes:
    flat = rb'[^"{}\[\]]++|' + _STRING
    return flat + rb"|[{\[](?:" + _balanced(levels - 1) + rb")*+[}\]]" if levels else flat


_MODEL = re.compile(_KEY + _SPACE + rb":" + _SPACE + rb"(" + _STRING + rb")")
_OPEN = re.compile(_SPACE + rb"\{" + _SPACE)
_NAME = re.compile(rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE)
_NEXT = re.compile(_SPACE + rb",?+" + _SPACE)
_VALUE = re.compile(_STRING + rb'|[^"{}\[\],\s]++|[{\[](?:' + _balanced(_NESTING) + rb")*+[}\]]")
_INSIDE = re.compile(rb"(?:" + _balanced(_NESTING) + rb")*+")


def spans(line: bytes) -> list[Span]:
    """Start and end of each value of `body.model`, in order. The line must be a request that passed the check.

    Such a line has a `body.model`. So where `"model"` stands only once, and no escape could hide another spelling of
    it, it stands there; in a text it would read `\\"model\\"`. Any other line is walked member by member.
    """
    if line.count(_KEY) == 1 and _HIDDEN not in line and (model := _MODEL.match(line, line.find(_KEY))):
        return [model.span(1)]
    return _walk(line, 0, ("body", "model"))[0]


def renamed(line: bytes, models: Iterable[Span], token: bytes) -> bytes:
    """The same bytes with `token`, a JSON text, instead of the values that stand at `models`."""
    pieces, kept = [], 0
    for start, end in models:
        pieces += [line[kept:start], token]
        kept = end
    return b"".join([*pieces, line[kept:]]) if pieces else line


def _walk(line: bytes, at: int, path: tuple[str, ...]) -> tuple[list[Span], int]:
    """The values at `path` in the object that begins at `at`, and where it ends."""
    values: list[Span] = []
    name, *inner = path
    at = _after(_OPEN, line, at)
    while member := _NAME.match(line, at):
        start = member.end()
        is_next = orjson.loads(member[1]) == name
        if is_next and inner and line.startswith(b"{", start):
            deeper, end = _walk(line, start, path[1:])
            values += deeper
        else:
            end = _skip(line, start)
            values += [(start, end)] if is_next and not inner else []
        at = _after(_NEXT, line, end)
    return values, at + 1


def _skip(line: bytes, at: int) -> int:
    """Where the value that begins at `at` ends, with a constant stack, however deep the value is."""
    if value := _VALUE.match(line, at):
        return value.end()
    depth = 0
    while True:
        depth += 1 if line[at] in b"{[" else -1
        at += 1
        if not depth:
            return at
        at = _after(_INSIDE, line, at)


def _after(pattern: re.Pattern[bytes], line: bytes, at: int) -> int:
    match = pattern.match(line, at)
    return match.end() if match else at
