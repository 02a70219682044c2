"""One call to a model group: a deployment is chosen, and after a failure another one, until there is an answer."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Generic, Protocol, TypeVar

from completions import usage
from completions.concurrency import ConcurrencyLimits
from completions.deadline import NOTE_SECONDS, Bound, Cut, Deadline, TimedOut, cancelled, exceeded
from completions.ledger import Attempt, Report
from completions.plan import PlannedCall
from completions.retries import (
    ALL_FAILING,
    Failure,
    RetryPlan,
    all_failing,
    fallbacks_for,
    fallbacks_for_withheld,
    is_withheld,
    no_room,
    retry_scope,
)
from manifold import observe
from manifold.config import Deployment, RouterSettings
from manifold.deployments import Deployments
from manifold.errors import CallFailed, InvalidRequest, ManifoldError, ProviderError
from manifold.providers.chat import ProviderRequest, Route

Body = TypeVar("Body")
Chunks = AsyncGenerator[dict[str, Any], None]
random = Random()
BACKSTOP_SECONDS = 1.0
"""The HTTP client's own limit comes so much later than the attempt's, which alone says what its end means. It depends
on no caller: the time that a connection may take is part of it."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[Body]):
    """What a deployment gave, and how it was come by."""

    body: Body
    deployment: Deployment
    attempts: int
    """Of all the group's deployments together."""
    seconds: float
    """That the last attempt took; of a stream, to its first token."""


Attempting = Callable[[Deployment, ProviderRequest], Awaitable[Body]]


@dataclass(frozen=True, slots=True)
class Begun:
    """A stream of which the first token has come. Whoever has it closes `rest`."""

    head: Sequence[dict[str, Any]]
    rest: Chunks


class Choices(Protocol):
    """`completions.selection.Selection`, as far as the router needs it."""

    async def choose(self, candidates: Sequence[Deployment]) -> Deployment | None:
        """The deployment to ask, or `None` if none has room."""
        ...

    async def failed(self, deployment: Deployment, error: Failure) -> None:
        """Count a failure of a deployment that another could stand in for."""
        ...

    def failing(self, candidates: Sequence[Deployment]) -> bool:
        """Whether each of them is in cooldown."""
        ...


