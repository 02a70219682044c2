"""The usage and cost of a job's results: each line by itself, and the sums."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from files.transfers.result_usage import LinePrices, ResultUsage, cost, summed, tokens_of
from manifold.jsonl.result import Result
from manifold.prices import Prices, Tokens
from tests.support.deployments import deployment

MINI = replace(deployment("one"), model="gpt-4o-mini")
"""In batches 0.075 dollars for a million tokens of input, and 0.30 for one of output."""
LONG = replace(deployment("long", provider="gemini"), model="gemini-2.5-pro")


def usage_of(*usages: Mapping[str, Any], prices: LinePrices, failed: bool = False) -> ResultUsage:
    made = ResultUsage()
    for number, usage in enumerate(usages):
        made.add(Result(str(number), failed, False, False, usage, ()), prices)
    return made


def openai() -> LinePrices:
    return LinePrices("openai", Prices().tariff(MINI, batch=True))


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({}, Tokens(0, 0)),
        ({"prompt_tokens": 9}, Tokens(9, 0)),
        ({"completion_tokens": 9}, Tokens(0, 9)),
        ({"total_tokens": 9}, Tokens(9, 0)),
        ({"completion_tokens": 4, "total_tokens": 9}, Tokens(5, 4)),
        ({"output_tokens": 9, "total_tokens": 4}, Tokens(0, 9)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 12}}, Tokens(9, 0, cached=9)),
        ({"prompt_tokens_details": {"cached_tokens": 12}}, Tokens(0, 0)),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 12}},
            Tokens(9, 0, cached=4, written=5),
        ),
        (
            {"completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 9}},
            Tokens(0, 4, reasoning=4),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 4,
                "total_tokens": 14,
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Tokens(10, 4, reasoning=3),
        ),
        (  # as xAI counts
            {
                "prompt_tokens": 10,
                "completion_tokens": 4,
                "total_tokens": 314,
                "completion_tokens_details": {"reasoning_tokens": 300},
            },
            Tokens(10, 304, reasoning=300),
        ),
    ],
)
def test_the_tokens_of_a_line(usage: dict[str, Any], tokens: Tokens) -> None:
    assert tokens_of(usage) == tokens
    assert not tokens_of(usage).contradictory


def test_lines_cost_the_batch_price_and_cached_tokens_theirs() -> None:
    line = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000}
    cached = line | {"prompt_tokens_details": {"cached_tokens": 1_000_000}}

    assert cost([usage_of(line, prices=openai()), usage_of(cached, prices=openai())]) == Decimal("0.75")


def test_a_batch_of_short_requests_is_not_one_long_request() -> None:
    prices = LinePrices("gemini", Prices().tariff(LONG, batch=True))
    lines = [{"prompt_tokens": 100_000}] * 10

    assert cost([usage_of(*lines, prices=prices)]) == Decimal("0.625")


def test_what_the_provider_says_precedes_the_price_list_line_by_line() -> None:
    grok = replace(deployment("grok", provider="xai"), model="grok-4.3")
    prices = LinePrices("xai", Prices().tariff(grok, batch=True))
    tokens = {"prompt_tokens": 100_000, "completion_tokens": 0}
    said = tokens | {"cost_in_usd_ticks": 5_000_000_000}
    odd = tokens | {"cost_in_usd_ticks": -1}

    assert cost([usage_of(said, prices=prices)]) == Decimal("0.5")
    assert cost([usage_of(said, odd, tokens, prices=prices)]) == Decimal("0.7")


def test_what_the_provider_says_counts_without_a_price_list() -> None:
    assert cost([usage_of({"cost": 0.25}, prices=LinePrices("openrouter"))]) == Decimal("0.25")


def test_an_unknown_cost_is_not_zero() -> None:
    unknown = usage_of({"prompt_tokens": 3}, prices=LinePrices("hosted_vllm"))

    assert cost([unknown]) is None
    assert cost([usage_of({}, prices=openai())]) is None
    assert cost([usage_of({"prompt_tokens": 0, "total_tokens": 0}, prices=openai())]) is None
    assert cost([unknown, usage_of({"completion_tokens": 1_000_000}, prices=openai())]) == Decimal("0.3")


def test_what_failed_without_usage_costs_nothing() -> None:
    assert cost([usage_of({}, {}, prices=openai(), failed=True)]) == 0
    assert cost([]) == 0


def test_sums_are_named_as_the_columns() -> None:
    one = usage_of({"prompt_tokens": 5, "completion_tokens": 2}, prices=openai())
    two = usage_of({}, {}, prices=openai(), failed=True)

    assert summed([one, two]) == {
        "requests": 3,
        "failed_requests": 2,
        "input_tokens": 5,
        "cached_tokens": 0,
        "output_tokens": 2,
        "reasoning_tokens": 0,
    }
