"""Webhooks and deliveries as clients see them."""

from collections.abc import Sequence
from typing import Any, Literal

from manifold.responses import HasId, ResponseModel, unix_time
from manifold.store.deliveries import DeliveryRow, DeliveryStatus
from manifold.store.webhooks import WebhookRow


class Webhook(HasId):
    """Where events are sent."""

    object: Literal["webhook"] = "webhook"
    url: str
    events: Sequence[str]
    name: str | None
    status: Literal["active", "disabled"]
    created_at: int


class WebhookWithSecret(Webhook):
    """The answer to a create, which alone has the secret."""

    secret: str


class WebhookDeleted(ResponseModel):
    id: str
    object: Literal["webhook"] = "webhook"
    deleted: Literal[True] = True


class Endpoint(HasId):
    """A webhook as OpenAI shows it. When it was last changed is not known."""

    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    event_types: Sequence[str]
    name: str
    signing_secret_hint: str | None
    url: str
    updated_at: None = None


class EndpointWithSecret(Endpoint):
    """The answer to a create and a rotation, which alone have the secret."""

    signing_secret: str


class EndpointDeleted(ResponseModel):
    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class EventTypes(ResponseModel):
    object: Literal["list"] = "list"
    data: Sequence[str]


class SampleResult(ResponseModel):
    """What an endpoint answered to a sample event."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class Delivery(HasId):
    """An event's way to an endpoint, as far as it has come. Times are Unix times."""

    object: Literal["webhook.delivery"] = "webhook.delivery"
    webhook_id: str
    event_id: str
    type: str
    batch_id: str
    status: DeliveryStatus
    attempts: int
    last_status_code: int | None
    last_error: str | None
    last_attempt_at: int | None
    next_attempt_at: int | None
    delivered_at: int | None
    created_at: int


def webhook_object(row: WebhookRow) -> Webhook:
    return Webhook(**_members(row))


def webhook_with_secret(row: WebhookRow) -> WebhookWithSecret:
    return WebhookWithSecret(**_members(row), secret=row.secret)


def endpoint_object(row: WebhookRow) -> Endpoint:
    return Endpoint(**_endpoint_members(row))


def endpoint_with_secret(row: WebhookRow) -> EndpointWithSecret:
    return EndpointWithSecret(**_endpoint_members(row), signing_secret=row.secret)


def delivery_object(row: DeliveryRow) -> Delivery:
    return Delivery(
        id=row.id,
        webhook_id=row.webhook_id,
        event_id=row.event_id,
        type=row.type,
        batch_id=row.batch_id,
        status=row.status,
        attempts=row.attempts,
        last_status_code=row.status_code,
        last_error=row.error,
        last_attempt_at=unix_time(row.attempted_at),
        next_attempt_at=unix_time(row.due_at),
        delivered_at=unix_time(row.delivered_at),
        created_at=int(row.created_at.timestamp()),
    )


def _members(row: WebhookRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "url": row.url,
        "events": row.events,
        "name": row.name,
        "status": "disabled" if row.disabled_at else "active",
        "created_at": int(row.created_at.timestamp()),
    }


def _endpoint_members(row: WebhookRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "created_at": int(row.created_at.timestamp()),
        "event_types": row.events,
        "name": row.name or "",
        "signing_secret_hint": f"whsec_…{row.secret[-4:]}" if row.secret else None,
        "url": row.url,
    }