class Router:
    """The calls of one request. `may_use` tells whether its caller could have asked for a group."""

    def __init__(
        self,
        deployments: Deployments,
        limits: ConcurrencyLimits,
        deadline: Deadline,
        report: Report,
        choices: Choices,
        settings: RouterSettings,
        may_use: Callable[[str], bool],
        *,
        retries: int | None = None,
    ) -> None:
        self._deployments = deployments
        self._limits = limits
        self._deadline = deadline
        self._report = report
        self._choices = choices
        self._settings = settings
        self._may_use = may_use
        self._retries = settings.num_retries if retries is None else retries

    async def complete(self, call: PlannedCall) -> Answer[dict[str, Any]]:
        """OpenAI's answer object with the name of the group that gave it as `model`.

        Raises `CallFailed` or `InvalidRequest`.
        """
        answer = await self._in_time(self._anywhere(call, self._deployments.complete))
        self._report_answer(call, answer)
        if answer.deployment.group == call.group and is_withheld(answer.body):
            answer = await self._fall_back(call, answer)
        answer.body["model"] = answer.deployment.group
        return answer

    async def begin(self, call: PlannedCall) -> Answer[Begun]:
        """A stream up to its first token, so that a deployment which fails before it can be replaced.

        Its chunks have the provider's own `model`, and whoever reads them to the end reports the attempt.
        """
        return await self._in_time(self._anywhere(call, self._begin))

    async def next(self, begun: Answer[Begun], route: Route) -> dict[str, Any] | None:
        """The next chunk of a stream that has begun, `None` at its end; `ProviderError` if it breaks off or pauses."""
        own = self._own_timeout(begun.deployment, stream=True) or self._deadline.patience / 2
        bound = self._deadline.bound(own, others=False)
        try:
            async with asyncio.timeout(bound.seconds):
                return await anext(begun.body.rest, None)
        except TimeoutError:
            error = bound.passed()
        except ProviderError as broken:
            error = broken
        await self._failed(begun.deployment, route, error)
        raise error

    def failure(self, error: ProviderError) -> CallFailed:
        """What the client is told of a provider's error: the deadline's own, where that is why it came."""
        return exceeded() if self._deadline.left <= 0 else error.answer()

    async def _begin(self, deployment: Deployment, request: ProviderRequest) -> Begun:
        whole = self._deadline.bound(None, others=False).natural
        request = replace(request, body=usage.metered(request.body, deployment), timeout=whole + BACKSTOP_SECONDS)
        chunks = self._deployments.stream(deployment, request)
        head: list[dict[str, Any]] = []
        async for chunk in chunks:
            head.append(chunk)
            if _has_token(chunk):
                break
        return Begun(head, chunks)

    async def _fall_back(self, call: PlannedCall, withheld: Answer[dict[str, Any]]) -> Answer[dict[str, Any]]:
        """The answer of the first group that gives one in place of this, or this."""
        others = self._calls(call, fallbacks_for_withheld(self._settings, call.group))
        for left, other in _counted_down(others):
            with contextlib.suppress(ManifoldError):
                answer = await self._in_time(self._attempts(other, self._deployments.complete, spare=left > 0))
                self._report_answer(other, answer)
                if not is_withheld(answer.body):
                    return answer
        return withheld

    def _report_answer(self, call: PlannedCall, answer: Answer[dict[str, Any]]) -> None:
        self._report(Attempt(answer.deployment, call.route, answer.seconds, usage.of_answer(call.body, answer.body)))

    async def _in_time(self, answer: Awaitable[Answer[Body]]) -> Answer[Body]:
        """Each attempt ends by itself before the deadline; this is for what else may take long."""
        try:
            async with asyncio.timeout_at(self._deadline.at + NOTE_SECONDS):
                return await answer
        except TimeoutError:
            raise exceeded() from None

    async def _anywhere(self, call: PlannedCall, attempt: Attempting[Body]) -> Answer[Body]:
        """The group's answer or, where it fails, that of the first group that can stand in for it.

        A group that was passed over is asked after all, where no other gives an answer.
        """
        spare = bool(self._calls(call, fallbacks_for(self._settings, call.group, exceeded())))
        try:
            return await self._attempts(call, attempt, spare=spare)
        except ManifoldError as error:
            failure = error
        for left, other in _counted_down(self._calls(call, fallbacks_for(self._settings, call.group, failure))):
            with contextlib.suppress(ManifoldError):  # the group that was asked for says why
                return await self._attempts(other, attempt, spare=left > 0)
        if failure.code == ALL_FAILING:
            return await self._attempts(call, attempt, spare=False)
        raise failure

    def _calls(self, call: PlannedCall, groups: Sequence[str]) -> list[PlannedCall]:
        """The same call to each of these groups that may stand in and answers on its route."""
        return [
            replace(call, group=group)
            for group in groups
            if not self._settings.enforce_fallback_model_access or self._may_use(group)
            if self._deployments.serving(group, call.route)
        ]

    async def _attempts(self, call: PlannedCall, attempt: Attempting[Body], *, spare: bool) -> Answer[Body]:
        """The group's answer; `spare` says whether another group could still give one if it fails.

        That one is asked at once where each deployment of this group has just failed.
        """
        plan = RetryPlan(
            self._deployments.serving(call.group, call.route), self._retries, random, self._settings.retry_after
        )
        if spare and self._choices.failing(plan.candidates):
            raise all_failing(call.group)
        while self._deadline.left > 0:
            deployment = await self._choices.choose(plan.candidates)
            if deployment is None:
                raise no_room(call.group)
            plan.attempts += 1
            async with self._limits.at(deployment):
                own = self._own_timeout(deployment, stream=call.body.get("stream") is True)
                bound = self._deadline.bound(own, others=spare or plan.has_another)
                began = _now()
                try:
                    body = await self._attempt(call, deployment, attempt, bound)
                except (ProviderError, InvalidRequest) as error:
                    failure = error
                else:
                    return Answer(body, deployment, plan.attempts, _now() - began)
            await self._failed(deployment, call.route, failure)
            pause = plan.failed(deployment, failure)
            passed_over = spare and self._choices.failing(plan.candidates)
            if pause is None or pause >= self._deadline.left or passed_over:
                raise self._last(failure, deployment, plan.attempts)
            await asyncio.sleep(pause)
        raise exceeded()

    async def _attempt(
        self, call: PlannedCall, deployment: Deployment, attempt: Attempting[Body], bound: Bound
    ) -> Body:
        """One attempt within its bound. Whatever ends it without an answer, it is reported as that."""
        began = _now()
        try:
            async with asyncio.timeout(bound.seconds):
                return await attempt(deployment, self._request(call, bound))
        except asyncio.CancelledError as error:
            self._report(_unanswered(call, deployment, began, cancelled(error)))
            raise
        except TimeoutError:
            failure: Failure = bound.passed()
        except (ProviderError, InvalidRequest) as error:
            failure = error
        self._report(_unanswered(call, deployment, began, failure))
        raise failure

    async def _failed(self, deployment: Deployment, route: Route, failure: Failure) -> None:
        """Count a failure, unless it can change nothing, as there is no other deployment to ask."""
        alone = len(self._deployments.serving(deployment.group, route)) < 2
        if not alone or self._settings.fallbacks or self._settings.default_fallbacks:
            await self._choices.failed(deployment, failure)

    def _request(self, call: PlannedCall, bound: Bound) -> ProviderRequest:
        return ProviderRequest(call.route, call.body, bound.natural + BACKSTOP_SECONDS, self._settings.drop_params)

    def _own_timeout(self, deployment: Deployment, *, stream: bool) -> float | None:
        """What `config.yaml` says, in seconds: of a stream, for its first token and for each pause after it."""
        streams = (deployment.stream_timeout or self._settings.stream_timeout) if stream else None
        return streams or deployment.timeout or self._settings.timeout

    def _last(self, failure: Failure, deployment: Deployment, attempts: int) -> ManifoldError:
        if isinstance(failure, InvalidRequest):
            return failure
        if retry_scope(failure) != "nowhere" and not isinstance(
            failure, Cut
        ):  # what is the caller's is the caller's to mend
            observe.failed("call_failed", failure, deployment_id=deployment.id, attempts=attempts)
        return self.failure(failure)


def _unanswered(call: PlannedCall, deployment: Deployment, began: float, error: Failure) -> Attempt:
    """An attempt without an answer. One that was cut short had been sent, so its prompt counts."""
    sent = usage.estimated(call.body) if isinstance(error, Cut | TimedOut) else None
    return Attempt(deployment, call.route, _now() - began, sent, error)


def _counted_down(calls: Sequence[PlannedCall]) -> Iterator[tuple[int, PlannedCall]]:
    """Each call, and how many follow it."""
    return zip(range(len(calls) - 1, -1, -1), calls, strict=True)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _has_token(chunk: dict[str, Any]) -> bool:
    """Whether a chunk holds more of an answer than that there will be one."""
    return usage.pieces(chunk) > 0 or any(choice.get("finish_reason") for choice in chunk.get("choices") or ())
