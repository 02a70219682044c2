"""What an answer costs, by the price tables of genai-prices: https://github.com/pydantic/genai-prices

Loading the tables takes 0.3 s of CPU. Completions do it before their first request (`manifold.lifecycle`); elsewhere a
thread loads them while a function makes its first call to a provider.
Finding a model in them takes 0.2 ms, so it is done once for each deployment, and its price once a minute. Their
computation of a price takes 0.15 ms, so prices of tokens are computed here.
"""

import gc
import threading
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from manifold.config import Deployment

if TYPE_CHECKING:
    from genai_prices import Usage
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

_IDS = {"fireworks_ai": "fireworks"}
"""LiteLLM's prefixes that genai-prices does not know, and its own names for them."""


class Tokens(NamedTuple):
    """Tokens of an answer. Cached ones are part of the input, reasoning ones of the output."""

    input: int
    output: int
    cached: int = 0
    """Input read from the provider's cache, which is cheaper."""
    written: int = 0
    """Input written to the provider's cache, for which some providers charge more."""
    written_1h: int = 0
    """The part of `written` that is kept for an hour, which costs more still."""
    reasoning: int = 0
    """Output that was reasoning, for which a few providers have a price of its own."""

    @property
    def contradictory(self) -> bool:
        """Whether a part is larger than its whole."""
        return self.cached + self.written > self.input or self.written_1h > self.written or self.reasoning > self.output


def billed_output(prompt: int, output: int, reasoning: int, total: int) -> int:
    """The output tokens of an answer with its reasoning: xAI counts that beside the output, which the total tells."""
    return output + reasoning if total == prompt + output + reasoning else output


class Rates(NamedTuple):
    """US dollars for a million tokens."""

    input: Decimal
    cached: Decimal
    written: Decimal
    written_1h: Decimal
    output: Decimal
    reasoning: Decimal

    def cost(self, tokens: Tokens) -> Decimal:
        """In US dollars."""
        cost = self.input * (tokens.input - tokens.cached - tokens.written)
        cost += self.output * (tokens.output - tokens.reasoning)
        if tokens.reasoning:
            cost += self.reasoning * tokens.reasoning
        if tokens.cached:
            cost += self.cached * tokens.cached
        if tokens.written:
            cost += self.written * (tokens.written - tokens.written_1h) + self.written_1h * tokens.written_1h
        return cost / 1_000_000

    def in_batches(self, share: Decimal) -> "Rates":
        """These rates at this share. Tokens of a cache cost no less than before, and no more than other input."""
        plain = self.input * share
        return Rates(
            plain,
            min(self.cached, plain),
            self.written * share,
            self.written_1h * share,
            self.output * share,
            self.reasoning * share,
        )


class Tariff:
    """The price of one deployment's answers, of completions or in batches.

    A request whose input is longer than a tier's start has that tier's rates for all its tokens, so the requests of a
    batch are priced one by one.
    """

    def __init__(self, price: "ModelPrice", share: Decimal = Decimal(1)) -> None:
        tiers = tiers_of(price)
        if tiers is not None and share != 1:
            tiers = [(start, rates.in_batches(share)) for start, rates in tiers]
        self._price = price
        self._share = share
        self._tiers = tiers

    def cost(self, tokens: Tokens) -> Decimal | None:
        """US dollars for the tokens of one request; `None` if they contradict each other."""
        if tokens.contradictory:
            return None
        if self._tiers is None:
            return self._price.calc_price(usage_of(tokens))["total_price"] * self._share
        rates = next(rates for start, rates in self._tiers if tokens.input > start or not start)
        return rates.cost(tokens)


