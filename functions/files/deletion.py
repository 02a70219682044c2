"""The owner's delete of a file, which hides it. `files.transfers.purge` deletes the bytes later."""

from files.catalog import file_not_found
from manifold.access import Caller
from manifold.queue import Message, Queue
from manifold.schemas import FileDeleted
from manifold.store import Store


class Deletion:
    """Deletes files of a caller. `DELETE /files/{file_id}` calls it.

    Holds the store and the queue. Raises `NotFound` for a file that the caller does not have.
    """

    def __init__(self, store: Store, queue: Queue, caller: Caller) -> None:
        self._store = store
        self._queue = queue
        self._caller = caller

    async def delete(self, file_id: str, *, is_retry: bool = False) -> FileDeleted:
        """Delete a file. An open batch that needs the file goes on; the bytes are deleted when no batch needs them.

        `is_retry`: an SDK repeats the request, so that a file which is deleted already is no error.
        """
        async with self._store.session() as tables:
            row = await tables.files.delete(file_id, self._caller)
            if row is None and not (is_retry and await tables.files.is_deleted(file_id, self._caller)):
                raise file_not_found(file_id)
        await self._queue.announce([Message("file", file_id)])
        return FileDeleted(id=file_id)
