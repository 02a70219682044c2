"""The time of a run: that of the database, of the providers and of every machine's wall clock."""

from tests.faults.database import ServerDatabase
from tests.faults.loop import SimulatedLoop

BASE = 1_767_225_600.0
"""The Unix time at which each run begins."""


class Clock:
    """Moves time on. `elapse` is time that tasks wait for; after a `jump` machines find that more time has passed than
    their timers measured, as where they were frozen."""

    def __init__(self, loop: SimulatedLoop, database: ServerDatabase) -> None:
        self._loop, self._database = loop, database
        self._jumps: list[tuple[float, float]] = []
        """When each began, and its seconds."""

    def now(self) -> float:
        """Unix seconds."""
        return BASE + self._loop.time() + sum(seconds for _, seconds in self._jumps)

    def steady(self) -> float:
        """Seconds that tasks have waited for since the begin."""
        return self._loop.time()

    def steady_since(self, moment: float) -> float:
        """Seconds that tasks have waited for since a Unix time; below 0 before it."""
        jumped = (began + seconds - max(began, moment) for began, seconds in self._jumps)
        return self.now() - moment - sum(max(0.0, seconds) for seconds in jumped)

    def elapse(self, seconds: float) -> None:
        self._loop.advance(seconds)
        self._database.advance(seconds)

    def jump(self, seconds: float) -> None:
        self._jumps.append((self.now(), seconds))
        self._database.advance(seconds)
