"""How fast the simulated provider's batches move."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that a batch stays in a state, and that an Azure file takes to become usable."""

    validating: float = 0.5
    in_progress: float = 1.5
    finalizing: float = 0.5
    cancelling: float = 0.5
    processing: float = 0.2

    def faster(self, factor: float) -> "Pace":
        return Pace(
            self.validating / factor,
            self.in_progress / factor,
            self.finalizing / factor,
            self.cancelling / factor,
            self.processing / factor,
        )

    def of(self, state: str) -> float:
        seconds: float = getattr(self, state)
        return seconds