class Prices:
    """Computes what answers cost, in US dollars. One object serves a function's environment."""

    def __init__(self) -> None:
        self._reading: threading.Thread | None = None
        self._models: dict[str, ModelInfo | None] = {}
        self._tariffs: dict[str, tuple[float, Tariff | None]] = {}
        """That of each deployment's completions, with the minute that it is of."""

    def read(self) -> None:
        """Start a thread that loads the tables, unless one was started before."""
        if self._reading is None:
            self._reading = threading.Thread(target=_read, daemon=True)
            self._reading.start()

    def load(self, deployments: Iterable[Deployment]) -> None:
        """Load the tables, and find the models of these deployments in them."""
        self.read()
        if self._reading is not None:
            self._reading.join()
        for deployment in deployments:
            self.tariff(deployment)

    def of(self, deployment: Deployment, tokens: Tokens) -> Decimal | None:
        """US dollars for the tokens of one request of a completion at this deployment.

        `None` where no price is known, or the tokens contradict each other.
        """
        minute = time.time() // 60  # prices depend on the time of day, to the minute
        known = self._tariffs.get(deployment.id)
        if known is None or known[0] != minute:
            known = self._tariffs[deployment.id] = minute, self.tariff(deployment)
        tariff = known[1]
        return None if tariff is None else tariff.cost(tokens)

    def tariff(self, deployment: Deployment, *, batch: bool = False) -> Tariff | None:
        """What the deployment charges now, for batches if `batch`; `None` where no price is known.

        A batch that the gateway runs costs as much as its requests by themselves.
        """
        if deployment.id not in self._models:
            self._models[deployment.id] = _model(deployment)
        model = self._models[deployment.id]
        if model is None:
            return None
        now = datetime.now(UTC)
        price = model.get_prices(now, None)
        if not batch or deployment.execution == "gateway":
            return Tariff(price)
        in_batches = model.get_prices(now, {"processing": "batch"})
        return Tariff(in_batches) if in_batches != price else Tariff(price, deployment.profile.batch_share)


def _model(deployment: Deployment) -> "ModelInfo | None":
    """The deployment's model in the tables, if they have it."""
    from genai_prices import Usage, calc_price

    try:
        provider_id = _IDS.get(deployment.provider, deployment.provider)
        return calc_price(Usage(), model_name(deployment), provider_id=provider_id).model
    except LookupError:
        return None


def tiers_of(price: "ModelPrice") -> list[tuple[int, Rates]] | None:
    """The rates by the longest input that they are not yet for, the longest first; `None` for a price for each call."""
    from genai_prices.types import TieredPrices

    prices = {name: rate for name, rate in vars(price).items() if rate is not None}
    if "requests_kcount" in prices:
        return None
    tiered = [rate for rate in prices.values() if isinstance(rate, TieredPrices)]
    starts = sorted({0, *(tier.start for rate in tiered for tier in rate.tiers)}, reverse=True)
    return [(start, _rates(prices, start)) for start in starts]


def _rates(prices: "Mapping[str, Decimal | TieredPrices]", start: int) -> Rates:
    """The rates of requests whose input is just longer than `start`."""
    at = {name: _at(rate, start) for name, rate in prices.items()}
    plain, output = at.get("input_mtok", Decimal(0)), at.get("output_mtok", Decimal(0))
    written = at.get("cache_write_mtok", plain)
    return Rates(
        plain,
        at.get("cache_read_mtok", plain),
        written,
        at.get("cache_write_1h_mtok", written),
        output,
        at.get("output_reasoning_mtok", output),
    )


def _at(rate: "Decimal | TieredPrices", start: int) -> Decimal:
    if isinstance(rate, Decimal):
        return rate
    return next((tier.price for tier in reversed(rate.tiers) if start >= tier.start), rate.base)


def usage_of(tokens: Tokens) -> "Usage":
    """The tokens as genai-prices names them."""
    from genai_prices import Usage

    return Usage(
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cache_read_tokens=tokens.cached,
        cache_write_tokens=tokens.written,
        cache_write_1h_tokens=tokens.written_1h,
        output_reasoning_tokens=tokens.reasoning,
    )


def model_name(deployment: Deployment) -> str:
    """The model's name in the provider's price list: `base_model` if set, else the deployment's model."""
    written = deployment.base_model or deployment.model
    return written.removeprefix(f"{deployment.provider}/")


def _read() -> None:
    from genai_prices import data_snapshot

    data_snapshot.get_snapshot()
    gc.freeze()  # the tables stay: 20,000 objects that the garbage collector need not scan
