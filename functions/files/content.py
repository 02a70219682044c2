"""The content of a file: in the response where API Gateway can carry it, else a redirect to a presigned link."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from files import conditions, ranges
from files.catalog import file_not_found
from manifold.errors import PreconditionFailed
from manifold.reading import Reading
from manifold.storage import Piece, Storage, attachment
from manifold.store.files import FileView

INLINE_BYTES = 4 * 1024 * 1024
"""Bytes of content in one response: Lambda answers with 6 MB at most, in which bytes are base64."""
TYPE = "application/octet-stream"
"""OpenAI's type, for every file. No browser runs an uploaded page of this type, and Lambda gets base64, whose length is
known; the quotes of a text would be escaped."""
_SAME_TYPE = "application/binary"
"""The only type that OpenAI's SDKs accept by name. They get it: `sam local start-api` decodes the base64 of an
answer only if the client accepts the answer's type."""
_HINT = (
    b"The file is too large for this answer. It is at this answer's Location, for five minutes: follow it "
    b"(curl -L, httpx follow_redirects=True), or ask for at most 4 MiB at a time by Range.\n"
)


@dataclass(frozen=True, slots=True)
class Download:
    """The response to a request for content."""

    status: int
    headers: dict[str, str]
    body: bytes = field(default=b"", repr=False)


class Content:
    """Serves the content of the files that the holder of a key sees. The routes `…/content` call it.

    Holds the reading and the storage. Raises `NotFound` for a file that it does not see, `PreconditionFailed`,
    `RangeNotSatisfiable`, and `Unavailable` if Postgres or S3 does not answer.
    """

    def __init__(self, reading: Reading, storage: Storage) -> None:
        self._reading = reading
        self._storage = storage

    async def get(self, file_id: str, headers: Mapping[str, str]) -> Download:
        """The file's bytes, or the range of them that the request's headers name. A longer answer is a redirect.

        A redirect heeds no conditions (RFC 9110 §13.2.1): the client may have the tag of S3's object, where it leads.
        """
        row = await self._row(file_id)
        unmet = conditions.unmet(headers, _etag(row))
        if unmet is not None and row.bytes <= INLINE_BYTES:  # conditions come before the range
            return _without_content(row, unmet)
        part = ranges.requested(headers, row.bytes, _etag(row))
        sent = range(row.bytes) if part is None else part
        if len(sent) > INLINE_BYTES:
            return self._redirect(row, "get_object", _HINT)
        if unmet is not None:
            return _without_content(row, unmet)
        body = await self._storage.fetch(Piece(row.storage_key, sent.start, len(sent)))
        if part is None:
            return Download(200, _headers(row, headers), body)
        return Download(
            206, _headers(row, headers) | {"content-range": f"bytes {part.start}-{part.stop - 1}/{row.bytes}"}, body
        )

    async def head(self, file_id: str, headers: Mapping[str, str]) -> Download:
        """The response of `get` for the whole file, without the bytes."""
        row = await self._row(file_id)
        if row.bytes > INLINE_BYTES:
            return self._redirect(row, "head_object")
        if (unmet := conditions.unmet(headers, _etag(row))) is not None:
            return _without_content(row, unmet)
        return Download(200, _headers(row, headers) | {"content-length": str(row.bytes)})

    def _redirect(self, row: FileView, method: Literal["get_object", "head_object"], hint: bytes = b"") -> Download:
        """A redirect to a link that works for five minutes, for this method alone, and has the file's own name."""
        link = self._storage.link(row.storage_key, filename=row.filename, content_type=TYPE, method=method)
        return Download(302, {"location": link, "cache-control": "no-store", "content-type": "text/plain"}, hint)

    async def _row(self, file_id: str) -> FileView:
        _, seen = await self._reading.read(lambda reads: reads.file(file_id))
        if seen is None:
            raise file_not_found(file_id)
        return seen.file


def _etag(row: FileView) -> str:
    return f'"{row.id}"'  # a file never changes


def _without_content(row: FileView, unmet: Literal[304, 412]) -> Download:
    if unmet == 412:
        raise PreconditionFailed("The file's tag is not among those of 'If-Match'.", param="If-Match")
    return Download(304, {"etag": _etag(row), "cache-control": "no-store"})


def _headers(row: FileView, request: Mapping[str, str]) -> dict[str, str]:
    return {
        "content-type": _SAME_TYPE if request.get("accept") == _SAME_TYPE else TYPE,
        "content-disposition": attachment(row.filename),
        "accept-ranges": "bytes",
        "etag": _etag(row),
        "cache-control": "no-store",
    }
