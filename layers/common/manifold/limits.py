"""Limits of keys, users and teams, and the error when one is reached. Pure, without clock or I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal, get_args

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that may be used; `None`: no limit. `max_budget` is in US dollars for each `budget_duration` ("30d")."""

    rpm_limit: int | None = None
    tpm_limit: int | None = None
    max_parallel_requests: int | None = None
    max_budget: Decimal | None = None
    budget_duration: str | None = None


@dataclass(frozen=True, slots=True)
class LimitedHolder:
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


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """How far a holder has used its limits when it requests calls."""

    subject: str
    reached: Sequence[LimitName]
    """The limits that refuse these calls."""
    spent: Decimal
    """US dollars since the budget's period began."""
    minute_left: float
    """Seconds to the next minute."""


def limited_holder(holder: Holder, holder_id: str | None, written: Mapping[str, Any] | None) -> list[LimitedHolder]:
    """The holder with its limits as the store returns them (`Allowance.limits`); empty if it has none."""
    if holder_id is None or written is None or all(written.get(name) is None for name in _NAMES):
        return []
    budget = written.get("max_budget")
    return [
        LimitedHolder(
            holder, holder_id, Limits(**{**written, "max_budget": None if budget is None else Decimal(budget)})
        )
    ]


def budgets(limited: Sequence[LimitedHolder]) -> list[LimitedHolder]:
    """Those that have a budget, with no other limit."""
    return [
        replace(one, limits=Limits(max_budget=one.limits.max_budget, budget_duration=one.limits.budget_duration))
        for one in limited
        if one.limits.max_budget is not None
    ]


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
