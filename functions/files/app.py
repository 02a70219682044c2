"""`/files`: https://platform.openai.com/docs/api-reference/files"""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.datastructures import FormData, UploadFile

from files import fields
from files.content import Content
from files.creation import Creation, Draft
from files.library import Library
from files.removal import Removal
from manifold import idempotency, observe, web
from manifold.errors import InvalidRequest, PayloadTooLarge
from manifold.gateway import Gateway
from manifold.schemas import FilePurpose

MAX_BYTES = 4 * 1024 * 1024
"""Of a file within one request: Lambda takes 6 MB, in which a file is base64 and has its form around it."""

routes = APIRouter()


async def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


Parts = Annotated[Gateway, Depends(_gateway)]


@routes.post("/files")
async def create_file(request: Request, gateway: Parts, caller: web.Authenticated) -> Response:
    async with request.form() as form:
        draft = await _draft(request, form)
    attempt = idempotency.attempt(caller, "POST /files", draft.identity(), request.headers)
    creation = Creation(gateway.store, gateway.storage, gateway.queue, gateway.deployments, caller)
    return web.json(await creation.create(draft, attempt))


@routes.get("/files")
async def list_files(
    request: Request,
    gateway: Parts,
    caller: web.Authenticated,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: FilePurpose | None = None,
) -> Response:
    names = web.group_names(request.query_params)
    library = Library(gateway.store, gateway.deployments, caller)
    return web.json(await library.page(limit=limit, order=order, after=after, purpose=purpose, names=names))


@routes.get("/files/{file_id}")
async def retrieve_file(file_id: str, gateway: Parts, caller: web.Authenticated) -> Response:
    return web.json(await Library(gateway.store, gateway.deployments, caller).retrieve(file_id))


@routes.delete("/files/{file_id}")
async def delete_file(file_id: str, gateway: Parts, caller: web.Authenticated) -> Response:
    return web.json(await Removal(gateway.store, gateway.queue, caller).delete(file_id))


@routes.get("/files/{file_id}/content")
async def file_content(file_id: str, gateway: Parts, caller: web.Authenticated) -> Response:
    link = await Content(gateway.store, gateway.storage, caller).link(file_id)
    hint = "The content is at this answer's Location, for five minutes. Follow it: curl -L.\n"
    return PlainTextResponse(hint, 302, {"location": link, "cache-control": "no-store"})


async def _draft(request: Request, form: FormData) -> Draft:
    """What the form says; `target_model_names` may also come by query, or by a header that a client always sends."""
    text = {key: value for key, value in form.items() if isinstance(value, str)}
    names = web.group_names(form) or web.group_names(request.query_params) or web.group_names(request.headers)
    purpose = fields.purpose(text.get("purpose"))
    file = _file(form)
    return Draft(
        filename=fields.filename(file.filename),
        purpose=purpose,
        names=names,
        expires_after=fields.expires_after(text, purpose),
        content=await file.read(),
    )


def _file(form: FormData) -> UploadFile:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        message = "Missing required parameter: 'file'. Send it as a file of a multipart form."
        raise InvalidRequest(message, param="file", code="missing_required_parameter")
    if (file.size or 0) > MAX_BYTES:
        raise PayloadTooLarge(
            f"The file has {file.size} bytes, and POST /files takes {MAX_BYTES} (4 MiB). Upload it in parts: "
            "client.uploads.upload_file_chunked(file=…, mime_type='application/jsonl', purpose='batch', "
            "part_size=4*1024*1024).",
            param="file",
        )
    return file


def create(gateway: Gateway) -> FastAPI:
    """The app on a gateway's parts."""
    app = web.application("Manifold files", gateway.authenticate, observe.fault)
    app.state.gateway = gateway
    app.include_router(routes)
    return app


app = create(Gateway())
handler = observe.observed(web.handler(app))
