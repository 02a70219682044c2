"""One deployed stack for all the tests here: the shipped configuration, and the simulated provider behind it."""

import os
from collections.abc import Iterator

import pytest

from local.places import HOME
from local.running import Running
from local.stack import Stack


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Running]:
    """The running stack. Its logs are kept, and their place is printed, if a test failed."""
    stack = Stack(HOME / f"test-stack-{os.getpid()}", given={})
    running = stack.up()
    yield running
    if request.session.testsfailed:
        stack.abandon()
    else:
        stack.down()
