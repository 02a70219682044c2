"""SQS control messages: for each, the engine takes the next step of one batch. A run takes 60 s at most."""

from functools import cache

from batches.engine import Engine
from manifold.gateway import Gateway
from manifold.invocation import sqs_handler
from manifold.queue import Message

gateway = Gateway()


@cache
def engine() -> Engine:
    return Engine(gateway.store, gateway.queue, gateway.deployments)


async def work(message: Message) -> None:
    """Take the next step of the batch that the message names."""
    if message.kind != "batch":
        raise ValueError(f"a {message.kind} message does not belong in the control queue")
    await engine().advance(message.id)


handler = sqs_handler(work)
