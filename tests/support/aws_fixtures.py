"""A test module has S3 and SQS by `pytest_plugins = ("tests.support.aws_fixtures",)`."""

from collections.abc import Iterator

import pytest

from tests.support.aws import Aws, emulated


@pytest.fixture
def aws() -> Iterator[Aws]:
    with emulated() as emulation:
        yield emulation
