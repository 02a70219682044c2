"""The text that all lines of a file have in common, and that ends in the model.

Files are written by programs, so the beginning of `"body"` and its `"model"` read the same in each line of nearly all
files, wherever they stand. Such lines can be checked and rewritten without a search for a second `model`, which would
take as long as parsing.
"""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import orjson

from manifold.jsonl.model_spans import Span
from manifold.jsonl.token_counts import LIMITS, LONG, TokenCounts, output_limit

_BODY, _MODEL = secrets.token_hex(16), secrets.token_hex(16)  # names that no file holds, because nobody knows them
_HEAD_MARK = f'"{_BODY}":{{'.encode()
_MODEL_MARK = f'"{_MODEL}":""'.encode()
_BOTH_MARKS = _HEAD_MARK + _MODEL_MARK

_KEY = b'"model"'
_TEXT = rb'"[^"\\]*"'
_METHOD = rb'"method"\s*:\s*"POST"\s*,\s*'
_URL = rb'"url"\s*:\s*' + _TEXT + rb"\s*,\s*"
_HEAD_LAYOUT = re.compile(rb"(" + _METHOD + _URL + rb"|" + _URL + _METHOD + rb')?"body"\s*:\s*\{\s*')
_MODEL_LAYOUT = re.compile(_KEY + rb"\s*:\s*" + _TEXT)
_HEAD_BYTES = 2048  # where the head is looked for


class Proof(NamedTuple):
    """The lines that were proved to be good requests."""

    custom_ids: list[str]
    sizes: list[int]
    """Bytes of each."""
    limits: list[object]
    """The maximum output that each states (`output_limit`), unchecked."""
    unproved: bytes | None
    """The line after them; None if there is none."""


@dataclass(frozen=True, slots=True)
class CommonText:
    """How one line opens its `body` and names its model."""

    head: bytes
    """To the brace or, where the model comes first, to the end of its name; from `"method"` and `"url"` if these two
    come right before."""
    model: bytes
    """The text that ends in the model's name: `head` itself, or the member alone."""
    last: bool
    """Whether the line's last copy of that text names the model; else it is the first."""
    model_bytes: int
    url: str
    beside: int
    """How many of `method` and `url` are not in `head`: both or none."""
    limits: tuple[str, ...]
    """The names of the maximum output, first the one that the line uses."""

    @classmethod
    def of(cls, line: bytes, span: Span) -> Self | None:
        """The texts of a good line whose only model stands at `span`; `None` if its layout is unusual."""
        start, end = line.rfind(_KEY, 0, span[0]), span[1]
        head = _HEAD_LAYOUT.search(line, 0, _HEAD_BYTES)
        if head is None or not _MODEL_LAYOUT.fullmatch(line, start, end):
            return None
        parsed = orjson.loads(line)
        size, url, beside = end - span[0], parsed["url"], 0 if head[1] else 2
        limits = tuple(sorted(LIMITS, key=lambda name: name not in parsed["body"]))
        if head.end() == start:
            both = line[head.start() : end]
            return cls(both, both, last=False, model_bytes=size, url=url, beside=beside, limits=limits)
        model = line[start:end]
        last = line.find(model) < start or start > len(line) - end  # there is a copy before, or the end is nearer
        return cls(head[0], model, last=last, model_bytes=size, url=url, beside=beside, limits=limits)

    def prove(self, lines: Iterable[bytes], counts: TokenCounts) -> Proof:  # noqa: C901, PLR0915 (a call costs time)
        """Take lines up to the first that is not proved to be a good request with its model in this text.

        A line is proved so: put secret names in the place of one copy of each text, and parse. If the names are keys at
        the top and in its value, then the texts began and ended there as the same tokens would, so they are the line's
        `body` and `body.model`. If only the members of a request are beside the one, and no `model` beside the other,
        none of them comes a second time, in whatever spelling. A line without proof may be good, too.
        """
        loads, head, model, url, beside = orjson.loads, self.head, self.model, self.url, self.beside
        apart, cut = head != model, bytes.rpartition if self.last else bytes.partition
        limit, other, another = self.limits
        custom_ids: list[str] = []
        sizes: list[int] = []
        limits: list[object] = []
        body: dict[str, Any] = {}
        for line in lines:
            try:  # what has been copied is dropped as soon as can be: memory that is in the cache serves again
                if apart:
                    before, named, after = cut(line, model)
                    before, opened, between = before.partition(head)
                    if not (named and opened):
                        break
                    request = loads(b"".join((before, _HEAD_MARK, between, _MODEL_MARK, after)))
                else:
                    request = loads(line.replace(head, _BOTH_MARKS, 1))
                custom_id, body = request["custom_id"], request[_BODY]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                break
            if len(request) != 2 + beside or _MODEL not in body or "model" in body:
                break
            if beside and (request.get("method") != "POST" or request.get("url") != url):
                break
            if type(custom_id) is not str or not custom_id or ("stream" in body and body["stream"] is True):
                break
            size = len(line)
            if size > LONG:
                counts.offer(body, size)
            stated = body.get(limit)
            if (stated is None and (other in body or another in body)) or "n" in body:
                stated = output_limit(body)
            limits.append(stated)
            custom_ids.append(custom_id)
            sizes.append(size)
        else:
            counts.passed(sizes, body)
            return Proof(custom_ids, sizes, limits, None)
        counts.passed(sizes, None)
        return Proof(custom_ids, sizes, limits, line)


def with_model(text: bytes, model: str) -> bytes:
    """A `CommonText.model`, as bytes, with another model at its end."""
    return text[: text.rindex(b'"', 0, -1)] + orjson.dumps(model)
