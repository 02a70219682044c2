"""One deployed stack for all the tests here: the shipped configuration, and the simulated provider behind it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.places import HOME, tool
from local.running import Running
from local.stack import Stack

ORIGIN = "https://app.example.com"
"""The origin whose pages may call the stack."""


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Running]:
    """The running stack. Its logs are kept, and their place is printed, if a test failed."""
    stack = Stack(HOME / f"test-stack-{os.getpid()}", given={}, allowed_origins=ORIGIN)
    yield stack.up()
    if request.session.testsfailed:
        stack.abandon()
    else:
        stack.down()


@pytest.fixture(params=["openai<3", "openai>=3"])
def python(request: pytest.FixtureRequest) -> Path:
    """A Python with the OpenAI SDK of one of its two lines, which use different HTTP clients."""
    return Path(sys.executable) if request.param == "openai>=3" else tool("openai2", "python")
