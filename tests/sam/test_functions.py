"""The events through `sam local invoke`: each function in a container."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from local.provider import defaults
from local.running import Running
from tests.sam.containers import SamLocal
from tests.support import postgres
from tests.support.aws import BUCKET, Aws
from tests.support.cloudformation import listening
from tests.support.events import Site
from tests.support.gateways import MASTER_KEY
from tests.support.stories import STORIES, prepare

AT_ONCE = 2
"""Each call starts SAM and a container, which takes seconds."""


@pytest.mark.parametrize("story", STORIES)
def test_the_events_are_answered_in_containers(story: str, told: Mapping[str, Future[None]]) -> None:
    told[story].result()


@pytest.fixture(scope="module")
def told(site: Site, address: str) -> Iterator[Mapping[str, Future[None]]]:
    """All the stories, being told."""
    with listening(address) as cloudformation:
        key = prepare(site, cloudformation)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(story, site, key) for name, story in STORIES.items()}


@pytest.fixture(scope="module")
def site(stack: Running, address: str, built: Path, directory: Path) -> Iterator[Site]:
    """On the stack's servers, but with a database, queues and a bucket that the stack's own workers do not know."""
    aws = _aws(stack)
    with postgres.database(stack.database_url) as database_url:
        port = int(stack.provider_url.rpartition(":")[2])
        values = {"DATABASE_URL": database_url, "MANIFOLD_MASTER_KEY": MASTER_KEY, **defaults(port, address)}
        variables = aws.environment | {"MANIFOLD_SECRET_ARN": stack.aws.create_secret("events", values)}
        sam = SamLocal(built, stack.aws_url, variables, directory / "functions")
        yield Site(sam.invoke, aws, database_url, MASTER_KEY)


def _aws(stack: Running) -> Aws:
    s3, sqs = stack.aws.client("s3"), stack.aws.client("sqs")
    s3.create_bucket(Bucket=BUCKET)
    control, transfers = (sqs.create_queue(QueueName=f"events-{name}")["QueueUrl"] for name in ("control", "transfers"))
    return Aws(s3, sqs, control, transfers)
