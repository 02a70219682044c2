"""The events through `sam local start-lambda`: each function in a container."""

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
from tests.support.event_scenarios import SCENARIOS, prepare
from tests.support.events import FunctionRunner
from tests.support.gateways import MASTER_KEY

WORKERS = 2
"""A function's container takes seconds to start, and then one event at a time."""


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_events_are_answered_in_containers(scenario: str, results: Mapping[str, Future[None]]) -> None:
    results[scenario].result()


@pytest.fixture(scope="module")
def results(runner: FunctionRunner, address: str) -> Iterator[Mapping[str, Future[None]]]:
    """The running scenarios, by name."""
    with listening(address) as cloudformation:
        key = prepare(runner, cloudformation)
    with ThreadPoolExecutor(WORKERS) as pool:
        yield {name: pool.submit(scenario, runner, key) for name, scenario in SCENARIOS.items()}


@pytest.fixture(scope="module")
def runner(stack: Running, address: str, built: Path, directory: Path) -> Iterator[FunctionRunner]:
    """A runner on the stack's servers, with a database, queues and a bucket that the stack's workers do not use."""
    aws = _aws(stack)
    with postgres.database(stack.database_url) as database_url:
        port = int(stack.provider_url.rpartition(":")[2])
        values = {"DATABASE_URL": database_url, "MANIFOLD_MASTER_KEY": MASTER_KEY, **defaults(port, address)}
        variables = aws.environment | {"MANIFOLD_SECRET_ARN": stack.aws.create_secret("events", values)}
        sam = SamLocal(built, stack.aws_url, variables, directory / "functions")
        with sam.invoking() as invoke:
            yield FunctionRunner(invoke, aws, database_url, MASTER_KEY)


def _aws(stack: Running) -> Aws:
    s3, sqs = stack.aws.client("s3"), stack.aws.client("sqs")
    s3.create_bucket(Bucket=BUCKET)
    names = ("control", "transfers", "webhooks", "execution")
    return Aws(s3, sqs, *(sqs.create_queue(QueueName=f"events-{name}")["QueueUrl"] for name in names))
