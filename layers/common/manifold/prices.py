"""What an answer costs, by the prices that genai-prices has: https://github.com/pydantic/genai-prices

Reading its tables takes 0.3 seconds of computing, so they are read in a thread of their own when a function first calls
a provider, which takes longer. A price then takes 0.08 ms, and finding that there is none 0.2 ms, once a deployment.
"""

import threading
from dataclasses import dataclass
from decimal import Decimal

from manifold.config import Deployment

_IDS = {"fireworks_ai": "fireworks"}
"""Providers that genai-prices knows by another name than LiteLLM, and not by that."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an answer took. The cached ones are part of the input, the reasoning ones of the output."""

    input: int
    output: int
    cached: int = 0


class Prices:
    """Prices in US dollars."""

    def __init__(self) -> None:
        self._reading: threading.Thread | None = None
        self._without: set[tuple[str, bool]] = set()

    def read(self) -> None:
        """Have the tables read meanwhile, if that has not begun."""
        if self._reading is None:
            self._reading = threading.Thread(target=_read, daemon=True)
            self._reading.start()

    def of(self, deployment: Deployment, tokens: Tokens, *, batch: bool = False) -> Decimal | None:
        """What they cost there, with the provider's batch discount if it was a batch; `None` if no price is known."""
        from genai_prices import Usage, calc_price

        if (deployment.id, batch) in self._without:
            return None
        usage = Usage(input_tokens=tokens.input, output_tokens=tokens.output, cache_read_tokens=tokens.cached)
        try:
            found = calc_price(
                usage,
                model_name(deployment),
                provider_id=_IDS.get(deployment.provider, deployment.provider),
                price_context={"processing": "batch"} if batch else None,
            )
        except LookupError:  # an unknown model
            self._without.add((deployment.id, batch))
            return None
        except ValueError:  # more cached tokens than there are
            return None
        return found.total_price


def model_name(deployment: Deployment) -> str:
    """What the provider's price list calls the model: `base_model`, where the deployment's own name says nothing."""
    written = deployment.base_model or deployment.model
    return written.removeprefix(f"{deployment.provider}/")


def _read() -> None:
    from genai_prices import data_snapshot

    data_snapshot.get_snapshot()
