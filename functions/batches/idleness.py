"""Whether a run of the schedule may leave Postgres alone: docs/decisions/0024-idle-poller.md"""

import time
from collections.abc import Callable

from manifold.activity import ActivityMark
from manifold.errors import Unavailable

QUIET_SECONDS = 300.0
"""How long the mark must have been the same: longer than a request whose environment did not write it may take."""
REST_SECONDS = 3_600.0
"""How long the schedule leaves Postgres alone at most. Then it deletes old rows, and finds what no mark announced."""


class Idleness:
    """What one environment of the poller knows of the mark. A new environment knows nothing, so it reads Postgres."""

    def __init__(self, mark: ActivityMark, clock: Callable[[], float] = time.time) -> None:
        self._mark = mark
        self._clock = clock
        self._seen: str | None = None
        self._seen_since: float | None = None
        self._rests_since: float | None = None

    async def rests(self) -> bool:
        """Whether nothing was open at a run less than `REST_SECONDS` ago, and no client has changed rows since."""
        now = self._clock()
        try:
            mark = await self._mark.read()
        except Unavailable:
            self._seen_since = self._rests_since = None
            return False
        if self._seen_since is None or mark != self._seen or now < self._seen_since:
            self._seen, self._seen_since, self._rests_since = mark, now, None
        return self._rests_since is not None and now - self._rests_since < REST_SECONDS

    @property
    def quiet(self) -> bool:
        """Whether the mark that `rests` has just read has been the same for `QUIET_SECONDS`."""
        return self._seen_since is not None and self._clock() - self._seen_since >= QUIET_SECONDS

    def rest(self) -> None:
        """Rest from now on. To be called where `quiet`, and Postgres was then read and had nothing open."""
        self._rests_since = self._clock()
