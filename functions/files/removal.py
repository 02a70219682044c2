"""The end of a file: its owner's delete, which is soft, and the purge of its bytes and of the providers' copies."""

from files.library import no_file
from manifold import observe
from manifold.access import Caller
from manifold.deployments import Deployments
from manifold.errors import ProviderError, ProviderRefused
from manifold.queue import Message, Queue
from manifold.schemas import FileDeleted
from manifold.storage import Storage
from manifold.store import Store
from manifold.store.files import storage_key
from manifold.store.inputs import InputRow


class Removal:
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


class Purge:
    def __init__(self, store: Store, storage: Storage, deployments: Deployments) -> None:
        self._store = store
        self._storage = storage
        self._deployments = deployments

    async def run(self, file_id: str) -> None:
        """Clear a deleted file that no open batch needs. What cannot be cleared now is left for the next sweep."""
        async with self._store.session() as tables:
            if not await tables.files.purgeable(file_id):
                return
            inputs = await tables.inputs.of_file(file_id)
        for row in inputs:
            if not await self._discard(row):
                return
        await self._storage.delete(storage_key(file_id))
        async with self._store.session() as tables:
            await tables.files.purged(file_id)
        observe.event("file_purged", file_id=file_id)

    async def _discard(self, row: InputRow) -> bool:
        """Whether the provider's copy is gone, or as gone as it will be: a lasting no leaves it to its expiry there."""
        try:
            await self._discard_copy(row)
        except ProviderError as error:
            observe.failed("input_not_discarded", error, input_id=row.id, deployment_id=row.deployment_id)
            if not (isinstance(error, ProviderRefused) and error.lasting):
                return False
        async with self._store.session() as tables:
            await tables.inputs.discard(row.id)
        return True

    async def _discard_copy(self, row: InputRow) -> None:
        deployment, ref = self._deployments.get(row.deployment_id), row.provider_ref
        if deployment is not None and ref is not None:
            await self._deployments.call(deployment, lambda provider, at: provider.discard(at, ref))
