"""Webhooks: the endpoints of an owner, and which of them may be sent something now.

A worker works on a webhook under its lease: two attempts at one endpoint never run at once. `resumes_at` grows with the
failures in a row, so that an endpoint that fails is tried less often, however many events wait for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import LiteralString

from manifold.access import Caller
from manifold.store.connection import Connection
from manifold.store.ownership import owner, visible
from manifold.store.paging import Cursor, page_clause, page_parameters
from manifold.store.queries import changes_one, fetch_all, fetch_one

_COLUMNS: LiteralString = "id, url, events, name, secret, failures, disabled_at, lease, created_at"
EVENT_BUS: LiteralString = "webhook_event_bus"
"""The id of the row that stands for the operator's event bus. Its URL is the bus's ARN."""
_OWNER: LiteralString = f"""CASE w.id WHEN '{EVENT_BUS}' THEN 'operator'
    ELSE coalesce('user:' || w.user_id, 'team:' || w.team_id, 'key:' || w.key_id, 'admin') END"""
_READY: LiteralString = """w.disabled_at IS NULL AND w.resumes_at <= now()
    AND (w.leased_until IS NULL OR w.leased_until <= now())"""
_NEXT: LiteralString = """(SELECT d.due_at FROM deliveries d WHERE d.webhook_id = w.id AND d.status = 'pending'
    AND d.due_at <= now() - make_interval(secs => %(overdue)s) ORDER BY d.due_at LIMIT 1)"""


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """A row of `webhooks`."""

    id: str
    url: str
    events: list[str]
    name: str | None
    secret: str = field(repr=False)
    failures: int
    disabled_at: datetime | None
    lease: str | None
    created_at: datetime


class Webhooks:
    """The table `webhooks`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(
        self, webhook_id: str, url: str, events: Sequence[str], name: str | None, secret: str, caller: Caller, most: int
    ) -> WebhookRow | None:
        """Add a webhook that belongs to `caller`; `None` if there are `most` of the same owner already."""
        identity = caller.user_id or caller.team_id or caller.key_id or "admin"
        await self._connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"webhooks of {identity}",)
        )
        query: LiteralString = f"""
            INSERT INTO webhooks (id, url, events, name, secret, user_id, team_id, key_id)
            SELECT %(id)s, %(url)s, %(events)s::text[], %(name)s, %(secret)s, %(user_id)s, %(team_id)s, %(key_id)s
            WHERE (SELECT count(*) FROM webhooks w WHERE {_OWNER} = coalesce('user:' || %(user_id)s::text,
                'team:' || %(team_id)s::text, 'key:' || %(key_id)s::text, 'admin')) < %(most)s
            RETURNING {_COLUMNS}"""
        parameters = {"id": webhook_id, "url": url, "events": list(events), "name": name, "secret": secret}
        return await fetch_one(self._connection, WebhookRow, query, parameters | {"most": most} | owner(caller))

    async def set_event_bus(self, arn: str | None, events: Sequence[str]) -> None:
        """Have these events of all batches sent to the bus with this ARN, and to no other; `None`: to none.

        The row is a webhook of the master key. Without a bus its deliveries are deleted, also those not sent yet.
        """
        if arn is None:
            await self._connection.execute("DELETE FROM webhooks WHERE id = %s", (EVENT_BUS,))
            return
        await self._connection.execute(
            """INSERT INTO webhooks (id, url, events, name, secret) VALUES (%s, %s, %s, 'EventBridge', '')
               ON CONFLICT (id) DO UPDATE SET url = EXCLUDED.url, events = EXCLUDED.events, failures = 0,
                   resumes_at = now()""",
            (EVENT_BUS, arn, list(events)),
        )

    async def get(self, webhook_id: str, caller: Caller) -> WebhookRow | None:
        """A webhook that the caller may see."""
        query: LiteralString = f"SELECT {_COLUMNS} FROM webhooks WHERE id = %(id)s AND {visible(caller)}"
        return await fetch_one(self._connection, WebhookRow, query, {"id": webhook_id} | owner(caller))

    async def page(self, caller: Caller, *, limit: int, after: Cursor | None) -> list[WebhookRow]:
        """Newest first; one row more than `limit`, if there is one."""
        query: LiteralString = f"SELECT {_COLUMNS} FROM webhooks WHERE {visible(caller)}" + page_clause(after, "desc")
        return await fetch_all(self._connection, WebhookRow, query, owner(caller) | page_parameters(after, limit))

    async def change(
        self,
        webhook_id: str,
        caller: Caller,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        name: str | None = None,
        secret: str | None = None,
    ) -> WebhookRow | None:
        """Change what is given of a webhook of the caller's; `None` if there is none.

        Another URL is another endpoint: it has no failures, and is not disabled.
        """
        query: LiteralString = f"""
            UPDATE webhooks w SET events = coalesce(%(events)s, w.events), name = coalesce(%(name)s, w.name),
                secret = coalesce(%(secret)s, w.secret), url = coalesce(%(url)s, w.url),
                failures = CASE WHEN given.moved THEN 0 ELSE w.failures END,
                resumes_at = CASE WHEN given.moved THEN now() ELSE w.resumes_at END,
                disabled_at = CASE WHEN given.moved THEN NULL ELSE w.disabled_at END
            FROM (SELECT id, coalesce(url <> %(url)s, false) AS moved FROM webhooks
                WHERE id = %(id)s AND {visible(caller)} FOR UPDATE) AS given
            WHERE w.id = given.id
            RETURNING {", ".join(f"w.{column.strip()}" for column in _COLUMNS.split(","))}"""
        parameters = {"url": url, "events": list(events) if events else None, "name": name, "secret": secret}
        return await fetch_one(self._connection, WebhookRow, query, parameters | {"id": webhook_id} | owner(caller))

    async def delete(self, webhook_id: str, caller: Caller) -> bool:
        """Delete a webhook of the caller's with its deliveries; false if there is none."""
        query: LiteralString = f"DELETE FROM webhooks WHERE id = %(id)s AND {visible(caller)}"
        return await changes_one(self._connection, query, {"id": webhook_id} | owner(caller))

    async def due(self, limit: int) -> list[str]:
        """The webhooks with a delivery that has been due for 15 seconds, and that nobody holds; `limit` at most."""
        cursor = await self._connection.execute(
            f"""SELECT w.id FROM webhooks w CROSS JOIN LATERAL {_NEXT} AS next
                WHERE {_READY} ORDER BY next.due_at LIMIT %(limit)s""",
            {"overdue": 15, "limit": limit},
        )
        return [webhook_id for (webhook_id,) in await cursor.fetchall()]

    async def claim(self, lease: str, seconds: int, limit: int, most_each: int) -> list[WebhookRow]:
        """Take up to `limit` webhooks with due deliveries for this long, the owners by turns.

        An owner has `most_each` webhooks under a lease at once, unless two workers claim at the same moment. The rows
        are locked so that the end of a batch, which refers to them, does not wait.
        """
        query: LiteralString = f"""
            WITH waiting AS (
                SELECT w.id, next.due_at, {_OWNER} AS owner,
                    row_number() OVER (PARTITION BY {_OWNER} ORDER BY next.due_at) AS turn
                FROM webhooks w CROSS JOIN LATERAL {_NEXT} AS next WHERE {_READY}
            ), held AS (
                SELECT {_OWNER} AS owner, count(*) AS leases FROM webhooks w WHERE w.leased_until > now() GROUP BY 1
            ), chosen AS MATERIALIZED (
                SELECT w.id FROM webhooks w JOIN waiting ON waiting.id = w.id LEFT JOIN held USING (owner)
                WHERE {_READY} AND waiting.turn + coalesce(held.leases, 0) <= %(each)s
                ORDER BY waiting.turn, waiting.due_at LIMIT %(limit)s FOR NO KEY UPDATE OF w SKIP LOCKED
            )
            UPDATE webhooks SET lease = %(lease)s, leased_until = now() + make_interval(secs => %(seconds)s)
            WHERE id IN (SELECT id FROM chosen) RETURNING {_COLUMNS}"""
        parameters = {"lease": lease, "seconds": seconds, "limit": limit, "each": most_each, "overdue": 0}
        return await fetch_all(self._connection, WebhookRow, query, parameters)

    async def answered(self, row: WebhookRow) -> None:
        """Note that the endpoint took an event: it has no failures in a row."""
        await changes_one(
            self._connection,
            """UPDATE webhooks SET failures = 0, resumes_at = now()
               WHERE id = %(id)s AND url = %(url)s AND failures > 0""",
            {"id": row.id, "url": row.url},
        )

    async def failed(self, row: WebhookRow, seconds: float) -> None:
        """Count a failure, and send the endpoint nothing for this long; by the holder of the lease.

        It is nothing to the endpoint to which the webhook was moved meanwhile.
        """
        await changes_one(
            self._connection,
            """UPDATE webhooks SET failures = failures + 1, resumes_at = now() + make_interval(secs => %(seconds)s)
               WHERE id = %(id)s AND url = %(url)s AND lease = %(lease)s""",
            {"id": row.id, "url": row.url, "lease": row.lease, "seconds": seconds},
        )

    async def resume(self, webhook_id: str) -> None:
        """End the pause after failures."""
        await changes_one(
            self._connection, "UPDATE webhooks SET resumes_at = now() WHERE id = %(id)s", {"id": webhook_id}
        )

    async def disable(self, row: WebhookRow) -> bool:
        """Send the endpoint nothing any more: it has said that it is gone. False if the webhook was moved meanwhile."""
        return await changes_one(
            self._connection,
            "UPDATE webhooks SET disabled_at = coalesce(disabled_at, now()) WHERE id = %(id)s AND url = %(url)s",
            {"id": row.id, "url": row.url},
        )

    async def release(self, row: WebhookRow) -> bool:
        """Give the lease back; whether a delivery is due now."""
        cursor = await self._connection.execute(
            f"""UPDATE webhooks w SET lease = NULL, leased_until = NULL WHERE w.id = %(id)s AND w.lease = %(lease)s
                RETURNING w.disabled_at IS NULL AND w.resumes_at <= now() AND EXISTS {_NEXT}""",
            {"id": row.id, "lease": row.lease, "overdue": 0},
        )
        released = await cursor.fetchone()
        return bool(released and released[0])
