"""Inputs that a provider checks before a job may name them: waited for within bounds, and looked at again."""

import asyncio
from collections.abc import Awaitable, Callable

from manifold.errors import InputLost, ProviderRefused, ProviderUnclear
from manifold.providers.batch_jobs import GONE

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


async def check(is_ready: Awaitable[bool]) -> None:
    """Look once, before a job is made. `InputLost` if the input is gone, `ProviderRefused` while it is not ready."""
    try:
        ready = await is_ready
    except ProviderRefused as refusal:
        if refusal.status != GONE:
            raise
        raise InputLost(refusal.message, status=refusal.status, lasting=True) from refusal
    if not ready:
        raise ProviderRefused("the provider is still checking the input")
