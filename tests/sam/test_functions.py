"""The events through `sam local invoke`: each function in a container."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.provider import defaults
from local.running import Running
from tests.sam.containers import SamLocal
from tests.support import postgres
from tests.support.aws import BUCKET, Aws
from tests.support.event_tests import EventTests
from tests.support.events import Site
from tests.support.gateways import MASTER_KEY

pytest_plugins = ("tests.support.event_fixtures",)


class TestInContainers(EventTests):
    """Each of them."""


@pytest.fixture(scope="module")
def site(stack: Running, address: str, built: Path, directory: Path) -> Iterator[Site]:
    """The stack's Postgres, emulated AWS and provider; but a database, queues and a bucket that no worker of its knows."""
    aws = _aws(stack)
    with postgres.database(stack.database_url) as database_url:
        port = urlsplit(stack.provider_url).port
        values = {"DATABASE_URL": database_url, "MANIFOLD_MASTER_KEY": MASTER_KEY, **defaults(port, address)}
        variables = aws.environment | {"MANIFOLD_SECRET_ARN": stack.aws.create_secret("events", values)}
        sam = SamLocal(built, stack.aws_url, variables, directory / "functions")
        yield Site(sam.invoke, aws, database_url, MASTER_KEY)


def _aws(stack: Running) -> Aws:
    s3, sqs = stack.aws.client("s3"), stack.aws.client("sqs")
    s3.create_bucket(Bucket=BUCKET)
    control, transfers = (sqs.create_queue(QueueName=f"events-{name}")["QueueUrl"] for name in ("control", "transfers"))
    return Aws(s3, sqs, control, transfers)
