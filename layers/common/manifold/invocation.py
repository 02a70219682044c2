"""How a function that is not HTTP is invoked: coroutines on one loop that lives as long as the environment.

Clients and the database connection belong to the loop in which they were opened, so every invocation must meet the
same one; `asyncio.run` would end it each time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from manifold import observe
from manifold.queue import Message

Result = TypeVar("Result")

_runner = asyncio.Runner()


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to its end, on the environment's loop."""
    return _runner.run(work)


def sqs_handler(work: Callable[[Message], Awaitable[None]]) -> observe.Handler:
    """A Lambda handler of SQS events that answers which messages failed (`ReportBatchItemFailures`).

    A message fails only for a bug of ours or a part of ours that is down; it comes again, and ends in the dead-letter
    queue. https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting
    """

    async def work_off(records: list[dict[str, Any]]) -> list[str]:
        return [record["messageId"] for record in records if not await _succeeds(work, record)]

    def handle(event: Any, _: Any) -> dict[str, Any]:
        failed = run(work_off(event["Records"]))
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}

    return observe.observed(handle)


async def _succeeds(work: Callable[[Message], Awaitable[None]], record: dict[str, Any]) -> bool:
    try:
        await work(Message.load(record["body"]))
    except Exception as error:  # one message's failure is not the others'
        observe.fault(error, message_id=record["messageId"])
        return False
    return True
