"""Where the bytes of a caller's file are fetched: a presigned link, for API Gateway could not carry them."""

from typing import Literal

from files.library import no_file
from manifold.access import Caller
from manifold.storage import Storage
from manifold.store import Store


class Content:
    def __init__(self, store: Store, storage: Storage, caller: Caller) -> None:
        self._store = store
        self._storage = storage
        self._caller = caller

    async def link(self, file_id: str, method: Literal["get_object", "head_object"] = "get_object") -> str:
        """A link that downloads the file under its own name, for a few minutes; S3 takes it with this method alone."""
        async with self._store.session() as tables:
            row = await tables.files.get(file_id, self._caller)
        if row is None:
            raise no_file(file_id)
        return self._storage.link(
            row.storage_key, filename=row.filename, content_type=_type(row.filename), method=method
        )


def _type(filename: str) -> str:
    """JSON Lines have no registered type; the rest is bytes, so that no browser runs a page that somebody uploaded."""
    return "application/jsonl" if filename.lower().endswith(".jsonl") else "application/octet-stream"
