"""Uploads: files that are announced first, and whose bytes are then sent in parts, or by one PUT into the bucket."""

import json
from dataclasses import dataclass

from files import file_fields
from files.bodies import FilePresign
from files.catalog import file_not_found
from files.target_groups import TargetGroups
from manifold import ids
from manifold.access import Caller
from manifold.deployments import Deployments
from manifold.errors import InvalidRequest, NotFound
from manifold.idempotency import CreateAttempt
from manifold.queue import Message, Queue
from manifold.schemas import FilePurpose, UploadPart
from manifold.storage import Storage
from manifold.store import Store, Tables
from manifold.store.files import NewFile
from manifold.store.uploads import JOIN_SECONDS, UPLOAD_SECONDS, UploadRow

RESERVED_SECONDS = UPLOAD_SECONDS + JOIN_SECONDS
"""How long the file of an upload stays reserved: the upload's own hour, and one more to join the parts."""
MAX_COPIES = 3
"""How many times an upload's bytes may be sent: once, and again by each of the SDK's two retries."""
MIN_BYTES = 16 * 1024 * 1024
"""Bytes that the parts of any upload may have together, however small the file."""
MAX_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """What a client announces of a file."""

    filename: str
    purpose: FilePurpose
    size: int
    """Bytes."""
    names: list[str]
    """`target_model_names`"""
    expires_after: int | None
    """Seconds."""

    @classmethod
    def of(cls, body: FilePresign, names: list[str]) -> "UploadRequest":
        """The request of a body, with the model groups `names`, which are not checked yet. Raises `InvalidRequest`."""
        purpose = file_fields.purpose(body.purpose)
        default = file_fields.BATCH_EXPIRY if purpose == "batch" else None
        return cls(
            filename=file_fields.filename(body.filename, "filename"),
            purpose=purpose,
            size=file_fields.size(body.bytes, purpose),
            names=names,
            expires_after=body.expires_after.seconds if body.expires_after else default,
        )

    def identity(self) -> bytes:
        """What two equal requests have in common, for idempotency."""
        return json.dumps([self.filename, self.purpose, self.size, self.names, self.expires_after]).encode()


class Uploads:
    """Creates a caller's uploads, takes their parts and cancels them. `/uploads` and `/files/presign` call it.

    Holds the store, the storage, the queue and the deployments. Raises `NotFound` for an upload that the caller does
    not have, `InvalidRequest` for one that has ended, and `Unavailable` if Postgres or S3 does not answer.
    """

    def __init__(self, store: Store, storage: Storage, queue: Queue, deployments: Deployments, caller: Caller) -> None:
        self._store = store
        self._storage = storage
        self._queue = queue
        self._deployments = deployments
        self._caller = caller

    async def create(self, request: UploadRequest, attempt: CreateAttempt) -> UploadRow:
        """Reserve a file and its upload, or return those of an earlier attempt. Nobody sees the file yet."""
        TargetGroups(self._deployments, self._caller).for_purpose(request.names, request.purpose)
        async with self._store.transaction() as tables:
            return await self._earlier(tables, attempt) or await self._reserve(tables, request, attempt)

    async def get(self, upload_id: str) -> UploadRow:
        """An upload of the caller."""
        async with self._store.session() as tables:
            row = await tables.uploads.get(upload_id, self._caller)
        if row is None:
            raise NotFound(f"No such Upload object: {upload_id}.", param="upload_id", code="upload_not_found")
        return row

    async def of_file(self, file_id: str) -> UploadRow:
        """The upload of a presigned file, whether it is completed or not."""
        async with self._store.session() as tables:
            row = await tables.uploads.of_file(file_id, self._caller)
        if row is None:
            raise file_not_found(file_id)
        return row

    async def add_part(self, row: UploadRow, content: bytes) -> UploadPart:
        """Store a part. Its place in the file is given when the upload is completed."""
        require_pending(row)
        if not content:
            raise InvalidRequest("The part is empty. Send some of the file's bytes.", param="data", code="empty_part")
        part_id = ids.new("part")
        await self._storage.put(row.part_key(part_id), content)
        async with self._store.session() as tables:
            part = await tables.uploads.add_part(
                part_id, row.id, len(content), most_bytes=_most_bytes(row), most_parts=MAX_PARTS
            )
        if part is None:
            await self._storage.delete(row.part_key(part_id))
            current = await self.get(row.id)
            raise _full(current) if current.takes_parts else ended(current)
        return UploadPart(id=part.id, created_at=int(part.created_at.timestamp()), upload_id=part.upload_id)

    async def cancel(self, row: UploadRow) -> UploadRow:
        """Cancel a pending upload. Cancelling it twice is no error."""
        async with self._store.session() as tables:
            cancelled = await tables.uploads.cancel(row.id)
        if cancelled:
            await self._queue.announce([Message("upload", row.id)])
        current = await self.get(row.id)
        if current.status != "cancelled":
            raise ended(current)
        return current

    async def _earlier(self, tables: Tables, attempt: CreateAttempt) -> UploadRow | None:
        upload_id = await tables.idempotency.earlier(attempt)
        return await tables.uploads.get(upload_id, self._caller) if upload_id else None

    async def _reserve(self, tables: Tables, request: UploadRequest, attempt: CreateAttempt) -> UploadRow:
        file = NewFile(
            id=ids.new("file"),
            purpose=request.purpose,
            filename=request.filename,
            bytes=request.size,
            groups=[],
            expires_after=request.expires_after,
            status="uploaded",
        )
        await tables.files.reserve(file, self._caller, RESERVED_SECONDS)
        row = await tables.uploads.insert(ids.new("upload"), file.id, request.names)
        await tables.idempotency.remember(attempt, row.id)
        return row


def require_pending(row: UploadRow) -> None:
    """Raise `InvalidRequest` if the upload has ended."""
    if row.status != "pending":
        raise ended(row)


def _most_bytes(row: UploadRow) -> int:
    return max(MAX_COPIES * row.bytes, MIN_BYTES)


def _full(row: UploadRow) -> InvalidRequest:
    message = (
        f"The upload was announced with {row.bytes} bytes. All its parts together, those sent again included, may have "
        f"{_most_bytes(row)} bytes, and there may be {MAX_PARTS} parts. Complete it with those that it has, or start "
        "another one."
    )
    return InvalidRequest(message, param="data", code="too_many_parts")


def ended(row: UploadRow) -> InvalidRequest:
    """The error of a request that needs a pending upload, for an upload that has ended."""
    match row.status:
        case "completed":
            return InvalidRequest("The upload is completed. Start another one.", code="upload_completed")
        case "cancelled":
            return InvalidRequest("The upload was cancelled. Start another one.", code="upload_cancelled")
        case _:
            message = "The upload has expired: its parts must come within an hour. Start another one."
            return InvalidRequest(message, code="upload_expired")
