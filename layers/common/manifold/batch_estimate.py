"""What a batch of a file holds and costs, as estimated from the file's report before it runs."""

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, Self

from manifold.config import Deployment
from manifold.jsonl.report import Report

if TYPE_CHECKING:
    from manifold.prices import Prices

_NO_OUTPUT = frozenset({"/v1/embeddings", "/v1/moderations"})
"""Endpoints that bill no output tokens."""


class BatchEstimate(NamedTuple):
    """The tokens of a batch of all lines of a file: input as estimated, output as the lines state their maximum."""

    requests: int
    input_tokens: int
    output_tokens: int | None
    """`None` if a line does not state its maximum."""

    @classmethod
    def of(cls, report: Report) -> Self | None:
        """The estimate; `None` for a report of before estimates."""
        if report.input_tokens is None:
            return None
        output = sum(report.output_tokens or ()) if report.output_limits == report.lines else None
        if set(report.urls) <= _NO_OUTPUT:
            output = 0
        return cls(report.lines, sum(report.input_tokens), output)

    def costs(self, deployment: Deployment, prices: "Prices") -> tuple[Decimal, Decimal | None] | None:
        """US dollars at batch prices for the input, and for that with all the output; `None` without a price.

        The price is that of the mean request, as it may depend on a request's length. Loads the price tables.
        """
        from manifold.prices import Tokens

        tariff = prices.tariff(deployment, batch=True)
        mean_input, mean_output = self._mean(self.input_tokens), self._mean(self.output_tokens or 0)
        mean = tariff.cost(Tokens(mean_input, 0)) if tariff else None
        both = tariff.cost(Tokens(mean_input, mean_output)) if tariff else None
        if mean is None or both is None:
            return None
        cost = mean * self.input_tokens / mean_input
        if self.output_tokens is None:
            return cost, None
        return cost, cost + (both - mean) * self.output_tokens / mean_output

    def _mean(self, tokens: int) -> int:
        return round(tokens / max(self.requests, 1)) or 1
