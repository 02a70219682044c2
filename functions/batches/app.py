"""`/batches`: https://platform.openai.com/docs/api-reference/batch"""

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response

from batches.admission import Reserving
from batches.bodies import BatchCreate
from batches.cancellation import CancelRequests
from batches.catalog import Catalog
from batches.retrieval import Retrieval
from batches.serializers import batch_object
from batches.termination import Termination
from manifold import idempotency, observe, web
from manifold.announcement import announce_end
from manifold.app import application, gateway_of, mark_activity, reading_of
from manifold.gateway import Gateway

reads = APIRouter(route_class=web.KeyFirst)
changes = APIRouter(route_class=web.KeyFirst, dependencies=[Depends(mark_activity)])


async def catalog(request: Request) -> Catalog:
    gateway, caller = gateway_of(request), await web.caller(request)
    reserving = Reserving(gateway.config, gateway.prices)
    return Catalog(gateway.store, gateway.queue, caller, reserving, gateway.config.retry_failed_lines)


def _retrieval(request: Request) -> Retrieval:
    gateway = gateway_of(request)
    return Retrieval(gateway.store, gateway.queue, reading_of(request), gateway.config.by_id.get)


CatalogDep = Annotated[Catalog, Depends(catalog)]


@changes.post("/batches")
async def create_batch(request: Request, body: BatchCreate, batches: CatalogDep, caller: web.Authenticated) -> Response:
    attempt = idempotency.attempt(caller, "POST /batches", body.model_dump_json().encode(), request.headers)
    return web.json(await batches.create(body, attempt))


@reads.get("/batches")
async def list_batches(
    request: Request,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    names = web.group_names(request.query_params)
    return web.json(await _retrieval(request).page(after=after, limit=limit, names=names))


@reads.get("/batches/{batch_id}")
async def retrieve_batch(request: Request, batch_id: str) -> Response:
    return web.json(await _retrieval(request).retrieve(batch_id))


@changes.post("/batches/{batch_id}/cancel")
async def cancel_batch(request: Request, batch_id: str, caller: web.Authenticated) -> Response:
    gateway = gateway_of(request)
    row = await CancelRequests(gateway.store, gateway.queue).accept(batch_id, caller)
    return web.json(batch_object(row))


@changes.post("/batches/{batch_id}/retry")
async def retry_batch(request: Request, batch_id: str, batches: CatalogDep, caller: web.Authenticated) -> Response:
    attempt = idempotency.attempt(caller, f"POST /batches/{batch_id}/retry", b"", request.headers)
    return web.json(await batches.retry(batch_id, attempt))


@changes.post("/batches/{batch_id}/end")
async def end_batch(request: Request, batch_id: str, admin: web.Admin) -> Response:
    gateway = gateway_of(request)
    row = await Termination(gateway.store).stop(batch_id, admin)
    await announce_end(gateway.store, gateway.queue, batch_id)
    return web.json(batch_object(row))


def create(gateway: Gateway) -> FastAPI:
    """The app on a gateway's parts."""
    return application("Manifold batches", gateway, reads, changes)


app = create(Gateway())
handler = observe.observed(web.handler(app))
