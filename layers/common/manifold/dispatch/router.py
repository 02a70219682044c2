"""The calls of one request: each to its group and, where that fails, to the group's fallbacks."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from manifold.config import Deployment, RouterSettings
from manifold.deployments import Deployments, unreadable
from manifold.dispatch import stream
from manifold.dispatch.attempts import Answer, Attempt, Body, PlannedCall, Report
from manifold.dispatch.choice import NONE_AVAILABLE, Choices
from manifold.dispatch.concurrency import ConcurrencyLimits
from manifold.dispatch.deadline import NOTE_SECONDS, Deadline, exceeded
from manifold.dispatch.fallbacks import fallbacks_for, fallbacks_for_any, fallbacks_for_withheld, is_withheld
from manifold.dispatch.group_attempts import BACKSTOP_SECONDS, GroupAttempts, Send
from manifold.dispatch.stream import Begun
from manifold.dispatch.token_usage import usage_of
from manifold.errors import ManifoldError, ProviderError
from manifold.providers.completion_provider import ProviderRequest, Route


class Access(Protocol):
    """Which groups the caller of a request may use."""

    def may_use(self, group: str) -> bool:
        """Whether it may use this group, by what is known by now."""

    async def refresh(self) -> None:
        """Have `may_use` go by what the caller may do now. Raises a `ManifoldError` if that is nothing any more."""


class Router:
    """The calls of one request, which may be made at the same time. `Dispatcher.router` makes it.

    It holds the request's deadline, choices and report, and is closed after its calls. Each call ends at the deadline
    at the latest. If no group answers, the error is that of the call's own group: `CallFailed`, or `InvalidRequest`
    where its providers cannot take the request. Fallbacks keep to the caller's `access` where the admin said so; with
    `None` it has access to all.
    """

    def __init__(
        self,
        deployments: Deployments,
        limits: ConcurrencyLimits,
        deadline: Deadline,
        report: Report,
        choices: Choices,
        settings: RouterSettings,
        access: Access | None,
        *,
        retries: int | None = None,
    ) -> None:
        self.deadline = deadline
        self.report = report
        self._deployments = deployments
        self._choices = choices
        self._settings = settings
        self._access = access if settings.enforce_fallback_model_access else None
        retries = settings.num_retries if retries is None else retries
        self._attempts = GroupAttempts(deployments, limits, deadline, report, choices, settings, retries)

    async def close(self) -> None:
        """Write down how the calls ended, for the routing strategy."""
        await self._choices.close()

    async def complete(self, call: PlannedCall) -> Answer[dict[str, Any]]:
        """OpenAI's answer object, reported. Where the provider withheld it, another group's that does not, if any."""
        answer = await self._in_time(self._answer(call, self._deployments.complete))
        self._report_answer(call, answer)
        if answer.deployment.group == call.group and is_withheld(answer.body):
            return await self._fall_back(call, answer)
        return answer

    async def begin(self, call: PlannedCall) -> Answer[Begun]:
        """A stream up to its first token, so that a deployment which fails before it can be replaced.

        Whoever has it reads it by `next`, closes it, and then reports the attempt.
        """
        return await self._in_time(self._answer(call, self._begin))

    async def next(self, begun: Answer[Begun], route: Route) -> dict[str, Any] | None:
        """The next chunk of a stream that has begun, `None` at its end; `ProviderError` if it breaks off or pauses."""
        timeout = self._attempts.timeout(begun.deployment, stream=True) or self.deadline.total / 2
        bound = self.deadline.bound(timeout, others=False)
        try:
            async with asyncio.timeout(bound.seconds):
                return await anext(begun.body.rest, None)
        except TimeoutError:
            failure = bound.passed()
        except ProviderError as error:
            failure = error
        except ManifoldError:
            raise
        except Exception as error:  # the part of the answer that has come is paid for
            failure = unreadable(error, deployment_id=begun.deployment.id)
        await self._attempts.count_failure(begun.deployment, route, failure)
        raise failure

    async def _begin(self, deployment: Deployment, request: ProviderRequest) -> Begun:
        whole = self.deadline.bound(None, others=False).uncut
        return await stream.begin(self._deployments, deployment, request._replace(timeout=whole + BACKSTOP_SECONDS))

    async def _answer(self, call: PlannedCall, send: Send[Body]) -> Answer[Body]:
        """The group's answer or, where it fails, that of the first of its fallbacks that gives one.

        Groups that were skipped, as all their deployments are in cooldown, are tried after all if none does.
        """
        has_fallback = bool(self._calls(call, fallbacks_for_any(self._settings, call.group)))
        try:
            return await self._attempts.answer(call, send, has_fallback=has_fallback)
        except ManifoldError as error:
            failure = error
        others = await self._allowed(call, fallbacks_for(self._settings, call.group, failure))
        turns = [*_turns(others), *_another_turn(call, failure)]
        for one, has_fallback in turns:
            try:
                return await self._attempts.answer(one, send, has_fallback=has_fallback)
            except ManifoldError as error:
                turns += _another_turn(one, error)
                failure = error if one is call else failure  # the client's error is that of the call's own group
        raise failure

    async def _fall_back(self, call: PlannedCall, withheld: Answer[dict[str, Any]]) -> Answer[dict[str, Any]]:
        """The first answer of a fallback that is not withheld, else this one."""
        others = await self._allowed(call, fallbacks_for_withheld(self._settings, call.group))
        turns = _turns(others)
        for other, has_fallback in turns:
            attempts = self._attempts.answer(other, self._deployments.complete, has_fallback=has_fallback)
            try:
                answer = await self._in_time(attempts)
            except ManifoldError as error:
                turns += _another_turn(other, error)
                continue
            self._report_answer(other, answer)
            if not is_withheld(answer.body):
                return answer
        return withheld

    async def _allowed(self, call: PlannedCall, groups: Sequence[str]) -> list[PlannedCall]:
        """The same as `_calls`, by what the caller may do now: another group's answer may be nothing to it."""
        if groups and self._access is not None:
            await self._access.refresh()
        return self._calls(call, groups)

    def _calls(self, call: PlannedCall, groups: Sequence[str]) -> list[PlannedCall]:
        """The same call to each of these groups that serves its route and, where that counts, is open to the caller."""
        return [
            call._replace(group=group)
            for group in groups
            if self._access is None or self._access.may_use(group)
            if self._deployments.serving(group, call.route)
        ]

    def _report_answer(self, call: PlannedCall, answer: Answer[dict[str, Any]]) -> None:
        self.report(Attempt(answer.deployment, call.route, answer.seconds, usage_of(call.body, answer.body)))

    async def _in_time(self, answer: Awaitable[Answer[Body]]) -> Answer[Body]:
        """Each attempt ends by itself before the deadline; this is for what else may take long."""
        try:
            async with asyncio.timeout_at(self.deadline.at + NOTE_SECONDS):
                return await answer
        except TimeoutError:
            raise exceeded() from None


def _turns(calls: Sequence[PlannedCall]) -> list[tuple[PlannedCall, bool]]:
    """Each call, and whether another one follows it."""
    return [(call, number < len(calls)) for number, call in enumerate(calls, 1)]


def _another_turn(call: PlannedCall, error: ManifoldError) -> list[tuple[PlannedCall, bool]]:
    """Another turn, after all others, of a call whose group was skipped: then it is tried whatever its cooldowns."""
    return [(call, False)] if error.code == NONE_AVAILABLE else []
