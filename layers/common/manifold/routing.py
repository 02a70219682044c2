"""Which deployment is asked first: pure, without clock, state or I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol, TypeVar

Strategy = Literal[
    "simple-shuffle",
    "least-busy",
    "latency-based-routing",
    "usage-based-routing",
    "usage-based-routing-v2",
    "cost-based-routing",
]
"""LiteLLM's names of the ways to choose."""


class Weighted(Protocol):
    """What routing needs to know of a deployment; names are those of `config.yaml`."""

    @property
    def order(self) -> int | None: ...
    @property
    def weight(self) -> float | None: ...
    @property
    def rpm(self) -> int | None: ...
    @property
    def tpm(self) -> int | None: ...


class Named(Weighted, Protocol):
    """A deployment whose load can be told from another's."""

    @property
    def id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Load:
    """How a deployment does just now."""

    busy: int = 0
    """Calls under way."""
    requests: int = 0
    """Calls of this minute."""
    tokens: int = 0
    """Of this minute."""
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
    """The deployment to ask, by their loads where the strategy looks at them; `None` if none has room.

    Only usage-based routing finds one without room: it keeps to `rpm` and `tpm`, and goes to the next `order` when
    those of the first are full. Of deployments that are alike, any.
    """
    if strategy == "simple-shuffle":
        return simple_shuffle(candidates, random)
    if strategy in ("usage-based-routing", "usage-based-routing-v2"):
        candidates = [one for one in candidates if _has_room(one, loads.get(one.id, _IDLE))]
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
"""What the deployment to ask has least of."""


def _has_room(candidate: Named, load: Load) -> bool:
    requests = candidate.rpm is None or load.requests < candidate.rpm
    return requests and (candidate.tpm is None or load.tokens < candidate.tpm)


def _rank(candidate: Weighted) -> tuple[bool, int]:
    return (candidate.order is None, candidate.order or 0)
