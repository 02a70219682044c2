"""The headers `Range` and `If-Range`: one range of bytes. https://www.rfc-editor.org/rfc/rfc9110#section-14"""

import re
from collections.abc import Mapping

from manifold.errors import RangeNotSatisfiable

_ONE = re.compile(r"bytes\s*=\s*([0-9]{0,1000})\s*-\s*([0-9]{0,1000})\s*", re.IGNORECASE)


def requested(headers: Mapping[str, str], size: int, etag: str) -> range | None:
    """The range of a file of `size` bytes that a request's headers name; `None` for the whole file.

    A malformed `Range`, several ranges, and an `If-Range` with another `etag` count as no range. Raises
    `RangeNotSatisfiable` for a range that begins after the file's end.
    """
    match = _ONE.fullmatch(headers.get("range", "").strip())
    if not match or not any(match.groups()) or headers.get("if-range", etag).strip() != etag:
        return None
    first, last = match.groups()
    if first and last and int(first) > int(last):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        message = f"The file has {size} bytes, and none in this range. Ask for a range within them."
        raise RangeNotSatisfiable(message, size=size, param="Range")
    return range(start, end)
