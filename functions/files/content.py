"""The bytes of a caller's file: in the answer where API Gateway can carry them, else a presigned link to them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from files import ranges
from files.catalog import no_file
from manifold.access import Caller
from manifold.storage import Piece, Storage, attachment
from manifold.store import Store
from manifold.store.files import FileRow

INLINE_BYTES = 4 * 1024 * 1024
"""Of what one answer carries: Lambda answers with 6 MB, in which bytes are base64."""
TYPE = "application/octet-stream"
"""OpenAI's, for every file. So no browser runs a page that somebody uploaded, and Lambda gets base64, whose length is
known; a text would have its quotes escaped."""
_SAME_TYPE = "application/binary"
"""The only type that OpenAI's SDKs accept by name. They get it: `sam local start-api` decodes the base64 of an
answer only if the client accepts the answer's type."""
_HINT = (
    b"The file is too large for this answer. It is at this answer's Location, for five minutes: follow it "
    b"(curl -L, httpx follow_redirects=True), or ask for at most 4 MiB at a time by Range.\n"
)


@dataclass(frozen=True, slots=True)
class Download:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes = field(default=b"", repr=False)


class Content:
    def __init__(self, store: Store, storage: Storage, caller: Caller) -> None:
        self._store = store
        self._storage = storage
        self._caller = caller

    async def get(self, file_id: str, headers: Mapping[str, str]) -> Download:
        """The file, or the range of it that these headers ask for; `RangeNotSatisfiable` if it has no such range."""
        row = await self._row(file_id)
        part = ranges.asked(headers, row.bytes, _etag(row))
        wanted = range(row.bytes) if part is None else part
        if len(wanted) > INLINE_BYTES:
            return self._elsewhere(row, "get_object", _HINT)
        body = await self._storage.fetch(Piece(row.storage_key, wanted.start, len(wanted)))
        if part is None:
            return Download(200, _headers(row, headers), body)
        return Download(
            206, _headers(row, headers) | {"content-range": f"bytes {part.start}-{part.stop - 1}/{row.bytes}"}, body
        )

    async def head(self, file_id: str, headers: Mapping[str, str]) -> Download:
        """What `get` answers for the whole file, without its bytes."""
        row = await self._row(file_id)
        if row.bytes > INLINE_BYTES:
            return self._elsewhere(row, "head_object")
        return Download(200, _headers(row, headers) | {"content-length": str(row.bytes)})

    def _elsewhere(self, row: FileRow, method: Literal["get_object", "head_object"], hint: bytes = b"") -> Download:
        """A link that downloads the file under its own name, for a few minutes; S3 takes it with this method alone."""
        link = self._storage.link(row.storage_key, filename=row.filename, content_type=TYPE, method=method)
        return Download(302, {"location": link, "cache-control": "no-store", "content-type": "text/plain"}, hint)

    async def _row(self, file_id: str) -> FileRow:
        async with self._store.session() as tables:
            row = await tables.files.get(file_id, self._caller)
        if row is None:
            raise no_file(file_id)
        return row


def _etag(row: FileRow) -> str:
    return f'"{row.id}"'  # a file never changes


def _headers(row: FileRow, asked: Mapping[str, str]) -> dict[str, str]:
    return {
        "content-type": _SAME_TYPE if asked.get("accept") == _SAME_TYPE else TYPE,
        "content-disposition": attachment(row.filename),
        "accept-ranges": "bytes",
        "etag": _etag(row),
        "cache-control": "no-store",
    }
