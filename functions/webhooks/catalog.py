"""A client's webhooks and their deliveries. Nothing is sent from here: a row is written, then a message is sent."""

import base64
import secrets
from collections.abc import Sequence

from manifold import ids
from manifold.access import Caller
from manifold.errors import Conflict, InvalidRequest, NotFound
from manifold.idempotency import CreateAttempt
from manifold.queue import Message, Queue
from manifold.responses import Page
from manifold.store import Store, Tables
from manifold.store.paging import Cursor
from manifold.store.webhooks import EVENT_BUS, WebhookRow
from webhooks.bodies import WebhookCreate
from webhooks.serializers import (
    Delivery,
    Webhook,
    WebhookDeleted,
    WebhookWithSecret,
    delivery_object,
    webhook_object,
    webhook_with_secret,
)
from webhooks.urls import require_valid

MAX_WEBHOOKS = 10
"""Webhooks of one owner."""
SECRET_BYTES = 32


class Catalog:
    """The webhooks that one caller may see; used by the routes. Raises `NotFound` for others."""

    def __init__(self, store: Store, queue: Queue, caller: Caller) -> None:
        self._store = store
        self._queue = queue
        self._caller = caller

    async def create(self, request: WebhookCreate, attempt: CreateAttempt, *, private: bool) -> WebhookWithSecret:
        """A new webhook with its secret; as `insert`."""
        return webhook_with_secret(await self.insert(request, attempt, private=private))

    async def insert(self, request: WebhookCreate, attempt: CreateAttempt, *, private: bool) -> WebhookRow:
        """A new webhook. A retry gets the first attempt's.

        Raises `InvalidRequest` for a URL that events may not be sent to, and if the owner has `MAX_WEBHOOKS`.
        """
        require_valid(request.url, private=private)
        async with self._store.transaction() as tables:
            earlier = await tables.idempotency.earlier(attempt)
            row = await tables.webhooks.get(earlier, self._caller) if earlier else None
            if row is None:
                row = await self._insert(tables, request)
                await tables.idempotency.remember(attempt, row.id)
        return row

    async def retrieve(self, webhook_id: str) -> Webhook:
        return webhook_object(await self.find(webhook_id))

    async def find(self, webhook_id: str) -> WebhookRow:
        async with self._store.session() as tables:
            return await self._find(tables, webhook_id)

    async def page(self, *, after: str | None, limit: int) -> Page[Webhook]:
        """As `rows`."""
        return Page[Webhook].of([webhook_object(row) for row in await self.rows(after=after, limit=limit)], limit)

    async def rows(self, *, after: str | None, limit: int) -> list[WebhookRow]:
        """The caller's webhooks, newest first, one more than `limit`. Raises `InvalidRequest` (`invalid_cursor`)."""
        async with self._store.session() as tables:
            last = await tables.webhooks.get(after, self._caller) if after else None
            if after and last is None:
                raise _invalid_cursor("webhook", after)
            cursor = Cursor(last.created_at, last.id) if last else None
            return await tables.webhooks.page(self._caller, limit=limit, after=cursor)

    async def change(
        self, webhook_id: str, *, url: str | None, events: Sequence[str] | None, name: str | None
    ) -> WebhookRow:
        """Change what is not `None`. Raises `Conflict` for the event bus."""
        self._require_not_event_bus(webhook_id)
        events = list(dict.fromkeys(events)) if events else None
        async with self._store.session() as tables:
            row = await tables.webhooks.change(webhook_id, self._caller, url=url, events=events, name=name)
        if row is None:
            raise _no_webhook(webhook_id)
        return row

    async def rotate_secret(self, webhook_id: str) -> WebhookRow:
        """Give the webhook another secret. Raises `Conflict` for the event bus."""
        self._require_not_event_bus(webhook_id)
        async with self._store.session() as tables:
            row = await tables.webhooks.change(webhook_id, self._caller, secret=_new_secret())
        if row is None:
            raise _no_webhook(webhook_id)
        return row

    async def delete(self, webhook_id: str) -> WebhookDeleted:
        """Delete a webhook and its deliveries. An attempt that is under way is not taken back.

        Raises `Conflict` for the event bus: the stack's parameter would bring it back at the next deploy.
        """
        self._require_not_event_bus(webhook_id)
        async with self._store.session() as tables:
            if not await tables.webhooks.delete(webhook_id, self._caller):
                raise _no_webhook(webhook_id)
        return WebhookDeleted(id=webhook_id)

    async def deliveries(self, webhook_id: str, *, after: str | None, limit: int) -> Page[Delivery]:
        """The deliveries of a webhook, of batches that the caller sees, newest first.

        Raises `InvalidRequest` (`invalid_cursor`).
        """
        async with self._store.session() as tables:
            webhook = await self._find(tables, webhook_id)
            last = await tables.deliveries.get(after, webhook.id, self._caller) if after else None
            if after and last is None:
                raise _invalid_cursor("delivery", after)
            cursor = Cursor(last.created_at, last.id) if last else None
            rows = await tables.deliveries.page(webhook.id, self._caller, limit=limit, after=cursor)
        return Page[Delivery].of([delivery_object(row) for row in rows], limit)

    async def replay(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Send an event again, now, also one that was delivered. Raises `Conflict` if the webhook is disabled."""
        async with self._store.transaction() as tables:
            webhook = await self._find(tables, webhook_id)
            if webhook.disabled_at is not None:
                raise Conflict(
                    "The webhook is disabled, as its endpoint answered 410 (Gone). Delete it, and create another one."
                )
            await tables.webhooks.resume(webhook.id)
            row = await tables.deliveries.replay(delivery_id, webhook.id, self._caller)
            if row is None:
                message = (
                    f"No delivery found with id '{delivery_id}'. GET /webhooks/{webhook_id}/deliveries lists them."
                )
                raise NotFound(message, param="delivery_id", code="delivery_not_found")
        await self._queue.announce([Message("webhook", webhook_id)])
        return delivery_object(row)

    async def _insert(self, tables: Tables, request: WebhookCreate) -> WebhookRow:
        events = list(dict.fromkeys(request.events))
        row = await tables.webhooks.insert(
            ids.new("webhook"), request.url, events, request.name, _new_secret(), self._caller, MAX_WEBHOOKS
        )
        if row is None:
            message = f"There are {MAX_WEBHOOKS} webhooks already, which is the most. Delete one first."
            raise InvalidRequest(message, code="too_many_webhooks")
        return row

    def _require_not_event_bus(self, webhook_id: str) -> None:
        if webhook_id == EVENT_BUS and self._caller.admin:
            raise Conflict("This is the stack's event bus. Deploy with another BatchEventBusArn, or an empty one.")

    async def _find(self, tables: Tables, webhook_id: str) -> WebhookRow:
        row = await tables.webhooks.get(webhook_id, self._caller)
        if row is None:
            raise _no_webhook(webhook_id)
        return row


def _new_secret() -> str:
    """A secret as Standard Webhooks writes it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def _no_webhook(webhook_id: str) -> NotFound:
    return NotFound(f"No webhook found with id '{webhook_id}'.", param="webhook_id", code="webhook_not_found")


def _invalid_cursor(kind: str, after: str) -> InvalidRequest:
    return InvalidRequest(f"No {kind} found with id '{after}'.", param="after", code="invalid_cursor")
