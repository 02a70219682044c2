"""The event loop of the simulated provider in a run with a dialect, and its clock."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.clock import Clock
from tests.support.in_process_provider import ManualClock


class ProviderClock(ManualClock):
    """The run's time. A pause of the provider takes none."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> float:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="dialect")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
