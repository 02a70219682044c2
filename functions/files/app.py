"""`/files` and `/uploads`: https://platform.openai.com/docs/api-reference/files, …/uploads"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from files import fields, forms, model_names, multipart
from files.bodies import FileAnnounced, FileComplete, UploadComplete, UploadCreate
from files.catalog import Catalog
from files.completion import Completion, CompletionOrder
from files.content import Content, Download
from files.creation import Creation, Draft
from files.deletion import Deletion
from files.presign import CONTENT, presigned
from files.uploads import Announcement, Uploads, require_pending
from manifold import idempotency, observe, web
from manifold.app import GatewayDep, application
from manifold.errors import InvalidRequest, PayloadTooLarge, Unavailable
from manifold.gateway import Gateway
from manifold.members import names_in
from manifold.schemas import FilePurpose
from manifold.store.uploads import UploadRow

MAX_BYTES = 4 * 1024 * 1024
"""Of a file or a part within one request: Lambda takes 6 MB, in which it is base64 and has its form around it."""

routes = APIRouter(route_class=web.KeyFirst)


async def _uploads(gateway: GatewayDep, caller: web.Authenticated) -> Uploads:
    return Uploads(gateway.store, gateway.storage, gateway.queue, gateway.deployments, caller)


UseUploads = Annotated[Uploads, Depends(_uploads)]


async def _catalog(gateway: GatewayDep, caller: web.Authenticated) -> Catalog:
    return Catalog(gateway.store, gateway.deployments, caller)


UseCatalog = Annotated[Catalog, Depends(_catalog)]


async def _completion(gateway: GatewayDep, caller: web.Authenticated) -> Completion:
    return Completion(gateway.store, gateway.storage, gateway.queue, gateway.deployments, caller)


UseCompletion = Annotated[Completion, Depends(_completion)]


async def _content(gateway: GatewayDep, caller: web.Authenticated) -> Content:
    return Content(gateway.store, gateway.storage, caller)


UseContent = Annotated[Content, Depends(_content)]


async def _upload(upload_id: str, uploads: UseUploads) -> UploadRow:
    return await uploads.get(upload_id)


Known = Annotated[UploadRow, Depends(_upload)]
"""An upload of the caller's: that there is one is said before its request's body is looked at."""


async def _upload_of_file(file_id: str, uploads: UseUploads) -> UploadRow:
    return await uploads.of_file(file_id)


KnownOfFile = Annotated[UploadRow, Depends(_upload_of_file)]


@routes.post("/files")
async def create_file(request: Request, gateway: GatewayDep, caller: web.Authenticated) -> Response:
    async with _form(request) as form:
        draft = await _draft(request, form)
    attempt = idempotency.attempt(caller, "POST /files", draft.identity(), request.headers)
    creation = Creation(gateway.store, gateway.storage, gateway.queue, gateway.deployments, caller)
    return web.json(await creation.create(draft, attempt))


@routes.get("/files")
async def list_files(
    request: Request,
    catalog: UseCatalog,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: FilePurpose | None = None,
) -> Response:
    names = web.group_names(request.query_params)
    return web.json(await catalog.page(limit=limit, order=order, after=after, purpose=purpose, names=names))


@routes.get("/files/{file_id}")
async def retrieve_file(file_id: str, catalog: UseCatalog) -> Response:
    return web.json(await catalog.retrieve(file_id))


@routes.delete("/files/{file_id}")
async def delete_file(file_id: str, request: Request, gateway: GatewayDep, caller: web.Authenticated) -> Response:
    deletion = Deletion(gateway.store, gateway.queue, caller)
    return web.json(await deletion.delete(file_id, again=idempotency.is_retry(request.headers)))


@routes.get("/files/{file_id}/content")
async def file_content(file_id: str, request: Request, content: UseContent) -> Response:
    return _download(await content.get(file_id, request.headers))


@routes.head("/files/{file_id}/content")
async def file_content_head(file_id: str, request: Request, content: UseContent) -> Response:
    return _download(await content.head(file_id, request.headers))


@routes.post("/files/presign")
async def presign_file(
    body: FileAnnounced, request: Request, gateway: GatewayDep, caller: web.Authenticated, uploads: UseUploads
) -> Response:
    announced = Announcement.of(body, _names(body.target_model_names, body.model, request))
    attempt = idempotency.attempt(caller, "POST /files/presign", announced.identity(), request.headers)
    return web.json(presigned(await uploads.create(announced, attempt), gateway.storage))


@routes.post("/files/{file_id}/complete")
async def complete_file(
    row: KnownOfFile, completion: UseCompletion, catalog: UseCatalog, body: FileComplete | None = None
) -> Response:
    closed = await completion.complete(row, CompletionOrder([CONTENT], body.md5 if body else None, presigned=True))
    if closed.status == "pending":
        raise Unavailable("The file is not ready yet. Complete it again shortly.")
    return web.json(await catalog.retrieve(closed.file_id))


@routes.post("/uploads")
async def create_upload(
    body: UploadCreate, request: Request, caller: web.Authenticated, uploads: UseUploads, catalog: UseCatalog
) -> Response:
    announced = Announcement.of(body, _names(body.target_model_names, body.model, request))
    attempt = idempotency.attempt(caller, "POST /uploads", announced.identity(), request.headers)
    return web.json(await catalog.upload(await uploads.create(announced, attempt)))


@routes.get("/uploads/{upload_id}")
async def retrieve_upload(row: Known, catalog: UseCatalog) -> Response:
    return web.json(await catalog.upload(row))


@routes.post("/uploads/{upload_id}/parts")
async def add_upload_part(row: Known, request: Request, uploads: UseUploads) -> Response:
    require_pending(row)
    async with _form(request) as form:
        content = await _part(forms.body(form.multi_items(), ("data",)).get("data")).read()
    return web.json(await uploads.add_part(row, content))


@routes.post("/uploads/{upload_id}/complete")
async def complete_upload(body: UploadComplete, row: Known, completion: UseCompletion, catalog: UseCatalog) -> Response:
    return web.json(await catalog.upload(await completion.complete(row, CompletionOrder(body.part_ids, body.md5))))


@routes.post("/uploads/{upload_id}/cancel")
async def cancel_upload(row: Known, uploads: UseUploads, catalog: UseCatalog) -> Response:
    return web.json(await catalog.upload(await uploads.cancel(row)))


def _download(found: Download) -> Response:
    return Response(found.body, found.status, found.headers)


def _names(names: object, model: object, request: Request) -> list[str]:
    """The model groups of a create: those of its body, else of the query, else of headers sent each time."""
    query, headers = request.query_params, request.headers
    forms.require_no_fields(query)
    return model_names.requested(
        [names_in(names), web.group_names(query), web.group_names(headers)],
        [names_in(one, "model") for one in (model, query.getlist("model"), headers.getlist("x-litellm-model"))],
    )


async def _draft(request: Request, form: FormData) -> Draft:
    """What the form says; the model groups may also be named elsewhere."""
    said = forms.body(form.multi_items(), ("file", "purpose", "expires_after", "target_model_names", "model"))
    purpose = fields.purpose(said.get("purpose"))
    file = _file(said.get("file"))
    return Draft(
        filename=fields.filename(file.filename),
        purpose=purpose,
        names=_names(said.get("target_model_names"), said.get("model"), request),
        expires_after=fields.expires_after(said.get("expires_after"), purpose),
        content=await file.read(),
    )


class _FormParser(MultiPartParser):
    """Reads `filename*`, too, which RFC 7578 forbids and clients send."""

    def on_headers_finished(self) -> None:
        part = self._current_part
        part.content_disposition = multipart.with_plain_name(part.content_disposition or b"")
        super().on_headers_finished()


@asynccontextmanager
async def _form(request: Request) -> AsyncGenerator[FormData, None]:
    """The form in the body, whose files are closed afterwards."""
    form = await _read_form(request)
    try:
        yield form
    finally:
        await form.close()


async def _read_form(request: Request) -> FormData:
    """The form in the body. One that cannot be read is told why, of which a parser says nothing."""
    content_type = request.headers.get("content-type", "")
    if not multipart.is_form(content_type):
        return await request.form()
    body = multipart.whole(await request.body(), content_type)

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        return await _FormParser(request.headers, pieces(), max_part_size=2 * MAX_BYTES).parse()
    except MultiPartException as error:
        raise InvalidRequest(f"The body is no form that can be read. {error.message}", code="invalid_form") from error


def _file(sent: object) -> UploadFile:
    file = _sent(sent, "file")
    if not file.size:
        raise InvalidRequest("The file is empty. Send one with content.", param="file", code="empty_file")
    if file.size > MAX_BYTES:
        raise PayloadTooLarge(
            f"The file has {file.size} bytes, and POST /files takes {MAX_BYTES} (4 MiB). Upload it in parts: "
            "client.uploads.upload_file_chunked(file=…, mime_type='application/jsonl', purpose='batch', "
            "part_size=4*1024*1024). Or, without an SDK: POST /files/presign (filename, purpose, bytes), PUT the file "
            "to the 'url' in the answer, then POST /files/{id}/complete.",
            param="file",
        )
    return file


def _part(sent: object) -> UploadFile:
    part = _sent(sent, "data")
    if (part.size or 0) > MAX_BYTES:
        raise PayloadTooLarge(
            f"The part has {part.size} bytes, and a part may have {MAX_BYTES} (4 MiB). Send smaller ones: "
            "client.uploads.upload_file_chunked(…, part_size=4*1024*1024).",
            param="data",
        )
    return part


def _sent(file: object, name: str) -> UploadFile:
    if isinstance(file, str):
        message = f"The part '{name}' has no file name, so it is a text. Send it with one: filename=\"input.jsonl\"."
        raise InvalidRequest(message, param=name, code="missing_required_parameter")
    if not isinstance(file, UploadFile):
        message = f"Missing required parameter: '{name}'. Send it as a file of a multipart form."
        raise InvalidRequest(message, param=name, code="missing_required_parameter")
    return file


def create(gateway: Gateway) -> FastAPI:
    """The app on a gateway's parts."""
    return application("Manifold files", gateway, routes)


app = create(Gateway())
handler = observe.observed(web.handler(app))
