"""Invocation of functions without HTTP: coroutines run on one event loop, which lives as long as the environment.

Clients and the database connection belong to the loop on which they were opened, so every invocation needs the same
loop; `asyncio.run` would close it each time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from manifold import observe
from manifold.queue import Message

Result = TypeVar("Result")

_runner = asyncio.Runner()


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run the coroutine on the environment's loop, and return its result."""
    return _runner.run(work)


def sqs_handler(work: Callable[[Message], Awaitable[None]]) -> observe.Handler:
    """A Lambda handler of SQS events that reports which messages failed (`ReportBatchItemFailures`).

    `work` raises only for a bug, or where Postgres, S3 or SQS is down. The message then comes again, up to five times,
    and goes to the dead-letter queue. https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
    """

    async def failures_of(records: list[dict[str, Any]]) -> list[str]:
        return [record["messageId"] for record in records if not await _succeeds(work, record)]

    def handle(event: Any, _: Any) -> dict[str, Any]:
        failed = run(failures_of(event["Records"]))
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}

    return observe.observed(handle)


async def _succeeds(work: Callable[[Message], Awaitable[None]], record: dict[str, Any]) -> bool:
    try:
        await work(Message.load(record["body"]))
    except Exception as error:  # one message's failure is not the others'
        observe.fault(error, message_id=record["messageId"])
        return False
    return True
