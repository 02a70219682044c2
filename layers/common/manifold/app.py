"""A function's HTTP app on a gateway, and how its routes reach that gateway.

    def create(gateway: Gateway) -> FastAPI:
        return application("Manifold files", gateway, routes)

    app = create(Gateway())
    handler = observe.observed(web.handler(app))

The routes are of `web.KeyFirst`, so that the key is checked before anything else of the request. A route declares its
caller as `caller: web.Authenticated` (or `web.Admin`), or takes a `ReadingDep`, which finds the caller with the rows.
Its use case is a dependency on `GatewayDep`. A router of routes that write rows with something due depends on
`mark_activity`. Nothing is read when the module is imported: neither the environment nor `config.yaml`.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request

from manifold import observe, web
from manifold.gateway import Gateway
from manifold.reading import Reading


def application(title: str, gateway: Gateway, *routes: APIRouter) -> FastAPI:
    """The app that serves these routes on a gateway's parts."""
    app = web.base_application(title, gateway.authenticate, observe.fault)
    app.state.gateway = gateway
    for router in routes:
        app.include_router(router)
    return app


async def gateway_of(request: Request) -> Gateway:
    """The gateway on which the request's app was made."""
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(gateway_of)]


async def reading_of(request: Request, gateway: GatewayDep) -> Reading:
    """What the request reads by its key; raises as `web.bearer` does."""
    return Reading(gateway.store, web.presented_key(request), gateway.master_key)


ReadingDep = Annotated[Reading, Depends(reading_of)]


async def mark_activity(request: Request) -> None:
    """A dependency of routers whose routes make work: before a request changes anything, the poller can learn of it."""
    if request.method not in web.READS:
        await web.caller(request)
        await (await gateway_of(request)).activity_mark.write()
