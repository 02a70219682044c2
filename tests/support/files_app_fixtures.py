"""A test module has a `FilesApp` by `pytest_plugins = ("tests.support.files_app_fixtures",)`."""

from collections.abc import AsyncIterator

import pytest

from local.provider import Simulator
from tests.support.aws import Aws
from tests.support.files_app import FilesApp

pytest_plugins = ("tests.support.aws_fixtures", "tests.support.provider_fixtures")


@pytest.fixture
async def files_app(database_url: str, aws: Aws, simulated_provider: Simulator) -> AsyncIterator[FilesApp]:
    opened = FilesApp(database_url, aws, simulated_provider)
    yield opened
    await opened.close()
