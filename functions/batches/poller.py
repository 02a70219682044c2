"""The schedule, every minute: sends again what has waited too long, and polls the batches that are due."""

import time
from functools import cache
from typing import Any

from batches.engine import Engine
from batches.sweep import Sweep
from manifold import observe
from manifold.gateway import Gateway
from manifold.invocation import run

MANY = 200
"""How many batches are claimed at once; their providers are polled concurrently."""
BUDGET_SECONDS = 35.0
"""Time from the start of a run after which nothing more is claimed: a deployment gets 15 s, and the function 60 s."""

gateway = Gateway()


@cache
def engine() -> Engine:
    return Engine(gateway.store, gateway.queue, gateway.deployments)


def sweep() -> Sweep:
    config = gateway.config
    return Sweep(gateway.store, gateway.queue, config.calls_retention, config.batch_retention)


async def poll() -> dict[str, int]:
    """One run of the schedule; returns how many batches were polled and how many messages sent again."""
    began = time.monotonic()
    resent = await sweep().run()
    polled, unresponsive = 0, set[str]()
    while time.monotonic() - began < BUDGET_SECONDS:
        claimed = await engine().poll_due(MANY, unresponsive)
        polled += claimed
        if claimed < MANY:
            break
    return {"polled": polled, "resent": resent}


def handle(_: Any, __: Any) -> dict[str, int]:
    return run(poll())


handler = observe.observed(handle)
