"""Batches: their rows, the leases on them, and every change of their status.

    validating ──► in_progress ──► finalizing ──► completed | failed | expired
        │  │            │
        │  ├─► failed   │
        │  ├─► expired  │
        ▼  ▼            ▼
       cancelling ──────────────► cancelled | completed | failed | expired

The engine looks at a batch when `due_at` has come, under a lease. Whoever wants it looked at sets `woken_at` first and
sends a message second, so that a wake which meets a held lease is seen when the lease is given back. `woken_at` is the
time of the change itself: a transaction may have begun before the lease was taken, and its holder has not seen it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, LiteralString

from psycopg.types.json import Jsonb

from manifold import storable
from manifold.access import Caller
from manifold.schemas import BatchStatus
from manifold.store.connection import Connection
from manifold.store.rows import Cursor, fetch_all, fetch_one, owner, page_clause, page_parameters, visible

GRACE_SECONDS = 86_400
"""How long after its completion window a batch's provider may still say how it ended."""
LAST_SECONDS = 3_600
"""How long it is asked then, from the first look on: we may have been away longer than the provider."""

Outcome = Literal["completed", "failed", "expired", "cancelled"]

_COLUMNS: LiteralString = """id, input_file_id, endpoint, completion_window, groups, metadata, status, errors,
    output_file_id, error_file_id, total, completed, failed, output_expires_after, user_id, team_id, key_id,
    created_at, in_progress_at, expires_at, finalizing_at, completed_at, failed_at, expired_at, cancelling_at,
    cancelled_at, due_at, lease, extract(epoch FROM now() - created_at)::float8 AS age,
    extract(epoch FROM expires_at - now())::float8 AS left,
    extract(epoch FROM now() - overdue_at)::float8 AS overdue_for,
    (SELECT jsonb_build_object('input_tokens', sum(input_tokens), 'cached_tokens', sum(cached_tokens),
        'output_tokens', sum(output_tokens), 'reasoning_tokens', sum(reasoning_tokens))
     FROM usage WHERE batch_id = batches.id HAVING count(*) > 0) AS usage"""
_CLAIMED: LiteralString = """lease = %(lease)s, leased_at = now(),
    leased_until = now() + make_interval(secs => %(seconds)s), overdue_at = coalesce(overdue_at,
        CASE WHEN expires_at < now() - make_interval(secs => %(grace)s) THEN now() END)"""
_WOKEN: LiteralString = "due_at = now(), woken_at = clock_timestamp()"
_RELEASED: LiteralString = "lease = NULL, leased_at = NULL, leased_until = NULL"
_MOST = 10**9  # two of them are an int4
_ENDED: LiteralString = "('failed', 'completed', 'expired', 'cancelled')"


