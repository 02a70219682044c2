"""simple-shuffle: order first, then weight, else rpm, else tpm, else evenly."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold.routing import Load, Strategy, choose, first_in_order, simple_shuffle


@dataclass(frozen=True)
class Candidate:
    name: str
    order: int | None = None
    weight: float | None = None
    rpm: int | None = None
    tpm: int | None = None


def draw_shares(candidates: Sequence[Candidate], times: int = 4000) -> dict[str, float]:
    random = Random(7)
    counts = Counter(simple_shuffle(candidates, random).name for _ in range(times))
    return {name: count / times for name, count in counts.items()}


def test_the_lowest_order_comes_first() -> None:
    assert draw_shares(
        [Candidate("a", order=2), Candidate("b", order=1), Candidate("c", order=1, weight=0)]
    ).keys() == {
        "b",
        "c",
    }


def test_without_an_order_comes_last() -> None:
    assert [candidate.name for candidate in first_in_order([Candidate("a"), Candidate("b", order=9)])] == ["b"]


def test_weights_are_kept() -> None:
    shares = draw_shares([Candidate("a", weight=3, rpm=1), Candidate("b", weight=1, rpm=1000)])
    assert shares["a"] == pytest.approx(0.75, abs=0.03)


def test_rpm_counts_where_no_weight_is_set_and_tpm_where_no_rpm_is() -> None:
    assert draw_shares([Candidate("a", rpm=9, tpm=1), Candidate("b", rpm=1, tpm=9)])["a"] == pytest.approx(
        0.9, abs=0.03
    )
    assert draw_shares([Candidate("a", tpm=1), Candidate("b", tpm=4)])["b"] == pytest.approx(0.8, abs=0.03)


def test_one_that_lacks_the_weight_is_not_drawn() -> None:
    assert draw_shares([Candidate("a", weight=1), Candidate("b")]) == {"a": 1.0}


def test_evenly_where_nothing_is_set() -> None:
    assert draw_shares([Candidate("a"), Candidate("b")])["a"] == pytest.approx(0.5, abs=0.03)


def test_an_empty_choice_is_an_error() -> None:
    with pytest.raises(ValueError, match="no deployment"):
        simple_shuffle([], Random())


@dataclass(frozen=True)
class Identified(Candidate):
    @property
    def id(self) -> str:
        return self.name


def chosen(strategy: Strategy, candidates: Sequence[Identified], loads: dict[str, Load]) -> set[str | None]:
    """The candidates that are chosen in many draws."""
    choices = [choose(strategy, candidates, loads, Random(seed)) for seed in range(50)]
    return {None if one is None else one.name for one in choices}


A, B, C = Identified("a"), Identified("b"), Identified("c")


def test_least_busy_is_the_one_with_the_fewest_calls_under_way() -> None:
    assert chosen("least-busy", [A, B, C], {"a": Load(busy=2), "b": Load(busy=1), "c": Load(busy=1)}) == {"b", "c"}


def test_latency_is_measured_before_it_is_compared() -> None:
    assert chosen("latency-based-routing", [A, B], {"a": Load(latency=0.1), "b": Load(latency=0.2)}) == {"a"}
    assert chosen("latency-based-routing", [A, B], {"a": Load(latency=0.1)}) == {"b"}


def test_the_cheapest_is_one_whose_price_is_known() -> None:
    assert chosen("cost-based-routing", [A, B, C], {"a": Load(cost=3), "b": Load(cost=2)}) == {"b"}
    assert chosen("cost-based-routing", [A, B], {}) == {"a", "b"}


@pytest.mark.parametrize("strategy", ["usage-based-routing", "usage-based-routing-v2"])
class TestUsage:
    def test_the_fewest_tokens_count(self, strategy: Strategy) -> None:
        assert chosen(strategy, [A, B], {"a": Load(tokens=9), "b": Load(tokens=8, requests=99)}) == {"b"}

    def test_a_full_deployment_is_not_chosen(self, strategy: Strategy) -> None:
        full, room = Identified("a", rpm=2, tpm=50), Identified("b", rpm=2, tpm=50)
        loads = {"b": Load(requests=1, tokens=49)}
        assert chosen(strategy, [full, room], loads | {"a": Load(requests=2)}) == {"b"}
        assert chosen(strategy, [full, room], loads | {"a": Load(tokens=50)}) == {"b"}
        assert chosen(strategy, [full], {"a": Load(requests=2)}) == {None}

    def test_the_next_order_takes_what_the_first_has_no_room_for(self, strategy: Strategy) -> None:
        first, second = Identified("a", order=1, rpm=1), Identified("b", order=2)
        assert chosen(strategy, [first, second], {}) == {"a"}
        assert chosen(strategy, [first, second], {"a": Load(requests=1)}) == {"b"}


loads_of = st.builds(Load, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.none() | st.floats(0.1, 5))
candidates_of = st.builds(
    Identified, st.sampled_from("abcdef"), st.none() | st.integers(0, 2), rpm=st.none() | st.integers(1, 5)
)


@given(
    st.sampled_from(get_args(Strategy)),
    st.lists(candidates_of, min_size=1, max_size=6, unique_by=lambda one: one.name),
    st.dictionaries(st.sampled_from("abcdef"), loads_of),
    st.integers(),
)
def test_who_is_chosen_comes_first_in_order_of_those_with_room(
    strategy: Strategy, candidates: list[Identified], loads: dict[str, Load], seed: int
) -> None:
    choice = choose(strategy, candidates, loads, Random(seed))

    if strategy.startswith("usage"):
        candidates = [one for one in candidates if one.rpm is None or loads.get(one.id, Load()).requests < one.rpm]
    assert (choice is None) == (not candidates)
    assert choice is None or choice in first_in_order(candidates)
