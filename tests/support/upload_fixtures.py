"""A test module has an `Uploader` by `pytest_plugins = ("tests.support.upload_fixtures",)`, and its `FilesApp`."""

from collections.abc import AsyncIterator

import pytest

from tests.support.files_app import FilesApp
from tests.support.uploads import Uploader

pytest_plugins = ("tests.support.files_app_fixtures",)


@pytest.fixture
async def uploader(files_app: FilesApp) -> AsyncIterator[Uploader]:
    async with files_app.client() as client:
        yield Uploader(client)
