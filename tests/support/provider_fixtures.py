"""The simulated provider for tests: one for the session, reset before each test.

`tests/integration/test_simulated_*.py` and `tests/unit/test_simulated_lines.py` hold it to the documentation.
A test module has the fixtures by `pytest_plugins = ("tests.support.provider_fixtures",)`.
"""

from collections.abc import Iterator

import pytest

from local.provider import Simulator, serve


@pytest.fixture(scope="session")
def provider_server() -> Iterator[Simulator]:
    with serve() as simulator:
        yield simulator


@pytest.fixture
def simulated_provider(provider_server: Simulator) -> Simulator:
    """A simulated provider over HTTP on 127.0.0.1, ten times as fast as by default; reset before each test."""
    provider_server.reset()
    return provider_server
