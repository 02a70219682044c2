"""The bases of response bodies: an object with an id, and a page of a list as OpenAI has it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item", bound="HasId")


def unix_time(time: datetime | None) -> int | None:
    """A time as OpenAI's objects have it: whole seconds."""
    return None if time is None else int(time.timestamp())


def carried_bytes(content: bytes) -> int:
    """The bytes that a body takes within Lambda's response, which is JSON: these characters are escaped there."""
    return len(content) + content.count(b'"') + content.count(b"\\") + content.count(b"\n")


class ResponseModel(BaseModel):
    """Base of response bodies. A validator is built at its first use, as a request needs one or two of many."""

    model_config = ConfigDict(defer_build=True)


class HasId(ResponseModel):
    id: str


class Page(ResponseModel, Generic[Item]):
    """A page of a list. `after=last_id` requests the next page."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False

    @classmethod
    def of(cls, items: Sequence[Item], limit: int) -> "Page[Item]":
        """The page of the first `limit` items; an item beyond them, which callers query for, sets `has_more`."""
        shown = list(items[:limit])
        return cls(
            data=shown,
            first_id=shown[0].id if shown else None,
            last_id=shown[-1].id if shown else None,
            has_more=len(items) > limit,
        )
