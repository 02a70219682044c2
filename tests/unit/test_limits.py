"""The errors when a limit is reached."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from manifold.errors import BudgetExceeded, TooManyRequests
from manifold.limits import LimitedHolder, LimitName, Limits, LimitStatus, limited_holder, refusal

KEY = LimitedHolder("key", "k", Limits(rpm_limit=5, tpm_limit=100, max_parallel_requests=2, max_budget=Decimal("1.50")))
TEAM = LimitedHolder("team", "t", Limits(rpm_limit=9))


def status(one: LimitedHolder, *reached: LimitName) -> LimitStatus:
    return LimitStatus(one.subject, reached, Decimal("1.6"), 42.5)


def test_no_limit_reached_is_no_refusal() -> None:
    assert refusal([KEY, TEAM], [status(TEAM), status(KEY)], 1) is None
    assert refusal([], [], 1) is None


@pytest.mark.parametrize(
    ("limit", "words", "wait"),
    [
        ("rpm_limit", "5 calls a minute (rpm_limit)", 42.5),
        ("tpm_limit", "100 tokens a minute (tpm_limit)", 42.5),
        ("max_parallel_requests", "2 calls at once (max_parallel_requests)", 1.0),
    ],
)
def test_limits_that_have_a_retry_after(limit: LimitName, words: str, wait: float) -> None:
    refused = refusal([KEY], [status(KEY, limit)], 1)

    assert isinstance(refused, TooManyRequests)
    assert f"The key may use {words}." in refused.message
    assert refused.retry_after == wait


def test_a_fan_out_is_told_how_much_it_counts() -> None:
    refused = refusal([KEY], [status(KEY, "rpm_limit")], 5)
    assert refused is not None
    assert "counts as 5. Try again later" in refused.message


@pytest.mark.parametrize(("limit", "calls"), [("rpm_limit", 6), ("max_parallel_requests", 3)])
def test_limits_that_have_no_retry_after(limit: LimitName, calls: int) -> None:
    refused = refusal([KEY], [status(KEY, limit)], calls)
    assert isinstance(refused, TooManyRequests)
    assert f"counts as {calls}. Send fewer in one request" in refused.message


def test_a_budget_comes_before_what_waiting_helps() -> None:
    refused = refusal([KEY], [status(KEY, "max_budget", "rpm_limit")], 1)
    assert isinstance(refused, BudgetExceeded)
    assert "$1.6000 of $1.50." in refused.message


def test_the_first_holder_in_the_way_is_named() -> None:
    refused = refusal([KEY, TEAM], [status(TEAM, "rpm_limit"), status(KEY)], 1)
    assert refused is not None
    assert refused.message.startswith("The team may use 9 calls")


@pytest.mark.parametrize("written", [None, {}, {"rpm_limit": None, "budget_duration": "30d"}])
def test_a_key_without_limits_is_not_limited(written: Mapping[str, Any] | None) -> None:
    assert limited_holder("key", "k", written) == []
    assert limited_holder("user", None, {"rpm_limit": 1}) == []


def test_limits_as_the_store_writes_them() -> None:
    [one] = limited_holder("key", "k", {"rpm_limit": 1, "max_budget": "0.10", "budget_duration": "30d"})

    assert one == LimitedHolder("key", "k", Limits(rpm_limit=1, max_budget=Decimal("0.10"), budget_duration="30d"))
    assert (one.subject, one.period) == ("key:k", 30 * 86_400)
    assert KEY.period is None
