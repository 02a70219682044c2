"""The cost that providers say themselves, and what is not believed."""

from decimal import Decimal
from typing import Any

import pytest

from manifold.reported_cost import MOST, TICKS, cost_of

IMPLAUSIBLE: list[object] = [
    None,
    True,
    "12",
    "",
    [1],
    {},
    -1,
    -0.5,
    float("nan"),
    float("inf"),
    -float("inf"),
    10**400,
    1e300,
]


def test_xais_ticks() -> None:
    assert cost_of("xai", {"cost_in_usd_ticks": 37_756_000}) == Decimal("0.0037756")
    assert cost_of("xai", {"cost_in_usd_ticks": 37_756_000.0}) == Decimal("0.0037756")
    assert cost_of("xai", {"cost_in_usd_ticks": MOST * TICKS}) == MOST


def test_openrouters_credits_are_dollars() -> None:
    assert cost_of("openrouter", {"cost": 0.00014}) == Decimal("0.00014")
    assert cost_of("openrouter", {"cost": 0}) == 0
    assert cost_of("openrouter", {"cost": 0.5, "cost_details": {"upstream_inference_cost": 0.4}}) == Decimal("0.5")


def test_with_an_own_key_the_upstream_provider_is_paid_too() -> None:
    usage: dict[str, Any] = {"cost": 0.95, "is_byok": True, "cost_details": {"upstream_inference_cost": 19}}
    assert cost_of("openrouter", usage) == Decimal("19.95")


@pytest.mark.parametrize("odd", [*IMPLAUSIBLE, MOST * TICKS + 1, 0])
def test_ticks_that_are_not_believed(odd: object) -> None:
    assert cost_of("xai", {"cost_in_usd_ticks": odd}) is None


@pytest.mark.parametrize("odd", [*IMPLAUSIBLE, MOST + 1])
def test_credits_that_are_not_believed(odd: object) -> None:
    assert cost_of("openrouter", {"cost": odd}) is None
    assert cost_of("openrouter", {"cost": 1, "is_byok": True, "cost_details": {"upstream_inference_cost": odd}}) is None
    assert cost_of("openrouter", {"cost": 1, "is_byok": True, "cost_details": odd}) is None


@pytest.mark.parametrize("provider", ["openai", "perplexity", "hosted_vllm"])
def test_other_providers_mean_something_else_by_these_names(provider: str) -> None:
    assert cost_of(provider, {"cost": 1, "cost_in_usd_ticks": 1}) is None
