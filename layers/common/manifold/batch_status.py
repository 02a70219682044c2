"""A batch's status, the events of its end, and its errors, as its row and OpenAI's object have them."""

from typing import Any, Literal, get_args

BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
EventType = Literal["batch.completed", "batch.failed", "batch.expired", "batch.cancelled"]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
"""The events of batches."""

ErrorEntry = dict[str, Any]
"""An entry of a batch's `errors.data`, as Postgres keeps it: the members of `BatchError`."""


def batch_error(code: str | None, message: str, *, param: str | None = None, line: int | None = None) -> ErrorEntry:
    """An entry of `errors.data`. `line` is the number of the input's line that it is about, from 1."""
    return {"code": code, "message": message, "param": param, "line": line}
