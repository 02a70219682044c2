"""Which failures put a deployment into cooldown, in which it is not tried, and which ones are known to be in it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from manifold.config import Deployment, RouterSettings
from manifold.dispatch.attempts import Failure
from manifold.dispatch.deadline import Cut, TimedOut, now
from manifold.errors import TIMEOUT, InvalidRequest
from manifold.provider_errors import REQUEST_STATUSES

ALLOWED_FAILS = 3
"""Failures within a minute that put no deployment into cooldown, as in LiteLLM."""
IMMEDIATE_STATUSES = frozenset({401, 402, 404, 429})
"""What another try soon would not change; it counts like any other failure where `allowed_fails` is set."""
TIMEOUT_FACTOR = 2.0
"""A deployment that did not answer in time is in cooldown for so many times that time: another request, in which
another deployment hangs for as long, does not come back to it."""
MAX_COOLDOWN = 300.0
"""Seconds for which a provider's `Retry-After` is believed."""


class CooldownRule(NamedTuple):
    """How one failure counts against its deployment."""

    allowed_fails: int
    """Failures within a minute that do not put it into cooldown."""
    seconds: float
    """How long its cooldown is after one more."""


def cooldown_rule(settings: RouterSettings, error: Failure) -> CooldownRule | None:
    """How a failure counts; `None` where it is not the deployment's: the caller's, or the gateway gave the call up."""
    if isinstance(error, InvalidRequest | Cut) or error.status in REQUEST_STATUSES:
        return None
    allowed = settings.allowed_fails
    if allowed is None:
        allowed = 0 if error.code == TIMEOUT or error.status in IMMEDIATE_STATUSES else ALLOWED_FAILS
    if error.retry_after:
        return CooldownRule(allowed, min(error.retry_after, MAX_COOLDOWN))
    waited = error.seconds if isinstance(error, TimedOut) else 0.0
    return CooldownRule(allowed, max(settings.cooldown_time, TIMEOUT_FACTOR * waited))


class Cooldowns:
    """The deployments that this environment knows to be in cooldown, each until a time of the event loop."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def learn(self, seconds_left: Mapping[str, float]) -> None:
        """Note that these deployments, by id, are in cooldown for so many more seconds each."""
        for deployment_id, seconds in seconds_left.items():
            self._until[deployment_id] = now() + seconds

    def usable(self, candidates: Sequence[Deployment]) -> Sequence[Deployment]:
        """Those that are not in cooldown."""
        return [one for one in candidates if self._until.get(one.id, 0.0) <= now()]
