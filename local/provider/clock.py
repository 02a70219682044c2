"""The time by which the simulated provider lives."""

import asyncio
import time


class Clock:
    """The time of day, and pauses. A test may have another, which it moves by hand."""

    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
