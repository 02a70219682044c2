"""Reads OpenAI's Batch object, in all forms that providers really send, into a `JobStatus`.

https://platform.openai.com/docs/api-reference/batch/object. Azure's dated versions capitalise the status, leave counts
null, send "" for no file and list under `value`; their specification has `errors.data` as one object and `line` as a
string. Novita writes states in capitals, `PROGRESS` among them, and times as text; Zhipu has the counts beside
`request_counts`. A value that cannot be read counts as absent, except a page without its list.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, get_args

from manifold.errors import ProviderUnclear
from manifold.providers import JobState, JobStatus, LineFailure

STATES: Mapping[str, JobState] = {state: state for state in get_args(JobState)} | {
    "progress": "in_progress",
    "canceling": "cancelling",
    "canceled": "cancelled",
}
REFERENCE = re.compile(r"[!-~]{1,512}")
END_OF_TIME = 253_402_300_800
"""The year 10000, which Postgres accepts and Python does not."""
MAX_COUNT = 10**9
MAX_ERRORS = 100
"""The most errors that are read of a failed job."""
LOST = JobStatus(state="failed", errors=(LineFailure("job_lost", "The provider no longer knows this job."),), lost=True)


def job_status(batch: Mapping[str, Any]) -> JobStatus | None:
    """The job's status, or `None` if the provider's `status` is unknown: then the last known one stands."""
    state = STATES.get(_snake(batch.get("status")))
    if state is None:
        return None
    counts = mapping(batch.get("request_counts")) or batch
    return JobStatus(
        state=state,
        total=count(counts.get("total")),
        completed=count(counts.get("completed")),
        failed=count(counts.get("failed")),
        output_ref=reference(batch.get("output_file_id")),
        error_ref=reference(batch.get("error_file_id")),
        errors=tuple(_failure(error) for error in _errors(batch)),
    )


def listed(page: Mapping[str, Any], *names: str) -> Sequence[Mapping[str, Any]]:
    """The entries of one page of a listing, which are under the first of these names that it has; `null` is no entry.

    `ProviderUnclear` if it has none of them, or no objects there: it does not say that a job is absent.
    """
    entries = next((page[name] for name in names if name in page), "")
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ProviderUnclear("an answer that is no listing")
    return entries


def reference(value: object) -> str | None:
    """A provider's id, if it is printable and short enough for a row and a URL; else `None`."""
    return value if isinstance(value, str) and REFERENCE.fullmatch(value) else None


def id_of(answer: Mapping[str, Any]) -> str:
    """The `id` of an object. `ProviderUnclear` if it has none that can be kept."""
    ref = reference(answer.get("id"))
    if ref is None:
        raise ProviderUnclear("an answer without an id")
    return ref


def unix_time(value: object) -> int | None:
    """Unix seconds from a number, digits or an ISO 8601 time; `None` from anything else. Without a zone it is UTC."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = int(value) if isinstance(value, int | float) else _iso_seconds(value)
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < END_OF_TIME else None


def count(value: object) -> int:
    """A count, limited to 0 … `MAX_COUNT`; 0 for a value that is no whole number.

    Google's APIs, and those made like them, write a whole number as a string.
    """
    if isinstance(value, str) and re.fullmatch("[0-9]{1,19}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return min(max(0, value), MAX_COUNT) if type(value) is int else 0


def _iso_seconds(text: str) -> int:
    if re.fullmatch("[0-9]{9,12}", text):
        return int(text)
    # Azure writes seven digits of a second, one more than Python 3.11 reads.
    moment = datetime.fromisoformat(re.sub(r"\.\d+", "", text))
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _snake(status: object) -> str:
    """`in_progress` from `InProgress` and from itself; `""` from a value that is no text."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", status).lower() if isinstance(status, str) else ""


def _errors(batch: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The entries of `errors`, which may be a list, an object with a list in `data`, one entry, or a text."""
    errors = batch.get("errors") or batch.get("error")
    if isinstance(errors, dict):
        errors = errors.get("data", errors if "message" in errors else None)
    entries = errors if isinstance(errors, list) else [errors]
    return [entry if isinstance(entry, dict) else {"message": entry} for entry in entries[:MAX_ERRORS] if entry]


def _failure(error: Mapping[str, Any]) -> LineFailure:
    return LineFailure(
        code=_text(error.get("code")),
        message=_text(error.get("message")) or "The provider gave no reason.",
        param=_text(error.get("param")),
        line=_line(error.get("line")),
    )


def mapping(value: object) -> Mapping[str, Any]:
    """The object; an empty one for a value that is none."""
    return value if isinstance(value, dict) else {}


def _line(value: object) -> int | None:
    """A line's number, also from a string, as Azure writes it."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value):
        return int(value)
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
