"""What the events make, step by step. A test module has it by `pytest_plugins`, and supplies the `site`."""

from typing import Any

import pytest

from tests.support.cloudformation import CloudFormation
from tests.support.events import Site, load


@pytest.fixture(scope="module")
def migration(site: Site, cloudformation: CloudFormation) -> Any:
    """The answer that the Migrations function gave CloudFormation, after which the database has its tables."""
    site.invoke("Migrations", load("cloudformation.create", response_url=cloudformation.url))
    [(_, answer)] = cloudformation.answers
    return answer


@pytest.fixture(scope="module")
def key(site: Site, migration: Any) -> str:
    """Ann's virtual key."""
    value: str = site.call("AdminApi", "key.generate")["key"]
    return value


@pytest.fixture(scope="module")
def file_id(site: Site, key: str) -> str:
    """Ann's file, which the deployments have."""
    made: str = site.call("FilesApi", "files.create", key=key)["id"]
    site.deliver()
    return made


@pytest.fixture(scope="module")
def batch(site: Site, key: str, file_id: str) -> Any:
    """Ann's batch, after its end."""
    made = site.call("BatchesApi", "batches.create", file_id=file_id, key=key)
    assert made["status"] == "validating"
    return site.finish(made["id"], key)