@dataclass(frozen=True, slots=True)
class BatchRow:
    id: str
    input_file_id: str
    endpoint: str
    completion_window: str
    groups: list[str]
    metadata: dict[str, str] | None
    status: BatchStatus
    errors: list[dict[str, Any]] | None
    output_file_id: str | None
    error_file_id: str | None
    total: int
    completed: int
    failed: int
    output_expires_after: int | None
    user_id: str | None
    team_id: str | None
    key_id: str | None
    created_at: datetime
    in_progress_at: datetime | None
    expires_at: datetime
    finalizing_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None
    expired_at: datetime | None
    cancelling_at: datetime | None
    cancelled_at: datetime | None
    due_at: datetime | None
    lease: str | None
    age: float
    """Seconds since it was created, when this was read: by the database's clock, as the next two are."""
    left: float
    """Seconds to the end of its completion window, or fewer than none."""
    overdue_for: float | None
    """Seconds since the first look at it that came later than `GRACE_SECONDS` after the window."""
    usage: dict[str, int] | None

    @property
    def overdue(self) -> bool:
        """Whether nobody is to be asked about it any more."""
        return self.overdue_for is not None and self.overdue_for >= LAST_SECONDS

    @property
    def owner(self) -> Caller:
        """Whose the batch is, and whose its output files become."""
        return Caller(key_id=self.key_id, user_id=self.user_id, team_id=self.team_id)


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What an insert needs; `expires_in` and `output_expires_after` are in seconds."""

    id: str
    input_file_id: str
    endpoint: str
    completion_window: str
    groups: list[str]
    metadata: Mapping[str, str] | None
    total: int
    output_expires_after: int | None
    expires_in: int


class Batches:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, batch: NewBatch, caller: Caller) -> BatchRow:
        """Add a batch that belongs to `caller`, due at once."""
        query: LiteralString = f"""
            INSERT INTO batches (id, input_file_id, endpoint, completion_window, groups, metadata, total,
                output_expires_after, expires_at, user_id, team_id, key_id)
            VALUES (%(id)s, %(input_file_id)s, %(endpoint)s, %(completion_window)s, %(groups)s, %(metadata)s,
                %(total)s, %(output_expires_after)s, now() + make_interval(secs => %(expires_in)s),
                %(user_id)s, %(team_id)s, %(key_id)s)
            RETURNING {_COLUMNS}"""
        parameters = {
            "id": batch.id,
            "input_file_id": batch.input_file_id,
            "endpoint": batch.endpoint,
            "completion_window": batch.completion_window,
            "groups": batch.groups,
            "metadata": None if batch.metadata is None else Jsonb(dict(batch.metadata)),
            "total": batch.total,
            "output_expires_after": batch.output_expires_after,
            "expires_in": batch.expires_in,
        }
        row = await fetch_one(self._connection, BatchRow, query, parameters | owner(caller))
        assert row is not None  # noqa: S101 (an INSERT without ON CONFLICT returns its row)
        return row

    async def get(self, batch_id: str, caller: Caller) -> BatchRow | None:
        """A batch that the caller may see."""
        query: LiteralString = f"SELECT {_COLUMNS} FROM batches WHERE id = %(id)s AND {visible(caller)}"
        return await fetch_one(self._connection, BatchRow, query, {"id": batch_id} | owner(caller))

    async def page(
        self, caller: Caller, *, limit: int, after: Cursor | None = None, groups: Sequence[str] | None = None
    ) -> list[BatchRow]:
        """Newest first; one row more than `limit`, if there is one."""
        by_group: LiteralString = " AND groups && %(groups)s" if groups else ""
        query: LiteralString = (
            f"SELECT {_COLUMNS} FROM batches WHERE {visible(caller)}" + by_group + page_clause(after, "desc")
        )
        parameters = owner(caller) | page_parameters(after, limit) | {"groups": list(groups or ())}
        return await fetch_all(self._connection, BatchRow, query, parameters)

    # What others ask of the engine: rows first, the message after.

    async def cancel(self, batch_id: str, caller: Caller) -> BatchRow | None:
        """validating | in_progress → cancelling; `None` if the batch is in another status or not the caller's."""
        query: LiteralString = f"""
            UPDATE batches SET status = 'cancelling', cancelling_at = now(), {_WOKEN}
            WHERE id = %(id)s AND status IN ('validating', 'in_progress') AND {visible(caller)} RETURNING {_COLUMNS}"""
        return await fetch_one(self._connection, BatchRow, query, {"id": batch_id} | owner(caller))

    async def wake(self, batch_id: str) -> bool:
        """Have an open batch looked at now; false if it has ended."""
        changed = await self._connection.execute(
            f"UPDATE batches SET {_WOKEN} WHERE id = %s AND due_at IS NOT NULL", (batch_id,)
        )
        return changed.rowcount == 1

    async def wake_stale(self, batch_id: str, seconds: float) -> bool:
        """Have a running batch looked at now if its provider was last asked longer ago than this."""
        changed = await self._connection.execute(
            f"""UPDATE batches SET {_WOKEN}
               WHERE id = %(id)s AND status IN ('in_progress', 'cancelling') AND due_at > clock_timestamp()
                   AND EXISTS (SELECT 1 FROM jobs WHERE batch_id = %(id)s AND state = 'running'
                       AND coalesce(polled_at, submitted_at)
                           < clock_timestamp() - make_interval(secs => %(seconds)s))""",
            {"id": batch_id, "seconds": seconds},
        )
        return changed.rowcount == 1

    async def wake_waiting(self, file_id: str) -> list[str]:
        """Have every batch looked at that waits for an input of this file; returns their ids."""
        rows = await self._connection.execute(
            f"""UPDATE batches SET {_WOKEN}
               WHERE input_file_id = %s AND status = 'validating' RETURNING id""",
            (file_id,),
        )
        return [batch_id for (batch_id,) in await rows.fetchall()]

    # The engine's side: everything below needs the lease.

    async def claim(self, batch_id: str, lease: str, seconds: int) -> BatchRow | None:
        """Take a due batch for this long, or `None`: ended, not due, or another worker has it."""
        query: LiteralString = f"""
            UPDATE batches SET {_CLAIMED}
            WHERE id = %(id)s AND due_at <= now() AND (leased_until IS NULL OR leased_until <= now())
            RETURNING {_COLUMNS}"""
        parameters = {"id": batch_id, "lease": lease, "seconds": seconds, "grace": GRACE_SECONDS}
        return await fetch_one(self._connection, BatchRow, query, parameters)

    async def claim_due(self, lease: str, seconds: int, limit: int, silent: Collection[str] = ()) -> list[BatchRow]:
        """Take up to `limit` due batches whose provider is to be asked, none of these deployments'.

        The deployments take turns, each with the batch that has been due longest: one with many leaves room for all.
        """
        query: LiteralString = f"""
            UPDATE batches SET {_CLAIMED}
            WHERE id IN (
                SELECT b.id FROM batches b JOIN (
                    SELECT batch_id, row_number() OVER (PARTITION BY deployment_id ORDER BY due.due_at) AS turn
                    FROM jobs JOIN batches due ON due.id = batch_id
                    WHERE state = 'running' AND due.due_at <= now() AND NOT deployment_id = ANY(%(silent)s)
                ) running ON running.batch_id = b.id
                WHERE b.due_at <= now() AND (b.leased_until IS NULL OR b.leased_until <= now())
                ORDER BY running.turn, b.due_at LIMIT %(limit)s FOR UPDATE OF b SKIP LOCKED)
            RETURNING {_COLUMNS}"""
        parameters = {
            "lease": lease,
            "seconds": seconds,
            "limit": limit,
            "silent": list(silent),
            "grace": GRACE_SECONDS,
        }
        return await fetch_all(self._connection, BatchRow, query, parameters)

    async def due(self, limit: int) -> list[str]:
        """Batches without a running job that have waited too long: a message was lost, or a worker died."""
        rows = await self._connection.execute(
            """SELECT id FROM batches
               WHERE due_at <= now() - interval '15 seconds' AND (leased_until IS NULL OR leased_until <= now())
                   AND NOT EXISTS (SELECT 1 FROM jobs WHERE batch_id = batches.id AND state = 'running')
               ORDER BY due_at LIMIT %s""",
            (limit,),
        )
        return [batch_id for (batch_id,) in await rows.fetchall()]

    async def release(self, batch: BatchRow, seconds: float) -> bool:
        """Give the lease back, to look again after `seconds`; true if somebody asked for a look meanwhile."""
        rows = await self._connection.execute(
            f"""UPDATE batches SET {_RELEASED},
                    due_at = CASE WHEN woken_at > leased_at THEN now() ELSE now() + make_interval(secs => %s) END
                WHERE id = %s AND lease = %s AND due_at IS NOT NULL RETURNING due_at <= now()""",
            (seconds, batch.id, batch.lease),
        )
        row = await rows.fetchone()
        return bool(row and row[0])

    async def started(self, batch_id: str) -> BatchStatus | None:
        """validating → in_progress. Returns the status: `cancelling` if a cancel came while the job was submitted."""
        rows = await self._connection.execute(
            """UPDATE batches SET status = CASE status WHEN 'validating' THEN 'in_progress' ELSE status END,
                   in_progress_at = coalesce(in_progress_at, now())
               WHERE id = %s AND status IN ('validating', 'in_progress', 'cancelling') RETURNING status""",
            (batch_id,),
        )
        row = await rows.fetchone()
        return row[0] if row else None

    async def progress(self, batch_id: str, total: int, completed: int, failed: int) -> None:
        """Note how far the provider is, as one set: at most `total` in all, and never fewer than were noted before, as
        a late poll brings old counts."""
        await self._connection.execute(
            """UPDATE batches SET total = greatest(total, %(total)s),
                   failed = least(%(failed)s, greatest(total, %(total)s)),
                   completed = least(%(completed)s, greatest(0, greatest(total, %(total)s) - %(failed)s))
               WHERE id = %(id)s AND due_at IS NOT NULL
                   AND least(%(completed)s + %(failed)s, greatest(total, %(total)s)) >= completed + failed""",
            {"id": batch_id, "total": _sane(total), "completed": _sane(completed), "failed": _sane(failed)},
        )

    async def finalizing(self, batch_id: str) -> None:
        """in_progress → finalizing; a batch that is being cancelled stays `cancelling` until its results are kept."""
        await self._connection.execute(
            """UPDATE batches SET status = 'finalizing', finalizing_at = now()
               WHERE id = %s AND status = 'in_progress'""",
            (batch_id,),
        )

    async def end(
        self,
        batch: BatchRow,
        outcome: Outcome,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        output_file_id: str | None = None,
        error_file_id: str | None = None,
    ) -> bool:
        """Any open status → its end, by the holder of the lease, once every job of the batch is closed."""
        columns: dict[Outcome, LiteralString] = {
            "completed": "completed_at",
            "failed": "failed_at",
            "expired": "expired_at",
            "cancelled": "cancelled_at",
        }
        changed = await self._connection.execute(
            f"""UPDATE batches SET status = %(outcome)s, {columns[outcome]} = now(), due_at = NULL, {_RELEASED},
                    errors = %(errors)s, output_file_id = %(output)s, error_file_id = %(error)s
                WHERE id = %(id)s AND lease = %(lease)s AND status NOT IN {_ENDED}
                    AND NOT EXISTS (SELECT 1 FROM jobs WHERE batch_id = %(id)s
                        AND state NOT IN ('settled', 'refused', 'absent', 'abandoned'))""",
            {
                "outcome": outcome,
                "errors": Jsonb(storable.value(list(errors))) if errors else None,
                "output": output_file_id,
                "error": error_file_id,
                "id": batch.id,
                "lease": batch.lease,
            },
        )
        return changed.rowcount == 1

    async def stop(self, batch_id: str, errors: Sequence[Mapping[str, Any]]) -> BatchRow | None:
        """Any open status → failed, or cancelled where a cancel was asked for, whoever has the lease; else `None`."""
        query: LiteralString = f"""
            UPDATE batches SET status = CASE status WHEN 'cancelling' THEN 'cancelled' ELSE 'failed' END,
                cancelled_at = CASE status WHEN 'cancelling' THEN now() END,
                failed_at = CASE status WHEN 'cancelling' THEN NULL ELSE now() END,
                due_at = NULL, {_RELEASED}, errors = %(errors)s
            WHERE id = %(id)s AND status IN ('validating', 'in_progress', 'finalizing', 'cancelling')
            RETURNING {_COLUMNS}"""
        parameters = {"id": batch_id, "errors": Jsonb([dict(error) for error in errors])}
        return await fetch_one(self._connection, BatchRow, query, parameters)


def _sane(count: int) -> int:
    """A count as Postgres takes it, whatever a provider says."""
    return min(max(count, 0), _MOST)
