"""`/files` and `/uploads`: https://platform.openai.com/docs/api-reference/files, …/uploads"""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from starlette.datastructures import FormData

from files import file_fields, forms, model_names
from files.bodies import FileComplete, FilePresign, UploadComplete, UploadCreate
from files.catalog import Catalog
from files.content import Content, Download
from files.cost_estimate import CostEstimates
from files.creation import Creation, FileRequest
from files.deletion import Deletion
from files.form_reader import file_of, part_of, read_form
from files.presign import CONTENT_PART, presigned
from files.upload_completion import Completion, CompletionOrder
from files.uploads import UploadRequest, Uploads, require_pending
from manifold import idempotency, observe, web
from manifold.access import Caller
from manifold.app import application, gateway_of, mark_activity, reading_of
from manifold.create_body import names_in
from manifold.gateway import Gateway
from manifold.schemas import FilePurpose
from manifold.store.uploads import UploadRow

reads = APIRouter(route_class=web.KeyFirst)
changes = APIRouter(route_class=web.KeyFirst, dependencies=[Depends(mark_activity)])


@dataclass(frozen=True, slots=True)
class UseCases:
    """The use cases of one request that changes something. Each is made when the route needs it."""

    gateway: Gateway
    caller: Caller

    @property
    def creation(self) -> Creation:
        parts = self.gateway
        return Creation(parts.store, parts.storage, parts.queue, parts.deployments, self.caller)

    @property
    def deletion(self) -> Deletion:
        return Deletion(self.gateway.store, self.gateway.queue, self.caller)

    @property
    def uploads(self) -> Uploads:
        parts = self.gateway
        return Uploads(parts.store, parts.storage, parts.queue, parts.deployments, self.caller)

    @property
    def completion(self) -> Completion:
        parts = self.gateway
        return Completion(parts.store, parts.storage, parts.queue, parts.deployments, self.caller)


async def _use_cases(request: Request) -> UseCases:
    return UseCases(gateway_of(request), await web.caller(request))


def _catalog(request: Request) -> Catalog:
    return Catalog(reading_of(request), gateway_of(request).deployments)


def _content(request: Request) -> Content:
    return Content(reading_of(request), gateway_of(request).storage)


def _cost_estimates(request: Request) -> CostEstimates:
    gateway = gateway_of(request)
    return CostEstimates(reading_of(request), gateway.deployments, gateway.prices)


UseCasesDep = Annotated[UseCases, Depends(_use_cases)]


async def _upload(upload_id: str, use: UseCasesDep) -> UploadRow:
    return await use.uploads.get(upload_id)


async def _upload_of_file(file_id: str, use: UseCasesDep) -> UploadRow:
    return await use.uploads.of_file(file_id)


UploadDep = Annotated[UploadRow, Depends(_upload)]
"""An upload of the caller's. One that does not exist is a 404 before the request's body is read."""
UploadOfFileDep = Annotated[UploadRow, Depends(_upload_of_file)]


@changes.post("/files")
async def create_file(request: Request, use: UseCasesDep) -> Response:
    async with read_form(request) as form:
        file = await _file_request(request, form)
    attempt = idempotency.attempt(use.caller, "POST /files", file.identity(), request.headers)
    return web.json(await use.creation.create(file, attempt))


@reads.get("/files")
async def list_files(
    request: Request,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: FilePurpose | None = None,
) -> Response:
    names = web.group_names(request.query_params)
    return web.json(await _catalog(request).page(limit=limit, order=order, after=after, purpose=purpose, names=names))


@reads.get("/files/{file_id}")
async def retrieve_file(file_id: str, request: Request) -> Response:
    return web.json(await _catalog(request).retrieve(file_id))


@changes.delete("/files/{file_id}")
async def delete_file(file_id: str, request: Request, use: UseCasesDep) -> Response:
    return web.json(await use.deletion.delete(file_id, is_retry=idempotency.is_retry(request.headers)))


@reads.get("/files/{file_id}/content")
async def file_content(file_id: str, request: Request) -> Response:
    return _download(await _content(request).get(file_id, request.headers))


