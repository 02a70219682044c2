"""A test module has a `World` by `pytest_plugins = ("tests.support.world_fixtures",)`."""

from collections.abc import AsyncIterator

import pytest

from local.provider import Simulator
from manifold.providers.registry import close_providers
from tests.support.aws import Aws
from tests.support.world import AT_ONCE, World

pytest_plugins = ("tests.support.aws_fixtures", "tests.support.provider_fixtures")


@pytest.fixture
async def world(database_url: str, simulated_provider: Simulator, aws: Aws) -> AsyncIterator[World]:
    """All functions on an empty database, an empty bucket and providers that take no time."""
    simulated_provider.world.batches.pace = AT_ONCE
    made = World(database_url, simulated_provider, aws)
    yield made
    await made.close()
    await close_providers()
