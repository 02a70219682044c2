"""Deliveries: one event of a batch for one webhook, until the endpoint has taken it or it is given up.

pending ──► delivered
   │ ▲          │
   │ └──────────┤ (replay)
   ▼            │
 failed ────────┘
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, LiteralString

from manifold.access import Caller
from manifold.store.connection import Connection
from manifold.store.ownership import owner, visible
from manifold.store.paging import Cursor, page_clause, page_parameters
from manifold.store.queries import changes_one, fetch_all, fetch_one
from manifold.store.webhooks import WebhookRow

DeliveryStatus = Literal["pending", "delivered", "failed"]

_COLUMNS: LiteralString = """id, webhook_id, batch_id, event_id, type, status, attempts, status_code, error, due_at,
    attempted_at, delivered_at, created_at"""


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A row of `deliveries`."""

    id: str
    webhook_id: str
    batch_id: str
    event_id: str
    type: str
    status: DeliveryStatus
    attempts: int
    status_code: int | None
    error: str | None
    due_at: datetime | None
    attempted_at: datetime | None
    delivered_at: datetime | None
    created_at: datetime


class Deliveries:
    """The table `deliveries`, and every change of a delivery's status. `Batches.end` and `stop` write the rows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, delivery_id: str, webhook_id: str, caller: Caller) -> DeliveryRow | None:
        """A delivery of this webhook, if the caller may see its batch."""
        query: LiteralString = f"""
            SELECT {_COLUMNS} FROM deliveries
            WHERE id = %(id)s AND webhook_id = %(webhook)s AND {_of_visible_batch(caller)}"""
        parameters = {"id": delivery_id, "webhook": webhook_id} | owner(caller)
        return await fetch_one(self._connection, DeliveryRow, query, parameters)

    async def page(self, webhook_id: str, caller: Caller, *, limit: int, after: Cursor | None) -> list[DeliveryRow]:
        """Of batches that the caller may see. Newest first; one row more than `limit`, if there is one."""
        query: LiteralString = f"""
            SELECT {_COLUMNS} FROM deliveries
            WHERE webhook_id = %(webhook)s AND {_of_visible_batch(caller)}""" + page_clause(after, "desc")
        parameters = {"webhook": webhook_id} | owner(caller) | page_parameters(after, limit)
        return await fetch_all(self._connection, DeliveryRow, query, parameters)

    async def receivers(self, batch_id: str) -> list[str]:
        """The webhooks to which this batch's event is still to be sent."""
        cursor = await self._connection.execute(
            "SELECT webhook_id FROM deliveries WHERE batch_id = %s AND status = 'pending'", (batch_id,)
        )
        return [webhook_id for (webhook_id,) in await cursor.fetchall()]

    async def next(self, webhook: WebhookRow) -> DeliveryRow | None:
        """Count an attempt at the delivery that has been due longest, by the holder of the webhook's lease.

        `None`: none is due, or the lease is lost, or the webhook deleted. To be called before the attempt, so that an
        attempt at which the worker dies counts, too.
        """
        query: LiteralString = f"""
            UPDATE deliveries SET attempts = attempts + 1, attempted_at = now()
            WHERE id = (SELECT d.id FROM deliveries d WHERE d.webhook_id = %(webhook)s AND d.status = 'pending'
                    AND d.due_at <= now() ORDER BY d.due_at LIMIT 1)
                AND EXISTS (SELECT 1 FROM webhooks w WHERE w.id = %(webhook)s AND w.lease = %(lease)s
                    AND w.leased_until > now())
            RETURNING {_COLUMNS}"""
        return await fetch_one(self._connection, DeliveryRow, query, {"webhook": webhook.id, "lease": webhook.lease})

    async def delivered(self, row: DeliveryRow, status_code: int) -> bool:
        """pending → delivered."""
        return await changes_one(
            self._connection,
            """UPDATE deliveries SET status = 'delivered', delivered_at = now(), status_code = %(code)s, error = NULL,
                   due_at = NULL
               WHERE id = %(id)s AND status = 'pending'""",
            {"id": row.id, "code": status_code},
        )

    async def retry(self, row: DeliveryRow, seconds: float, status_code: int | None, error: str) -> bool:
        """Try a pending delivery again after `seconds`, unless another attempt has begun."""
        return await changes_one(
            self._connection,
            """UPDATE deliveries SET status_code = %(code)s, error = %(error)s,
                   due_at = now() + make_interval(secs => %(seconds)s)
               WHERE id = %(id)s AND status = 'pending' AND attempts = %(attempts)s""",
            {"id": row.id, "attempts": row.attempts, "code": status_code, "error": error, "seconds": seconds},
        )

    async def abandon(self, row: DeliveryRow, status_code: int, error: str) -> None:
        """pending → failed, for every delivery to the webhook of this one, which has just had this answer."""
        await self._connection.execute(
            """UPDATE deliveries SET status = 'failed', due_at = NULL, error = %(error)s,
                   status_code = CASE id WHEN %(id)s THEN %(code)s ELSE status_code END
               WHERE webhook_id = %(webhook)s AND status = 'pending'""",
            {"webhook": row.webhook_id, "id": row.id, "code": status_code, "error": error},
        )

    async def expire(self, limit: int) -> int:
        """pending → failed, where the time is over and no worker is at the webhook; returns how many."""
        changed = await self._connection.execute(
            """WITH old AS MATERIALIZED (
                   SELECT d.id FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id
                   WHERE d.status = 'pending' AND d.expires_at <= now()
                       AND (w.leased_until IS NULL OR w.leased_until <= now())
                   ORDER BY d.expires_at LIMIT %s FOR UPDATE OF d SKIP LOCKED)
               UPDATE deliveries SET status = 'failed', due_at = NULL,
                   error = coalesce(error, 'The endpoint failed until the time was over.')
               WHERE id IN (SELECT id FROM old)""",
            (limit,),
        )
        return changed.rowcount

    async def replay(self, delivery_id: str, webhook_id: str, caller: Caller) -> DeliveryRow | None:
        """Any status → pending, due now, for another 72 hours; `None` if the caller sees no such delivery."""
        query: LiteralString = f"""
            UPDATE deliveries SET status = 'pending', attempts = 0, due_at = now(), error = NULL, status_code = NULL,
                delivered_at = NULL, expires_at = now() + interval '72 hours'
            WHERE id = %(id)s AND webhook_id = %(webhook)s AND status IN ('pending', 'delivered', 'failed')
                AND {_of_visible_batch(caller)}
            RETURNING {_COLUMNS}"""
        parameters = {"id": delivery_id, "webhook": webhook_id} | owner(caller)
        return await fetch_one(self._connection, DeliveryRow, query, parameters)


def _of_visible_batch(caller: Caller) -> LiteralString:
    """The condition for deliveries of batches that the caller may see; a webhook of its team may get others, too."""
    return f"EXISTS (SELECT 1 FROM batches WHERE batches.id = deliveries.batch_id AND {visible(caller)})"
