"""The text that the lines of a file have in common, in which they name the model.

Files are written by programs, so `"method"`, `"url"`, the beginning of `"body"` and its `"model"` read the same in each
line of nearly all files. Such lines can be checked and rewritten without a search for a second `model`, which would
take as long as parsing.
"""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import orjson

_BODY, _MODEL = secrets.token_hex(16), secrets.token_hex(16)  # names that no file holds, because nobody knows them
_HEAD_MARK = f'"{_BODY}":{{'.encode()
_MODEL_MARK = f'"{_MODEL}":0'.encode()

_TEXT = rb'"[^"\\]*"'
_METHOD = rb'"method"\s*:\s*"POST"\s*,\s*'
_URL = rb'"url"\s*:\s*(' + _TEXT + rb")\s*,\s*"
_HEAD_LAYOUT = re.compile(rb"(?:" + _METHOD + _URL + rb"|" + _URL + _METHOD + rb')"body"\s*:\s*\{\s*')
_MODEL_LAYOUT = re.compile(rb'"model"\s*:\s*(' + _TEXT + rb")")
_HEAD_BYTES = 2048  # where the head is looked for


@dataclass(frozen=True, slots=True)
class Common:
    """The members `method`, `url`, the opening of `body`, and `body.model`, as they are written in one line."""

    head: bytes
    """From `"method"` or `"url"` to the end of the model's name; or to the brace, where other members follow it."""
    model: bytes
    """The text that ends in the model's name: `head` itself, or the member alone."""
    url: str
    model_bytes: int

    @classmethod
    def of(cls, line: bytes) -> Self | None:
        """The texts in this good line; None where its members come in another order."""
        head, model = _HEAD_LAYOUT.search(line, 0, _HEAD_BYTES), _MODEL_LAYOUT.search(line)
        if head is None or model is None:
            return None
        url, size = orjson.loads(head[1] or head[2]), len(model[1])
        if head.end() == model.start():
            text = head[0] + model[0]
            return cls(text, text, url, size)
        return cls(head[0], model[0], url, size)

    def custom_ids(self, lines: Iterable[bytes]) -> list[str]:
        """The `custom_id` of each line, up to the first that is not proved a good request that names its model here.

        A line is proved so: put secret names in the place of the first copy of each text, and parse. If the names are
        keys at the top and in its value, then the texts began and ended there as the same tokens would, so they are the
        line's `method`, `url`, `body` and `body.model`. If there is only `custom_id` beside the one, and no `model`
        beside the other, none of them comes a second time, in whatever spelling. A line without proof may be good, too.
        """
        loads, head, model, apart = orjson.loads, self.head, self.model, self.head is not self.model
        mark = _HEAD_MARK if apart else _HEAD_MARK + _MODEL_MARK
        custom_ids: list[str] = []
        for line in lines:
            marked = line.replace(head, mark, 1)
            if apart:
                marked = marked.replace(model, _MODEL_MARK, 1)
            try:
                request = loads(marked)
                custom_id, body = request["custom_id"], request[_BODY]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                break
            if len(request) != 2 or _MODEL not in body or "model" in body:
                break
            if type(custom_id) is not str or not custom_id or ("stream" in body and body["stream"] is True):
                break
            custom_ids.append(custom_id)
        return custom_ids


def renamed(text: bytes, model: str) -> bytes:
    """A `Common.model` with another name at its end."""
    return text[: text.rindex(b'"', 0, -1)] + orjson.dumps(model)
