"""A test module has an `Uploader` by `pytest_plugins = ("tests.support.upload_fixtures",)`, and its `Desk`."""

from collections.abc import AsyncIterator

import pytest

from tests.support.desk import Desk
from tests.support.uploading import Uploader

pytest_plugins = ("tests.support.desk_fixtures",)


@pytest.fixture
async def uploads(desk: Desk) -> AsyncIterator[Uploader]:
    async with desk.client() as client:
        yield Uploader(client)
