"""The clock of a simulated provider that stands still until a test moves it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from local.provider import Simulator
from tests.support.clock import Clock


@contextmanager
def standing(simulator: Simulator) -> Iterator[Clock]:
    """From now on the provider's time is that of the clock, until the block ends."""
    clock = Clock()
    clock.now = time.time()
    simulator.state.clock.now = clock  # type: ignore[method-assign]
    try:
        yield clock
    finally:
        del simulator.state.clock.now
