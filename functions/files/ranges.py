"""`Range` and `If-Range`, as https://www.rfc-editor.org/rfc/rfc9110#section-14 has them: one range of bytes at most."""

import re
from collections.abc import Mapping

from manifold.errors import RangeNotSatisfiable

_ONE = re.compile(r"bytes\s*=\s*([0-9]{0,1000})\s*-\s*([0-9]{0,1000})\s*", re.IGNORECASE)


def asked(headers: Mapping[str, str], size: int, etag: str) -> range | None:
    """The bytes that a request asks for of a file of this size and tag; `None` if it gets the whole file.

    What is no range, several of them, or one of another version of the file, is as if it were not there. Raises
    `RangeNotSatisfiable` for one that begins after the file's end.
    """
    written = _ONE.fullmatch(headers.get("range", "").strip())
    if not written or not any(written.groups()) or headers.get("if-range", etag).strip() != etag:
        return None
    first, last = written.groups()
    if first and last and int(first) > int(last):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        message = f"The file has {size} bytes, and none in this range. Ask for a range within them."
        raise RangeNotSatisfiable(message, size=size, param="Range")
    return range(start, end)
