"""What the batches of Google's APIs have in common: pages (AIP-158), errors (AIP-193) and the states of jobs.

https://google.aip.dev/158, https://google.aip.dev/193
"""

import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from manifold.errors import ProviderRefused
from manifold.provider_errors import GENERIC_CODES, QUOTA, STATUS_OF_TYPE
from manifold.providers import JobState, LineFailure, listings
from manifold.providers.batch_lines import LineResult
from manifold.providers.error_patterns import prompt_error_code
from manifold.providers.failures import read_object
from manifold.providers.openai.batch_object import count, unix_time

STATES: Mapping[str, JobState] = {
    "QUEUED": "validating",
    "PENDING": "validating",
    "RUNNING": "in_progress",
    "UPDATING": "in_progress",
    "PAUSED": "in_progress",
    "SUCCEEDED": "completed",
    "PARTIALLY_SUCCEEDED": "completed",
    "FAILED": "failed",
    "CANCELLING": "cancelling",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}
CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""The names of `google.rpc.Code`, by its numbers."""
HTTP: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ABORTED": 409, "ALREADY_EXISTS": 409, "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
}  # fmt: skip
"""The HTTP status of each name; any other is a 500."""
JOB_CODES: Mapping[str, str] = {
    "INVALID_ARGUMENT": "invalid_request",
    "RESOURCE_EXHAUSTED": QUOTA,
    "INTERNAL": "internal_error",
    "UNAVAILABLE": "unavailable",
    "DEADLINE_EXCEEDED": "timeout",
    "UNAUTHENTICATED": "invalid_api_key",
    "PERMISSION_DENIED": "invalid_api_key",
}
"""The code of a failed job's error, where OpenAI has one."""
_NAME = re.compile(rf"\b(?:{'|'.join(CODES[1:])})\b")


def pages(page: listings.Page, member: str) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    """The entries in `member` of each page of a listing. Google leaves out what is empty."""
    return listings.pages(page, member, listings.by_token("pageToken", "nextPageToken"), optional=True)


def job_state(value: object) -> JobState | None:
    """The state that `JOB_STATE_…` or `BATCH_STATE_…` says; `None` for an unknown one."""
    return STATES.get(value.partition("_STATE_")[2]) if isinstance(value, str) else None


def number(value: object) -> int:
    """A count, which Google's JSON has as a string. 0 for what is no count, such as the -1 of an unknown one."""
    return count(int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value) else value)


def created_at(value: object) -> int:
    """The time of an answer in Unix seconds: now, where the provider does not say it."""
    return unix_time(value) or int(time.time())


def with_quota(refusal: ProviderRefused) -> ProviderRefused:
    """The refusal of a create, with the code that a full quota has at OpenAI."""
    if refusal.status == HTTP["RESOURCE_EXHAUSTED"]:
        refusal.code = QUOTA
    return refusal


def job_failures(error: object) -> tuple[LineFailure, ...]:
    """The error of a job, if it has one."""
    if not isinstance(error, dict) or not error:
        return ()
    name, _, message = _read(error)
    return (LineFailure(JOB_CODES.get(name, name.lower() or None), message),)


def refused(request_id: str, error: object) -> LineResult:
    """The result of a request that failed, by its `google.rpc.Status`, or by a text that may hold one as JSON."""
    name, status, message = _read(error)
    code = prompt_error_code(status, name, message)
    if code is not None:
        return LineResult.refused(request_id, message, status=400, code=code)
    return LineResult.refused(request_id, message, status=status, code=None if name in GENERIC_CODES else name or None)


def _read(error: object) -> tuple[str, int, str]:
    """The name, the HTTP status and the message of an error."""
    text = error if isinstance(error, str) else ""
    if text:
        error = read_object(text[text.find("{") : text.rfind("}") + 1].encode(errors="replace"))
    detail = error.get("error", error) if isinstance(error, dict) else {}
    detail = detail if isinstance(detail, dict) else {}
    message = detail.get("message")
    message = message if isinstance(message, str) and message else text or "The provider gave no reason."
    code = detail.get("code")
    name = str(detail.get("status") or "")
    if name not in CODES:
        found = _NAME.search(text)
        name = CODES[code] if type(code) is int and 0 < code < len(CODES) else found[0] if found else ""
    status = HTTP.get(name) or STATUS_OF_TYPE.get(str(detail.get("type")), 500)  # the type is Anthropic's
    status = code if type(code) is int and 400 <= code <= 599 else status
    return name, status, message
