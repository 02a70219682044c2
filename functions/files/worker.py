"""SQS transfer messages: each moves the bytes of one input, one job's results or one deleted file. At most 900 s."""

from collections.abc import Awaitable, Callable, Mapping
from functools import cache

from files.removal import Purge
from files.replication import Replication
from files.results import Results
from manifold.gateway import Gateway
from manifold.invocation import sqs_handler
from manifold.queue import Kind, Message

gateway = Gateway()


@cache
def transfers() -> Mapping[Kind, Callable[[str], Awaitable[None]]]:
    """What is done for each kind of message."""
    store, storage, queue, deployments = gateway.store, gateway.storage, gateway.queue, gateway.deployments
    return {
        "input": Replication(store, storage, queue, deployments).run,
        "job": Results(store, storage, queue, deployments).run,
        "file": Purge(store, storage, deployments).run,
    }


async def work(message: Message) -> None:
    """Move the bytes of what the message names."""
    transfer = transfers().get(message.kind)
    if transfer is None:
        raise ValueError(f"a {message.kind} message does not belong in the transfers queue")
    await transfer(message.id)


handler = sqs_handler(work)
