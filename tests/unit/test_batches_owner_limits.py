"""What the limits of key, user and team for batches say of one batch."""

from decimal import Decimal

import pytest

from batches.owner_limits import Need, over_budget, refusal, shortages, too_large
from manifold.limits import LimitedHolder, Limits, LimitStatus
from manifold.store.reservations import Outstanding

NEED = Need(tokens=100, requests=10)


def holder(**limits: object) -> LimitedHolder:
    return LimitedHolder("team", "blue", Limits(**limits))  # type: ignore[arg-type]


def holding(
    tokens: int = 0, requests: int = 0, *, cost: str = "0", waiting: int = 0, first_end: float | None = 7_260.0
) -> dict[str, Outstanding]:
    return {"team:blue": Outstanding("team:blue", tokens, requests, Decimal(cost), waiting, first_end)}


@pytest.mark.parametrize(
    ("limits", "held", "units"),
    [
        ({"batch_enqueued_token_limit": 200}, holding(tokens=100, requests=10**9), []),
        ({"batch_enqueued_token_limit": 199}, holding(tokens=100), ["token"]),
        ({"batch_enqueued_request_limit": 20}, holding(tokens=10**9, requests=10), []),
        ({"batch_enqueued_request_limit": 19}, holding(requests=10), ["request"]),
        ({"batch_enqueued_token_limit": 1_000, "batch_enqueued_request_limit": 19}, holding(1, 10), ["request"]),
        ({"batch_enqueued_token_limit": 100, "batch_enqueued_request_limit": 10}, holding(1, 1), ["token", "request"]),
        ({"batch_enqueued_token_limit": 10**6}, holding(waiting=1), ["token"]),
        ({"max_budget": Decimal(1)}, holding(10**9, 10**9, waiting=1), []),
    ],
)
def test_which_limits_have_no_room(limits: dict[str, object], held: dict[str, Outstanding], units: list[str]) -> None:
    assert [short.unit for short in shortages([holder(**limits)], held, NEED)] == units


@pytest.mark.parametrize(("over_limit", "refuses"), [("refuse", True), ("wait", False)])
def test_the_holder_says_whether_its_limit_refuses(over_limit: str, refuses: bool) -> None:
    limited = holder(batch_enqueued_token_limit=0, batch_over_limit=over_limit)
    assert [short.refuses for short in shortages([limited], holding(), NEED)] == [refuses]


@pytest.mark.parametrize(
    ("first_end", "words", "retry_after"),
    [
        (7_260.0, "when one of them has ended, at the latest in 2 h 1 min, when", 300.0),
        (90.0, "at the latest in 2 min, when", 90.0),
        (-5.0, "at the latest in 1 min, when", 1.0),
        (None, "when one of them has ended. Try", 300.0),
    ],
)
def test_a_refusal_says_when_there_may_be_room(first_end: float | None, words: str, retry_after: float) -> None:
    held = holding(tokens=100, first_end=first_end)
    [short] = shortages([holder(batch_enqueued_token_limit=100)], held, NEED)

    refused = refusal(short)

    assert words in refused.message
    assert refused.retry_after == retry_after


def test_a_batch_as_large_as_the_limit_is_possible() -> None:
    limited = [holder(batch_enqueued_token_limit=100, batch_enqueued_request_limit=10)]

    assert too_large(limited, NEED) is None
    assert too_large(limited, Need(101, 10)) is not None
    assert too_large(limited, Need(100, 11)) is not None


@pytest.mark.parametrize(
    ("spent", "reserved", "cost", "refused"),
    [
        ("0", "0", "1.5", False),
        ("0.5", "0.5", "0.5", False),
        ("0.5", "0.5", "0.500001", True),
        ("1.4", "0.2", None, True),
        ("1.4", "0.1", None, False),
    ],
)
def test_a_budget_covers_what_is_spent_reserved_and_estimated(
    spent: str, reserved: str, cost: str | None, refused: bool
) -> None:
    limited = [holder(max_budget=Decimal("1.5"))]
    statuses = [LimitStatus("team:blue", [], Decimal(spent), 1.0)]
    need = Need(1, 1, cost and Decimal(cost), with_output=True)  # type: ignore[arg-type]

    exceeded = over_budget(limited, statuses, holding(cost=reserved), need)

    assert (exceeded is not None) == refused


def test_small_amounts_are_not_shown_as_nothing() -> None:
    statuses = [LimitStatus("team:blue", [], Decimal(0), 1.0)]
    need = Need(1, 1, Decimal("0.0000123"), with_output=True)

    exceeded = over_budget([holder(max_budget=Decimal("0.00001"))], statuses, holding(), need)

    assert exceeded is not None
    assert "estimated at $0.000012. Wait" in exceeded.message
