"""Whose fault it is that a job failed at its provider, minutes or hours after it was accepted.

The provider's own fault, such as a quota, opens the next attempt; the input's ends the shard with its errors; one of
unknown kind gets one more attempt, elsewhere.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from manifold.provider_errors import QUOTA_CODES
from manifold.providers import JobStatus, LineFailure
from manifold.store.batches import Outcome
from manifold.store.job_changes import Fault

_PROVIDER_CODES = QUOTA_CODES | {
    "capacity",
    "capacity_exceeded",
    "insufficient_quota",
    "internal_error",
    "internal_server_error",
    "overloaded",
    "rate_limit_exceeded",
    "server_error",
    "service_unavailable",
    "timeout",
    "unavailable",
}
_INPUT_CODES = frozenset(
    {
        "duplicate_custom_id",
        "empty_batch",
        "empty_file",
        "invalid_endpoint",
        "invalid_json_line",
        "invalid_method",
        "invalid_request",
        "invalid_request_error",
        "invalid_url",
        "mismatched_model",
        "missing_custom_id",
        "missing_required_parameter",
        "model_mismatch",
        "too_many_tasks",
        "unknown_parameter",
        "unsupported_parameter",
        "url_mismatch",
    }
)


def fault_of(status: JobStatus, outcome: Outcome, *, cancelled_by_us: bool, rescued: bool = False) -> Fault | None:
    """Whose fault the end of a job was; `None` where it is none: it completed, expired, or was cancelled for us.

    `rescued`: the gateway runs what it has not answered, as after a fault of the provider.
    """
    if rescued and outcome in ("cancelled", "expired"):
        return "provider"
    if outcome == "cancelled":
        return None if cancelled_by_us else "unknown"
    if outcome != "failed":
        return None
    if any(_is_of_input(error) for error in status.errors):
        return "input"
    return "provider" if any(error.code in _PROVIDER_CODES for error in status.errors) else "unknown"


def is_quota(errors: Iterable[Mapping[str, Any]] | None) -> bool:
    """Whether a job failed because the deployment's quota was used up, which waiting changes."""
    return any(error.get("code") in QUOTA_CODES for error in errors or ())


def _is_of_input(error: LineFailure) -> bool:
    return error.line is not None or error.code in _INPUT_CODES
