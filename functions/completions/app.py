"""`/chat/completions`, `/embeddings`, `/completions`: https://platform.openai.com/docs/api-reference/chat"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from functools import cache

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from completions import answers, plan, streams
from completions.concurrency import ConcurrencyLimits
from completions.deadline import Deadline
from completions.exchange import Exchange
from completions.ledger import Ledger, both
from completions.request import read
from completions.router import Router
from completions.selection import Selector
from manifold import observe, web
from manifold.app import GatewayDep, application
from manifold.errors import CallFailed, PayloadTooLarge
from manifold.gateway import Gateway
from manifold.providers.chat import Route

MAX_BYTES = 6 * 1024 * 1024
"""Of a request's body: more than Lambda takes."""

routes = APIRouter(route_class=web.KeyFirst)


@routes.post("/chat/completions")
async def create_chat_completion(request: Request, gateway: GatewayDep) -> Response:
    return await _answer(request, gateway, "/chat/completions")


@routes.post("/completions")
async def create_completion(request: Request, gateway: GatewayDep) -> Response:
    return await _answer(request, gateway, "/completions")


@routes.post("/embeddings")
async def create_embedding(request: Request, gateway: GatewayDep) -> Response:
    return await _answer(request, gateway, "/embeddings")


async def _answer(request: Request, gateway: Gateway, route: Route) -> Response:
    ledger = Ledger(gateway.store, gateway.prices, gateway.environment.completions_timeout)
    deadline = Deadline.of(request.scope.get("aws.event"), gateway.environment.completions_timeout)
    caller = await web.caller(request)
    parameters = read(await _content(request), route)
    rows = plan.rows(parameters, caller, gateway.deployments)
    async with AsyncExitStack() as end:
        report = await end.enter_async_context(ledger.admitted(caller, [call.group for row in rows for call in row]))
        selector: Selector = request.app.state.selector()
        selection = await end.enter_async_context(selector.selection())
        report = both(report, selection.note)
        within = deadline.within(parameters.timeout)
        router = Router(
            gateway.deployments,
            request.app.state.limits,
            within,
            report,
            selection,
            selector.settings,
            caller.may_use,
            retries=parameters.retries,
        )
        if parameters.stream:
            stream = await streams.begin(router, rows[0], report)
            return StreamingResponse(
                _until(end.pop_all(), stream.events()), 200, stream.headers, media_type="text/event-stream"
            )
        content, headers = await Exchange(router, parameters, rows).answer()
    return Response(content, 200, headers, "application/json")


async def _until(end: AsyncExitStack, events: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """The events, and then what was to happen at the request's end, also if the client leaves: its calls were made."""
    try:
        async with aclosing(events):
            async for event in events:
                yield event
    finally:
        await asyncio.shield(end.aclose())


async def _content(request: Request) -> bytes:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BYTES:
            raise PayloadTooLarge("The request is larger than the gateway takes (6 MB). Send less in one request.")
    return bytes(content)


async def _failed(_: Request, error: CallFailed) -> Response:
    """A provider's failure is no fault of ours, however high its status."""
    return JSONResponse(error.body(), error.status, answers.headers_of_failure(error))


def _selector(gateway: Gateway) -> Selector:
    return Selector(gateway.config.router, gateway.store, gateway.prices, gateway.environment.completions_timeout)


def create(gateway: Gateway) -> FastAPI:
    """The app on a gateway's parts."""
    app = application("Manifold completions", gateway, routes)
    app.state.limits = ConcurrencyLimits()
    app.state.selector = cache(lambda: _selector(gateway))  # config.yaml is not read when the module is imported
    app.exception_handler(CallFailed)(_failed)
    return app


app = create(Gateway())
handler = observe.observed(web.handler(app))
