"""SQS execution messages: each names a chunk of a job that the gateway itself runs. A run takes 900 s at most."""

from functools import cache

from batches.execution.chunk_execution import WORK_SECONDS, ChunkExecution
from manifold.dispatch.dispatcher import Dispatcher
from manifold.gateway import Gateway
from manifold.invocation import sqs_handler
from manifold.queue import Message

gateway = Gateway()


@cache
def execution() -> ChunkExecution:
    settings = gateway.config.router_settings
    dispatcher = Dispatcher(gateway.deployments, settings, gateway.store, gateway.prices, WORK_SECONDS)
    return ChunkExecution(
        gateway.store, gateway.transfer_storage, gateway.queue, gateway.deployments, dispatcher, settings
    )


async def work(message: Message) -> None:
    """Run the chunk that the message names."""
    if message.kind != "chunk":
        raise ValueError(f"a {message.kind} message does not belong in the execution queue")
    await execution().run(message.id)


handler = sqs_handler(work)
