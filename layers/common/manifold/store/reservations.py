"""What the open batches of keys, users and teams hold of their limits, and the batches that wait for these.

A batch holds what it reserved until it has ended. One that waits (`held_for`) holds no tokens and no requests yet.
The sums are of the rows themselves, so none can be left over. They are exact for a holder whose row of `meters` the
transaction has locked (`Meters.admit`) in a statement before: each create and each admission of its batches does so.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import LiteralString, NamedTuple

from manifold.limits import Holder, LimitedHolder, batch_limited_holder
from manifold.store import holders
from manifold.store.batches import WOKEN, BatchRow
from manifold.store.connection import Connection
from manifold.store.queries import changes_one, fetch_all

_OWNED: dict[Holder, LiteralString] = {
    "key": "key_id = %(key)s",
    "user": "user_id = %(user)s",
    "team": "team_id = %(team)s",
}
_HELD: dict[Holder, LiteralString] = {
    "key": "'key:' || %(key)s",
    "user": "'user:' || %(user)s",
    "team": "'team:' || %(team)s",
}
# A job of a batch is spent when it is settled, which may be long before the batch has ended.
_UNSPENT: LiteralString = """coalesce(sum(greatest(0, reserved_cost
    - coalesce((SELECT sum(cost) FROM usage WHERE batch_id = batches.id), 0))), 0)"""


class Outstanding(NamedTuple):
    """What the open batches of one holder hold."""

    subject: str
    tokens: int
    requests: int
    cost: Decimal
    """US dollars that are not spent yet, of those that wait, too, as far as prices are known; 0 without a budget."""
    waiting: int
    """The batches that wait for this holder's limits, and that these can ever take."""
    first_end: float | None
    """Seconds to the end of the first completion window of those that do not wait."""


class Reservations:
    """Reads and writes what batches reserve; `Batches.insert` writes it first."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def outstanding(
        self, limited: Sequence[LimitedHolder], before: BatchRow | None = None
    ) -> dict[str, Outstanding]:
        """What each holder's open batches hold, by subject; `waiting` are those created before this one, or all."""
        parameters: dict[str, object] = {
            "before": before and before.created_at,
            "id": before and before.id,
        }
        for one in limited:
            parameters |= {
                one.holder: one.id,
                f"{one.holder}_tokens": one.limits.batch_enqueued_token_limit,
                f"{one.holder}_requests": one.limits.batch_enqueued_request_limit,
            }
        query = "\nUNION ALL ".join(_outstanding(one) for one in limited)
        return {row.subject: row for row in await fetch_all(self._connection, Outstanding, query, parameters)}

    async def limited(self, batch: BatchRow) -> list[LimitedHolder]:
        """The key, user and team of a batch with the limits of batches that they have now, as far as they have any."""
        cursor = await self._connection.execute(
            f"""SELECT 'key', id, {holders.LIMITS} FROM api_keys WHERE id = %(key)s
                UNION ALL SELECT 'user', id, {holders.LIMITS} FROM users WHERE id = %(user)s
                UNION ALL SELECT 'team', id, {holders.LIMITS} FROM teams WHERE id = %(team)s""",
            {"key": batch.key_id, "user": batch.user_id, "team": batch.team_id},
        )
        return [one for row in await cursor.fetchall() for one in batch_limited_holder(*row)]

    async def hold(self, batch: BatchRow, subject: str | None) -> bool:
        """Have a batch wait for the limits of this holder, or no longer, by the holder of the lease."""
        return await changes_one(
            self._connection,
            "UPDATE batches SET held_for = %s WHERE id = %s AND lease = %s AND status = 'validating'",
            (subject, batch.id, batch.lease),
        )

    async def wake_next(self, batch_id: str, many: int) -> list[str]:
        """Make those due that have waited longest for the limits of this batch's owners; `many` ids at most.

        To be called when the batch has ended, or waits no longer: then there may be room for them.
        """
        cursor = await self._connection.execute(
            f"""WITH owned AS (
                    SELECT unnest(ARRAY['key:' || key_id, 'user:' || user_id, 'team:' || team_id]) AS subject
                    FROM batches WHERE id = %(id)s
                ), next AS MATERIALIZED (
                    SELECT waiting.id FROM owned CROSS JOIN LATERAL (
                        SELECT id FROM batches WHERE held_for = subject AND due_at IS NOT NULL AND id <> %(id)s
                        ORDER BY created_at, id LIMIT %(many)s FOR UPDATE SKIP LOCKED) waiting
                )
                UPDATE batches SET {WOKEN} WHERE id IN (SELECT id FROM next) RETURNING id""",
            {"id": batch_id, "many": many},
        )
        return [row_id for (row_id,) in await cursor.fetchall()]


def _outstanding(one: LimitedHolder) -> LiteralString:
    """The query of one holder's row."""
    holder, subject = one.holder, _HELD[one.holder]
    cost: LiteralString = "0" if one.limits.max_budget is None else _UNSPENT
    return f"""
        SELECT {subject} AS subject,
            coalesce(sum(reserved_tokens) FILTER (WHERE held_for IS NULL), 0)::bigint AS tokens,
            coalesce(sum(reserved_requests) FILTER (WHERE held_for IS NULL), 0)::bigint AS requests,
            {cost} AS cost,
            count(*) FILTER (WHERE held_for = {subject}
                AND reserved_tokens <= coalesce(%({holder}_tokens)s::bigint, reserved_tokens)
                AND reserved_requests <= coalesce(%({holder}_requests)s::bigint, reserved_requests)
                AND (%(id)s::text IS NULL OR (created_at, id) < (%(before)s::timestamptz, %(id)s::text))) AS waiting,
            extract(epoch FROM min(expires_at) FILTER (WHERE held_for IS NULL) - now())::float8 AS first_end
        FROM batches WHERE {_OWNED[holder]} AND due_at IS NOT NULL"""
