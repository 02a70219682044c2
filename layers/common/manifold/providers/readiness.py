"""Waits, within bounds, until a provider has checked an input."""

import asyncio
from collections.abc import Awaitable, Callable

from manifold.errors import ProviderUnclear

PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between the looks: a minute in all. What takes longer is looked at again before a job is made."""


async def wait(is_ready: Callable[[], Awaitable[bool]]) -> None:
    """Look until the input is ready, but for a minute at most. What `is_ready` raises ends the wait.

    A look without an answer is no failure of an input that is uploaded already.
    """
    for pause in PAUSES:
        try:
            if await is_ready():
                return
        except ProviderUnclear:
            return
        await asyncio.sleep(pause)
