"""One request of a chunk: a call through `manifold.dispatch`, and what its outcome means for the line."""

import asyncio
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

import orjson

from batches.execution.permits import Permit, Permits
from manifold import lenient_json, observe, storable
from manifold.config import Deployment
from manifold.deployments import unreadable
from manifold.dispatch.attempts import PlannedCall
from manifold.dispatch.deadline import Deadline, now
from manifold.dispatch.dispatcher import Dispatcher
from manifold.dispatch.token_usage import estimated, usage_of
from manifold.errors import InvalidRequest, ManifoldError, ProviderError, ProviderUnclear
from manifold.provider_errors import client_error, fault_of, is_key_refused, request_error
from manifold.providers.completion_provider import Route

ROUTES: Mapping[str, Route] = {
    "/v1/chat/completions": "/chat/completions",
    "/v1/completions": "/completions",
    "/v1/embeddings": "/embeddings",
    "/v1/responses": "/responses",
}
"""The routes of completions, by the batch's endpoint."""
NOT_OF_BATCHES = ("stream", "stream_options")
"""What a line of a batch cannot ask for."""
PROBES: Mapping[Route, dict[str, Any]] = {
    "/chat/completions": {"messages": [{"role": "user", "content": "ping"}], "max_tokens": 1},
    "/completions": {"prompt": "ping", "max_tokens": 1},
    "/embeddings": {"input": "ping"},
    "/responses": {"input": "ping", "max_output_tokens": 16},
}
"""The smallest request of each route, which tells whether a provider answers at all."""
SUCCESS = 200
BUSY_SECONDS = 5.0
"""Pause after a 429 that does not say how long."""

Means = Literal["answered", "refused", "busy", "account", "failed"]
"""What the call of a request came to:

- `answered`: the provider answered, with an answer or with an error of the request's own;
- `refused`: the request cannot be translated for it;
- `busy`: it wants no calls for now, or is overloaded;
- `account`: it refused our key, our bill, the model or the API, or we have no address or key of it;
- `failed`: by any other fault of the provider, or of ours.
"""


class Request(NamedTuple):
    """A request of a chunk."""

    number: int
    """Its place in the chunk, from 0."""
    line: bytes


class Outcome(NamedTuple):
    """What the call of a request came to."""

    means: Means
    result: bytes
    """The line of the output or the error file, if the request is not called again."""
    failed: bool = True
    error: ProviderError | None = None
    """The provider's."""
    begun: float = 0.0
    """When the call began, by the running event loop's clock."""


class LineCalls:
    """Calls the requests of one chunk, each once: whoever has an outcome decides whether there is another call.

    `seconds` is how long a call may take.
    """

    def __init__(
        self, dispatcher: Dispatcher, deployment: Deployment, route: Route, permits: Permits, seconds: float
    ) -> None:
        self._dispatcher = dispatcher
        self._deployment = deployment
        self._route = route
        self._permits = permits
        self._seconds = seconds

    async def call(self, request: Request, result_id: str) -> Outcome:
        """Call a request once a call may begin. Raises `Closed` if none begins any more."""
        written = lenient_json.request(request.line)
        body = {name: value for name, value in written["body"].items() if name not in NOT_OF_BATCHES}
        async with self._permits.at(_prompt_tokens(body)) as permit:
            begun = now()
            means, answer, error = await self._call(body, permit)
        custom_id, failed = written["custom_id"], answer.status != SUCCESS
        try:
            result = _result(result_id, custom_id, answer)
        except TypeError:  # orjson reads 1,024 levels, and writes 254
            too_deep = _Answer.of(client_error(ProviderUnclear("an answer that is nested too deep")))
            result, failed = _result(result_id, custom_id, too_deep), True
        if not failed:
            self._permits.ramp.answered(len(result))
        return Outcome(means, result, failed, error, begun)

    async def probe(self, seconds: float) -> tuple[Means | None, ProviderError | None]:
        """What the smallest request comes to within so many seconds; `None` if it may not be called in that time.

        Raises `Closed` if no probe begins any more.
        """
        body, begun = PROBES[self._route], False
        try:
            async with asyncio.timeout(seconds), self._permits.at(_prompt_tokens(body), probes=True) as permit:
                begun = True
                means, _, error = await self._call(body, permit)
        except TimeoutError:
            return ("failed" if begun else None), None
        return means, error

    async def _call(self, body: dict[str, Any], permit: Permit) -> "tuple[Means, _Answer, ProviderError | None]":
        call = PlannedCall(self._deployment.group, self._route, body)
        try:
            answer = await self._dispatcher.attempt(call, self._deployment, Deadline.after(self._seconds))
        except InvalidRequest as error:
            permit.unused()
            return "refused", _Answer.of(error), None
        except ProviderError as error:
            failure = error
        except Exception as error:  # one answer that cannot be read must not stop the others
            failure = unreadable(error, deployment_id=self._deployment.id)
        else:
            permit.spend(_tokens(body, answer.body))
            return "answered", _Answer(SUCCESS, answer.body), None
        means = _means(failure)
        if means != "answered":
            observe.failed("call_failed", failure, deployment_id=self._deployment.id)
        if means == "busy":
            self._permits.pause(failure.retry_after or BUSY_SECONDS)
        is_own = means == "account" and not is_key_refused(failure)
        return means, _Answer.of(request_error(failure) if is_own else client_error(failure)), failure


class _Answer(NamedTuple):
    status: int
    body: Mapping[str, Any]

    @classmethod
    def of(cls, error: ManifoldError) -> Self:
        return cls(error.status, error.body())


def _result(result_id: str, custom_id: str, answer: _Answer) -> bytes:
    """A line of the output or the error file. https://platform.openai.com/docs/api-reference/batch/request-output"""
    line = {
        "id": result_id,
        "custom_id": custom_id,
        "response": {"status_code": answer.status, "request_id": result_id, "body": answer.body},
        "error": None,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _means(error: ProviderError) -> Means:
    match fault_of(error):
        case "request":
            return "answered"
        case "rate_limit" | "overload":
            return "busy"
        case "account":
            return "account"
        case "provider" if error.lasting:
            return "account"
    return "failed"


def _prompt_tokens(body: dict[str, Any]) -> int:
    return int(estimated(body)["prompt_tokens"])


def _tokens(body: dict[str, Any], answer: Mapping[str, Any]) -> int:
    """All tokens of a call: as its answer says or, where that says none, as estimated."""
    usage = answer.get("usage")
    total = storable.count(usage.get("total_tokens")) if isinstance(usage, dict) else 0
    return total or sum(usage_of(body, {**answer, "usage": None}).values())
