"""A function's HTTP app on a gateway, and how its routes reach that gateway.

    def create(gateway: Gateway) -> FastAPI:
        return application("Manifold files", gateway, routes)

    app = create(Gateway())
    handler = observe.observed(web.handler(app))

The routes are of `web.KeyFirst`, so that the key is checked before anything else of the request. A route declares its
caller as `caller: web.Authenticated` (or `web.Admin`), and its use case as a dependency that takes the request alone:
FastAPI takes 30 µs for each dependency, also for one of another's. A route that reads rows makes its use case of
`reading_of` instead, which finds the caller with the rows, and has no dependencies. One that takes the request alone,
or with texts of its path, costs nothing of FastAPI's parsing (`web.KeyFirst`). A router of routes that write rows with
something due depends on `mark_activity`. Nothing is read when the module is imported: neither the environment nor
`config.yaml`.
"""

from fastapi import APIRouter, FastAPI, Request

from manifold import observe, web
from manifold.gateway import Gateway
from manifold.reading import Reading


def application(
    title: str, gateway: Gateway, *routes: APIRouter, authenticate: web.Authenticate | None = None
) -> FastAPI:
    """The app that serves these routes on a gateway's parts. Its callers are the gateway's, unless found otherwise."""
    app = web.base_application(
        title, authenticate or gateway.authenticate, lambda: gateway.environment.allowed_origins, observe.fault
    )
    app.state.gateway = gateway
    for router in routes:
        app.router.routes += router.routes  # FastAPI would match those of an included router twice for each request
    return app


def gateway_of(request: Request) -> Gateway:
    """The gateway on which the request's app was made."""
    gateway: Gateway = request.app.state.gateway
    return gateway


def reading_of(request: Request) -> Reading:
    """What the request reads by its key; raises as `web.bearer` does."""
    gateway = gateway_of(request)
    return Reading(gateway.store, web.presented_key(request), gateway.master_key)


async def mark_activity(request: Request) -> None:
    """A dependency of routers whose routes make work: before a request changes anything, the poller can learn of it."""
    await web.caller(request)  # who may change nothing marks nothing
    await gateway_of(request).activity_mark.write()
