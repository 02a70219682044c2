"""What an answer cost by its provider's own account, where the provider tells it in the answer's usage."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

MOST = 1_000
"""US dollars that one answer may have cost: several times the dearest model's longest answer."""
TICKS = 10_000_000_000
"""xAI's ticks of one US dollar."""


def cost_of(provider: str, usage: Mapping[str, Any]) -> Decimal | None:
    """US dollars; `None` where the provider says no cost, or none that is plausible.

    https://docs.x.ai/developers/cost-tracking, https://openrouter.ai/docs/use-cases/usage-accounting. Other providers
    may have members of the same name with another meaning, so they are not read.
    """
    if provider == "xai":
        ticks = _number(usage.get("cost_in_usd_ticks"), MOST * TICKS)
        return ticks / TICKS if ticks else None  # 0 is also what xAI sends for a cost that is not set
    return _cost_at_openrouter(usage) if provider == "openrouter" else None


def _cost_at_openrouter(usage: Mapping[str, Any]) -> Decimal | None:
    """With the account's own key at the upstream provider, `cost` is OpenRouter's fee alone."""
    cost = _number(usage.get("cost"), MOST)
    if cost is None or usage.get("is_byok") is not True:
        return cost
    details = usage.get("cost_details")
    upstream = _number(details.get("upstream_inference_cost"), MOST) if isinstance(details, dict) else None
    return None if upstream is None else cost + upstream


def _number(value: object, most: int) -> Decimal | None:
    """A number from 0 to `most`. NaN is none: it compares as false."""
    if type(value) not in (int, float) or not 0 <= value <= most:  # type: ignore[operator]
        return None
    return Decimal(str(value))
