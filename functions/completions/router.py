"""One call to a model group: a deployment is chosen, and after a failure another one, until there is an answer."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Generic, TypeVar

from completions import usage
from completions.deadline import Deadline, exceeded
from completions.ledger import Attempt, Report
from completions.plan import Call
from completions.retries import RETRIES, Course, Failure, hope
from completions.room import Room
from manifold import observe, routing
from manifold.config import Deployment
from manifold.deployments import Deployments
from manifold.errors import CallFailed, InvalidRequest, ManifoldError, ProviderError
from manifold.providers.chat import Ask

Body = TypeVar("Body")
Choose = Callable[[Sequence[Deployment]], Deployment]
Chunks = AsyncGenerator[dict[str, Any], None]
random = Random()


@dataclass(frozen=True, slots=True)
class Answer(Generic[Body]):
    """What a deployment gave, and how it was come by."""

    body: Body
    deployment: Deployment
    attempts: int
    """Of all the group's deployments together."""
    seconds: float
    """That the last attempt took; of a stream, to its first token."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A stream of which the first token has come. Whoever has it closes `rest`."""

    head: Sequence[dict[str, Any]]
    rest: Chunks


def simple_shuffle(candidates: Sequence[Deployment]) -> Deployment:
    return routing.simple_shuffle(candidates, random)


class Router:
    """The calls of one request."""

    def __init__(
        self,
        deployments: Deployments,
        room: Room,
        deadline: Deadline,
        report: Report,
        *,
        retries: int | None = None,
        choose: Choose = simple_shuffle,
    ) -> None:
        self._deployments = deployments
        self._room = room
        self._deadline = deadline
        self._report = report
        self._retries = RETRIES if retries is None else retries
        self._choose = choose

    async def complete(self, call: Call) -> Answer[dict[str, Any]]:
        """OpenAI's answer object with the group's name as `model`; raises `CallFailed` or `InvalidRequest`."""
        answer = await self._in_time(call, self._deployments.complete)
        self._report(Attempt(answer.deployment, call.route, answer.seconds, answer.body.get("usage")))
        answer.body["model"] = call.group
        return answer

    async def begin(self, call: Call) -> Answer[Begun]:
        """A stream up to its first token, so that a deployment which fails before it can be replaced.

        Its chunks have the provider's own `model`, and whoever reads them to the end reports the attempt.
        """
        return await self._in_time(call, self._begin)

    async def next(self, chunks: Chunks) -> dict[str, Any] | None:
        """The next chunk of a stream that has begun, `None` at its end."""
        try:
            async with asyncio.timeout_at(self._deadline.at):
                return await anext(chunks, None)
        except TimeoutError:
            raise exceeded() from None

    def failure(self, error: ProviderError) -> CallFailed:
        """What the client is told of a provider's error: the deadline's own, where that is why it came."""
        return exceeded() if self._deadline.left <= 0 else error.answer()

    async def _begin(self, deployment: Deployment, ask: Ask) -> Begun:
        chunks = self._deployments.stream(deployment, replace(ask, body=usage.metered(ask.body, deployment)))
        head: list[dict[str, Any]] = []
        async for chunk in chunks:
            head.append(chunk)
            if _has_token(chunk):
                break
        return Begun(head, chunks)

    async def _in_time(self, call: Call, attempt: Callable[[Deployment, Ask], Awaitable[Body]]) -> Answer[Body]:
        if self._deadline.left <= 0:
            raise exceeded()
        try:
            async with asyncio.timeout_at(self._deadline.at):
                return await self._attempts(call, attempt)
        except TimeoutError:
            raise exceeded() from None

    async def _attempts(self, call: Call, attempt: Callable[[Deployment, Ask], Awaitable[Body]]) -> Answer[Body]:
        course = Course(self._deployments.serving(call.group, call.route), self._retries, random)
        while True:
            deployment = self._choose(course.candidates)
            course.attempts += 1
            async with self._room.at(deployment):
                began = _now()
                try:
                    body = await attempt(deployment, self._ask(call, deployment))
                except (ProviderError, InvalidRequest) as error:
                    failure = error
                else:
                    return Answer(body, deployment, course.attempts, _now() - began)
            self._report(Attempt(deployment, call.route, _now() - began, error=failure))
            pause = course.failed(deployment, failure)
            if pause is None or pause >= self._deadline.left:
                raise self._last(failure, deployment, course.attempts)
            await asyncio.sleep(pause)

    def _ask(self, call: Call, deployment: Deployment) -> Ask:
        timeout = min(deployment.timeout or self._deadline.left, self._deadline.left)
        return Ask(call.route, call.body, timeout)

    def _last(self, failure: Failure, deployment: Deployment, attempts: int) -> ManifoldError:
        if isinstance(failure, InvalidRequest):
            return failure
        if hope(failure) != "nowhere":  # the caller's own fault is the caller's to mend
            text = failure.message
            observe.warning(
                "call_failed", deployment_id=deployment.id, status=failure.status, text=text, attempts=attempts
            )
        return self.failure(failure)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _has_token(chunk: dict[str, Any]) -> bool:
    """Whether a chunk holds more of an answer than that there will be one."""
    for choice in chunk.get("choices") or ():
        if choice.get("text") or choice.get("finish_reason"):
            return True
        if any(value for name, value in (choice.get("delta") or {}).items() if name != "role"):
            return True
    return False
