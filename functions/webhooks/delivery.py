"""The sending of events: due deliveries go to their endpoints, each endpoint under a lease of its own.

A delivery's attempt is counted before the endpoint is called, and its outcome is written after. A worker that dies in
between leaves the delivery pending, so its event is sent again, with the same `webhook-id`: at least once, never less.
"""

import asyncio
import secrets
from dataclasses import replace
from typing import NamedTuple

from manifold import observe
from manifold.event_bus import EventBus, NotPut
from manifold.observe import Metric
from manifold.queue import Message, Queue
from manifold.signed_event import NotAnswered
from manifold.store import Store
from manifold.store.deliveries import DeliveryRow
from manifold.store.webhooks import EVENT_BUS, WebhookRow
from manifold.webhook_client import WebhookClient
from webhooks.events import bus_event, signed_event
from webhooks.retry_policy import endpoint_pause, pause

LEASE_SECONDS = 60
"""Longer than the longest run of a worker (45 s)."""
CLAIM_SECONDS = 15.0
"""Time after which a run takes no further webhook."""
ENDPOINT_SECONDS = 5.0
"""Time after which an endpoint gets no further event in one run: a slow one gets one, a fast one many."""
ENDPOINTS = 20
"""Endpoints that one run calls at once."""
ENDPOINTS_OF_OWNER = 2
"""Endpoints of one owner that are called at once, by all workers together."""
SELF_WAKE_SECONDS = 60.0
"""An attempt that is due within this gets a delayed message; a later one is found by the schedule."""
GONE = 410


class _Outcome(NamedTuple):
    """What came of an attempt: the status of the answer, if there was one, and what is wrong with it."""

    status: int | None
    error: str | None = None
    retry_after: float | None = None


class DeliveryRun:
    """Sends what is due; `worker` calls `run` for each message, whichever webhook it names.

    An endpoint's failure is written to the rows, never raised. Raises `ManifoldError` if Postgres does not answer.
    """

    def __init__(self, store: Store, queue: Queue, client: WebhookClient, bus: EventBus) -> None:
        self._store = store
        self._queue = queue
        self._client = client
        self._bus = bus

    async def run(self) -> None:
        """Send what is due, to up to `ENDPOINTS` at once. When one is done, another one that is due takes its place.

        A fault at one webhook is raised at the end, so that it does not stop the others.
        """
        loop = asyncio.get_running_loop()
        end, sending, last = loop.time() + CLAIM_SECONDS, set[asyncio.Task[None]](), None
        faults: list[asyncio.Task[None]] = []
        try:
            while True:
                if loop.time() < end:
                    for webhook in await self._claim(ENDPOINTS - len(sending)):
                        sending.add(asyncio.create_task(self._send_due(webhook)))
                        last = webhook.id
                if not sending:
                    break
                done, sending = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
                faults += [one for one in done if one.exception() is not None]
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
        if last is not None and loop.time() >= end:
            await self._queue.announce([Message("webhook", last)])
        for fault in faults:
            fault.result()

    async def _claim(self, limit: int) -> list[WebhookRow]:
        if limit == 0:
            return []
        async with self._store.session() as tables:
            return await tables.webhooks.claim(secrets.token_hex(8), LEASE_SECONDS, limit, ENDPOINTS_OF_OWNER)

    async def _send_due(self, webhook: WebhookRow) -> None:
        """Send the webhook's due deliveries one after the other, until one fails or the time is over."""
        loop = asyncio.get_running_loop()
        end, retry_in = loop.time() + ENDPOINT_SECONDS, None
        while loop.time() < end and retry_in is None:
            async with self._store.session() as tables:
                delivery = await tables.deliveries.next(webhook)
            if delivery is None:
                break
            retry_in = await self._attempt(webhook, delivery)
            webhook = replace(webhook, failures=0)
        async with self._store.session() as tables:
            more = await tables.webhooks.release(webhook)
        if more or (retry_in is not None and retry_in <= SELF_WAKE_SECONDS):
            await self._queue.announce([Message("webhook", webhook.id)], delay=0 if more else retry_in or 0)

    async def _attempt(self, webhook: WebhookRow, delivery: DeliveryRow) -> float | None:
        """Send one event and write what came of it. `None` if it was taken, else the seconds to the next attempt."""
        send = self._put if webhook.id == EVENT_BUS else self._post
        outcome = await send(webhook, delivery)
        fields = {"webhook_id": webhook.id, "delivery_id": delivery.id, "batch_id": delivery.batch_id}
        if outcome.error is None and outcome.status is not None:
            async with self._store.transaction() as tables:
                await tables.webhooks.answered(webhook)  # everywhere the webhook is locked before its deliveries
                await tables.deliveries.delivered(delivery, outcome.status)
            observe.event("event_delivered", **fields, attempts=delivery.attempts)
            observe.count(Metric.EVENTS_DELIVERED)
            return None
        observe.event("event_not_delivered", **fields, attempts=delivery.attempts, status=outcome.status)
        observe.count(Metric.EVENTS_NOT_TAKEN)
        return await self._failed(webhook, delivery, outcome)

    async def _failed(self, webhook: WebhookRow, delivery: DeliveryRow, outcome: _Outcome) -> float:
        error = outcome.error or ""
        async with self._store.transaction() as tables:
            if outcome.status == GONE and await tables.webhooks.disable(webhook):
                await tables.deliveries.abandon(delivery, outcome.status, f"{error} The webhook is disabled.")
                return float("inf")
            retry_in = pause(delivery.attempts)
            endpoint_in = endpoint_pause(webhook.failures + 1, outcome.retry_after)
            await tables.webhooks.failed(webhook, endpoint_in)
            await tables.deliveries.retry(delivery, retry_in, outcome.status, error)
        return max(retry_in, endpoint_in)

    async def _put(self, webhook: WebhookRow, delivery: DeliveryRow) -> _Outcome:
        """As `_post`, for the event bus."""
        try:
            await self._bus.put(webhook.url, bus_event(delivery))
        except NotPut as error:
            return _Outcome(None, str(error))
        return _Outcome(200)

    async def _post(self, webhook: WebhookRow, delivery: DeliveryRow) -> _Outcome:
        try:
            status, retry_after = await self._client.post(webhook.url, webhook.secret, signed_event(delivery))
        except NotAnswered as error:
            return _Outcome(None, str(error))
        if 200 <= status < 300:
            return _Outcome(status)
        if status == GONE:
            return _Outcome(status, "The endpoint answered 410 (Gone).")
        if 300 <= status < 400:
            text = f"The endpoint answered {status}. Redirects are not followed: give the webhook the last URL."
            return _Outcome(status, text)
        return _Outcome(status, f"The endpoint answered {status}.", retry_after)
