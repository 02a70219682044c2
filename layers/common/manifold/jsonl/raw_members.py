"""The members of a JSON object in the raw bytes of a line, found without parsing their values.

So a line that a strict parser refuses can be read in part. Such a line has half a surrogate pair, bytes that are no
UTF-8, a NaN or a bare control character in a value that is not needed.
"""

import re
from typing import NamedTuple

from manifold import lenient_json

_SPACE = rb"[ \t\r\n]*+"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_OPEN = re.compile(_SPACE + rb"\{" + _SPACE)
_NAME = re.compile(rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE, re.DOTALL)
_NEXT = re.compile(_SPACE + rb",?+" + _SPACE)
_PLAIN = re.compile(_STRING + rb'|[^"{}\[\],\s]++', re.DOTALL)
_INSIDE = re.compile(rb'(?:[^"{}\[\]]++|' + _STRING + rb")*+", re.DOTALL)


class Broken(Exception):
    """There is no object, or it has no end."""


class Member(NamedTuple):
    """A member's name, and where its value stands."""

    name: str
    start: int
    """Where its value begins in the line."""
    end: int


def members(line: bytes, start: int) -> tuple[list[Member], int]:
    """The members of the object that begins at `start`, in order, and where it ends. Raises `Broken`."""
    opened = _OPEN.match(line, start)
    if opened is None:
        raise Broken
    result, at = [], opened.end()
    while name := _NAME.match(line, at):
        end = _skip(line, name.end())
        result.append(Member(_text(name[1]), name.end(), end))
        at = _after_comma(line, end)
    if line[at : at + 1] != b"}":
        raise Broken
    return result, at + 1


def _skip(line: bytes, at: int) -> int:
    """Where the value that begins at `at` ends, with a constant stack, however deep the value is."""
    if plain := _PLAIN.match(line, at):
        return plain.end()
    depth = 0
    while (bracket := line[at : at + 1]) and bracket in b"{[}]":
        depth += 1 if bracket in b"{[" else -1
        at += 1
        if depth <= 0:
            break
        inside = _INSIDE.match(line, at)
        at = inside.end() if inside else at
    if depth or not bracket:
        raise Broken
    return at


def _after_comma(line: bytes, at: int) -> int:
    match = _NEXT.match(line, at)
    return match.end() if match else at


def _text(raw: bytes) -> str:
    try:
        return str(lenient_json.answer(raw))
    except ValueError:
        return raw[1:-1].decode(errors="replace")
