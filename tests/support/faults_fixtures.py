"""A test module has a database for runs under faults by `pytest_plugins = ("tests.support.faults_fixtures",)`."""

from collections.abc import Iterator

import pytest

from tests.faults.database import ServerDatabase


@pytest.fixture(scope="session")
def faults_database(database_server: str) -> Iterator[ServerDatabase]:
    with ServerDatabase.create(database_server) as database:
        yield database
