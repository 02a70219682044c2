"""Whether anything is open: any row at which a worker or the schedule has still something to do."""

from typing import LiteralString

from manifold.store.connection import Connection

_OPEN: LiteralString = """
    SELECT EXISTS (SELECT 1 FROM batches WHERE due_at IS NOT NULL)
        OR EXISTS (SELECT 1 FROM inputs WHERE due_at IS NOT NULL)
        OR EXISTS (SELECT 1 FROM jobs WHERE due_at IS NOT NULL)
        OR EXISTS (SELECT 1 FROM uploads WHERE due_at IS NOT NULL)
        OR EXISTS (SELECT 1 FROM uploads WHERE status = 'pending')
        OR EXISTS (SELECT 1 FROM files WHERE deleted_at IS NOT NULL AND purged_at IS NULL)
        OR EXISTS (SELECT 1 FROM deliveries WHERE status = 'pending')"""
"""Each has a partial index, which is empty when nothing is open.

Left out is what may wait for an hour: files that expire (nobody sees them then), suspected orphans and old rows.
"""


class OpenWork:
    """Reads whether there is any. The poller calls it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def any(self) -> bool:
        """Whether a batch, an input, results, an upload, a deleted file or a delivery is open."""
        row = await (await self._connection.execute(_OPEN)).fetchone()
        return bool(row and row[0])
