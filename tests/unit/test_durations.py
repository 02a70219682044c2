"""Durations of keys and budgets, as they are written."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold import durations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
        ("2w", timedelta(weeks=2)),
        ("1mo", timedelta(days=30)),
        ("36500d", timedelta(days=36_500)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, expected: timedelta) -> None:
    assert durations.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "30", "d", "0d", "-1d", "1.5h", "1y", " 1d", "1d\n", "1D", "٣d", "36501d", "9" * 40 + "s", 30, None]
)
def test_anything_else_is_refused_with_help(text: object) -> None:
    with pytest.raises(ValueError, match="'30d'"):
        durations.parse(text)


@given(st.integers(1, 36_500))
def test_days_are_days(days: int) -> None:
    assert durations.parse(f"{days}d") == timedelta(days=days)
