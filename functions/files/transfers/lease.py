"""A lease that is renewed while a transfer runs.

The lease is short, so that a dead worker delays its transfer by a minute or two at most. It is renewed, so that no
other worker begins the same transfer meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from manifold.errors import ManifoldError

LEASE_SECONDS = 60
"""Length of a lease. After it has run out, the schedule finds the transfer within another minute and a quarter."""
RENEW_SECONDS = 15.0
"""Pause between renewals."""
MISSES = 3
"""Failed renewals in a row after which the lease counts as lost: it has run out by then."""

Result = TypeVar("Result")
Renew = Callable[[float], Awaitable[bool]]
"""Extends the lease by so many seconds; false if another worker has it, or nothing is left to do."""


class LeaseLost(Exception):
    """The transfer was stopped, since its lease could not be renewed."""


async def run_leased(renew: Renew, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which runs under a lease that is held already and is renewed meanwhile.

    Raises what `work` raises. Once the lease cannot be renewed, `work` is cancelled and `LeaseLost` raised.
    """
    working, renewing = asyncio.create_task(work), asyncio.create_task(_keep_renewing(renew))
    try:
        await asyncio.wait((working, renewing), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            renewing.result()
            raise LeaseLost
        return await working
    finally:
        for task in (working, renewing):
            task.cancel()
        await asyncio.gather(working, renewing, return_exceptions=True)


async def _keep_renewing(renew: Renew) -> None:
    """Renew the lease at intervals, and return when that is no longer possible."""
    missed = 0
    while missed < MISSES:
        await asyncio.sleep(RENEW_SECONDS)
        try:
            if not await renew(LEASE_SECONDS):
                return
        except ManifoldError:
            missed += 1
        else:
            missed = 0
