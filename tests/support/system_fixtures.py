"""A test module has a `System` by `pytest_plugins = ("tests.support.system_fixtures",)`."""

from collections.abc import AsyncIterator

import pytest

from local.provider import Simulator
from manifold.providers.registry import close_providers
from tests.support.aws import Aws
from tests.support.system import FAST_PACE, System

pytest_plugins = ("tests.support.aws_fixtures", "tests.support.provider_fixtures")


@pytest.fixture
async def system(database_url: str, simulated_provider: Simulator, aws: Aws) -> AsyncIterator[System]:
    """All functions on an empty database, an empty bucket and providers that take no time."""
    simulated_provider.state.batches.pace = FAST_PACE
    made = System(database_url, simulated_provider, aws)
    yield made
    await made.close()
    await close_providers()
