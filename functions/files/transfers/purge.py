"""The purge of a deleted file: its bytes in S3, and its copies at the providers."""

import asyncio
import secrets
from collections.abc import Sequence

from files.transfers.copies import Copies
from files.transfers.lease import LEASE_SECONDS
from files.transfers.retry_policy import pause
from manifold import observe
from manifold.deployments import Deployments
from manifold.errors import ManifoldError, ProviderError
from manifold.storage import Storage
from manifold.store import Store
from manifold.store.files import PurgeRow, storage_key
from manifold.store.inputs import InputRow, inputs_prefix


class Purge:
    """Purges deleted files. `worker` calls `run` for each `file` message.

    Holds the store, the storage and the providers' copies. A fault of a provider or of S3 is not raised: the file's row
    says when to try again. Raises `ManifoldError` if Postgres does not answer.
    """

    def __init__(self, store: Store, storage: Storage, deployments: Deployments) -> None:
        self._store = store
        self._storage = storage
        self._copies = Copies(store, deployments)

    async def run(self, file_id: str) -> None:
        """Purge a file that is due, deleted, and needed by no open batch; or write when to try again."""
        async with self._store.session() as tables:
            row = await tables.files.claim_purge(file_id, secrets.token_hex(8), LEASE_SECONDS)
            inputs = await tables.inputs.of_file_and_shards(file_id) if row else []
        if row is None:
            return
        try:
            await self._clear(row, inputs)
        except (ProviderError, ManifoldError) as fault:
            observe.failed("file_purge_failed", fault, file_id=file_id, attempts=row.attempts)
            async with self._store.session() as tables:
                await tables.files.retry_purge(row, pause(row.attempts, fault))

    async def _clear(self, row: PurgeRow, inputs: Sequence[InputRow]) -> None:
        for fault in await asyncio.gather(*map(self._copies.discard, inputs), return_exceptions=True):
            if isinstance(fault, BaseException):
                raise fault
        await self._storage.clear(inputs_prefix(row.id))
        await self._storage.delete(storage_key(row.id))
        async with self._store.session() as tables:
            await tables.files.purged(row)
        observe.event("file_purged", file_id=row.id)
