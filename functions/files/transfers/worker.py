"""SQS transfer messages: the bytes of an input, a job's results, a deleted file, an upload, or a
deployment's orphans. Each 900 s at most."""

from collections.abc import Awaitable, Callable, Mapping
from functools import cache

from files.transfers.joining import Joining
from files.transfers.orphans import Orphans
from files.transfers.purge import Purge
from files.transfers.replication import Replication
from files.transfers.results import Results
from manifold.gateway import Gateway
from manifold.invocation import sqs_handler
from manifold.queue import Kind, Message

gateway = Gateway()


@cache
def transfers() -> Mapping[Kind, Callable[[str], Awaitable[None]]]:
    """What is done for each kind of message."""
    store, storage, queue, deployments = gateway.store, gateway.transfer_storage, gateway.queue, gateway.deployments
    return {
        "input": Replication(store, storage, queue, deployments).run,
        "job": Results(store, storage, queue, deployments).run,
        "file": Purge(store, storage, deployments).run,
        "deployment": Orphans(store, deployments).run,
        "upload": Joining(store, storage).run,
    }


async def work(message: Message) -> None:
    """Move the bytes of what the message names."""
    transfer = transfers().get(message.kind)
    if transfer is None:
        raise ValueError(f"a {message.kind} message does not belong in the transfers queue")
    await transfer(message.id)


handler = sqs_handler(work)
