"""One invocation after the other: each is answered by the app, on the event loop that all of them share."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, NoReturn

from mangum.handlers import APIGateway

from manifold import observe
from manifold.runtime import STREAMED
from manifold.runtime.api import Invocation, RuntimeApi, RuntimeApiError
from manifold.runtime.environment import FunctionVariables, set_trace
from manifold.runtime.stream import StreamedAnswer

Message = MutableMapping[str, Any]
App = Callable[[Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
DEADLINE_MARGIN = 0.5
"""Seconds before the function is stopped at which an answer that goes on is broken off."""


@dataclass(frozen=True, slots=True)
class Context:
    """Lambda's context object: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html"""

    aws_request_id: str
    invoked_function_arn: str
    deadline: float
    client_context: Any
    identity: Any
    function_name: str
    function_version: str
    memory_limit_in_mb: str
    log_group_name: str
    log_stream_name: str

    @classmethod
    def of(cls, invocation: Invocation, function: FunctionVariables) -> "Context":
        return cls(
            invocation.id,
            invocation.function_arn,
            invocation.deadline,
            invocation.client_context,
            invocation.identity,
            function.name,
            function.version,
            function.memory,
            function.log_group,
            function.log_stream,
        )

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - time.time()) * 1000))


class DeadlineExceeded(Exception):
    """The function's time is over, and its answer is not."""


class ClientLeft(Exception):
    """Nobody takes the answer any more."""


def serve(app: App, api: RuntimeApi, runner: asyncio.Runner, function: FunctionVariables) -> NoReturn:
    """Answer invocations, one after the other. Between two of them nothing runs, as the environment may be frozen.

    Raises `RuntimeApiError`.
    """

    def handle(invocation: Invocation, context: Context) -> None:
        try:
            runner.run(answer(app, api, invocation, context))
        except RuntimeApiError:
            raise
        except Exception as error:
            observe.fault(error)
            api.fail(invocation, error)

    observed = observe.observed(handle)
    while True:
        invocation = api.next()
        set_trace(invocation.trace_id)
        observed(invocation, Context.of(invocation, function))


async def answer(app: App, api: RuntimeApi, invocation: Invocation, context: Context) -> None:
    """Have the app answer an invocation by API Gateway, and post what it sends, as it comes.

    Where nobody takes the answer any more, the app is cancelled. Raises what goes wrong before the head is sent; later
    that goes into the answer's trailer.
    """
    streamed = StreamedAnswer(api, invocation)
    exchange = _Exchange(streamed, APIGateway(invocation.event, context, _CONFIG))  # type: ignore[arg-type]
    answering = asyncio.ensure_future(app(exchange.scope, exchange.receive, exchange.send))
    leaving = asyncio.create_task(streamed.left.wait())
    try:
        left = max(0.0, invocation.deadline - DEADLINE_MARGIN - time.time())
        await asyncio.wait((answering, leaving), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        error = await _ended(answering, ClientLeft() if leaving.done() else DeadlineExceeded())
    finally:
        leaving.cancel()
    if error is not None and exchange.is_complete:  # the answer is whole, whatever came after it
        observe.fault(error)
        error = None
    if streamed.begun:
        await streamed.end(error)
    elif error is not None:
        raise error
    else:
        raise RuntimeError("the app sent no answer")


async def _ended(answering: "asyncio.Future[None]", why: Exception) -> BaseException | None:
    """How the app has ended, which is cancelled if it has not."""
    if not answering.done():
        answering.cancel()
        await asyncio.wait((answering,))
        return why
    return answering.exception()


class _Exchange:
    """What the app sees of one invocation: https://asgi.readthedocs.io/en/latest/specs/www.html"""

    def __init__(self, streamed: StreamedAnswer, event: APIGateway) -> None:
        self.scope = {**event.scope, "extensions": {STREAMED: {}}}
        self.is_complete = False
        """Whether the app has sent the end of its answer."""
        self._streamed = streamed
        self._body: bytes | None = event.body
        self._start: Message = {}

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._streamed.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if not self._streamed.begun:
            await self._streamed.begin(self._start["status"], self._start.get("headers", ()))
        await self._streamed.write(message.get("body", b""))
        self.is_complete = not message.get("more_body", False)


_CONFIG: Any = {"api_gateway_base_path": "/", "text_mime_types": [], "exclude_headers": []}
