"""The cost of answers by the tables of genai-prices; the amounts are the providers' published prices."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from random import Random

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice

from manifold.prices import Prices, Tariff, Tokens, tiers_of, usage_of
from tests.support.deployments import deployment

BATCH = {"processing": "batch"}
MILLION = Tokens(1_000_000, 1_000_000)


@pytest.mark.parametrize(
    ("provider", "model", "base_model", "price"),
    [
        ("openai", "gpt-4o-mini", None, "0.75"),
        ("azure", "my-deployment", "azure/gpt-4o-mini", "0.75"),
        ("azure", "my-deployment", "gpt-4o-mini", "0.75"),
        ("azure", "my-deployment", None, None),
        ("groq", "openai/gpt-oss-120b", None, "0.75"),
        ("hosted_vllm", "meta-llama/Llama-3.3-70B-Instruct", None, None),
        ("openai", "a-model-that-nobody-knows", None, None),
    ],
)
def test_the_price_of_a_deployment(provider: str, model: str, base_model: str | None, price: str | None) -> None:
    one = replace(deployment("one", provider=provider), model=model, base_model=base_model)
    assert Prices().of(one, MILLION) == (None if price is None else Decimal(price))


def test_a_price_is_that_of_the_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some depend on the time of day."""
    prices, one = Prices(), replace(deployment("one"), model="gpt-4o-mini")
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
    before = prices.of(one, MILLION)
    monkeypatch.setattr(prices, "tariff", lambda _: None)
    monkeypatch.setattr("time.time", lambda: 1_800_000_059.0)
    assert prices.of(one, MILLION) == before is not None
    monkeypatch.setattr("time.time", lambda: 1_800_000_060.0)
    assert prices.of(one, MILLION) is None


@pytest.mark.parametrize("provider", ["anthropic", "bedrock", "cohere", "gemini", "mistral", "together_ai", "xai"])
def test_the_providers_are_known_by_litellms_names(provider: str) -> None:
    models = {
        "anthropic": "claude-sonnet-4-5",
        "bedrock": "anthropic.claude-3-haiku-20240307-v1:0",
        "cohere": "command-r",
        "gemini": "gemini-2.5-flash",
        "mistral": "mistral-large-latest",
        "together_ai": "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "xai": "grok-4",
    }
    one = replace(deployment("one", provider=provider), model=models[provider])
    cost = Prices().of(one, MILLION)
    assert cost is not None
    assert cost > 0


def batch_price(provider: str, model: str, tokens: Tokens, base_model: str | None = None) -> Decimal | None:
    one = replace(deployment("one", provider=provider), model=model, base_model=base_model)
    tariff = Prices().tariff(one, batch=True)
    return None if tariff is None else tariff.cost(tokens)


@pytest.mark.parametrize(
    ("provider", "model", "price"),
    [
        ("openai", "gpt-4o-mini", "0.375"),
        ("azure", "gpt-4o-mini", "0.375"),
        ("azure", "o4-mini", "2.75"),  # of which the tables have no batch price
        ("openai", "text-embedding-3-small", "0.01"),  # likewise
        ("groq", "openai/gpt-oss-120b", "0.375"),
        ("groq", "llama-3.3-70b-versatile", "0.69"),
        ("anthropic", "claude-haiku-4-5", "3"),
        ("gemini", "gemini-2.5-flash", "1.4"),
        ("mistral", "mistral-small-latest", "0.375"),
        ("xai", "grok-4-fast-reasoning", "0.7"),  # no discount: xAI's lines say their own cost
        ("vertex_ai", "gemini-2.5-flash", "1.4"),
        ("vertex_ai", "claude-sonnet-4-5", "14.25"),  # of which the tables have no batch price
        ("bedrock", "amazon.nova-pro-v1:0", "2"),  # likewise
        ("cerebras", "gpt-oss-120b", "0.55"),  # likewise
        ("zai", "glm-4.6", "1.4"),  # likewise
        ("together_ai", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "1.76"),  # only some models have a discount
        ("hosted_vllm", "meta-llama/Llama-3.3-70B-Instruct", None),
    ],
)
def test_a_batch_is_cheaper_where_the_provider_says_so(provider: str, model: str, price: str | None) -> None:
    assert batch_price(provider, model, MILLION) == (None if price is None else Decimal(price))


