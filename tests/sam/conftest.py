"""The local stack at an address that containers reach, and the template built for containers."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.places import HOME
from local.running import Running
from local.stack import Stack
from tests.sam import containers


@pytest.fixture(scope="session")
def directory() -> Path:
    """A directory that is empty at the start. Its files stay after the tests, for the logs."""
    made = HOME / "test-sam"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    return made


@pytest.fixture(scope="session")
def address() -> str:
    return containers.bridge()


@pytest.fixture(scope="session")
def stack(address: str, directory: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    stack = Stack(directory / "stack", given={}, host=address)
    yield stack.up()
    if request.session.testsfailed:
        stack.abandon()
    else:
        stack.down()


@pytest.fixture(scope="session")
def built(directory: Path) -> Path:
    """The built template."""
    return containers.build(directory / "build")
