"""A test module has a `Desk` by `pytest_plugins = ("tests.support.desk_fixtures",)`."""

from collections.abc import AsyncIterator

import pytest

from local.provider import Simulator
from tests.support.aws import Aws
from tests.support.desk import Desk

pytest_plugins = ("tests.support.aws_fixtures", "tests.support.provider_fixtures")


@pytest.fixture
async def desk(database_url: str, aws: Aws, simulated_provider: Simulator) -> AsyncIterator[Desk]:
    opened = Desk(database_url, aws, simulated_provider)
    yield opened
    await opened.close()
