"""The purge of a deleted file: its bytes in S3, and its copies at the providers."""

import asyncio
import secrets
import time
from collections.abc import Sequence

from files.transfers.lease import LEASE_SECONDS
from files.transfers.retry_policy import pause
from manifold import observe
from manifold.deployments import Deployments
from manifold.errors import TIMEOUT, ManifoldError, ProviderError, ProviderRefused, ProviderUnclear, Unavailable
from manifold.storage import Storage
from manifold.store import Store
from manifold.store.files import PurgeRow, storage_key
from manifold.store.inputs import InputRow

DELETE_SECONDS = 5.0
"""Time for a provider's delete of one file."""
HANGING_SECONDS = 60.0
"""After a delete that took longer, this environment sends the deployment no other one for so long: all transfers share
one queue."""


class Purge:
    """Purges deleted files. `worker` calls `run` for each `file` message.

    Holds the store, the storage and the deployments, and remembers the deployments whose deletes hang. A fault of a
    provider or of S3 is not raised: the file's row says when to try again. Raises `ManifoldError` if Postgres does not
    answer.
    """

    def __init__(self, store: Store, storage: Storage, deployments: Deployments) -> None:
        self._store = store
        self._storage = storage
        self._deployments = deployments
        self._hanging: dict[str, float] = {}
        """Deployments that get no delete, each with the time (of the wall's clock) until when."""

    async def run(self, file_id: str) -> None:
        """Purge a file that is due, deleted, and needed by no open batch; or write when to try again."""
        async with self._store.session() as tables:
            row = await tables.files.claim_purge(file_id, secrets.token_hex(8), LEASE_SECONDS)
            inputs = await tables.inputs.of_file(file_id) if row else []
        if row is None:
            return
        try:
            await self._clear(row, inputs)
        except (ProviderError, ManifoldError) as fault:
            observe.failed("file_purge_failed", fault, file_id=file_id, attempts=row.attempts)
            async with self._store.session() as tables:
                await tables.files.retry_purge(row, pause(row.attempts, fault))

    async def _clear(self, row: PurgeRow, inputs: Sequence[InputRow]) -> None:
        for fault in await asyncio.gather(*map(self._discard, inputs), return_exceptions=True):
            if isinstance(fault, BaseException):
                raise fault
        await self._storage.delete(storage_key(row.id))
        async with self._store.session() as tables:
            await tables.files.purged(row)
        observe.event("file_purged", file_id=row.id)

    async def _discard(self, row: InputRow) -> None:
        """Delete the provider's copy. Where the refusal is lasting, the copy stays until the provider drops it."""
        try:
            await self._delete_copy(row)
        except ProviderRefused as error:
            if not error.lasting:
                raise
            observe.failed("input_delete_failed", error, input_id=row.id, deployment_id=row.deployment_id)
        async with self._store.session() as tables:
            if not await tables.inputs.discard(row.id, deleted=row):
                raise Unavailable("An upload that was under way made a copy meanwhile.")

    async def _delete_copy(self, row: InputRow) -> None:
        deployment, ref = self._deployments.get(row.deployment_id), row.provider_ref
        if deployment is None or ref is None:
            return
        if time.time() < self._hanging.get(deployment.id, 0.0):
            raise ProviderUnclear("its deletes hang", code=TIMEOUT)
        try:
            await self._deployments.call(
                deployment, lambda provider, at: provider.discard(at, ref), seconds=DELETE_SECONDS
            )
        except ProviderUnclear as error:
            if error.code == TIMEOUT:
                self._hanging[deployment.id] = time.time() + HANGING_SECONDS
            raise
