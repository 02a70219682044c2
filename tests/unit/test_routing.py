"""simple-shuffle: order first, then weight, else rpm, else tpm, else evenly."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import pytest

from manifold.routing import first_in_order, simple_shuffle


@dataclass(frozen=True)
class Outlet:
    name: str
    order: int | None = None
    weight: float | None = None
    rpm: int | None = None
    tpm: int | None = None


def drawn(candidates: Sequence[Outlet], times: int = 4000) -> dict[str, float]:
    random = Random(7)
    counts = Counter(simple_shuffle(candidates, random).name for _ in range(times))
    return {name: count / times for name, count in counts.items()}


def test_the_lowest_order_comes_first() -> None:
    assert drawn([Outlet("a", order=2), Outlet("b", order=1), Outlet("c", order=1, weight=0)]).keys() == {"b", "c"}


def test_without_an_order_comes_last() -> None:
    assert [outlet.name for outlet in first_in_order([Outlet("a"), Outlet("b", order=9)])] == ["b"]


def test_weights_are_kept() -> None:
    shares = drawn([Outlet("a", weight=3, rpm=1), Outlet("b", weight=1, rpm=1000)])
    assert shares["a"] == pytest.approx(0.75, abs=0.03)


def test_rpm_counts_where_no_weight_is_set_and_tpm_where_no_rpm_is() -> None:
    assert drawn([Outlet("a", rpm=9, tpm=1), Outlet("b", rpm=1, tpm=9)])["a"] == pytest.approx(0.9, abs=0.03)
    assert drawn([Outlet("a", tpm=1), Outlet("b", tpm=4)])["b"] == pytest.approx(0.8, abs=0.03)


def test_one_that_lacks_the_weight_is_not_drawn() -> None:
    assert drawn([Outlet("a", weight=1), Outlet("b")]) == {"a": 1.0}


def test_evenly_where_nothing_is_set() -> None:
    assert drawn([Outlet("a"), Outlet("b")])["a"] == pytest.approx(0.5, abs=0.03)


def test_nothing_to_choose_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="no deployment"):
        simple_shuffle([], Random())
