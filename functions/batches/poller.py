"""The schedule, every minute: sends again what has waited too long, and polls the batches that are due."""

import time
from functools import cache
from typing import Any

from batches.engine import Engine
from batches.sweep import Sweep
from manifold import observe
from manifold.gateway import Gateway
from manifold.invocation import run

MANY = 10_000
"""The most batches that one run claims. It bounds the run's memory."""
BUDGET_SECONDS = 25.0
"""Time from the start of a run after which nothing is claimed: a deployment gets 25 s, and the function 60 s."""

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
    resent = await _sweep()
    in_time = time.monotonic() - began < BUDGET_SECONDS
    return {"polled": await engine().poll_due(MANY) if in_time else 0, "resent": resent}


async def _sweep() -> int:
    """A fault of the sweep, such as a delete that takes too long, does not keep jobs from being polled."""
    try:
        return await sweep().run()
    except Exception as error:
        observe.fault(error)
        return 0


def handle(_: Any, __: Any) -> dict[str, int]:
    return run(poll())


handler = observe.observed(handle)
