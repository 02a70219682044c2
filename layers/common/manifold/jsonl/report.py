"""The report of one pass over a batch input file."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple, Self

import orjson

from manifold.jsonl.position import BLOCK_REQUESTS
from manifold.jsonl.request import shown

MAX_ERRORS = 100
"""The most errors that are kept of a file; the others are counted."""


class LineError(NamedTuple):
    """An error of a line, as in a batch's `errors.data`. `line` counts from 1; `None` means the whole file."""

    line: int | None
    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class UrlUse:
    """How many requests have a `url`, and the numbers of the first `MAX_ERRORS` of their lines."""

    count: int
    lines: tuple[int, ...]


class Block(NamedTuple):
    """Successive requests of a file: at most 1,000, and fewer where they are long. All blocks are the whole file."""

    first: int
    """The number of the first request, from 0."""
    requests: int
    start: int
    """Where the first request begins, in bytes from the start of the file."""
    bytes: int
    """Up to the next block, with the blank lines between."""
    input_tokens: int | None
    """Estimated; None in a report made before estimates."""
    output_tokens: int | None
    """The maximum output of those requests that state one; None as above."""
    checksum: int | None
    """The `custom_id_checksum` of its requests; None in a report made before checksums."""


@dataclass(frozen=True, slots=True)
class Report:
    """The facts of a file. Postgres keeps it as the dict of `to_json`.

    Every field but `bytes`, `errors` and `error_count` is about the good lines, and is complete only without errors.
    """

    bytes: int
    """Bytes of the file as it was sent, with its byte order mark."""
    lines: int
    """Requests: lines that are not blank, good and bad."""
    longest_line: int
    """Bytes of the longest good line, line end included."""
    model: str | None
    """The one `body.model`; None without a good line."""
    urls: Mapping[str, UrlUse]
    index: tuple[int, ...]
    """Where each block begins, in bytes from the start of the file."""
    common: str | None
    """The text that ends in the model in every line (see `manifold.jsonl.common_text`); `None` if a line differs."""
    models: int
    """Values of `body.model` in the file: one for each request, or more where a key is given twice."""
    kept_bytes: int
    """Bytes that a rewrite keeps: all but those values and the byte order mark."""
    errors: tuple[LineError, ...]
    """The first ones, in the order of the lines."""
    error_count: int
    common_last: bool = False
    """Whether `common` names the model in its last copy in each line, not in its first."""
    input_tokens: tuple[int, ...] | None = None
    """The estimated input tokens of each block; None in a report made before estimates."""
    output_tokens: tuple[int, ...] | None = None
    """The same of the maximum output of those requests that state one."""
    output_limits: int | None = None
    """How many requests state their maximum output."""
    firsts: tuple[int, ...] | None = None
    """The number of each block's first request, from 0; None in a report whose blocks have 1,000 requests each."""
    checksums: tuple[int, ...] | None = None
    """The `custom_id_checksum` of each block; None in a report made before checksums."""

    def blocks(self) -> list[Block]:
        """The blocks of a file without errors, in its order. Raises `ValueError` if there are errors."""
        if self.error_count:
            raise ValueError("a file with line errors has no blocks")
        firsts = range(0, self.lines, BLOCK_REQUESTS) if self.firsts is None else self.firsts
        unknown = (None,) * len(firsts)
        columns = (self.input_tokens, self.output_tokens, self.checksums)
        return [
            Block(first, end - first, start, stop - start, *sums)
            for first, end, start, stop, *sums in zip(
                firsts,
                (*firsts[1:], self.lines),
                self.index,
                (*self.index[1:], self.bytes),
                *(unknown if column is None else column for column in columns),
                strict=True,
            )
        ]

    def rewritten_bytes(self, model: str) -> int:
        """The exact bytes of the file that `Rewrite(model)` makes. Raises `ValueError` if there are errors."""
        if self.error_count:
            raise ValueError("a file with line errors is not rewritten")
        return self.kept_bytes + self.models * len(orjson.dumps(model))

    def endpoint_errors(self, endpoint: str) -> list[LineError]:
        """An error for each line whose `url` is another than the batch's endpoint: the first `MAX_ERRORS`, in order."""
        wrong = [[(line, url) for line in use.lines] for url, use in self.urls.items() if url != endpoint]
        return [_url_mismatch(line, url, endpoint) for line, url in islice(merge(*wrong), MAX_ERRORS)]

    def rejected(self, code: str, message: str, param: str) -> "Report":
        """The report of the same file where each good line has this error, too: no model group may run it."""
        numbers = islice(merge(*(use.lines for use in self.urls.values())), MAX_ERRORS)
        added = [LineError(line, code, message, param) for line in numbers]
        errors = sorted([*self.errors, *added], key=lambda error: error.line or 0)[:MAX_ERRORS]
        count = sum(use.count for use in self.urls.values())
        return replace(self, errors=tuple(errors), error_count=self.error_count + count)

    def to_json(self) -> dict[str, Any]:
        """The report as a plain dict of JSON values."""
        return asdict(self) | {"errors": tuple(error._asdict() for error in self.errors)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The report that `to_json` was called on. Members that a later release added are ignored."""
        nested = {
            "urls": {url: UrlUse(use["count"], tuple(use["lines"])) for url, use in value["urls"].items()},
            "index": tuple(value["index"]),
            "errors": tuple(LineError(**error) for error in value["errors"]),
            "input_tokens": _numbers(value.get("input_tokens")),
            "output_tokens": _numbers(value.get("output_tokens")),
            "firsts": _numbers(value.get("firsts")),
            "checksums": _numbers(value.get("checksums")),
        }
        known = {field.name for field in fields(cls)}
        return cls(**{name: member for name, member in {**value, **nested}.items() if name in known})


def _numbers(value: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value)


def _url_mismatch(line: int, url: str, endpoint: str) -> LineError:
    message = f"'url' is {shown(url)}, but the batch's endpoint is {shown(endpoint)}. They must be the same."
    return LineError(line, "url_mismatch", message, "url")
