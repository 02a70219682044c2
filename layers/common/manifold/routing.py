"""Which deployment is asked first: pure, without clock, state or I/O."""

from collections.abc import Sequence
from random import Random
from typing import Protocol, TypeVar


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


Choice = TypeVar("Choice", bound=Weighted)


def first_in_order(candidates: Sequence[Choice]) -> list[Choice]:
    """The candidates with the lowest `order`; those without one come after all that have one."""
    lowest = min((_rank(candidate) for candidate in candidates), default=None)
    return [candidate for candidate in candidates if _rank(candidate) == lowest]


def simple_shuffle(candidates: Sequence[Choice], random: Random) -> Choice:
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


def _rank(candidate: Weighted) -> tuple[bool, int]:
    return (candidate.order is None, candidate.order or 0)
