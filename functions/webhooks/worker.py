"""SQS webhook messages: each wakes a run that sends what is due to any webhook. A run takes 45 s at most."""

from functools import cache

from manifold.gateway import Gateway
from manifold.invocation import sqs_handler
from manifold.queue import Message
from webhooks.delivery import DeliveryRun

gateway = Gateway()


@cache
def delivery_run() -> DeliveryRun:
    return DeliveryRun(gateway.store, gateway.queue, gateway.webhook_client, gateway.event_bus)


async def work(message: Message) -> None:
    """Send what is due, whichever webhook the message names."""
    if message.kind != "webhook":
        raise ValueError(f"a {message.kind} message does not belong in the webhooks queue")
    await delivery_run().run()


handler = sqs_handler(work)
