"""A new file: checked, then written ahead, its bytes stored, and only then shown, with its inputs to prepare."""

import hashlib
import json
from dataclasses import dataclass

from files import inputs
from files.serializers import file_object
from files.targets import Targets
from manifold import ids
from manifold.access import Caller
from manifold.deployments import Deployments
from manifold.errors import Unavailable
from manifold.idempotency import CreateAttempt
from manifold.jsonl import Check, Report
from manifold.queue import Message, Queue
from manifold.schemas import File, FilePurpose
from manifold.storage import Storage
from manifold.store import Store, Tables
from manifold.store.files import FileRow, NewFile, storage_key


@dataclass(frozen=True, slots=True)
class Draft:
    """A file as a client sent it."""

    filename: str
    purpose: FilePurpose
    names: list[str]
    """`target_model_names`"""
    expires_after: int | None
    """Seconds."""
    content: bytes

    def identity(self) -> bytes:
        """All that makes two drafts equal, in short."""
        content = hashlib.sha256(self.content).hexdigest()
        return json.dumps([self.filename, self.purpose, self.names, self.expires_after, content]).encode()


class Creation:
    def __init__(self, store: Store, storage: Storage, queue: Queue, deployments: Deployments, caller: Caller) -> None:
        self._store = store
        self._storage = storage
        self._queue = queue
        self._deployments = deployments
        self._caller = caller

    async def create(self, draft: Draft, attempt: CreateAttempt) -> File:
        """Keep the file and have its inputs prepared; nothing is kept of one that is refused."""
        groups, report = self._checked(draft)
        file = NewFile(
            id=ids.new("file"),
            purpose=draft.purpose,
            filename=draft.filename,
            bytes=len(draft.content),
            groups=groups,
            report=report.to_json() if report else None,
            expires_after=draft.expires_after,
        )
        async with self._store.session() as tables:
            await tables.files.reserve(file, self._caller)
        await self._storage.put(storage_key(file.id), draft.content)
        async with self._store.transaction() as tables:
            row = await self._earlier(tables, attempt) or await self._register(tables, file, attempt)
            wanted = await inputs.ensure(tables, row, self._deployments)
            made = await tables.inputs.of_file(row.id)
        await self._queue.announce(Message("input", input_id) for input_id in wanted)
        return file_object(row, made, self._deployments)

    def _checked(self, draft: Draft) -> tuple[list[str], Report | None]:
        """The groups that may run it and, for a batch's input, what its lines are like."""
        targets = Targets(self._deployments, self._caller)
        groups = targets.for_purpose(draft.names, draft.purpose)
        if draft.purpose != "batch":
            return groups, None
        return targets.for_report(draft.names, Check.whole(draft.content))

    async def _earlier(self, tables: Tables, attempt: CreateAttempt) -> FileRow | None:
        """What an earlier attempt at the same create made. Our own copy is purged with its reservation."""
        file_id = await tables.idempotency.earlier(attempt)
        return await tables.files.get(file_id, self._caller) if file_id else None

    async def _register(self, tables: Tables, file: NewFile, attempt: CreateAttempt) -> FileRow:
        row = await tables.files.register(file.id)
        if row is None:
            raise Unavailable("Storing the file took too long. Try again.")
        await tables.idempotency.remember(attempt, file.id)
        return row
