"""When a transfer that failed is tried again, and when it is given up."""

from manifold import provider_errors
from manifold.errors import ManifoldError, ProviderError

ATTEMPTS = 8
"""Attempts at a transfer. They take about a quarter of an hour, unless the provider asks for longer pauses."""
LASTING_ATTEMPTS = 4
"""Attempts where the provider's refusal is lasting: a repetition should not change it."""
FIRST_PAUSE, MAX_PAUSE = 5.0, 900.0
"""Seconds before the second attempt, and the most before any. The pause doubles at each attempt."""
UNCONFIGURED = "config.yaml has no such deployment any more."

Fault = ProviderError | ManifoldError
"""What a transfer may fail with: a fault of the provider, or one of our own storage."""


def pause(attempts: int, fault: Fault) -> float:
    """Seconds to the next attempt, after so many. A provider's longer `Retry-After` counts, up to `MAX_PAUSE`."""
    retry_after = fault.retry_after if isinstance(fault, ProviderError) else None
    return min(MAX_PAUSE, max(FIRST_PAUSE * 2.0 ** min(attempts - 1, 10), retry_after or 0.0))


def join_pause(waited: float) -> float:
    """Seconds to the next attempt at a join that has been due for so long: as long again, within the same bounds."""
    return min(MAX_PAUSE, max(FIRST_PAUSE, waited))


def is_exhausted(attempts: int, fault: Fault) -> bool:
    """Whether no attempt is left after so many."""
    return attempts >= (LASTING_ATTEMPTS if is_lasting(fault) else ATTEMPTS)


def is_lasting(fault: Fault) -> bool:
    """Whether the provider refused, and a repetition should not change that."""
    return isinstance(fault, ProviderError) and fault.lasting


def owner_message(fault: Fault) -> str:
    """What the owner of the file or batch may read of a fault."""
    return provider_errors.owner_message(fault) if isinstance(fault, ProviderError) else fault.message
