"""The messages that follow a batch's end: its event is sent, and batches that waited for its room start.

What they are for is in rows that the end itself wrote, so a message that is lost delays it only.
"""

from manifold.queue import Message, Queue
from manifold.store import Store

WOKEN_TOGETHER = 5
"""Batches that are woken when one of the same owner has ended. One that starts then wakes the next."""


async def announce_end(store: Store, queue: Queue, batch_id: str) -> None:
    """Wake the sending of a batch's event, once its end is committed, and the batches that waited for its room.

    Without the messages, the schedule does.
    """
    async with store.session() as tables:
        receivers = await tables.deliveries.receivers(batch_id)
    await queue.announce(Message("webhook", webhook_id) for webhook_id in receivers)
    await wake_waiting(store, queue, batch_id)


async def wake_waiting(store: Store, queue: Queue, batch_id: str) -> None:
    """Wake the batches that have waited longest for the limits of this batch's owners, once it has ended or started."""
    async with store.session() as tables:
        woken = await tables.reservations.wake_next(batch_id, WOKEN_TOGETHER)
    await queue.announce(Message("batch", woken_id) for woken_id in woken)
