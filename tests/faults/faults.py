"""Which faults a run has, and how often. Each run has its own choice of kinds (swarm testing): where one fault hides
what another would show, there are runs without it."""

from dataclasses import dataclass, field
from random import Random

from tests.faults.environments import current, name_of
from tests.faults.trace import Trace

KINDS: dict[str, tuple[str, ...]] = {
    "database": ("before", "after"),
    "connect": ("refused",),
    "send": ("before", "after", "partly"),
    "message": ("lost", "twice", "twice", "late"),
    "storage": ("before", "after"),
    "prepare": ("refused", "lasting", "unclear before", "unclear after", "hangs", "garbage"),
    "submit": ("refused", "quota", "lasting", "input lost", "unclear before", "unclear after", "hangs", "garbage"),
    "find": ("refused", "unclear before", "hangs", "garbage"),
    "poll": ("refused", "unclear before", "unclear after", "hangs", "garbage"),
    "cancel": ("refused", "lasting", "unclear before", "unclear after", "hangs"),
    "results": ("refused", "lasting", "unclear before", "torn", "hangs"),
    "inputs": ("refused", "unclear before"),
    "discard": ("refused", "lasting", "unclear before", "unclear after", "hangs"),
}
"""By the operation: how it may fail."""


@dataclass
class Faults:
    """Draws the faults of one run. `of` gives none once `over` is set."""

    random: Random
    rates: dict[str, float] = field(default_factory=dict)
    over: bool = False

    @classmethod
    def drawn(cls, random: Random) -> "Faults":
        """Some kinds of faults, each with a rate of its own."""
        rates = {operation: random.choice((0.0, 0.0, 0.02, 0.1, 0.3)) for operation in KINDS}
        for operation in ("database", "connect", "storage"):  # each batch has hundreds of these
            rates[operation] = random.choice((0.0, 0.0, 0.003, 0.02))
        return cls(random, rates)

    def of(self, operation: str) -> str | None:
        """How this operation fails; `None` if it does not."""
        rate = self.rates.get(operation, 0.0)
        if self.over or not rate or self.random.random() >= rate:
            return None
        return self.random.choice(KINDS[operation])

    def noted(self, operation: str, trace: Trace, what: str = "") -> str | None:
        """The same, noted in the trace."""
        fault = self.of(operation)
        if fault is not None:
            trace.add(name_of(current()), f"FAULT of {operation}: {fault} {what}")
        return fault
