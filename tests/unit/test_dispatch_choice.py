"""What one request knows of the load of its deployments, and tells the database of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from manifold.config import Deployment, RouterSettings
from manifold.dispatch.attempts import Attempt
from manifold.dispatch.choice import Choices, Chooser
from manifold.errors import ProviderUnclear
from manifold.prices import Prices
from manifold.routing import Strategy
from manifold.store.traffic import DeploymentStats
from tests.support.deployments import deployment


class Traffic:
    """A store whose only table has one row at most, of the deployment `one`."""

    def __init__(self, row: DeploymentStats | None) -> None:
        self.row = row
        self.reads = 0
        self.under_way: list[int] = []
        """What each call that began wrote of its request's."""

    @property
    def traffic(self) -> "Traffic":
        return self

    @asynccontextmanager
    async def session(self) -> AsyncIterator["Traffic"]:
        yield self

    async def stats(self, deployment_ids: Sequence[str]) -> list[DeploymentStats]:
        self.reads += 1
        return [self.row] if self.row else []

    async def began(self, deployment_id: str, lease: str, calls: int, seconds: float) -> None:
        self.under_way.append(calls)


ONE = deployment("one")
ROW = DeploymentStats("one", busy=0, requests=0, tokens=0, latency=None, cooldown=0.0, minute_left=60.0)
LIMITED = replace(ONE, rpm=2, tpm=100)


def choices(traffic: Traffic, strategy: Strategy) -> Choices:
    store: Any = traffic
    return Choices(Chooser(RouterSettings(routing_strategy=strategy), store, Prices(), 60.0))


async def test_the_usage_of_a_minute_counts_until_its_end() -> None:
    traffic = Traffic(ROW._replace(requests=1, minute_left=0.2))
    request = choices(traffic, "usage-based-routing-v2")

    assert [await request.choose([LIMITED]) for _ in range(3)] == [LIMITED, None, None]
    assert traffic.reads == 1
    await asyncio.sleep(0.2)
    traffic.row = ROW

    assert [await request.choose([LIMITED]) for _ in range(3)] == [LIMITED, LIMITED, None]
    assert traffic.reads == 2


async def test_so_does_its_number_of_tokens() -> None:
    traffic = Traffic(ROW._replace(tokens=100, minute_left=0.05))
    request = choices(traffic, "usage-based-routing")

    assert await request.choose([LIMITED]) is None
    await asyncio.sleep(0.05)
    traffic.row = ROW

    assert await request.choose([LIMITED]) == LIMITED


async def test_a_deployment_without_a_row_is_idle_and_read_again_after_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("manifold.dispatch.choice.MINUTE", 0.2)
    traffic = Traffic(None)
    request = choices(traffic, "usage-based-routing-v2")

    assert [await request.choose([LIMITED]) for _ in range(3)] == [LIMITED, LIMITED, None]
    await asyncio.sleep(0.2)

    assert await request.choose([LIMITED]) == LIMITED
    assert traffic.reads == 2


async def test_what_is_no_number_of_a_minute_is_read_once() -> None:
    traffic = Traffic(ROW._replace(minute_left=0.0))
    request = choices(traffic, "least-busy")

    assert [await request.choose([LIMITED]) for _ in range(3)] == [LIMITED] * 3
    assert traffic.reads == 1


@pytest.mark.parametrize(
    ("strategy", "one"),
    [("least-busy", ONE), ("usage-based-routing-v2", ONE), ("simple-shuffle", replace(ONE, execution="gateway"))],
)
async def test_a_call_that_has_ended_is_not_under_way(strategy: Strategy, one: Deployment) -> None:
    traffic = Traffic(ROW)
    request = choices(traffic, strategy)

    for _ in range(3):
        await request.choose([one])
        await request.choose([one])
        for error in (None, ProviderUnclear("down", status=503)):
            request.note(Attempt(one, "/chat/completions", 0.1, error=error))

    assert traffic.under_way == [1, 2] * 3
