"""A JSON parser for what clients and providers really send, which a strict parser refuses for one character.

The encoders of Python and JavaScript write half a surrogate pair (an emoji that was cut in two) as `\\ud83d`, which
RFC 8259 §8.2 leaves undefined and orjson refuses. Each becomes U+FFFD, as by ECMAScript's
`String.prototype.toWellFormed`, so that the value can be written again. Only what orjson refused is parsed again.
"""

import re
from typing import Any

import orjson

REPLACEMENT = b"\\ufffd"
ESCAPES = re.compile(
    rb"(?P<kept>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
"""Each escape as a whole, so that the backslash of `\\\\ud83d` is not taken for the start of one."""
STRING_OR_CONSTANT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?\bInfinity\b|\bNaN\b', re.DOTALL)
CONTROLS = re.compile(rb"[\x00-\x1f]")


def request(content: bytes | str) -> Any:
    """A client's JSON value, with lone surrogates replaced. Raises `ValueError` (orjson's) for other faults."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return orjson.loads(well_formed(_bytes(content)))


def well_formed(content: bytes) -> bytes:
    """A client's JSON text, with lone surrogates replaced."""
    return ESCAPES.sub(lambda match: REPLACEMENT if match["lone"] else match[0], content)


def answer(content: bytes) -> Any:
    """A provider's JSON value. Takes also NaN, infinity, bytes that are no UTF-8, bare control characters and a byte
    order mark. Raises `ValueError`."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        text = content.decode("utf-8-sig", errors="replace").encode()
        return orjson.loads(STRING_OR_CONSTANT.sub(_readable, text))


def _bytes(content: bytes | str) -> bytes:
    return content.encode(errors="replace") if isinstance(content, str) else content


def _readable(match: re.Match[bytes]) -> bytes:
    if not match[0].startswith(b'"'):
        return b"null"
    return CONTROLS.sub(lambda control: b"\\u%04x" % ord(control[0]), well_formed(match[0]))
