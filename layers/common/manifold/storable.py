"""Values of providers, made into values that Postgres can store, so that no value of theirs loses a row.

Postgres takes no NUL and no half of a surrogate pair in a text (https://www.postgresql.org/docs/current/datatype-character.html,
https://www.postgresql.org/docs/current/datatype-json.html), and no integer beyond 64 bits. A client's value
is refused instead, so that the client can correct it.
"""

import math
import re
from collections.abc import Mapping, Sequence

LONGEST = 4096
"""Characters of a text."""
MOST = 1_000_000_000
"""The largest count of one call: a thousand times the tokens of the longest prompt of today."""
MOST_OF_A_BATCH = 1_000_000_000_000_000
"""The largest count of a batch."""
DEEPEST = 32
"""Levels of a JSON value."""
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def text(written: str, longest: int = LONGEST) -> str:
    """The text with U+FFFD for what cannot be stored, cut to `longest` characters."""
    return _UNSTORABLE.sub(_REPLACEMENT, written[:longest])


def count(number: object, most: int = MOST) -> int:
    """A count from 0 to `most`; 0 for what is no number. A whole number may be a float."""
    if type(number) is int and 0 <= number <= most:
        return number
    if isinstance(number, bool) or not isinstance(number, int | float):
        return 0
    if isinstance(number, float) and math.isnan(number):
        return 0
    return int(min(max(number, 0), most))


def value(json: object, deepest: int = DEEPEST) -> object:
    """A JSON value whose texts can be stored. NaN, infinity and what is deeper than `deepest` levels become null."""
    match json:
        case str():
            return text(json)
        case Mapping() if deepest:
            return {text(str(name)): value(member, deepest - 1) for name, member in json.items()}
        case Sequence() if deepest:
            return [value(member, deepest - 1) for member in json]
        case bool() | int():
            return json
        case float() if math.isfinite(json):
            return json
    return None
