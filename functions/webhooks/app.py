"""`/webhooks`: where the events of batches are sent."""

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response

from manifold import idempotency, observe, web
from manifold.app import GatewayDep, application, mark_activity
from manifold.gateway import Gateway
from webhooks.bodies import WebhookCreate
from webhooks.catalog import Catalog

routes = APIRouter(route_class=web.KeyFirst, dependencies=[Depends(mark_activity)])


async def catalog(gateway: GatewayDep, caller: web.Authenticated) -> Catalog:
    return Catalog(gateway.store, gateway.queue, caller)


CatalogDep = Annotated[Catalog, Depends(catalog)]
LimitQuery = Annotated[int, Query(ge=1, le=100)]


@routes.post("/webhooks")
async def create_webhook(
    gateway: GatewayDep, request: Request, body: WebhookCreate, webhooks: CatalogDep, caller: web.Authenticated
) -> Response:
    attempt = idempotency.attempt(caller, "POST /webhooks", body.model_dump_json().encode(), request.headers)
    return web.json(await webhooks.create(body, attempt, private=gateway.environment.private_webhooks))


@routes.get("/webhooks")
async def list_webhooks(webhooks: CatalogDep, after: str | None = None, limit: LimitQuery = 20) -> Response:
    return web.json(await webhooks.page(after=after, limit=limit))


@routes.get("/webhooks/{webhook_id}")
async def retrieve_webhook(webhook_id: str, webhooks: CatalogDep) -> Response:
    return web.json(await webhooks.retrieve(webhook_id))


@routes.delete("/webhooks/{webhook_id}")
async def delete_webhook(webhook_id: str, webhooks: CatalogDep) -> Response:
    return web.json(await webhooks.delete(webhook_id))


@routes.get("/webhooks/{webhook_id}/deliveries")
async def list_deliveries(
    webhook_id: str, webhooks: CatalogDep, after: str | None = None, limit: LimitQuery = 20
) -> Response:
    return web.json(await webhooks.deliveries(webhook_id, after=after, limit=limit))


@routes.post("/webhooks/{webhook_id}/deliveries/{delivery_id}/replay")
async def replay_delivery(webhook_id: str, delivery_id: str, webhooks: CatalogDep) -> Response:
    return web.json(await webhooks.replay(webhook_id, delivery_id))


def create(gateway: Gateway) -> FastAPI:
    """The app on a gateway's parts."""
    return application("Manifold webhooks", gateway, routes)


app = create(Gateway())
handler = observe.observed(web.handler(app))
