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
        self._jumped = 0.0

    def now(self) -> float:
        """Unix seconds."""
        return BASE + self._loop.time() + self._jumped

    def elapse(self, seconds: float) -> None:
        self._loop.advance(seconds)
        self._database.advance(seconds)

    def jump(self, seconds: float) -> None:
        self._jumped += seconds
        self._database.advance(seconds)
