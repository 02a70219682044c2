"""The routing strategies, which choose a deployment: pure, without clock, state or I/O.

`manifold.dispatch.choice` calls `choose` for completions, with loads that it has read; `batches.selection` calls
`simple_shuffle`. Names and behaviour are LiteLLM's: https://docs.litellm.ai/docs/routing
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Literal, NamedTuple, Protocol, TypeVar

Strategy = Literal[
    "simple-shuffle",
    "least-busy",
    "latency-based-routing",
    "usage-based-routing",
    "usage-based-routing-v2",
    "cost-based-routing",
]
"""The names of the strategies, as in `routing_strategy`."""


class Weighted(Protocol):
    """What a shuffle needs to know of a deployment; names are those of `config.yaml`."""

    @property
    def order(self) -> int | None: ...
    @property
    def weight(self) -> float | None: ...
    @property
    def rpm(self) -> int | None: ...
    @property
    def tpm(self) -> int | None: ...


class Named(Weighted, Protocol):
    """A deployment whose load is found by its id."""

    @property
    def id(self) -> str: ...


class Load(NamedTuple):
    """The load of a deployment now."""

    busy: int = 0
    """Calls under way."""
    requests: int = 0
    """Calls of this minute."""
    tokens: int = 0
    """Tokens of this minute's calls, in and out."""
    latency: float | None = None
    """Seconds for each token of its recent answers; `None` where none is known."""
    cost: float | None = None
    """US dollars for a token of input and one of output; `None` where no price is known."""


AnyWeighted = TypeVar("AnyWeighted", bound=Weighted)
AnyNamed = TypeVar("AnyNamed", bound=Named)
_IDLE = Load()


def first_in_order(candidates: Sequence[AnyWeighted]) -> list[AnyWeighted]:
    """The candidates with the lowest `order`; those without one come after all that have one."""
    lowest = min((_rank(candidate) for candidate in candidates), default=None)
    return [candidate for candidate in candidates if _rank(candidate) == lowest]


def simple_shuffle(candidates: Sequence[AnyWeighted], random: Random) -> AnyWeighted:
    """One of the candidates that come first in order, drawn by `weight`, else by `rpm`, else by `tpm`, else evenly.

    As LiteLLM's `simple-shuffle`: the first of the three that any of them sets is what counts, and one that lacks it
    is not drawn. Raises `ValueError` if there is no candidate.
    """
    if len(candidates) == 1:
        return candidates[0]
    first = first_in_order(candidates)
    if not first:
        raise ValueError("there is no deployment to choose from")
    for weights in (
        [candidate.weight or 0 for candidate in first],
        [candidate.rpm or 0 for candidate in first],
        [candidate.tpm or 0 for candidate in first],
    ):
        if any(weights):
            return random.choices(first, weights)[0]
    return random.choice(first)


def choose(
    strategy: Strategy, candidates: Sequence[AnyNamed], loads: Mapping[str, Load], random: Random
) -> AnyNamed | None:
    """The candidate that comes first by the strategy; any of those that are alike. `loads` are by deployment id.

    The lowest `order` alone counts, and within it:

    - `simple-shuffle`: a draw, as `simple_shuffle` makes it. No load is read.
    - `least-busy`: the fewest calls under way.
    - `latency-based-routing`: the fewest seconds for each token; one that was not measured yet comes first.
    - `usage-based-routing` and `-v2`: the fewest tokens of this minute, of those below their `rpm` and `tpm`. Where all
      of an `order` have reached theirs, the next one counts; `None` if all candidates have.
    - `cost-based-routing`: the lowest price; one without a price comes last.
    """
    if strategy == "simple-shuffle":
        return simple_shuffle(candidates, random)
    if strategy in ("usage-based-routing", "usage-based-routing-v2"):
        candidates = [one for one in candidates if _is_below_limits(one, loads.get(one.id, _IDLE))]
    first = first_in_order(candidates)
    if not first:
        return None
    measure = _MEASURES[strategy]
    least = min(measure(loads.get(one.id, _IDLE)) for one in first)
    return random.choice([one for one in first if measure(loads.get(one.id, _IDLE)) == least])


_MEASURES: Mapping[Strategy, Callable[[Load], float]] = {
    "least-busy": lambda load: load.busy,
    "latency-based-routing": lambda load: 0.0 if load.latency is None else load.latency,  # it has to be measured first
    "usage-based-routing": lambda load: load.tokens,
    "usage-based-routing-v2": lambda load: load.tokens,
    "cost-based-routing": lambda load: float("inf") if load.cost is None else load.cost,
}
"""The number that is least for the deployment to choose."""


def _is_below_limits(candidate: Named, load: Load) -> bool:
    requests = candidate.rpm is None or load.requests < candidate.rpm
    return requests and (candidate.tpm is None or load.tokens < candidate.tpm)


def _rank(candidate: Weighted) -> tuple[bool, int]:
    return (candidate.order is None, candidate.order or 0)
