"""How long a request may last."""

import time

import pytest

from completions.deadline import MARGIN_SECONDS, Deadline


def event(seconds_ago: float) -> dict[str, object]:
    return {"requestContext": {"requestTimeEpoch": int((time.time() - seconds_ago) * 1000)}}


async def test_it_is_counted_from_the_arrival_at_the_gateway() -> None:
    assert Deadline.of(event(10), 29).left == pytest.approx(19 - MARGIN_SECONDS, abs=0.1)


async def test_without_an_event_from_now() -> None:
    assert Deadline.of(None, 29).left == pytest.approx(29 - MARGIN_SECONDS, abs=0.1)


async def test_a_clock_that_is_behind_gives_no_more_time() -> None:
    assert Deadline.of(event(-60), 29).left == pytest.approx(29 - MARGIN_SECONDS, abs=0.1)


async def test_what_came_too_long_ago_has_none_left() -> None:
    assert Deadline.of(event(60), 29).left < 0


async def test_it_can_be_shortened_and_not_put_off() -> None:
    deadline = Deadline.of(None, 29)

    assert deadline.within(2).left == pytest.approx(2, abs=0.1)
    assert deadline.within(100).at == deadline.within(None).at == deadline.at
