"""What an answer costs, by the prices that genai-prices has: https://github.com/pydantic/genai-prices

Reading its tables takes 0.3 seconds of computing, so they are read in a thread of their own when a function first calls
a provider, which takes longer. Finding a model takes them 0.2 ms, so that is done once a deployment; working out a
price takes them 0.15 ms, so the plain ones are worked out here.
"""

import gc
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from manifold.config import Deployment

if TYPE_CHECKING:
    from genai_prices import Usage
    from genai_prices.types import ModelInfo, ModelPrice

_IDS = {"fireworks_ai": "fireworks"}
"""Providers that genai-prices knows by another name than LiteLLM, and not by that."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an answer took. Those of a cache are part of the input, the reasoning ones of the output."""

    input: int
    output: int
    cached: int = 0
    """Read from the provider's cache, which makes them cheaper."""
    written: int = 0
    """Written into it, which some providers take more for."""
    written_1h: int = 0
    """Those of them that stay for an hour, which is dearer still."""


class Rates(NamedTuple):
    """US dollars for a million tokens."""

    input: Decimal
    cached: Decimal
    written: Decimal
    written_1h: Decimal
    output: Decimal

    def cost(self, tokens: Tokens) -> Decimal:
        """In US dollars."""
        cost = self.input * (tokens.input - tokens.cached - tokens.written) + self.output * tokens.output
        if tokens.cached:
            cost += self.cached * tokens.cached
        if tokens.written:
            cost += self.written * (tokens.written - tokens.written_1h) + self.written_1h * tokens.written_1h
        return cost / 1_000_000


class Prices:
    """Prices in US dollars."""

    def __init__(self) -> None:
        self._reading: threading.Thread | None = None
        self._models: dict[str, ModelInfo | None] = {}

    def read(self) -> None:
        """Have the tables read meanwhile, if that has not begun."""
        if self._reading is None:
            self._reading = threading.Thread(target=_read, daemon=True)
            self._reading.start()

    def of(self, deployment: Deployment, tokens: Tokens, *, batch: bool = False) -> Decimal | None:
        """What they cost there, with the provider's batch discount if it was a batch; `None` if no price is known."""
        if tokens.cached + tokens.written > tokens.input or tokens.written_1h > tokens.written:
            return None
        if deployment.id not in self._models:
            self._models[deployment.id] = _model(deployment)
        model = self._models[deployment.id]
        if model is None:
            return None
        price = model.get_prices(datetime.now(UTC), {"processing": "batch"} if batch else None)
        rates = rates_of(price)
        return price.calc_price(usage_of(tokens))["total_price"] if rates is None else rates.cost(tokens)


def _model(deployment: Deployment) -> "ModelInfo | None":
    """The deployment's model in the tables, if they have it."""
    from genai_prices import Usage, calc_price

    try:
        provider_id = _IDS.get(deployment.provider, deployment.provider)
        return calc_price(Usage(), model_name(deployment), provider_id=provider_id).model
    except LookupError:
        return None


def rates_of(price: "ModelPrice") -> Rates | None:
    """A price as rates; `None` where it has tiers, or counts calls."""
    prices = {name: rate for name, rate in vars(price).items() if rate is not None}
    if "requests_kcount" in prices or not all(isinstance(rate, Decimal) for rate in prices.values()):
        return None
    plain = prices.get("input_mtok", Decimal(0))
    cached, written = prices.get("cache_read_mtok", plain), prices.get("cache_write_mtok", plain)
    written_1h = prices.get("cache_write_1h_mtok", written)
    return Rates(plain, cached, written, written_1h, prices.get("output_mtok", Decimal(0)))


def usage_of(tokens: Tokens) -> "Usage":
    """The tokens in the tables' words."""
    from genai_prices import Usage

    return Usage(
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cache_read_tokens=tokens.cached,
        cache_write_tokens=tokens.written,
        cache_write_1h_tokens=tokens.written_1h,
    )


def model_name(deployment: Deployment) -> str:
    """What the provider's price list calls the model: `base_model`, where the deployment's own name says nothing."""
    written = deployment.base_model or deployment.model
    return written.removeprefix(f"{deployment.provider}/")


def _read() -> None:
    from genai_prices import data_snapshot

    data_snapshot.get_snapshot()
    gc.freeze()  # the tables stay, and are 20,000 objects for the collector to look at
