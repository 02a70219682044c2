"""The worker's part of an upload: it completes what takes too long for a request, and deletes the parts at the end."""

import secrets
from functools import partial

from files.assembly import Assembly
from files.finishing import Finishing
from files.transfers.lease import LEASE_SECONDS, LeaseLost, run_leased
from files.transfers.retry_policy import pause
from manifold import observe
from manifold.access import Caller
from manifold.auth import authorize
from manifold.deployments import Deployments
from manifold.errors import AuthenticationFailed, InvalidRequest, ManifoldError, PermissionDenied
from manifold.queue import Queue
from manifold.storage import Storage
from manifold.store import Store
from manifold.store.uploads import UploadRow


class Joining:
    """Completes a large upload, and deletes the parts of one that has ended. `worker` calls `run` for each `upload`
    message.

    Holds the store, the storage, an `Assembly` and a `Finishing`. A fault of S3 is not raised: the upload's row says
    when to try again. Raises `ManifoldError` if Postgres does not answer.
    """

    def __init__(self, store: Store, storage: Storage, queue: Queue, deployments: Deployments) -> None:
        self._store = store
        self._storage = storage
        self._assembly = Assembly(store, storage)
        self._finishing = Finishing(store, queue, deployments)

    async def run(self, upload_id: str) -> None:
        """Take the next step of an upload that is due for a worker, or write when to try again."""
        async with self._store.session() as tables:
            row = await tables.uploads.claim_due(upload_id, secrets.token_hex(8), LEASE_SECONDS)
        if row is None:
            return
        try:
            await (self._complete(row) if row.status == "pending" else self._clear(row))
        except LeaseLost:
            observe.warning("lease_lost", upload_id=row.id)
        except ManifoldError as error:
            observe.failed("upload_attempt_failed", error, upload_id=row.id, attempts=row.attempts)
            async with self._store.session() as tables:
                await tables.uploads.release(row, due_in=pause(row.attempts, error))

    async def _complete(self, row: UploadRow) -> None:
        """Join the parts, if that was not done, and finish in the name of the key that announced the file."""
        joined = row if row.md5 else await run_leased(partial(self._renew, row), self._assembly.join(row))
        try:
            await self._finishing.finish(joined, await self._sender(joined))
        except (InvalidRequest, AuthenticationFailed, PermissionDenied) as error:
            await self._finishing.fail(joined, error)

    async def _sender(self, row: UploadRow) -> Caller:
        async with self._store.session() as tables:
            return await authorize(row.key_id, tables.functions.grant_of)

    async def _renew(self, row: UploadRow, seconds: float) -> bool:
        async with self._store.session() as tables:
            return await tables.uploads.renew(row, seconds)

    async def _clear(self, row: UploadRow) -> None:
        await self._storage.clear(row.prefix)
        async with self._store.session() as tables:
            await tables.uploads.cleared(row)
