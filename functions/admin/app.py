"""The admin API: keys, users and teams, spend, models, health. Each route translates, and calls its use case."""

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response

from admin import health
from admin.bodies import KeyBlock, KeyCreate, KeyRegenerate, KeysDelete, KeyUpdate, TeamCreate, Text, UserCreate
from admin.groups import Groups
from admin.keys import VirtualKeys
from admin.owners import Teams, Users
from admin.spend import Spend, parse_time
from manifold import observe, web
from manifold.app import application, gateway_of, reading_of
from manifold.gateway import Gateway
from manifold.store.spend import SpendFilter
from manifold.web import Admin

routes = APIRouter(route_class=web.KeyFirst)
open_routes = APIRouter()
"""Routes that need no key."""


def _keys_of(request: Request) -> VirtualKeys:
    gateway = gateway_of(request)
    return VirtualKeys(gateway.store, gateway.config, gateway.master_key)


async def _keys(request: Request) -> VirtualKeys:
    return _keys_of(request)


async def _users(request: Request) -> Users:
    gateway = gateway_of(request)
    return Users(gateway.store, gateway.config)


async def _teams(request: Request) -> Teams:
    gateway = gateway_of(request)
    return Teams(gateway.store, gateway.config)


async def _spend(request: Request) -> Spend:
    return Spend(gateway_of(request).store, await web.caller(request))


async def _groups(request: Request) -> Groups:
    return Groups(gateway_of(request).config, await web.caller(request))


KeysDep = Annotated[VirtualKeys, Depends(_keys)]
UsersDep = Annotated[Users, Depends(_users)]
TeamsDep = Annotated[Teams, Depends(_teams)]
SpendDep = Annotated[Spend, Depends(_spend)]


@routes.post("/key/generate")
async def generate_key(_: Admin, keys: KeysDep, body: KeyCreate) -> Response:
    return web.json(await keys.generate(body))


@routes.get("/key/info")
async def key_info(request: Request, key: Text | None = None) -> Response:
    return web.json(await _keys_of(request).info(reading_of(request), key))


@routes.get("/key/list")
async def list_keys(
    _: Admin,
    keys: KeysDep,
    size: Annotated[int, Query(ge=1, le=100)] = 50,
    after: Text | None = None,
    user_id: Text | None = None,
    team_id: Text | None = None,
    key_alias: Text | None = None,
) -> Response:
    return web.json(await keys.page(size=size, after=after, user_id=user_id, team_id=team_id, alias=key_alias))


@routes.post("/key/update")
async def update_key(_: Admin, keys: KeysDep, body: KeyUpdate) -> Response:
    return web.json(await keys.update(body))


@routes.post("/key/delete")
async def delete_keys(_: Admin, keys: KeysDep, body: KeysDelete) -> Response:
    return web.json(await keys.delete(body))


@routes.post("/key/block")
async def block_key(_: Admin, keys: KeysDep, body: KeyBlock) -> Response:
    return web.json(await keys.block(body.key, blocked=True))


@routes.post("/key/unblock")
async def unblock_key(_: Admin, keys: KeysDep, body: KeyBlock) -> Response:
    return web.json(await keys.block(body.key, blocked=False))


@routes.post("/key/regenerate")
async def regenerate_key(_: Admin, keys: KeysDep, body: KeyRegenerate) -> Response:
    return web.json(await keys.regenerate(body))


@routes.post("/user/new")
async def new_user(_: Admin, users: UsersDep, body: UserCreate) -> Response:
    return web.json(await users.create(body))


@routes.get("/user/info")
async def user_info(request: Request, users: UsersDep, user_id: Text | None = None) -> Response:
    return web.json(await users.info(reading_of(request), user_id))


@routes.post("/team/new")
async def new_team(_: Admin, teams: TeamsDep, body: TeamCreate) -> Response:
    return web.json(await teams.create(body))


@routes.get("/team/info")
async def team_info(request: Request, teams: TeamsDep, team_id: Text | None = None) -> Response:
    return web.json(await teams.info(reading_of(request), team_id))


@routes.get("/spend/logs")
async def spend_logs(
    spend: SpendDep,
    size: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Text | None = None,
    api_key: Text | None = None,
    user_id: Text | None = None,
    team_id: Text | None = None,
    model: Text | None = None,
    request_id: Text | None = None,
    start_date: Text | None = None,
    end_date: Text | None = None,
) -> Response:
    start, end = parse_time(start_date, "start_date"), parse_time(end_date, "end_date", end=True)
    filters = SpendFilter(
        user_id=user_id, team_id=team_id, model_group=model, request_id=request_id, start=start, end=end
    )
    return web.json(await spend.page(filters, key=api_key, size=size, after=after))


@routes.get("/models")
async def list_models(request: Request) -> Response:
    return web.json((await _groups(request)).models())


@routes.get("/models/{model:path}")
async def retrieve_model(request: Request, model: str) -> Response:
    return web.json((await _groups(request)).model(model))


@routes.get("/model/info")
async def model_info(request: Request) -> Response:
    return web.json((await _groups(request)).deployments())


@routes.get("/model_group/info")
async def model_group_info(request: Request, model_group: str | None = None) -> Response:
    return web.json((await _groups(request)).groups(model_group))


@open_routes.get("/health/liveliness")
async def liveliness() -> str:
    return "I'm alive!"


@open_routes.get("/health/readiness")
async def readiness(request: Request) -> Response:
    return web.json(await health.readiness(gateway_of(request).store))


def create(gateway: Gateway) -> FastAPI:
    """The app on a gateway's parts."""
    return application("Manifold: administration", gateway, routes, open_routes)


app = create(Gateway())
handler = observe.observed(web.handler(app))
