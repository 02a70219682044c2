"""The activity mark: an object by which the poller learns, without Postgres, that a client may have made work.

A function writes the mark before it changes rows for a client; the poller compares what it has with what it saw before
(docs/decisions/0024-idle-poller.md). Each write has other bytes, so the mark's ETag tells one from the next.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from manifold import ids
from manifold.errors import Unavailable

if TYPE_CHECKING:
    from manifold.storage import Storage

log = logging.getLogger(__name__)

KEY = "activity"
"""The mark's key in the bucket."""
MARK_SECONDS = 120.0
"""An environment that wrote the mark does not write it again for this long."""
WRITE_SECONDS = 2.0
"""Time limit of a write: a request waits for it."""


class ActivityMark:
    """The mark, as one environment writes or reads it. `clock` is in seconds, and goes on while Lambda freezes us."""

    def __init__(self, storage: "Storage", clock: Callable[[], float] = time.time) -> None:
        self._storage = storage
        self._clock = clock
        self._written_at: float | None = None

    async def write(self) -> None:
        """Write the mark, unless this environment has done so in the last `MARK_SECONDS`.

        To be called before the change that it announces. Raises nothing: without the mark, the poller notices the
        change at its next run that reads Postgres, after an hour at the latest.
        """
        now = self._clock()
        if self._written_at is not None and 0 <= now - self._written_at < MARK_SECONDS:
            return
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._storage.put(KEY, ids.new("request").encode())
        except (TimeoutError, Unavailable):
            log.warning("the activity mark was not written: a poller that rests may rest on for an hour")
        else:
            self._written_at = now

    async def read(self) -> str | None:
        """What tells this mark from every other; `None` if none was ever written. Raises `Unavailable`."""
        return await self._storage.etag(KEY)
