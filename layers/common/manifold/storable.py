"""What others say, made into what Postgres keeps: a provider's text or count never loses the row that it is in.

Postgres takes no NUL and no half of a surrogate pair in a text (https://www.postgresql.org/docs/current/datatype-character.html,
https://www.postgresql.org/docs/current/datatype-json.html), and no integer beyond 64 bits. What a client sent is
refused instead, so that it can be mended.
"""

import math
import re
from collections.abc import Mapping, Sequence

LONGEST = 4096
"""Characters of a text."""
MOST = 1_000_000_000
"""The largest count of one call: a thousand times what the longest prompt of today takes."""
MOST_OF_A_BATCH = 1_000_000_000_000_000
"""The largest of a whole batch."""
DEEPEST = 32
"""Levels of a JSON value."""
_UNKEPT = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def text(said: str, longest: int = LONGEST) -> str:
    """The text without what is not kept, cut to so many characters."""
    return _UNKEPT.sub(_REPLACEMENT, said[:longest])


def count(said: object, most: int = MOST) -> int:
    """A number of things, from 0 to `most`; 0 for what is no number. A whole number may be written as a float."""
    if isinstance(said, bool) or not isinstance(said, int | float):
        return 0
    if isinstance(said, float) and math.isnan(said):
        return 0
    return int(min(max(said, 0), most))


def value(said: object, deepest: int = DEEPEST) -> object:
    """A JSON value whose texts are kept; below so many levels, and for what is no finite number, null."""
    match said:
        case str():
            return text(said)
        case Mapping() if deepest:
            return {text(str(name)): value(member, deepest - 1) for name, member in said.items()}
        case Sequence() if deepest:
            return [value(member, deepest - 1) for member in said]
        case bool() | int():
            return said
        case float() if math.isfinite(said):
            return said
    return None
