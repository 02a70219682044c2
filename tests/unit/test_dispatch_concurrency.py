"""How many calls one environment has at once at a deployment."""

import asyncio
from dataclasses import replace

import pytest

from manifold.dispatch.concurrency import ConcurrencyLimits
from tests.support.deployments import deployment


@pytest.mark.parametrize(
    ("parallel", "rpm", "most"), [(None, None, 10), (None, 4, 4), (3, None, 3), (2, 600, 2), (8, 5, 8)]
)
async def test_calls_at_once_are_those_that_are_set(parallel: int | None, rpm: int | None, most: int) -> None:
    limits, one = ConcurrencyLimits(), replace(deployment("a"), max_parallel_requests=parallel, rpm=rpm)
    under_way = seen = 0

    async def call() -> None:
        nonlocal under_way, seen
        async with limits.at(one):
            under_way += 1
            seen = max(seen, under_way)
            await asyncio.sleep(0)
            under_way -= 1

    await asyncio.gather(*(call() for _ in range(10)))
    assert seen == most
