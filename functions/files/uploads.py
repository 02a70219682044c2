"""Uploads: files that are announced first, and whose bytes then come in parts or straight into the bucket."""

import json
from dataclasses import dataclass

from files import fields
from files.bodies import FileAnnounced
from files.catalog import no_file
from files.targets import Targets
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
from manifold.store.uploads import UPLOAD_SECONDS, UploadRow

RESERVED_SECONDS = UPLOAD_SECONDS + 3600
"""How long the file of an upload stays reserved: the upload's own hour, and one for whoever is joining it then."""
MAX_COPIES = 3
"""How often an upload's bytes may be sent: once, and again by each of the SDK's two retries."""
MIN_BYTES = 16 * 1024 * 1024
"""What the parts of any upload may have, also of a small one."""
MAX_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class Announcement:
    """A file that a client announces."""

    filename: str
    purpose: FilePurpose
    size: int
    """Bytes."""
    names: list[str]
    """`target_model_names`"""
    expires_after: int | None
    """Seconds."""

    @classmethod
    def of(cls, body: FileAnnounced, names: list[str]) -> "Announcement":
        """What the body of a create says, checked but for the names."""
        purpose = fields.purpose(body.purpose)
        default = fields.BATCH_EXPIRY if purpose == "batch" else None
        return cls(
            filename=fields.filename(body.filename, "filename"),
            purpose=purpose,
            size=fields.size(body.bytes, purpose),
            names=names,
            expires_after=body.expires_after.seconds if body.expires_after else default,
        )

    def identity(self) -> bytes:
        """All that makes two announcements equal, in short."""
        return json.dumps([self.filename, self.purpose, self.size, self.names, self.expires_after]).encode()


class Uploads:
    def __init__(self, store: Store, storage: Storage, queue: Queue, deployments: Deployments, caller: Caller) -> None:
        self._store = store
        self._storage = storage
        self._queue = queue
        self._deployments = deployments
        self._caller = caller

    async def create(self, announced: Announcement, attempt: CreateAttempt) -> UploadRow:
        """Reserve the file; nobody sees it until the upload is completed."""
        Targets(self._deployments, self._caller).for_purpose(announced.names, announced.purpose)
        async with self._store.transaction() as tables:
            return await self._earlier(tables, attempt) or await self._reserve(tables, announced, attempt)

    async def get(self, upload_id: str) -> UploadRow:
        async with self._store.session() as tables:
            row = await tables.uploads.get(upload_id, self._caller)
        if row is None:
            raise NotFound(f"No such Upload object: {upload_id}.", param="upload_id", code="upload_not_found")
        return row

    async def of_file(self, file_id: str) -> UploadRow:
        """The upload that a presigned file is, or was."""
        async with self._store.session() as tables:
            row = await tables.uploads.of_file(file_id, self._caller)
        if row is None:
            raise no_file(file_id)
        return row

    async def add_part(self, row: UploadRow, content: bytes) -> UploadPart:
        """Keep some of the file's bytes; where they belong is said when the upload is completed."""
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
            now = await self.get(row.id)
            raise _full(now) if now.takes_parts else closed(now)
        return UploadPart(id=part.id, created_at=int(part.created_at.timestamp()), upload_id=part.upload_id)

    async def cancel(self, row: UploadRow) -> UploadRow:
        """Let an upload go. Asking twice is no error."""
        async with self._store.session() as tables:
            cancelled = await tables.uploads.cancel(row.id)
        if cancelled:
            await self._queue.announce([Message("upload", row.id)])
        current = await self.get(row.id)
        if current.status != "cancelled":
            raise closed(current)
        return current

    async def _earlier(self, tables: Tables, attempt: CreateAttempt) -> UploadRow | None:
        upload_id = await tables.idempotency.earlier(attempt)
        return await tables.uploads.get(upload_id, self._caller) if upload_id else None

    async def _reserve(self, tables: Tables, announced: Announcement, attempt: CreateAttempt) -> UploadRow:
        file = NewFile(
            id=ids.new("file"),
            purpose=announced.purpose,
            filename=announced.filename,
            bytes=announced.size,
            groups=[],
            expires_after=announced.expires_after,
            status="uploaded",
        )
        await tables.files.reserve(file, self._caller, RESERVED_SECONDS)
        row = await tables.uploads.insert(ids.new("upload"), file.id, announced.names)
        await tables.idempotency.remember(attempt, row.id)
        return row


def require_pending(row: UploadRow) -> None:
    """Raise `InvalidRequest` if the upload has ended."""
    if row.status != "pending":
        raise closed(row)


def _most_bytes(row: UploadRow) -> int:
    return max(MAX_COPIES * row.bytes, MIN_BYTES)


def _full(row: UploadRow) -> InvalidRequest:
    message = (
        f"The upload was announced with {row.bytes} bytes. All its parts together, those sent again included, may have "
        f"{_most_bytes(row)} bytes and be {MAX_PARTS}. Complete it with those that it has, or start another one."
    )
    return InvalidRequest(message, param="data", code="too_many_parts")


def closed(row: UploadRow) -> InvalidRequest:
    """Why nothing can be done to an upload any more."""
    match row.status:
        case "completed":
            return InvalidRequest("The upload is completed. Start another one.", code="upload_completed")
        case "cancelled":
            return InvalidRequest("The upload was cancelled. Start another one.", code="upload_cancelled")
        case _:
            message = "The upload has expired: its parts must come within an hour. Start another one."
            return InvalidRequest(message, code="upload_expired")
