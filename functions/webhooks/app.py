"""`/webhooks`, and `/webhook_endpoints` as OpenAI has them: where the events of batches are sent."""

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response

from manifold import idempotency, observe, web
from manifold.app import application, gateway_of, mark_activity
from manifold.gateway import Gateway
from webhooks.bodies import EndpointCreate, EndpointUpdate, SampleRequest, SecretRotation, WebhookCreate
from webhooks.catalog import Catalog
from webhooks.endpoints import Endpoints, event_types

reads = APIRouter(route_class=web.KeyFirst)
changes = APIRouter(route_class=web.KeyFirst, dependencies=[Depends(mark_activity)])


async def catalog(request: Request) -> Catalog:
    gateway = gateway_of(request)
    return Catalog(gateway.store, gateway.queue, await web.caller(request))


CatalogDep = Annotated[Catalog, Depends(catalog)]
LimitQuery = Annotated[int, Query(ge=1, le=100)]


@changes.post("/webhooks")
async def create_webhook(
    request: Request, body: WebhookCreate, webhooks: CatalogDep, caller: web.Authenticated
) -> Response:
    private = gateway_of(request).environment.private_webhooks
    attempt = idempotency.attempt(caller, "POST /webhooks", body.model_dump_json().encode(), request.headers)
    return web.json(await webhooks.create(body, attempt, private=private))


@reads.get("/webhooks")
async def list_webhooks(webhooks: CatalogDep, after: str | None = None, limit: LimitQuery = 20) -> Response:
    return web.json(await webhooks.page(after=after, limit=limit))


@reads.get("/webhooks/{webhook_id}")
async def retrieve_webhook(webhook_id: str, webhooks: CatalogDep) -> Response:
    return web.json(await webhooks.retrieve(webhook_id))


@changes.delete("/webhooks/{webhook_id}")
async def delete_webhook(webhook_id: str, webhooks: CatalogDep) -> Response:
    return web.json(await webhooks.delete(webhook_id))


@reads.get("/webhooks/{webhook_id}/deliveries")
async def list_deliveries(
    webhook_id: str, webhooks: CatalogDep, after: str | None = None, limit: LimitQuery = 20
) -> Response:
    return web.json(await webhooks.deliveries(webhook_id, after=after, limit=limit))


@changes.post("/webhooks/{webhook_id}/deliveries/{delivery_id}/replay")
async def replay_delivery(webhook_id: str, delivery_id: str, webhooks: CatalogDep) -> Response:
    return web.json(await webhooks.replay(webhook_id, delivery_id))


# The same webhooks, as OpenAI's SDK manages them.


async def endpoints(request: Request) -> Endpoints:
    return Endpoints(await catalog(request), private=gateway_of(request).environment.private_webhooks)


EndpointsDep = Annotated[Endpoints, Depends(endpoints)]


@reads.get("/webhook_event_types")
async def list_event_types(_: web.Authenticated) -> Response:
    return web.json(event_types())


@changes.post("/webhook_endpoints")
async def create_endpoint(
    request: Request, body: EndpointCreate, webhooks: EndpointsDep, caller: web.Authenticated
) -> Response:
    attempt = idempotency.attempt(caller, "POST /webhook_endpoints", body.model_dump_json().encode(), request.headers)
    return web.json(await webhooks.create(body, attempt))


@reads.get("/webhook_endpoints")
async def list_endpoints(webhooks: EndpointsDep, after: str | None = None, limit: LimitQuery = 20) -> Response:
    return web.json(await webhooks.page(after=after, limit=limit))


@reads.get("/webhook_endpoints/{webhook_id}")
async def retrieve_endpoint(webhook_id: str, webhooks: EndpointsDep) -> Response:
    return web.json(await webhooks.retrieve(webhook_id))


@changes.post("/webhook_endpoints/{webhook_id}")
async def update_endpoint(webhook_id: str, body: EndpointUpdate, webhooks: EndpointsDep) -> Response:
    return web.json(await webhooks.update(webhook_id, body))


@changes.delete("/webhook_endpoints/{webhook_id}")
async def delete_endpoint(webhook_id: str, webhooks: EndpointsDep) -> Response:
    return web.json(await webhooks.delete(webhook_id))


@changes.post("/webhook_endpoints/{webhook_id}/rotate_secret")
async def rotate_secret(webhook_id: str, webhooks: EndpointsDep, body: SecretRotation | None = None) -> Response:
    return web.json(await webhooks.rotate_secret(webhook_id, body or SecretRotation()))


@changes.post("/webhook_endpoints/{webhook_id}/test")
async def send_sample(request: Request, webhook_id: str, body: SampleRequest, webhooks: EndpointsDep) -> Response:
    return web.json(await webhooks.test(webhook_id, body.event_type, gateway_of(request).webhook_client))


def create(gateway: Gateway) -> FastAPI:
    """The app on a gateway's parts."""
    return application("Manifold webhooks", gateway, reads, changes)


app = create(Gateway())
handler = observe.observed(web.handler(app))
