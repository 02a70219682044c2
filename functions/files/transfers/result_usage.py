"""The usage and cost of a job's results: read line by line, and summed."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from manifold.jsonl.result import Result, number, part
from manifold.prices import Tariff, Tokens, billed_output
from manifold.reported_cost import cost_of


class LinePrices(NamedTuple):
    """What the lines of one deployment cost: what the provider says, else by its batch prices."""

    provider: str = ""
    tariff: Tariff | None = None

    def cost(self, usage: Mapping[str, Any], tokens: Tokens) -> Decimal | None:
        """US dollars; `None` where it is not known, as for a line without tokens."""
        reported = cost_of(self.provider, usage)
        if reported is not None or self.tariff is None or not (tokens.input or tokens.output):
            return reported
        return self.tariff.cost(tokens)


@dataclass(slots=True)
class ResultUsage:
    """The sums of one result file. A request that has several results counts once, with the first."""

    requests: int = 0
    failed_requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost: Decimal = Decimal(0)
    """Of the results whose cost is known."""
    priced: int = 0
    """Results whose cost is known."""
    unpriced: int = 0
    """Results whose cost is not known, without those that failed and have no tokens: they cost nothing."""

    def add(self, result: Result, prices: LinePrices) -> None:
        tokens = tokens_of(result.usage)
        self.requests += 1
        self.failed_requests += result.failed
        self.input_tokens += tokens.input
        self.cached_tokens += tokens.cached
        self.output_tokens += tokens.output
        self.reasoning_tokens += tokens.reasoning
        cost = prices.cost(result.usage, tokens)
        if cost is not None:
            self.cost += cost
            self.priced += 1
        elif tokens.input or tokens.output or not result.failed:
            self.unpriced += 1

    def add_unread(self) -> None:
        """Count a result that was not read."""
        self.requests += 1
        self.unpriced += 1


def tokens_of(usage: Mapping[str, Any]) -> Tokens:
    """The tokens of a line's usage, in the words of each of OpenAI's APIs. No part is larger than its whole.

    Embeddings of some servers have only a `total_tokens`.
    """
    output = number(usage, "completion_tokens", "output_tokens")
    total = number(usage, "total_tokens")
    input_tokens = number(usage, "prompt_tokens", "input_tokens") or max(0, total - output)
    details = part(usage, "prompt_tokens_details", "input_tokens_details")
    reasoning = number(part(usage, "completion_tokens_details", "output_tokens_details"), "reasoning_tokens")
    output = billed_output(input_tokens, output, reasoning, total)
    cached = min(number(details, "cached_tokens"), input_tokens)
    written = min(number(details, "cache_write_tokens"), input_tokens - cached)
    return Tokens(
        input_tokens,
        output,
        cached=cached,
        written=written,
        written_1h=min(number(details, "cache_write_1h_tokens"), written),
        reasoning=min(reasoning, output),
    )


def summed(usages: list[ResultUsage]) -> dict[str, int]:
    """The sums over all files, named as the columns of the table `usage`."""
    return {
        "requests": sum(usage.requests for usage in usages),
        "failed_requests": sum(usage.failed_requests for usage in usages),
        "input_tokens": sum(usage.input_tokens for usage in usages),
        "cached_tokens": sum(usage.cached_tokens for usage in usages),
        "output_tokens": sum(usage.output_tokens for usage in usages),
        "reasoning_tokens": sum(usage.reasoning_tokens for usage in usages),
    }


def cost(usages: list[ResultUsage]) -> Decimal | None:
    """US dollars over all files, as far as they are known; `None` where there are results and none has a known cost."""
    if not any(usage.priced for usage in usages) and any(usage.unpriced for usage in usages):
        return None
    return sum((usage.cost for usage in usages), Decimal(0))