@pytest.mark.parametrize(
    ("provider", "model", "price"),
    [
        ("openai", "gpt-4o-mini", "0.075"),  # as without a batch
        ("azure", "o4-mini", "0.275"),  # likewise
        ("groq", "openai/gpt-oss-120b", "0.075"),  # "discounts do not stack"
        ("anthropic", "claude-haiku-4-5", "0.05"),
    ],
)
def test_cached_tokens_of_a_batch(provider: str, model: str, price: str) -> None:
    assert batch_price(provider, model, Tokens(1_000_000, 0, cached=1_000_000)) == Decimal(price)


def test_requests_of_a_batch_that_are_short_have_the_price_of_short_ones() -> None:
    one = replace(deployment("one", provider="gemini"), model="gemini-2.5-pro")
    tariff = Prices().tariff(one, batch=True)
    assert tariff is not None
    short, long = tariff.cost(Tokens(150_000, 0)), tariff.cost(Tokens(300_000, 0))
    assert short is not None
    assert long is not None
    assert (short, long) == (Decimal("0.09375"), Decimal("0.375"))


def test_reasoning_has_its_own_price_where_the_tables_have_one() -> None:
    price = ModelPrice(output_mtok=Decimal(2), output_reasoning_mtok=Decimal(5))
    assert Tariff(price).cost(Tokens(0, 1_000_000, reasoning=400_000)) == Decimal("3.2")
    assert Tariff(ModelPrice(output_mtok=Decimal(2))).cost(Tokens(0, 1_000_000, reasoning=400_000)) == Decimal(2)


def test_cached_tokens_are_cheaper() -> None:
    one = replace(deployment("one"), model="gpt-4o-mini")
    assert Prices().of(one, Tokens(1_000_000, 0, cached=1_000_000)) == Decimal("0.075")


def test_rates_cost_what_the_tables_say() -> None:
    random = Random(4)
    with_rates = 0
    for provider in get_snapshot().providers:
        for model in provider.models:
            tokens = Tokens(random.randrange(1_000_000), random.randrange(100_000))
            cached = random.randrange(tokens.input + 1)
            written = random.randrange(tokens.input - cached + 1)
            tokens = tokens._replace(cached=cached, written=written, written_1h=random.randrange(written + 1))
            tokens = tokens._replace(reasoning=random.randrange(tokens.output + 1))
            for context in (None, BATCH):
                price = model.get_prices(datetime.now(UTC), context)
                if tiers_of(price) is not None:
                    with_rates += 1
                    assert Tariff(price).cost(tokens) == price.calc_price(usage_of(tokens))["total_price"], model.id
    assert with_rates > 2000


def test_a_price_with_tiers() -> None:
    one = replace(deployment("one", provider="gemini"), model="gemini-2.5-pro")
    prices = Prices()
    small, large = prices.of(one, Tokens(100_000, 0)), prices.of(one, Tokens(300_000, 0))
    assert small is not None
    assert large is not None
    assert large > 3 * small


def test_tokens_that_are_written_into_a_cache_are_dearer_where_the_provider_says_so() -> None:
    claude = replace(deployment("one", provider="anthropic"), model="claude-haiku-4-5")
    assert Prices().of(claude, Tokens(1_000_000, 0)) == Decimal(1)
    assert Prices().of(claude, Tokens(1_000_000, 0, written=1_000_000)) == Decimal("1.25")
    assert Prices().of(claude, Tokens(1_000_000, 0, written=1_000_000, written_1h=1_000_000)) == Decimal(2)


def test_more_cached_tokens_than_there_are_have_no_price() -> None:
    one = replace(deployment("one"), model="gpt-4o-mini")
    assert Prices().of(one, Tokens(1, 0, cached=2)) is None
    assert Prices().of(one, Tokens(2, 0, written=1, written_1h=2)) is None
    assert Prices().of(one, Tokens(2, 1, reasoning=2)) is None
