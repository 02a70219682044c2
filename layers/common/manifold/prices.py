"""What an answer costs, by the price tables of genai-prices: https://github.com/pydantic/genai-prices

Loading the tables takes 0.3 s of CPU, so a thread loads them while a function makes its first call to a provider.
Finding a model in them takes 0.2 ms, so it is done once for each deployment. Their computation of a price takes
0.15 ms, so prices without tiers are computed here.
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
"""LiteLLM's prefixes that genai-prices does not know, and its own names for them."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of an answer. Cached ones are part of the input, reasoning ones of the output."""

    input: int
    output: int
    cached: int = 0
    """Input read from the provider's cache, which is cheaper."""
    written: int = 0
    """Input written to the provider's cache, for which some providers charge more."""
    written_1h: int = 0
    """The part of `written` that is kept for an hour, which costs more still."""


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
    """Computes what answers cost, in US dollars. One object serves a function's environment."""

    def __init__(self) -> None:
        self._reading: threading.Thread | None = None
        self._models: dict[str, ModelInfo | None] = {}

    def read(self) -> None:
        """Start a thread that loads the tables, unless one was started before."""
        if self._reading is None:
            self._reading = threading.Thread(target=_read, daemon=True)
            self._reading.start()

    def of(self, deployment: Deployment, tokens: Tokens, *, batch: bool = False) -> Decimal | None:
        """US dollars for these tokens at this deployment, at the batch price for a `batch`.

        `None` where no price is known, or the tokens contradict each other.
        """
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
    """A price as rates; `None` where it has tiers, or a price for each call."""
    prices = {name: rate for name, rate in vars(price).items() if rate is not None}
    if "requests_kcount" in prices or not all(isinstance(rate, Decimal) for rate in prices.values()):
        return None
    plain = prices.get("input_mtok", Decimal(0))
    cached, written = prices.get("cache_read_mtok", plain), prices.get("cache_write_mtok", plain)
    written_1h = prices.get("cache_write_1h_mtok", written)
    return Rates(plain, cached, written, written_1h, prices.get("output_mtok", Decimal(0)))


def usage_of(tokens: Tokens) -> "Usage":
    """The tokens as genai-prices names them."""
    from genai_prices import Usage

    return Usage(
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cache_read_tokens=tokens.cached,
        cache_write_tokens=tokens.written,
        cache_write_1h_tokens=tokens.written_1h,
    )


def model_name(deployment: Deployment) -> str:
    """The model's name in the provider's price list: `base_model` if set, else the deployment's model."""
    written = deployment.base_model or deployment.model
    return written.removeprefix(f"{deployment.provider}/")


def _read() -> None:
    from genai_prices import data_snapshot

    data_snapshot.get_snapshot()
    gc.freeze()  # the tables stay: 20,000 objects that the garbage collector need not scan
