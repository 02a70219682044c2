"""What is known of each provider, as data: its address, what its batches may be, cost and lack.

A profile is all that a host with OpenAI's files and batches needs. A provider with an API of its own names the dialect,
the code that speaks it: `manifold.providers.registry` finds that.
"""

from manifold.profiles.batch_limits import BatchLimits
from manifold.profiles.profile import ENDPOINTS, Ability, Execution, FoundBy, Profile
from manifold.profiles.providers import COMPATIBLE, PROFILES, profile_of

__all__ = [
    "COMPATIBLE",
    "ENDPOINTS",
    "PROFILES",
    "Ability",
    "BatchLimits",
    "Execution",
    "FoundBy",
    "Profile",
    "profile_of",
]
