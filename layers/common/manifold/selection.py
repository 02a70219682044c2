"""Which lines of a batch a shard or an input has, and how a column of the database holds it."""

import re
from typing import NamedTuple, Self

_TEXT = re.compile(r"(?P<first>\d+)-(?P<last>\d+)|lines:(?P<object>[\w-]+)", re.ASCII)


class Selection(NamedTuple):
    """All requests of a batch's file, a range of them, or the lines of another object.

    Its text is `''`, `'<first>-<last>'`, both inclusive and counted from 0, or `'lines:<id>'`.
    """

    first: int = 0
    """The number of the first request."""
    requests: int | None = None
    """How many there are; `None` where all are selected."""
    object_id: str | None = None
    """The object whose lines these are, all of them; `None` for the file itself."""

    @classmethod
    def all(cls) -> Self:
        """Each request of the file."""
        return cls()

    @classmethod
    def range(cls, first: int, requests: int) -> Self:
        """So many requests from this one on. Raises `ValueError` if there are none."""
        if first < 0 or requests < 1:
            raise ValueError("a range has a request")
        return cls(first, requests)

    @classmethod
    def lines(cls, object_id: str) -> Self:
        """The lines of the object with this id. Raises `ValueError` if it is none."""
        return cls.parse(f"lines:{object_id}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The selection with this text. Raises `ValueError` for any other text."""
        if not text:
            return cls.all()
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no selection")
        if match["object"]:
            return cls(object_id=match["object"])
        first = int(match["first"])
        return cls.range(first, int(match["last"]) + 1 - first)

    def __str__(self) -> str:
        if self.object_id is not None:
            return f"lines:{self.object_id}"
        return "" if self.requests is None else f"{self.first}-{self.first + self.requests - 1}"
