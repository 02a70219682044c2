"""How long a request may last."""

import asyncio
import time

import pytest

from completions.api_gateway import MARGIN_SECONDS, deadline
from manifold.dispatch.deadline import SHARE, Cut, TimedOut, cancelled
from manifold.errors import TIMEOUT


def event(seconds_ago: float) -> dict[str, object]:
    return {"requestContext": {"requestTimeEpoch": int((time.time() - seconds_ago) * 1000)}}


async def test_a_deadline_counts_from_the_arrival_at_the_gateway() -> None:
    assert deadline(event(10), 29).left == pytest.approx(19 - MARGIN_SECONDS, abs=0.1)


async def test_without_an_event_a_deadline_counts_from_now() -> None:
    assert deadline(None, 29).left == pytest.approx(29 - MARGIN_SECONDS, abs=0.1)


async def test_a_clock_that_is_behind_gives_no_more_time() -> None:
    assert deadline(event(-60), 29).left == pytest.approx(29 - MARGIN_SECONDS, abs=0.1)


async def test_a_request_that_arrived_too_long_ago_has_no_time_left() -> None:
    assert deadline(event(60), 29).left < 0


async def test_a_deadline_can_be_shortened_but_not_extended() -> None:
    within = deadline(None, 29)

    assert within.within(2).left == pytest.approx(2, abs=0.1)
    assert within.within(100).at == within.within(None).at == within.at


@pytest.mark.parametrize(
    ("own", "others", "callers", "seconds", "code"),
    [
        (None, False, None, 28.0, TIMEOUT),
        (None, True, None, 28 * SHARE, TIMEOUT),
        (5.0, True, None, 5.0, TIMEOUT),
        (5.0, False, None, 5.0, TIMEOUT),
        (600.0, True, None, 28 * SHARE, TIMEOUT),
        (600.0, False, None, 28.0, TIMEOUT),
        (None, True, 0.5, 0.5, "caller_timeout"),
        (5.0, False, 0.5, 0.5, "caller_timeout"),
        (None, False, 20.0, 20.0, "caller_timeout"),
        (None, True, 20.0, 28 * SHARE, TIMEOUT),
        (0.3, True, 0.5, 0.3, TIMEOUT),
    ],
)
async def test_an_attempt_ends_before_its_request_does(
    own: float | None, others: bool, callers: float | None, seconds: float, code: str
) -> None:
    bound = deadline(None, 29).within(callers).bound(own, others=others)

    assert bound.seconds == pytest.approx(seconds, abs=0.1)
    assert bound.passed().code == code


@pytest.mark.parametrize(("own", "code"), [(None, "deadline_exceeded"), (2.0, TIMEOUT), (9.5, "deadline_exceeded")])
async def test_a_deployment_called_late_is_not_to_blame_for_the_deadline(own: float | None, code: str) -> None:
    bound = deadline(event(20), 29).bound(own, others=False)

    assert bound.passed().code == code


def test_the_time_that_passed_decides_whose_failure_a_timeout_is() -> None:
    assert str(TimedOut(1.25)) == "no answer in 1.2 s"
    assert (cancelled(asyncio.CancelledError("outrun")).code, cancelled(asyncio.CancelledError()).code) == (
        "outrun",
        "cancelled",
    )
    assert isinstance(cancelled(asyncio.CancelledError()), Cut)
