"""What is tried after a failure: pure, without clock or I/O."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Literal

from manifold.config import Deployment, RouterSettings
from manifold.errors import (
    ACCOUNT_CODES,
    CALLERS_STATUSES,
    CONTENT_FILTER,
    CONTENT_POLICY_CODES,
    CallFailed,
    InvalidRequest,
    ManifoldError,
    ProviderError,
    ProviderRefused,
)

FIRST_PAUSE = 0.25
MAX_PAUSE = 4.0
"""Seconds before a deployment that has just failed is asked again, where it does not say how many."""

NO_ROOM_WAIT = 30.0
"""Seconds: half of the minute that limits are of."""
CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
"""OpenAI's word for a prompt that is too long, which the adapters give to every provider's."""
ALL_FAILING = "no_deployment_available"

Failure = ProviderError | InvalidRequest
RetryScope = Literal["anywhere", "elsewhere", "nowhere"]


def retry_scope(error: Failure) -> RetryScope:
    """Where another attempt may succeed: `elsewhere` is any deployment but the one that failed."""
    if isinstance(error, InvalidRequest) or error.code in ACCOUNT_CODES:
        return "elsewhere"
    if error.status in CALLERS_STATUSES:
        return "nowhere"
    return "elsewhere" if isinstance(error, ProviderRefused) and error.lasting else "anywhere"


class RetryPlan:
    """The attempts of one call. Each deployment is asked once before any is asked a second time."""

    def __init__(
        self, deployments: Sequence[Deployment], retries: int, random: Random, least_pause: float = 0.0
    ) -> None:
        self._usable = list(deployments)
        self._fresh = list(deployments)
        self._left = retries
        self._random = random
        self._least_pause = least_pause
        self.attempts = 0

    @property
    def candidates(self) -> Sequence[Deployment]:
        """Those to choose the next attempt's deployment from."""
        return self._fresh

    @property
    def has_another(self) -> bool:
        """Whether the attempt that is under way, if it fails, is followed by one at another deployment."""
        return len(self._fresh) > 1 and self.attempts <= self._left

    def failed(self, deployment: Deployment, error: Failure) -> float | None:
        """Note a failed attempt; the seconds to wait before the next one, `None` if there is to be none."""
        where = retry_scope(error)
        self._fresh.remove(deployment)
        if where != "anywhere":
            self._usable.remove(deployment)
        if where == "nowhere" or not self._usable or self.attempts > self._left:
            return None
        if self._fresh:
            return 0.0
        self._fresh = list(self._usable)
        return self._pause(error)

    def _pause(self, error: Failure) -> float:
        """What the provider asked for, else twice as long with each attempt and never the same for two callers."""
        if isinstance(error, ProviderError) and error.retry_after is not None:
            return max(self._least_pause, error.retry_after)
        longest: float = min(MAX_PAUSE, FIRST_PAUSE * 2**self.attempts)
        return max(self._least_pause, longest * self._random.uniform(0.5, 1.0))


def fallbacks_for(settings: RouterSettings, group: str, error: ManifoldError) -> Sequence[str]:
    """The groups to ask in place of one that failed with this.

    They are those for such a failure, where any group has such, else those for any failure.
    """
    special: Mapping[str, Sequence[str]] = {}
    if error.code == CONTEXT_LENGTH_EXCEEDED:
        special = settings.context_window_fallbacks
    elif error.code in CONTENT_POLICY_CODES:
        special = settings.content_policy_fallbacks
    elif error.status in CALLERS_STATUSES:
        return ()
    if special:
        return _listed(special, group)
    return _listed({"*": settings.default_fallbacks, **settings.fallbacks}, group)


def fallbacks_for_withheld(settings: RouterSettings, group: str) -> Sequence[str]:
    """The groups to ask in place of one whose provider withheld its answer."""
    return _listed(settings.content_policy_fallbacks, group)


def is_withheld(answer: Mapping[str, Any]) -> bool:
    """Whether the provider withheld each choice of an answer, or its rest."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        return False
    return all(isinstance(choice, dict) and choice.get("finish_reason") == CONTENT_FILTER for choice in choices)


def _listed(configured: Mapping[str, Sequence[str]], group: str) -> Sequence[str]:
    """Those of the group, which may be none; those of `*` are for every group without its own."""
    return [name for name in configured.get(group, configured.get("*", ())) if name != group]


def no_room(group: str) -> CallFailed:
    """What is answered where each deployment has reached the `rpm` or `tpm` of its own."""
    return CallFailed(
        f"No deployment of '{group}' has room in this minute: try again later.",
        status=429,
        type="rate_limit_error",
        code="rate_limit_exceeded",
        retry_after=NO_ROOM_WAIT,
    )


def all_failing(group: str) -> CallFailed:
    """Why a group is passed over while another one could answer."""
    return CallFailed(f"Each deployment of '{group}' has just failed: try again later.", status=503, code=ALL_FAILING)
