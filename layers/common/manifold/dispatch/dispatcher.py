"""What one environment shares between the requests whose calls it makes, and the router of each request."""

from typing import Any

from manifold.config import Deployment, RouterSettings
from manifold.deployments import Deployments
from manifold.dispatch.attempts import Answer, Attempt, PlannedCall, Report
from manifold.dispatch.choice import Choices, Chooser
from manifold.dispatch.concurrency import ConcurrencyLimits
from manifold.dispatch.deadline import Deadline
from manifold.dispatch.group_attempts import GroupAttempts
from manifold.dispatch.router import Access, Router
from manifold.prices import Prices
from manifold.store import Store


class Dispatcher:
    """The calls of one environment: its limits for each deployment, and what it knows of cooldowns and prices.

    `max_seconds` is how long a request may last at most.
    """

    def __init__(
        self, deployments: Deployments, settings: RouterSettings, store: Store, prices: Prices, max_seconds: float
    ) -> None:
        self._deployments = deployments
        self._settings = settings
        self._limits = ConcurrencyLimits()
        self._chooser = Chooser(settings, store, prices, max_seconds)

    def router(
        self,
        deadline: Deadline,
        report: Report,
        access: Access | None = None,
        *,
        retries: int | None = None,
    ) -> Router:
        """The router of one request, which is to be closed.

        `report` is given every attempt; `access` says which groups the caller may use; `retries` are the
        request's own, else those of `config.yaml` count.
        """
        choices = Choices(self._chooser)

        def note_and_report(attempt: Attempt) -> None:
            report(attempt)
            choices.note(attempt)

        return Router(
            self._deployments,
            self._limits,
            deadline,
            note_and_report,
            choices,
            self._settings,
            access,
            retries=retries,
        )

    async def attempt(self, call: PlannedCall, deployment: Deployment, deadline: Deadline) -> Answer[dict[str, Any]]:
        """The answer of this deployment, whose limits the caller keeps, to one attempt.

        Nothing is written down of it, and nothing is tried after it. Raises `ProviderError` or `InvalidRequest`.
        """
        choices = Choices(self._chooser)
        attempts = GroupAttempts(
            self._deployments, ConcurrencyLimits(), deadline, _unreported, choices, self._settings, retries=0
        )
        return await attempts.once(call, deployment, self._deployments.complete)


def _unreported(_: Attempt) -> None:
    """Whoever makes an attempt of its own has its outcome."""
