"""The schedule, every minute: sends again what has waited too long, and polls the batches that are due.

While nothing is open it leaves Postgres alone (docs/decisions/0024-idle-poller.md).
"""

import asyncio
import time
from functools import cache
from typing import Any

from batches.engine import Engine
from batches.idleness import Idleness
from batches.sweep import Sweep
from manifold import observe
from manifold.errors import Unavailable
from manifold.gateway import Gateway
from manifold.invocation import run

MANY = 10_000
"""The most batches that one run claims. It bounds the run's memory."""
RESUME_SECONDS = 20.0
"""Time for Postgres to answer at all: Aurora takes some 15 seconds to resume after a pause."""
BUDGET_SECONDS = 25.0
"""Time from the start of a run after which nothing is claimed: a deployment gets 25 s, and the function 60 s."""
_PAUSE_SECONDS = 1.0  # between two attempts to connect

gateway = Gateway()


@cache
def engine() -> Engine:
    return Engine(gateway.store, gateway.queue, gateway.deployments, lambda: gateway.storage)


@cache
def idleness() -> Idleness:
    return Idleness(gateway.activity_mark)


def sweep() -> Sweep:
    config = gateway.config
    return Sweep(gateway.store, gateway.queue, config.by_id, config.calls_retention, config.batch_retention)


async def poll() -> dict[str, int]:
    """One run of the schedule; returns how many batches were polled and how many messages sent again."""
    began = time.monotonic()
    if await idleness().rests():
        return {"polled": 0, "resent": 0}
    await _resumed(began + RESUME_SECONDS)
    swept = sweep()
    resent = await _sweep(swept)
    in_time = time.monotonic() - began < BUDGET_SECONDS
    polled = await engine().poll_due(MANY) if in_time else 0
    if idleness().quiet and await swept.nothing_left():
        idleness().rest()
        await gateway.store.close()  # an open connection keeps Aurora from pausing
    return {"polled": polled, "resent": resent}


async def _resumed(end: float) -> None:
    """Return when Postgres can be reached. Raises `Unavailable` if it cannot be until `end`, a monotonic time."""
    while True:
        try:
            async with gateway.store.session():
                return
        except Unavailable:
            if time.monotonic() >= end:
                raise
            await asyncio.sleep(_PAUSE_SECONDS)


async def _sweep(swept: Sweep) -> int:
    """A fault of the sweep, such as a delete that takes too long, does not keep jobs from being polled."""
    try:
        return await swept.run()
    except Exception as error:
        observe.fault(error)
        return 0


def handle(_: Any, __: Any) -> dict[str, int]:
    return run(poll())


handler = observe.observed(handle)
