"""Systems whose deployments have limits: `pytest_plugins = ("tests.support.divided_batches_fixtures",)`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from local.provider import Simulator
from manifold.providers.registry import close_providers
from tests.support.aws import Aws
from tests.support.divided_batches import Limits, Start, enforce, write_config
from tests.support.system import FAST_PACE, System

pytest_plugins = ("tests.support.aws_fixtures", "tests.support.provider_fixtures")


@pytest.fixture
async def start(database_url: str, simulated_provider: Simulator, aws: Aws, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts the system with deployments of these limits, which their providers enforce."""
    started: list[System] = []

    def begin(limits: Limits) -> System:
        simulated_provider.state.batches.pace = FAST_PACE
        enforce(simulated_provider, limits)
        system = System(database_url, simulated_provider, aws, write_config(tmp_path / "config.yaml", limits))
        started.append(system)
        return system

    yield begin
    for system in started:
        await system.close()
    await close_providers()
