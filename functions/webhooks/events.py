"""The bodies of events, as OpenAI sends them: https://platform.openai.com/docs/api-reference/webhook-events"""

import json

from manifold.event_bus import BusEvent
from manifold.store.deliveries import DeliveryRow
from manifold.webhook_client import SignedEvent


def signed_event(delivery: DeliveryRow) -> SignedEvent:
    """The event of a delivery that is attempted now. Its id and body are the same at each attempt."""
    assert delivery.attempted_at is not None  # noqa: S101 (the attempt was counted)
    return SignedEvent(delivery.event_id, _body(delivery), delivery.attempted_at)


def bus_event(delivery: DeliveryRow) -> BusEvent:
    """The event of a delivery for EventBridge: its detail is the body that webhooks get."""
    return BusEvent(delivery.type, _body(delivery), delivery.created_at)


def _body(delivery: DeliveryRow) -> str:
    body = {
        "id": delivery.event_id,
        "object": "event",
        "created_at": int(delivery.created_at.timestamp()),
        "type": delivery.type,
        "data": {"id": delivery.batch_id},
    }
    return json.dumps(body)
