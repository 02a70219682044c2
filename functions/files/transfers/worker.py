"""The Lambda handler of the transfers queue: each message names one row whose bytes are to be moved or deleted.

The worker has 900 s for a message.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import cache

from files.transfers.batch_retry import BatchRetry
from files.transfers.joining import Joining
from files.transfers.orphans import Orphans
from files.transfers.purge import Purge
from files.transfers.replication import Replication
from files.transfers.result_join import ResultJoin
from files.transfers.results import Results
from manifold.gateway import Gateway
from manifold.invocation import sqs_handler
from manifold.queue import Kind, Message

gateway = Gateway()


@cache
def transfers() -> Mapping[Kind, Callable[[str], Awaitable[None]]]:
    """The transfer that each kind of message starts. It takes the id in the message."""
    store, storage, queue, deployments = gateway.store, gateway.transfer_storage, gateway.queue, gateway.deployments
    return {
        "input": Replication(store, storage, queue, deployments).run,
        "job": Results(store, storage, queue, deployments, gateway.prices).run,
        "join": ResultJoin(store, storage, queue).run,
        "retry": BatchRetry(store, storage, queue).run,
        "file": Purge(store, storage, deployments).run,
        "deployment": Orphans(store, deployments).run,
        "upload": Joining(store, storage, queue, deployments).run,
    }


async def work(message: Message) -> None:
    """Run the transfer that a message names. Raises `ValueError` for a message of the other queue."""
    transfer = transfers().get(message.kind)
    if transfer is None:
        raise ValueError(f"a {message.kind} message does not belong in the transfers queue")
    await transfer(message.id)


handler = sqs_handler(work)
