"""How long work that a provider did not let us do waits, and when it is given up."""

from manifold.errors import ManifoldError, ProviderError
from manifold.provider_errors import owner_message

ATTEMPTS = 8
"""How often something is tried: about a quarter of an hour, where nobody asks for more patience."""
LASTING_ATTEMPTS = 4
"""The same, where the answer is a no that waiting should not change."""
FIRST_PAUSE, MAX_PAUSE = 5.0, 900.0
"""Seconds before the second attempt, doubling up to the second."""
UNCONFIGURED = "config.yaml has no such deployment any more."

Fault = ProviderError | ManifoldError
"""What moving bytes can end with: the provider's fault, or that of our own storage."""


def pause(attempts: int, fault: Fault) -> float:
    """Seconds to the next attempt: what the provider asked for, if that is more, and never more than `MAX_PAUSE`."""
    asked = fault.retry_after if isinstance(fault, ProviderError) else None
    return min(MAX_PAUSE, max(FIRST_PAUSE * 2.0 ** min(attempts - 1, 10), asked or 0.0))


def spent(attempts: int, fault: Fault) -> bool:
    """Whether it has been tried often enough."""
    return attempts >= (LASTING_ATTEMPTS if lasting(fault) else ATTEMPTS)


def lasting(fault: Fault) -> bool:
    return isinstance(fault, ProviderError) and fault.lasting


def public(fault: Fault) -> str:
    """What the file's owner may read of it."""
    return owner_message(fault) if isinstance(fault, ProviderError) else fault.message
