"""The attempts of a call at one model group: a deployment, then others or the same one again, until one answers."""

import asyncio
from collections.abc import Awaitable, Callable
from random import SystemRandom

from manifold import observe
from manifold.config import Deployment, RouterSettings
from manifold.deployments import Deployments, unreadable
from manifold.dispatch.attempts import Answer, Attempt, Body, Failure, PlannedCall, Report
from manifold.dispatch.choice import Choices, at_limits, none_available
from manifold.dispatch.concurrency import ConcurrencyLimits
from manifold.dispatch.deadline import Cut, Deadline, TimedOut, cancelled, exceeded, now
from manifold.dispatch.retries import RetryPlan, retry_scope
from manifold.dispatch.token_usage import estimated
from manifold.errors import InvalidRequest, ManifoldError, ProviderError
from manifold.providers.completion_provider import ProviderRequest, Route

Send = Callable[[Deployment, ProviderRequest], Awaitable[Body]]
"""Sends a request to a deployment, and returns its answer or a stream that has begun."""
BACKSTOP_SECONDS = 1.0
"""The HTTP client's own timeout is so much later than the attempt's bound, which alone decides whose failure it is. It
depends on no caller's `timeout`, as the time for a connection is part of it."""
_random = SystemRandom()  # it has no state that a snapshot would repeat


class GroupAttempts:
    """The attempts of one request's calls. `Router` calls `answer` once for each group that a call goes to.

    Each attempt waits for the deployment's limits, ends within its own bound, and is reported if it gave no answer; an
    answer is reported by whoever has it, as the usage of a stream is known at its end.
    """

    def __init__(
        self,
        deployments: Deployments,
        limits: ConcurrencyLimits,
        deadline: Deadline,
        report: Report,
        choices: Choices,
        settings: RouterSettings,
        retries: int,
    ) -> None:
        self._deployments = deployments
        self._limits = limits
        self._deadline = deadline
        self._report = report
        self._choices = choices
        self._settings = settings
        self._retries = retries

    async def answer(self, call: PlannedCall, send: Send[Body], *, has_fallback: bool) -> Answer[Body]:
        """The first answer of one of the group's deployments.

        Raises `CallFailed` or `InvalidRequest`, the error of the last attempt. `has_fallback` says whether another
        group could still answer: that one is tried at once where each deployment of this group is in cooldown.
        """
        deployments = self._deployments.serving(call.group, call.route)
        plan = RetryPlan(deployments, self._retries, _random, self._settings.retry_after)
        if has_fallback and self._choices.all_in_cooldown(plan.usable):
            raise none_available(call.group)
        while self._deadline.left > 0:
            chosen = await self._choose(plan)
            if chosen is None:
                pause = plan.again()
                if pause is None:
                    raise at_limits(call.group)
            else:
                deployment = chosen
                plan.attempts += 1
                others = has_fallback or plan.has_another
                try:
                    return await self._attempt(call, deployment, send, plan.attempts, others=others)
                except (ProviderError, InvalidRequest) as error:
                    failure = error
                await self.count_failure(deployment, call.route, failure)
                pause = plan.failed(deployment, failure)
            skip = has_fallback and self._choices.all_in_cooldown(plan.usable)
            if pause is None or pause >= self._deadline.left or skip:
                raise self._last(failure, deployment, plan.attempts)
            await asyncio.sleep(pause)
        raise exceeded()

    async def once(self, call: PlannedCall, deployment: Deployment, send: Send[Body]) -> Answer[Body]:
        """The answer of this deployment to one attempt. Raises `ProviderError` or `InvalidRequest`."""
        return await self._attempt(call, deployment, send, 1, others=False)

    async def count_failure(self, deployment: Deployment, route: Route, failure: Failure) -> None:
        """Count a failure, unless it can change nothing, as there is no other deployment to try."""
        alone = len(self._deployments.serving(deployment.group, route)) < 2
        if not alone or self._settings.fallbacks or self._settings.default_fallbacks:
            await self._choices.failed(deployment, failure)

    def timeout(self, deployment: Deployment, *, stream: bool) -> float | None:
        """What `config.yaml` says, in seconds: of a stream, for its first token and for each pause after it."""
        of_stream = (deployment.stream_timeout or self._settings.stream_timeout) if stream else None
        return of_stream or deployment.timeout or self._settings.timeout

    async def _choose(self, plan: RetryPlan) -> Deployment | None:
        """The candidate to try; `None` if each is at its limits, or in cooldown while one that was tried is not."""
        if self._choices.all_in_cooldown(plan.candidates) and not self._choices.all_in_cooldown(plan.usable):
            return None
        return await self._choices.choose(plan.candidates)

    async def _attempt(
        self, call: PlannedCall, deployment: Deployment, send: Send[Body], number: int, *, others: bool
    ) -> Answer[Body]:
        """One attempt, once the deployment's limits allow it. What ends it without an answer is reported, and raised.

        `number` counts the attempts from 1, `others` says whether another one could follow. A call whose deadline has
        passed by then is not sent.
        """
        async with self._limits.at(deployment):
            if self._deadline.left <= 0:
                raise exceeded()
            timeout = self.timeout(deployment, stream=call.body.get("stream") is True)
            bound = self._deadline.bound(timeout, others=others)
            request = ProviderRequest(call.route, call.body, bound.uncut + BACKSTOP_SECONDS, self._settings.drop_params)
            began = now()
            try:
                async with asyncio.timeout(bound.seconds):
                    body = await send(deployment, request)
                return Answer(body, deployment, number, now() - began)
            except asyncio.CancelledError as error:
                self._report(_unanswered(call, deployment, began, cancelled(error)))
                raise
            except TimeoutError:
                failure: Failure = bound.passed()
            except (ProviderError, InvalidRequest) as error:
                failure = error
            except ManifoldError:
                raise
            except Exception as error:  # it may be paid for, and is recorded like any other
                failure = unreadable(error, deployment_id=deployment.id)
            self._report(_unanswered(call, deployment, began, failure))
            raise failure

    def _last(self, failure: Failure, deployment: Deployment, attempts: int) -> ManifoldError:
        """The client's error after the last attempt, which is logged where an operator could mend its cause."""
        if isinstance(failure, InvalidRequest):
            return failure
        if retry_scope(failure) != "nowhere" and not isinstance(failure, Cut):
            observe.failed("call_failed", failure, deployment_id=deployment.id, attempts=attempts)
        return self._deadline.failure(failure)


def _unanswered(call: PlannedCall, deployment: Deployment, began: float, error: Failure) -> Attempt:
    """An attempt without an answer. One that was cut short had been sent, so its prompt counts."""
    usage = estimated(call.body) if isinstance(error, Cut | TimedOut) else None
    return Attempt(deployment, call.route, now() - began, usage, error)
