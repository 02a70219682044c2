"""What is tried after a failed attempt within one group: pure, without clock or I/O."""

from collections.abc import Sequence
from random import Random
from typing import Literal

from manifold.config import Deployment
from manifold.dispatch.attempts import Failure
from manifold.errors import InvalidRequest, ProviderError
from manifold.provider_errors import ACCOUNT_CODES, fault_of

FIRST_PAUSE = 0.25
MAX_PAUSE = 4.0
"""Seconds before a deployment that has just failed is tried again, where it does not say how many."""

RetryScope = Literal["anywhere", "elsewhere", "nowhere"]


def retry_scope(error: Failure) -> RetryScope:
    """Where another attempt may succeed: `elsewhere` is any deployment but the one that failed."""
    if isinstance(error, InvalidRequest):
        return "elsewhere"
    if fault_of(error) == "request":
        return "nowhere"
    return "elsewhere" if error.lasting or error.code in ACCOUNT_CODES else "anywhere"


class RetryPlan:
    """The attempts of one call at one group. Each deployment is tried once before any is tried a second time, unless
    those that are left get no call for now: then whoever makes the attempts has all of them tried `again`.

    `retries` is how many attempts may follow the first, `least_pause` the seconds before a deployment is tried again.
    """

    def __init__(
        self, deployments: Sequence[Deployment], retries: int, random: Random, least_pause: float = 0.0
    ) -> None:
        self.usable = list(deployments)
        """Those that may answer, tried or not."""
        self.candidates = list(deployments)
        """Those to choose the next attempt's deployment from."""
        self._left = retries
        self._random = random
        self._least_pause = least_pause
        self._error: Failure | None = None
        self.attempts = 0

    @property
    def has_another(self) -> bool:
        """Whether the attempt that is under way, if it fails, is followed by one at another deployment."""
        return len(self.candidates) > 1 and self.attempts <= self._left

    def failed(self, deployment: Deployment, error: Failure) -> float | None:
        """Note a failed attempt. Returns the seconds to wait before the next one, `None` if there is to be none."""
        scope = retry_scope(error)
        self._error = error
        self.candidates.remove(deployment)
        if scope != "anywhere":
            self.usable.remove(deployment)
        if scope == "nowhere" or self.attempts > self._left:
            return None
        return 0.0 if self.candidates else self.again()

    def again(self) -> float | None:
        """Have those that were tried as candidates, too. Returns the seconds to wait before, `None` if there are none.

        It is the provider's own number, else twice as long with each attempt, and never the same for two callers.
        """
        if len(self.candidates) == len(self.usable):
            return None
        self.candidates = list(self.usable)
        error = self._error
        if isinstance(error, ProviderError) and error.retry_after is not None:
            return max(self._least_pause, error.retry_after)
        longest: float = min(MAX_PAUSE, FIRST_PAUSE * 2**self.attempts)
        return max(self._least_pause, longest * self._random.uniform(0.5, 1.0))
