"""The limits that keys, users and teams have alike."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may be used at most; `None` is no limit. Budgets are in US dollars, each `budget_duration` ("30d") anew."""

    rpm_limit: int | None = None
    tpm_limit: int | None = None
    max_parallel_requests: int | None = None
    max_budget: Decimal | None = None
    budget_duration: str | None = None