@reads.head("/files/{file_id}/content")
async def file_content_head(file_id: str, request: Request) -> Response:
    return _download(await _content(request).head(file_id, request.headers))


@reads.get("/files/{file_id}/cost-estimate")
async def file_cost_estimate(file_id: str, request: Request) -> Response:
    return web.json(await _cost_estimates(request).of(file_id))


@changes.post("/files/presign")
async def presign_file(body: FilePresign, request: Request, use: UseCasesDep) -> Response:
    upload = UploadRequest.of(body, _model_names(body.target_model_names, body.model, request))
    attempt = idempotency.attempt(use.caller, "POST /files/presign", upload.identity(), request.headers)
    return web.json(presigned(await use.uploads.create(upload, attempt), use.gateway.storage))


@changes.post("/files/{file_id}/complete")
async def complete_file(
    row: UploadOfFileDep, use: UseCasesDep, request: Request, body: FileComplete | None = None
) -> Response:
    order = CompletionOrder([CONTENT_PART], body.md5 if body else None, presigned=True)
    completed = await use.completion.complete(row, order)
    return web.json(await _catalog(request).file_of(completed))


@changes.post("/uploads")
async def create_upload(body: UploadCreate, request: Request, use: UseCasesDep) -> Response:
    upload = UploadRequest.of(body, _model_names(body.target_model_names, body.model, request))
    attempt = idempotency.attempt(use.caller, "POST /uploads", upload.identity(), request.headers)
    return web.json(await _catalog(request).upload(await use.uploads.create(upload, attempt)))


@reads.get("/uploads/{upload_id}")
async def retrieve_upload(row: UploadDep, request: Request) -> Response:
    return web.json(await _catalog(request).upload(row))


@changes.post("/uploads/{upload_id}/parts")
async def add_upload_part(row: UploadDep, request: Request, use: UseCasesDep) -> Response:
    require_pending(row)
    async with read_form(request) as form:
        content = await part_of(forms.body(form.multi_items(), ("data",)).get("data")).read()
    return web.json(await use.uploads.add_part(row, content))


@changes.post("/uploads/{upload_id}/complete")
async def complete_upload(body: UploadComplete, row: UploadDep, use: UseCasesDep, request: Request) -> Response:
    completed = await use.completion.complete(row, CompletionOrder(body.part_ids, body.md5))
    return web.json(await _catalog(request).upload(completed))


@changes.post("/uploads/{upload_id}/cancel")
async def cancel_upload(row: UploadDep, use: UseCasesDep, request: Request) -> Response:
    return web.json(await _catalog(request).upload(await use.uploads.cancel(row)))


def _download(download: Download) -> Response:
    return Response(download.body, download.status, download.headers)


def _model_names(names: object, model: object, request: Request) -> list[str]:
    """The model groups of a create: those of its body, else of the query, else of headers sent each time."""
    query, headers = request.query_params, request.headers
    forms.require_no_fields(query)
    return model_names.requested(
        [names_in(names), web.group_names(query), web.group_names(headers)],
        [names_in(one, "model") for one in (model, query.getlist("model"), headers.getlist("x-litellm-model"))],
    )


async def _file_request(request: Request, form: FormData) -> FileRequest:
    """The file that a form sends. Its model groups may also be named in the query or the headers."""
    body = forms.body(form.multi_items(), ("file", "purpose", "expires_after", "target_model_names", "model"))
    purpose = file_fields.purpose(body.get("purpose"))
    file = file_of(body.get("file"))
    return FileRequest(
        filename=file_fields.filename(file.filename),
        purpose=purpose,
        names=_model_names(body.get("target_model_names"), body.get("model"), request),
        expires_after=file_fields.expires_after(body.get("expires_after"), purpose),
        content=await file.read(),
    )


def create(gateway: Gateway) -> FastAPI:
    """The app on a gateway's parts."""
    return application("Manifold files", gateway, reads, changes)


app = create(Gateway())
handler = observe.observed(web.handler(app))
