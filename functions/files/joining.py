"""What the worker does for an upload: joins what is too large for a request, clears what is left after the end."""

import secrets

from files.assembly import Assembly
from files.patience import FIRST_PAUSE, LEASE_SECONDS
from manifold import observe
from manifold.errors import ManifoldError
from manifold.storage import Storage
from manifold.store import Store
from manifold.store.uploads import UploadRow


class Joining:
    def __init__(self, store: Store, storage: Storage) -> None:
        self._store = store
        self._storage = storage
        self._assembly = Assembly(store, storage)

    async def run(self, upload_id: str) -> None:
        """Take the next step of this upload, if there is one for a worker."""
        async with self._store.session() as tables:
            held = await tables.uploads.claim_due(upload_id, secrets.token_hex(8), LEASE_SECONDS)
            row = held or await tables.uploads.load(upload_id)
        if held is not None:
            await self._join(held)
        elif row is not None and row.status != "pending":
            await self._clear(row)

    async def _join(self, row: UploadRow) -> None:
        """Join the parts, after which a complete needs a moment; what fails now, the sweep sends again."""
        try:
            await self._assembly.join(row)
        except ManifoldError as error:
            observe.failed("upload_not_joined", error, upload_id=row.id)
            wait: float | None = FIRST_PAUSE
        else:
            wait = None
        async with self._store.session() as tables:
            await tables.uploads.release(row, due_in=wait)

    async def _clear(self, row: UploadRow) -> None:
        await self._storage.clear(row.prefix)
        async with self._store.session() as tables:
            await tables.uploads.cleared(row.id)
