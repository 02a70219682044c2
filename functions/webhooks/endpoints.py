"""Webhooks as OpenAI's SDK manages them (`client.webhooks`): the same rows, in the shapes of `/webhook_endpoints`.

https://platform.openai.com/docs/api-reference/webhook-endpoints
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from manifold.batch_status import EVENT_TYPES
from manifold.errors import InvalidRequest
from manifold.idempotency import CreateAttempt
from manifold.responses import Page
from manifold.signed_event import NotAnswered
from webhooks.bodies import EndpointCreate, EndpointUpdate, SecretRotation, WebhookCreate
from webhooks.catalog import Catalog
from webhooks.events import sample_event
from webhooks.serializers import (
    Endpoint,
    EndpointDeleted,
    EndpointWithSecret,
    EventTypes,
    SampleResult,
    endpoint_object,
    endpoint_with_secret,
)
from webhooks.urls import require_valid

if TYPE_CHECKING:  # only a sample needs it
    from manifold.webhook_client import WebhookClient


class Endpoints:
    """What `client.webhooks` does, for one caller. Raises `NotFound` for the webhooks of others."""

    def __init__(self, catalog: Catalog, *, private: bool) -> None:
        self._catalog = catalog
        self._private = private

    async def create(self, request: EndpointCreate, attempt: CreateAttempt) -> EndpointWithSecret:
        """As `Catalog.create`."""
        webhook = WebhookCreate(url=request.url, events=request.event_types, name=request.name)
        return endpoint_with_secret(await self._catalog.insert(webhook, attempt, private=self._private))

    async def retrieve(self, webhook_id: str) -> Endpoint:
        return endpoint_object(await self._catalog.find(webhook_id))

    async def page(self, *, after: str | None, limit: int) -> Page[Endpoint]:
        """Newest first. Raises `InvalidRequest` (`invalid_cursor`)."""
        rows = await self._catalog.rows(after=after, limit=limit)
        return Page[Endpoint].of([endpoint_object(row) for row in rows], limit)

    async def update(self, webhook_id: str, request: EndpointUpdate) -> Endpoint:
        """Change what the request names. A webhook with another URL is active, also if its old endpoint was gone."""
        if request.url is not None:
            require_valid(request.url, private=self._private)
        return endpoint_object(
            await self._catalog.change(webhook_id, url=request.url, events=request.event_types, name=request.name)
        )

    async def delete(self, webhook_id: str) -> EndpointDeleted:
        """As `Catalog.delete`."""
        await self._catalog.delete(webhook_id)
        return EndpointDeleted(id=webhook_id)

    async def rotate_secret(self, webhook_id: str, request: SecretRotation) -> EndpointWithSecret:
        """Sign events with another secret from now on. Raises `InvalidRequest` if the old one is to stay valid."""
        if request.keep_old_secret_active_for_24_hours:
            raise InvalidRequest(
                "A webhook has one secret here. Create a second webhook with the same URL, accept both secrets, and"
                " delete the first one; or leave this parameter out.",
                param="keep_old_secret_active_for_24_hours",
                code="invalid_value",
            )
        return endpoint_with_secret(await self._catalog.rotate_secret(webhook_id))

    async def test(self, webhook_id: str, event_type: str, client: "WebhookClient") -> SampleResult:
        """Send a signed sample event, once, and return what the endpoint answered.

        Raises `InvalidRequest` if it did not answer.
        """
        row = await self._catalog.find(webhook_id)
        try:
            answer = await client.post(row.url, row.secret, sample_event(event_type, datetime.now(UTC)))
        except NotAnswered as error:
            raise InvalidRequest(f"The sample event did not arrive: {error}", code="endpoint_not_reached") from error
        return SampleResult(event_type=event_type, status_code=answer.status, webhook_endpoint_id=webhook_id)


def event_types() -> EventTypes:
    """The events that there are."""
    return EventTypes(data=EVENT_TYPES)
