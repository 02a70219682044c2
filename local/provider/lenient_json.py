"""JSON as Python reads and writes it: `NaN`, half a surrogate, huge numbers. At orjson's speed where there are none."""

import json
from typing import Any

import orjson


def loads(text: bytes) -> Any:
    """Raises `ValueError` for what is no JSON."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def dumps(value: object) -> bytes:
    """Without blanks between the tokens."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()
