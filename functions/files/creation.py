"""The creation of a file within one request: check, reserve the row, store the bytes, show the file with its inputs."""

import hashlib
import json
from dataclasses import dataclass

from files import inputs
from files.serializers import file_object
from files.target_groups import TargetGroups
from manifold import ids
from manifold.access import Caller
from manifold.deployments import Deployments
from manifold.errors import Unavailable
from manifold.idempotency import CreateAttempt
from manifold.jsonl.check import Check
from manifold.jsonl.report import Report
from manifold.queue import Message, Queue
from manifold.schemas import File, FilePurpose
from manifold.storage import Storage
from manifold.store import Store, Tables
from manifold.store.files import FileRow, NewFile, storage_key
from manifold.store.inputs import InputView


@dataclass(frozen=True, slots=True)
class FileRequest:
    """A file that a client sent."""

    filename: str
    purpose: FilePurpose
    names: list[str]
    """`target_model_names`"""
    expires_after: int | None
    """Seconds."""
    content: bytes

    def identity(self) -> bytes:
        """What two equal requests have in common, for idempotency."""
        content = hashlib.sha256(self.content).hexdigest()
        return json.dumps([self.filename, self.purpose, self.names, self.expires_after, content]).encode()


class Creation:
    """Creates files of a caller. `POST /files` calls it.

    Holds the store, the storage, the queue and the deployments. Raises `InvalidRequest` or `PermissionDenied` for model
    groups that the caller cannot name, and `Unavailable` if Postgres or S3 does not answer.
    """

    def __init__(self, store: Store, storage: Storage, queue: Queue, deployments: Deployments, caller: Caller) -> None:
        self._store = store
        self._storage = storage
        self._queue = queue
        self._deployments = deployments
        self._caller = caller

    async def create(self, request: FileRequest, attempt: CreateAttempt) -> File:
        """Store a file and add its inputs, or return that of an earlier attempt. A refused file is not stored."""
        groups, report = self._checked(request)
        file = NewFile(
            id=ids.new("file"),
            purpose=request.purpose,
            filename=request.filename,
            bytes=len(request.content),
            groups=groups,
            report=report.to_json() if report else None,
            expires_after=request.expires_after,
        )
        async with self._store.session() as tables:
            await tables.files.reserve(file, self._caller)
        await self._storage.put(storage_key(file.id), request.content)
        async with self._store.transaction() as tables:
            row = await self._earlier(tables, attempt) or await self._register(tables, file, attempt)
            pending = await inputs.ensure(tables, row, self._deployments)
            all_inputs = await tables.inputs.of_file(row.id)
        await self._queue.announce(Message("input", input_id) for input_id in pending)
        shown = [InputView(one.deployment_id, one.state, one.error) for one in all_inputs]
        return file_object(row, shown, self._deployments)

    def _checked(self, request: FileRequest) -> tuple[list[str], Report | None]:
        """The groups that may run the file and, with the purpose `batch`, the report of its lines."""
        target_groups = TargetGroups(self._deployments, self._caller)
        groups = target_groups.for_purpose(request.names, request.purpose)
        if request.purpose != "batch":
            return groups, None
        return target_groups.for_report(request.names, Check.whole(request.content))

    async def _earlier(self, tables: Tables, attempt: CreateAttempt) -> FileRow | None:
        """The file of an earlier attempt at the same create. This attempt's own is then purged as a reserved one."""
        file_id = await tables.idempotency.earlier(attempt)
        return await tables.files.get(file_id, self._caller) if file_id else None

    async def _register(self, tables: Tables, file: NewFile, attempt: CreateAttempt) -> FileRow:
        row = await tables.files.register(file.id)
        if row is None:
            raise Unavailable("Storing the file took too long. Try again.")
        await tables.idempotency.remember(attempt, file.id)
        return row
