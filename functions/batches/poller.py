"""The schedule, every minute: polls what is due, provider by provider, and sends again what has waited too long."""

import time
from functools import cache
from typing import Any

from batches.engine import Engine
from batches.sweep import Sweep
from manifold import observe
from manifold.gateway import Gateway
from manifold.invocation import run

MANY = 200
"""Batches that are claimed at once; their providers are asked concurrently."""
BUDGET_SECONDS = 35.0
"""When no further claim is made, counted from the start: a deployment gets 15 s, and the function ends at 60 s."""

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
    polled, silent = 0, set[str]()
    while time.monotonic() - began < BUDGET_SECONDS:
        claimed = await engine().poll_due(MANY, silent)
        polled += claimed
        if claimed < MANY:
            break
    return {"polled": polled, "resent": resent}


def handle(_: Any, __: Any) -> dict[str, int]:
    return run(poll())


handler = observe.observed(handle)
