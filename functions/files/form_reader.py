"""The reading of a request's multipart form, and of the file in it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from files import multipart
from manifold.errors import InvalidRequest, PayloadTooLarge

MAX_BYTES = 4 * 1024 * 1024
"""Bytes of a file or a part within one request. Lambda takes 6 MB, in which the form around it is base64."""


@asynccontextmanager
async def read_form(request: Request) -> AsyncGenerator[FormData, None]:
    """The form in a request's body. Its files are closed afterwards.

    Raises `InvalidRequest`, which says what is wrong, for a form that cannot be read.
    """
    form = await _parse(request)
    try:
        yield form
    finally:
        await form.close()


def file_of(value: object) -> UploadFile:
    """The form's field `file` as a file for `POST /files`. Raises `InvalidRequest` or `PayloadTooLarge`."""
    file = _upload_file(value, "file")
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


def part_of(value: object) -> UploadFile:
    """The form's field `data` as a part of an upload. Raises `InvalidRequest` or `PayloadTooLarge`."""
    part = _upload_file(value, "data")
    if (part.size or 0) > MAX_BYTES:
        raise PayloadTooLarge(
            f"The part has {part.size} bytes, and a part may have {MAX_BYTES} (4 MiB). Send smaller parts: "
            "client.uploads.upload_file_chunked(…, part_size=4*1024*1024).",
            param="data",
        )
    return part


class _FormParser(MultiPartParser):
    """Reads `filename*`, too, which RFC 7578 forbids and clients send."""

    def on_headers_finished(self) -> None:
        part = self._current_part
        part.content_disposition = multipart.with_plain_name(part.content_disposition or b"")
        super().on_headers_finished()


async def _parse(request: Request) -> FormData:
    content_type = request.headers.get("content-type", "")
    if not multipart.is_form(content_type):
        return await request.form()
    body = multipart.whole(await request.body(), content_type)

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        return await _FormParser(request.headers, chunks(), max_part_size=2 * MAX_BYTES).parse()
    except MultiPartException as error:
        raise InvalidRequest(f"The body is no form that can be read. {error.message}", code="invalid_form") from error


def _upload_file(value: object, name: str) -> UploadFile:
    if isinstance(value, str):
        message = f"The part '{name}' has no file name, so it is a text. Send it with one: filename=\"input.jsonl\"."
        raise InvalidRequest(message, param=name, code="missing_required_parameter")
    if not isinstance(value, UploadFile):
        message = f"Missing required parameter: '{name}'. Send it as a file of a multipart form."
        raise InvalidRequest(message, param=name, code="missing_required_parameter")
    return value
