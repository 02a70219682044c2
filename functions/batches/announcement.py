"""The message that has the event of a batch's end sent. The rows of its deliveries came with the end itself."""

from batches.admission import wake_waiting
from manifold.queue import Message, Queue
from manifold.store import Store


async def announce_end(store: Store, queue: Queue, batch_id: str) -> None:
    """Wake the sending of a batch's event, once its end is committed, and the batches that waited for its room.

    Without the messages, the schedule does.
    """
    async with store.session() as tables:
        receivers = await tables.deliveries.receivers(batch_id)
    await queue.announce(Message("webhook", webhook_id) for webhook_id in receivers)
    await wake_waiting(store, queue, batch_id)
