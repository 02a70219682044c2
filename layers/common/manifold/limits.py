"""Limits of keys, users and teams, and the error when one is reached. Pure, without clock or I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple, get_args

from manifold import durations
from manifold.errors import BudgetExceeded, ManifoldError, TooManyRequests

PARALLEL_WAIT = 1.0
"""Seconds of `Retry-After` at `max_parallel_requests`: another call may have ended by then."""
_WORDS = {
    "rpm_limit": "calls a minute",
    "tpm_limit": "tokens a minute",
    "max_parallel_requests": "calls at once",
}
_OF_CALLS = frozenset({"rpm_limit", "max_parallel_requests"})
"""Limits that a single request can exceed, however long it waits."""

Holder = Literal["key", "user", "team"]
OverLimit = Literal["refuse", "wait"]
"""What becomes of a batch for which a limit has no room: its create is refused, or it waits until others have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that may be used; `None`: no limit. `max_budget` is in US dollars for each `budget_duration` ("30d")."""

    rpm_limit: int | None = None
    tpm_limit: int | None = None
    max_parallel_requests: int | None = None
    max_budget: Decimal | None = None
    budget_duration: str | None = None
    batch_enqueued_token_limit: int | None = None
    """Estimated input tokens of all open batches."""
    batch_enqueued_request_limit: int | None = None
    """Requests of all open batches."""
    batch_over_limit: OverLimit = "refuse"


class LimitedHolder(NamedTuple):
    """A key, user or team that has a limit."""

    holder: Holder
    id: str
    limits: Limits

    @property
    def subject(self) -> str:
        """The key of its row in `meters`: `team:team_…`."""
        return f"{self.holder}:{self.id}"

    @property
    def period(self) -> float | None:
        """Seconds after which the budget renews; `None`: never."""
        duration = self.limits.budget_duration
        return durations.parse(duration).total_seconds() if duration else None


LimitName = Literal["max_budget", "rpm_limit", "tpm_limit", "max_parallel_requests"]
_NAMES: tuple[LimitName, ...] = get_args(LimitName)
_BATCH_NAMES = ("max_budget", "batch_enqueued_token_limit", "batch_enqueued_request_limit")


class LimitStatus(NamedTuple):
    """How far a holder has used its limits when it requests calls."""

    subject: str
    reached: Sequence[LimitName]
    """The limits that refuse these calls."""
    spent: Decimal
    """US dollars since the budget's period began."""
    minute_left: float
    """Seconds to the next minute."""


def limited_holder(holder: Holder, holder_id: str | None, written: Mapping[str, Any] | None) -> list[LimitedHolder]:
    """The holder with its limits of completions, of what the store returns (`Allowance.limits`); empty without any."""
    return _limited(holder, holder_id, written, _NAMES, ("budget_duration",))


def batch_limited_holder(
    holder: Holder, holder_id: str | None, written: Mapping[str, Any] | None
) -> list[LimitedHolder]:
    """The same with its limits of batches."""
    return _limited(holder, holder_id, written, _BATCH_NAMES, ("budget_duration", "batch_over_limit"))


def _limited(
    holder: Holder,
    holder_id: str | None,
    written: Mapping[str, Any] | None,
    names: Sequence[str],
    settings: Sequence[str],
) -> list[LimitedHolder]:
    if holder_id is None or written is None or all(written.get(name) is None for name in names):
        return []
    members = {name: written[name] for name in (*names, *settings) if name in written}
    budget = members.get("max_budget")
    return [LimitedHolder(holder, holder_id, Limits(**members | {"max_budget": budget and Decimal(budget)}))]


def refusal(limited: Sequence[LimitedHolder], statuses: Sequence[LimitStatus], calls: int) -> ManifoldError | None:
    """The error for these calls by the first limit that is reached, in the order of `limited`; `None`: admitted."""
    reached = {status.subject: status for status in statuses if status.reached}
    for one in limited:
        if one.subject in reached:
            return _refusal(one, reached[one.subject], calls)
    return None


def _refusal(one: LimitedHolder, status: LimitStatus, calls: int) -> ManifoldError:
    limit = status.reached[0]
    if limit == "max_budget":
        return _over_budget(one, status)
    wait = PARALLEL_WAIT if limit == "max_parallel_requests" else status.minute_left
    most: int = getattr(one.limits, limit)
    counted = "" if calls == 1 else f" This request counts as {calls}."
    remedy = "Send fewer in one request" if limit in _OF_CALLS and calls > most else "Try again later"
    message = f"The {one.holder} may use {most} {_WORDS[limit]} ({limit}).{counted} {remedy}, or ask an admin for more."
    return TooManyRequests(message, retry_after=wait)


def _over_budget(one: LimitedHolder, status: LimitStatus) -> ManifoldError:
    every = f" each {one.limits.budget_duration}" if one.limits.budget_duration else ""
    return BudgetExceeded(
        f"The budget of the {one.holder} is used up: ${status.spent:.4f} of ${one.limits.max_budget}{every}. "
        "Ask an admin for more."
    )
