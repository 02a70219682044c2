"""The text that the lines of a file have in common: from `"method"` to the end of the model's name.

Files are written by programs, so it is the same in each line of nearly all files. Lines that hold it can be checked
and rewritten without a search for a second `model`, which would take as long as parsing.
"""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import orjson

_MARK = secrets.token_hex(16)  # a name that no file holds, because nobody knows it
_MARKED = f'"{_MARK}":{{"":0'.encode()

_TEXT = rb'"[^"\\]*"'
_METHOD = rb'"method"\s*:\s*"POST"\s*,\s*'
_URL = rb'"url"\s*:\s*(' + _TEXT + rb")\s*,\s*"
_LAYOUT = re.compile(
    rb"(?:" + _METHOD + _URL + rb"|" + _URL + _METHOD + rb')"body"\s*:\s*\{\s*"model"\s*:\s*(' + _TEXT + rb")"
)
_HEAD_BYTES = 2048  # where the text is looked for


@dataclass(frozen=True, slots=True)
class Common:
    """The members `method`, `url` and the beginning of `body`, as they are written in the line that `of` was given."""

    text: bytes
    url: str
    model_bytes: int

    @classmethod
    def of(cls, line: bytes) -> Self | None:
        """The text in this valid line; None where its members come in another order."""
        layout = _LAYOUT.search(line, 0, _HEAD_BYTES)
        return cls(layout[0], orjson.loads(layout[1] or layout[2]), len(layout[3])) if layout else None

    def custom_ids(self, lines: Iterable[bytes]) -> list[str]:
        """The `custom_id` of each line, up to the first that is not proved to be a good request with this text.

        A line is proved so: put a secret name in place of the text's first copy, and parse. If the name is a key at the
        top, then the text began and ended there as the same tokens would, so they are the line's `method`, `url` and
        `body`. If there is only `custom_id` beside it, and no `model` in it, none of them comes a second time, in
        whatever spelling. A line without proof may be good, too.
        """
        loads, text = orjson.loads, self.text
        custom_ids: list[str] = []
        for line in lines:
            try:
                request = loads(line.replace(text, _MARKED, 1))
                custom_id, body = request["custom_id"], request[_MARK]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                break
            if len(request) != 2 or "model" in body or ("stream" in body and body["stream"] is True):
                break
            if type(custom_id) is not str or not custom_id:
                break
            custom_ids.append(custom_id)
        return custom_ids


def renamed(text: bytes, model: str) -> bytes:
    """A `Common.text` with another model's name at its end."""
    return text[: text.rindex(b'"', 0, -1)] + orjson.dumps(model)
