"""What one environment shares between the requests whose calls it makes, and the router of each request."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from manifold.config import RouterSettings
from manifold.deployments import Deployments
from manifold.dispatch.attempts import Attempt, Report
from manifold.dispatch.choice import Chooser
from manifold.dispatch.concurrency import ConcurrencyLimits
from manifold.dispatch.deadline import Deadline
from manifold.dispatch.router import Router
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

    @asynccontextmanager
    async def router(
        self,
        deadline: Deadline,
        report: Report,
        may_use: Callable[[str], bool] = lambda group: True,
        *,
        retries: int | None = None,
    ) -> AsyncIterator[Router]:
        """The router of one request. When the context ends, how its calls ended is written down for the strategy.

        `report` is given every attempt; `may_use` says whether the caller may use a group; `retries` are the
        request's own, else those of `config.yaml` count.
        """
        async with self._chooser.choices() as choices:

            def note_and_report(attempt: Attempt) -> None:
                report(attempt)
                choices.note(attempt)

            yield Router(
                self._deployments,
                self._limits,
                deadline,
                note_and_report,
                choices,
                self._settings,
                may_use,
                retries=retries,
            )
