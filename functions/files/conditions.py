"""The headers `If-Match` and `If-None-Match`. https://www.rfc-editor.org/rfc/rfc9110#section-13"""

import re
from collections.abc import Mapping
from typing import Literal

_TAG = re.compile(r'(?:W/)?"[^"]*"')


def unmet(headers: Mapping[str, str], etag: str) -> Literal[304, 412] | None:
    """The status for a GET or HEAD whose conditions a file with this strong `etag` does not meet; `None` if it does.

    `If-Match` compares strongly and comes first, `If-None-Match` compares weakly.
    """
    required, known = headers.get("if-match"), headers.get("if-none-match")
    if required is not None and required.strip() != "*" and etag not in _TAG.findall(required):
        return 412
    if known is None:
        return None
    return 304 if known.strip() == "*" or etag in [tag.removeprefix("W/") for tag in _TAG.findall(known)] else None
