"""SQS control messages: for each, the engine takes the next step of one batch or shard. A run takes 60 s at most."""

from functools import cache

from batches.engine import Engine
from manifold.gateway import Gateway
from manifold.invocation import sqs_handler
from manifold.queue import Message

gateway = Gateway()


@cache
def engine() -> Engine:
    return Engine(gateway.store, gateway.queue, gateway.deployments, lambda: gateway.storage)


async def work(message: Message) -> None:
    """Take the next step of the batch or the shard that the message names."""
    match message.kind:
        case "batch":
            await engine().advance(message.id)
        case "shard":
            await engine().advance_shard(message.id)
        case _:
            raise ValueError(f"a {message.kind} message does not belong in the control queue")


handler = sqs_handler(work)
