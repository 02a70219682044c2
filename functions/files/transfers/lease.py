"""A lease that is kept while bytes flow: short, so that a worker's death costs a minute or two, and renewed, so that
nobody else begins meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from manifold.errors import ManifoldError

LEASE_SECONDS = 60
"""How long a transfer is held at a time; the schedule finds what nobody holds within another minute and a quarter."""
RENEW_SECONDS = 15.0
"""How often it is renewed."""
MISSES = 3
"""Renewals in a row that may fail because the database does not answer: the lease has run out then."""

Answer = TypeVar("Answer")
Renew = Callable[[float], Awaitable[bool]]
"""Holds on for so many seconds; false if somebody else has taken over, or nothing is left to do."""


class LeaseLost(Exception):
    """The work was stopped: it is another worker's now, or nobody's."""


async def kept(renew: Renew, work: Coroutine[Any, Any, Answer]) -> Answer:
    """What `work` comes to, under a lease that is renewed until then. Raises `LeaseLost` once it cannot be."""
    working, beating = asyncio.create_task(work), asyncio.create_task(_beat(renew))
    try:
        await asyncio.wait((working, beating), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            beating.result()
            raise LeaseLost
        return await working
    finally:
        for task in (working, beating):
            task.cancel()
        await asyncio.gather(working, beating, return_exceptions=True)


async def _beat(renew: Renew) -> None:
    """Renew until that is no longer possible."""
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
