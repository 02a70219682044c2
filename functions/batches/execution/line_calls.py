"""One request of a chunk: its calls through `manifold.dispatch`, and what their outcome means for its line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from batches.execution.permits import Closed, Permits, Ramp, Turn
from manifold import lenient_json, observe
from manifold.config import Deployment
from manifold.dispatch.attempts import Attempt, PlannedCall
from manifold.dispatch.deadline import Cut, Deadline
from manifold.dispatch.dispatcher import Dispatcher
from manifold.dispatch.token_usage import estimated
from manifold.errors import InvalidRequest, ManifoldError, ProviderError, ProviderUnclear, Unavailable
from manifold.provider_errors import RATE_LIMIT_STATUS, client_error, fault_of
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
BUSY_SECONDS = 5.0
"""Pause after a 429 that does not say how long."""

Means = Literal["answered", "refused", "failed", "busy", "account", "unfinished"]
"""What the calls of a request came to:

- `answered`: the provider answered, with an answer or with an error of the request's own;
- `refused`: the request cannot be translated for it;
- `failed`: each call failed by a fault of the provider;
- `busy`: it wants no calls for now;
- `account`: it refused our key, our bill, the model or the API, or we have no address or key of it;
- `unfinished`: the gateway stopped it.
"""


@dataclass(frozen=True, slots=True)
class Request:
    """A request of a chunk."""

    number: int
    """Its place in the chunk, from 0."""
    line: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the calls of a request came to, and its result where it has one."""

    means: Means
    result: bytes = b""
    """The line of the output or the error file; none where the request is to be called again."""
    failed: bool = True
    error: ProviderError | None = None
    """The provider's, of the last call."""


class LineCalls:
    """Calls the requests of one chunk. `seconds` is how long one may take, with all its attempts."""

    def __init__(
        self, dispatcher: Dispatcher, deployment: Deployment, route: Route, permits: Permits, ramp: Ramp, seconds: float
    ) -> None:
        self._dispatcher = dispatcher
        self._deployment = deployment
        self._route = route
        self._permits = permits
        self._ramp = ramp
        self._seconds = seconds

    async def call(self, request: Request, result_id: str) -> Outcome:
        """Call a request once a call may begin, and again as `config.yaml` says. Raises `Closed` if none begins."""
        written = lenient_json.request(request.line)
        body = {name: value for name, value in written["body"].items() if name not in NOT_OF_BATCHES}
        outcome, answer = await self._call(body)
        if outcome.means not in ("answered", "refused", "failed"):
            return outcome
        custom_id, failed = written["custom_id"], outcome.failed
        try:
            result = _result(result_id, custom_id, answer)
        except TypeError:  # orjson reads 1,024 levels, and writes 254
            unreadable = client_error(ProviderUnclear("an answer that is nested too deep"))
            result, failed = _result(result_id, custom_id, _Answer(unreadable.status, unreadable.body())), True
        if not outcome.failed:
            self._ramp.answered(len(result))
        return Outcome(outcome.means, result, failed, outcome.error)

    async def probe(self) -> bool:
        """Whether the provider answers at all, if only with an error of the request's own. Raises `Closed`."""
        outcome, _ = await self._call(PROBES[self._route])
        return outcome.means == "answered"

    async def _call(self, body: dict[str, Any]) -> "tuple[Outcome, _Answer]":
        tokens = estimated(body)["prompt_tokens"]
        turn = Turn(self._permits, tokens)
        await turn.begin()
        failures = list[Attempt]()
        call = PlannedCall(self._deployment.group, self._route, body, self._deployment)

        def report(attempt: Attempt) -> None:
            failures.append(attempt)
            if _is_providers(attempt):
                self._permits.failed()
            if pause := _pause(attempt):
                self._permits.pause(pause)

        try:
            answer = await self._dispatcher.answer(call, Deadline.after(self._seconds), report, turn)
        except ManifoldError as error:
            return self._failed(error, failures), _Answer(error.status, error.body())
        except Closed:
            raise
        except Exception as error:  # one answer that cannot be read must not stop the others
            observe.fault(error, deployment_id=self._deployment.id)
            unreadable = ProviderUnclear(f"an answer that cannot be read: {type(error).__name__}")
            told = client_error(unreadable)
            return Outcome("failed", error=unreadable), _Answer(told.status, told.body())
        finally:
            turn.end()
        self._permits.answered()
        self._permits.spend(_tokens(answer.body) - tokens)
        return Outcome("answered", failed=False), _Answer(200, answer.body)

    def _failed(self, error: ManifoldError, failures: list[Attempt]) -> Outcome:
        last = failures[-1].error if failures else None
        if isinstance(error, InvalidRequest):
            return Outcome("refused")
        if isinstance(error, Unavailable) or not isinstance(last, ProviderError) or isinstance(last, Cut):
            return Outcome("unfinished")
        fault = "account" if last.lasting and fault_of(last) == "provider" else fault_of(last)
        match fault:
            case "request":
                self._permits.answered()
                return Outcome("answered", error=last)
            case "account":
                return Outcome("account", error=last)
            case "rate_limit":
                return Outcome("busy", error=last)
        return Outcome("failed", error=last)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: Mapping[str, Any]


def _result(result_id: str, custom_id: str, answer: _Answer) -> bytes:
    """A line of the output or the error file. https://platform.openai.com/docs/api-reference/batch/request-output"""
    line = {
        "id": result_id,
        "custom_id": custom_id,
        "response": {"status_code": answer.status, "request_id": result_id, "body": answer.body},
        "error": None,
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _is_providers(attempt: Attempt) -> bool:
    """Whether an attempt failed by a fault of the provider, which then may be down."""
    error = attempt.error
    if not isinstance(error, ProviderError) or error.lasting:
        return False
    return fault_of(error) in ("timeout", "overload", "provider")


def _pause(attempt: Attempt) -> float:
    """Seconds for which the provider wants no calls, after an attempt that failed."""
    error = attempt.error
    if not isinstance(error, ProviderError):
        return 0.0
    return error.retry_after or (BUSY_SECONDS if error.status == RATE_LIMIT_STATUS else 0.0)


def _tokens(answer: Mapping[str, Any]) -> int:
    """All tokens of an answer, as far as it says."""
    usage = answer.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) and total > 0 else 0


__all__ = ["ROUTES", "Closed", "LineCalls", "Outcome", "Request"]
