"""The bodies of events, as OpenAI sends them: https://platform.openai.com/docs/api-reference/webhook-events"""

import json
import secrets
from datetime import datetime

from manifold.event_bus import BusEvent
from manifold.signed_event import SignedEvent
from manifold.store.deliveries import DeliveryRow


def signed_event(delivery: DeliveryRow) -> SignedEvent:
    """The event of a delivery that is attempted now. Its id and body are the same at each attempt."""
    assert delivery.attempted_at is not None  # noqa: S101 (the attempt was counted)
    return SignedEvent(delivery.event_id, _body(delivery), delivery.attempted_at)


def bus_event(delivery: DeliveryRow) -> BusEvent:
    """The event of a delivery for EventBridge: its detail is the body that webhooks get."""
    return BusEvent(delivery.type, _body(delivery), delivery.created_at)


def sample_event(event_type: str, now: datetime) -> SignedEvent:
    """An event of a batch that does not exist."""
    sample = secrets.token_hex(8)
    return SignedEvent(
        f"evt_test_{sample}", _written(f"evt_test_{sample}", event_type, f"batch_test_{sample}", now), now
    )


def _body(delivery: DeliveryRow) -> str:
    return _written(delivery.event_id, delivery.type, delivery.batch_id, delivery.created_at)


def _written(event_id: str, event_type: str, batch_id: str, created_at: datetime) -> str:
    body = {
        "id": event_id,
        "object": "event",
        "created_at": int(created_at.timestamp()),
        "type": event_type,
        "data": {"id": batch_id},
    }
    return json.dumps(body)
