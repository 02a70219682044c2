"""What the limits of key, user and team for batches say of one batch, and the errors when they refuse it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from manifold.errors import BudgetExceeded, InvalidRequest, TooManyRequests
from manifold.limits import LimitedHolder, LimitStatus
from manifold.store.reservations import Outstanding

RETRY_SECONDS = 300.0
"""Longest `Retry-After` of a refused create: most batches end long before their window does."""


class Need(NamedTuple):
    """What one batch takes of its owners' limits until it has ended."""

    tokens: int
    requests: int
    cost: Decimal | None = None
    """US dollars; `None` where no price is known."""
    with_output: bool = False
    """Whether the cost has the output, too: only if every line states its maximum."""


class Shortage(NamedTuple):
    """A limit that has no room for a batch now."""

    holder: LimitedHolder
    unit: str
    limit: int
    need: int
    held: int
    """What the holder's open batches hold of it."""
    waiting: int
    """Batches that wait for it already."""
    first_end: float | None
    """Seconds to the end of the first completion window of these open batches."""

    @property
    def refuses(self) -> bool:
        return self.holder.limits.batch_over_limit == "refuse"


def too_large(limited: Sequence[LimitedHolder], need: Need) -> InvalidRequest | None:
    """The error for a batch that a limit can never take; `None`: each limit can."""
    for one in limited:
        for unit, limit, needed in _limits(one, need):
            if needed > limit:
                return InvalidRequest(
                    f"The batch requires {needed} {unit}s. All open batches of the {one.holder} may have {limit}"
                    f" (batch_enqueued_{unit}_limit). Split the file, or ask an admin for more.",
                    param="input_file_id",
                    code="batch_enqueued_token_limit" if unit == "token" else "batch_enqueued_request_limit",
                )
    return None


def over_budget(
    limited: Sequence[LimitedHolder],
    statuses: Sequence[LimitStatus],
    outstanding: Mapping[str, Outstanding],
    need: Need,
) -> BudgetExceeded | None:
    """The error for a batch that, with what was spent and what open batches reserve, exceeds a budget."""
    spent = {status.subject: status.spent for status in statuses}
    for one in limited:
        budget, used, reserved = one.limits.max_budget, spent[one.subject], outstanding[one.subject].cost
        if budget is not None and used + reserved + (need.cost or 0) > budget:
            every = f" each {one.limits.budget_duration}" if one.limits.budget_duration else ""
            return BudgetExceeded(
                f"The batch would exceed the budget of the {one.holder}, ${budget}{every}: {_dollars(used)} are spent,"
                f" open batches reserve {_dollars(reserved)}, and this one is estimated at {_estimate(need)}."
                " Wait until open batches have ended, send fewer lines, or ask an admin for more."
            )
    return None


def shortages(
    limited: Sequence[LimitedHolder], outstanding: Mapping[str, Outstanding], need: Need
) -> Iterator[Shortage]:
    """The limits that have no room for a batch now, in the order of `limited`.

    Where others wait before it, a limit has none: first come, first served.
    """
    for one in limited:
        held = outstanding[one.subject]
        for unit, limit, needed in _limits(one, need):
            of_unit = held.tokens if unit == "token" else held.requests
            if held.waiting or of_unit + needed > limit:
                yield Shortage(one, unit, limit, needed, of_unit, held.waiting, held.first_end)


def refusal(short: Shortage) -> TooManyRequests:
    """The error for a batch that a limit has no room for now."""
    unit, before = short.unit, ""
    if short.waiting:
        before = f" {short.waiting} other batches wait for it already."
    when = ""
    if short.first_end is not None:
        when = f", at the latest in {_hours(short.first_end)}, when the first completion window is over"
    return TooManyRequests(
        f"Batch enqueued {unit} limit exceeded for the {short.holder.holder}. Batch requires {short.need} {unit}s, but"
        f" open batches hold {short.held} of {short.limit} (batch_enqueued_{unit}_limit).{before} There may be room"
        f" when one of them has ended{when}. Try again then, or ask an admin for more.",
        code="batch_enqueued_token_limit" if unit == "token" else "batch_enqueued_request_limit",
        retry_after=min(RETRY_SECONDS, max(1.0, short.first_end or RETRY_SECONDS)),
    )


def _limits(one: LimitedHolder, need: Need) -> Iterator[tuple[str, int, int]]:
    """Unit, limit and what the batch needs of it, for each limit that the holder has."""
    if one.limits.batch_enqueued_token_limit is not None:
        yield "token", one.limits.batch_enqueued_token_limit, need.tokens
    if one.limits.batch_enqueued_request_limit is not None:
        yield "request", one.limits.batch_enqueued_request_limit, need.requests


def _estimate(need: Need) -> str:
    if need.cost is None:
        return "nothing, as no price is known"
    return _dollars(need.cost) + (
        "" if need.with_output else " without its output, as lines do not state their maximum"
    )


def _dollars(amount: Decimal) -> str:
    return f"${amount:.4f}" if not amount or amount >= Decimal("0.01") else f"${amount:.2g}"


def _hours(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
