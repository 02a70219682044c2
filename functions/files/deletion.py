"""The owner's delete of a file. The bytes go later: `files.transfers.purge`."""

from files.catalog import no_file
from manifold.access import Caller
from manifold.queue import Message, Queue
from manifold.schemas import FileDeleted
from manifold.store import Store


class Deletion:
    def __init__(self, store: Store, queue: Queue, caller: Caller) -> None:
        self._store = store
        self._queue = queue
        self._caller = caller

    async def delete(self, file_id: str, *, again: bool = False) -> FileDeleted:
        """Let the caller's file go. An open batch that runs it goes on; the bytes go when none needs them.

        Where the request comes again, because its answer was lost, the file may be gone already.
        """
        async with self._store.session() as tables:
            row = await tables.files.delete(file_id, self._caller)
            if row is None and not (again and await tables.files.is_deleted(file_id, self._caller)):
                raise no_file(file_id)
        await self._queue.announce([Message("file", file_id)])
        return FileDeleted(id=file_id)
