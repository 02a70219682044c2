"""`/chat/completions`, `/embeddings`, `/completions`: https://platform.openai.com/docs/api-reference/chat"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import cache

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from completions import plan, rendering, streams
from completions.ledger import Ledger
from completions.request import CompletionRequest, read
from completions.request_calls import END, RequestCalls
from completions.scope import Scopes
from manifold import observe, web
from manifold.access import Caller
from manifold.app import application
from manifold.dispatch.dispatcher import Dispatcher
from manifold.errors import CallFailed, ManifoldError, PayloadTooLarge
from manifold.gateway import Gateway
from manifold.lifecycle import Lifecycle
from manifold.providers.completion_provider import Route
from manifold.runtime import STREAMED

MAX_BYTES = 6 * 1024 * 1024
"""Of a request's body: more than Lambda takes."""
JSON = "application/json"

routes = APIRouter(route_class=web.KeyFirst)


@routes.post("/chat/completions")
async def create_chat_completion(request: Request) -> Response:
    return await _answer(request, "/chat/completions")


@routes.post("/completions")
async def create_completion(request: Request) -> Response:
    return await _answer(request, "/completions")


@routes.post("/embeddings")
async def create_embedding(request: Request) -> Response:
    return await _answer(request, "/embeddings")


async def _answer(request: Request, route: Route) -> Response:
    gateway: Gateway = request.app.state.gateway  # FastAPI takes a twentieth of a request for a dependency
    caller = await web.caller(request)
    try:
        content = await _content(request)
        completion, by_prompt = _planned(content, route, caller, gateway)
    except ManifoldError as error:
        if caller.credential is None or not caller.credential.remembered:
            raise
        caller = await gateway.keys.look_up(caller.credential.token_hash)  # it may do other things now, or none
        if isinstance(error, PayloadTooLarge):
            raise
        completion, by_prompt = _planned(content, route, caller, gateway)
    calls = [call for of_prompt in by_prompt for call in of_prompt]
    scopes: Scopes = request.app.state.scopes()
    held = STREAMED not in request.scope.get("extensions", {})
    async with await scopes.open(completion, calls, caller, request.scope.get("aws.event")) as scope:
        if completion.stream:
            beginning = asyncio.create_task(streams.begin(scope.router, calls, held=held))
            events, headers = await streams.answer(beginning, scope.admission.verify())
            return _Pieces(await scope.until_read(events, streams.DONE), headers, "text/event-stream")
        request_calls = RequestCalls(scope.router, scope.admission, completion, by_prompt, held=held)
        if completion.several_answers:
            return _Pieces(await scope.until_read(request_calls.array(), END), {}, JSON)
        content, headers = await request_calls.single()
    return Response(content, 200, headers, JSON)


def _planned(
    content: bytes, route: Route, caller: Caller, gateway: Gateway
) -> tuple[CompletionRequest, plan.CallsByPrompt]:
    completion = read(content, route)
    return completion, plan.calls_by_prompt(completion, caller, gateway.deployments)


class _Pieces(StreamingResponse):
    """Closes its pieces however it ends. Starlette closes none if the client leaves, even before the first is sent."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(pieces, 200, headers, media_type=media_type)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._pieces):
            await super().__call__(scope, receive, send)


async def _content(request: Request) -> bytes:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BYTES:
            raise PayloadTooLarge("The request is larger than the gateway takes (6 MB). Send less in one request.")
    return bytes(content)


async def _failed(_: Request, error: CallFailed) -> Response:
    """A provider's failure is no fault of ours, however high its status."""
    return JSONResponse(error.body(), error.status, rendering.headers_of_failure(error))


def _scopes(gateway: Gateway) -> Scopes:
    seconds = gateway.environment.completions_timeout
    ledger = Ledger(gateway.store, gateway.keys, gateway.prices, seconds)
    dispatcher = Dispatcher(gateway.deployments, gateway.config.router_settings, gateway.store, gateway.prices, seconds)
    return Scopes(ledger, dispatcher, seconds)


def create(gateway: Gateway) -> FastAPI:
    """The app on a gateway's parts."""
    # The ledger verifies remembered keys.
    app = application("Manifold completions", gateway, routes, authenticate=gateway.recall)
    app.state.scopes = cache(lambda: _scopes(gateway))  # config.yaml is not read when the module is imported
    app.exception_handler(CallFailed)(_failed)
    return app


app = create(Gateway())
lifecycle = Lifecycle(app.state.gateway, app.state.scopes)
handler = observe.observed(web.handler(app))
