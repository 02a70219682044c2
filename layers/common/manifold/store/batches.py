"""Batches: their rows, and every change of their status.

    validating ──► in_progress ──► finalizing ──► completed | failed | expired
        │  │            │
        │  ├─► failed   │
        │  ├─► expired  │
        ▼  ▼            ▼
       cancelling ──────────────► cancelled | completed | failed | expired

| status | meaning | next | by |
|---|---|---|---|
| `validating` | no provider has a job of it yet | `in_progress` | `Batches.started` |
| `in_progress` | its shards run at providers, or wait | `finalizing` | `Batches.finalizing` |
| `finalizing` | no more jobs follow; the results are fetched and joined | the outcome of its shards | `Batches.end` |
| `cancelling` | a client cancelled it in one of the first two | the outcome of its shards | `Batches.end` |
| `completed`, `failed`, `expired`, `cancelled` | ended; nothing changes any more | | |

Each open status may be left for an end, too: by `Batches.end` for bad lines, refusals or a window that is over, and by
`Batches.stop` for an admin. Every transition, its trigger and its guard: docs/architecture.md (State tables).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, LiteralString, NamedTuple

from psycopg.types.json import Jsonb

from manifold import storable
from manifold.access import Caller
from manifold.batch_status import BatchStatus
from manifold.store.connection import Connection
from manifold.store.end_events import ANNOUNCED
from manifold.store.job_states import OPEN
from manifold.store.ownership import owner, visible
from manifold.store.queries import fetch_all, fetch_one

if TYPE_CHECKING:
    from manifold.store.shards import ShardRow

GRACE_SECONDS = 86_400
"""Seconds after its completion window in which a batch's provider may still say how it ended."""
LAST_SECONDS = 3_600
"""Seconds in which it is still asked after that, from the batch's first step then: the gateway may have been down."""

Outcome = Literal["completed", "failed", "expired", "cancelled"]
"""How a batch ends, and how its job ended at the provider."""

COLUMNS: LiteralString = """id, input_file_id, endpoint, completion_window, groups, metadata, status, errors,
    output_file_id, error_file_id, total, completed, failed, output_expires_after, user_id, team_id, key_id,
    created_at, in_progress_at, expires_at, finalizing_at, completed_at, failed_at, expired_at, cancelling_at,
    cancelled_at, due_at, lease, reserved_tokens, reserved_requests, held_for,
    extract(epoch FROM now() - created_at)::float8 AS age,
    extract(epoch FROM expires_at - now())::float8 AS left,
    extract(epoch FROM now() - overdue_at)::float8 AS overdue_for, retry_rounds, retry_of,
    (SELECT jsonb_build_object('input_tokens', sum(input_tokens), 'cached_tokens', sum(cached_tokens),
        'output_tokens', sum(output_tokens), 'reasoning_tokens', sum(reasoning_tokens))
     FROM usage WHERE batch_id = batches.id HAVING count(*) > 0) AS usage"""
WOKEN: LiteralString = "due_at = now(), woken_at = clock_timestamp()"
"""Makes a batch due; `manifold.store.batch_leases` has the protocol."""
RELEASED: LiteralString = "lease = NULL, leased_at = NULL, leased_until = NULL"
SHARDS_ENDED: LiteralString = f"""
    open AS (
        SELECT shards.id FROM shards, ended WHERE shards.batch_id = ended.id AND shards.state <> 'ended'
        ORDER BY shards.id FOR UPDATE OF shards
    ), closed AS (
        UPDATE shards SET state = 'ended', outcome = ended.status, due_at = NULL, ended_at = now(), waiting_for = NULL,
            waiting_since = NULL, line_at = '{{}}', {RELEASED}
        FROM ended WHERE shards.id IN (SELECT id FROM open)
    ), unneeded AS (
        UPDATE inputs SET due_at = now(), attempts = 0, lease = NULL, leased_until = NULL,
            doubtful_at = CASE WHEN provider_ref IS NULL AND attempts > 0 THEN now() ELSE doubtful_at END
        FROM ended, shards WHERE shards.batch_id = ended.id AND inputs.shard_id = shards.id
            AND inputs.state <> 'discarded'
    )"""
"""Ends the open shards of a batch, beside a CTE `ended` that has the row of the batch as it ended.

The inputs of its shards are due, for the last time: to be discarded. Who uploads one loses its lease, and may leave an
orphan.
"""
_ENDED: LiteralString = "('failed', 'completed', 'expired', 'cancelled')"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """What clients read of a row of `batches`, with the usage of its jobs."""

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
    created_at: datetime
    in_progress_at: datetime | None
    expires_at: datetime
    finalizing_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None
    expired_at: datetime | None
    cancelling_at: datetime | None
    cancelled_at: datetime | None
    held_for: str | None
    """The holder (`team:team_…`) for whose limit it waits; `manifold.store.reservations` has the rules."""
    usage: dict[str, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow(BatchView):
    """A row of `batches`, with the ages that decide."""

    output_expires_after: int | None
    user_id: str | None
    team_id: str | None
    key_id: str | None
    due_at: datetime | None
    lease: str | None
    reserved_tokens: int
    reserved_requests: int
    age: float
    """Seconds since it was created, by the database's clock when the row was read; so are the next two."""
    left: float
    """Seconds to the end of its completion window; negative after it."""
    overdue_for: float | None
    """Seconds since its first step that came later than `GRACE_SECONDS` after the window."""
    retry_rounds: int
    """How often lines of it that failed run again."""
    retry_of: str | None
    """The batch whose failed lines it runs."""

    @property
    def overdue(self) -> bool:
        """Whether it is ended without asking its provider again."""
        return self.overdue_for is not None and self.overdue_for >= LAST_SECONDS

    @property
    def owner(self) -> Caller:
        """The owner of the batch, and of its output files."""
        return Caller(key_id=self.key_id, user_id=self.user_id, team_id=self.team_id)


class NewBatch(NamedTuple):
    """What an insert needs; `expires_in` and `output_expires_after` are in seconds, `reserved_cost` in US dollars."""

    id: str
    input_file_id: str
    endpoint: str
    completion_window: str
    groups: list[str]
    metadata: Mapping[str, str] | None
    total: int
    output_expires_after: int | None
    expires_in: int
    retry_rounds: int = 0
    retry_of: str | None = None
    reserved_tokens: int = 0
    reserved_requests: int = 0
    reserved_cost: Decimal | None = None
    held_for: str | None = None


class Batches:
    """The batches that clients change, and the statements that set a status; the leases are `BatchLeases`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, batch: NewBatch, caller: Caller) -> BatchRow:
        """Add a batch that belongs to `caller`, due at once."""
        query: LiteralString = f"""
            INSERT INTO batches (id, input_file_id, endpoint, completion_window, groups, metadata, total,
                output_expires_after, expires_at, retry_rounds, retry_of, user_id, team_id, key_id,
                reserved_tokens, reserved_requests, reserved_cost, held_for)
            VALUES (%(id)s, %(input_file_id)s, %(endpoint)s, %(completion_window)s, %(groups)s, %(metadata)s,
                %(total)s, %(output_expires_after)s, now() + make_interval(secs => %(expires_in)s),
                %(retry_rounds)s, %(retry_of)s, %(user_id)s, %(team_id)s, %(key_id)s,
                %(reserved_tokens)s, %(reserved_requests)s, %(reserved_cost)s, %(held_for)s)
            RETURNING {COLUMNS}"""
        parameters = batch._asdict() | {"metadata": None if batch.metadata is None else Jsonb(dict(batch.metadata))}
        row = await fetch_one(self._connection, BatchRow, query, parameters | owner(caller))
        assert row is not None  # noqa: S101 (an INSERT without ON CONFLICT returns its row)
        return row

    async def get(self, batch_id: str, caller: Caller) -> BatchRow | None:
        """A batch that the caller may see."""
        query: LiteralString = f"SELECT {COLUMNS} FROM batches WHERE id = %(id)s AND {visible(caller)}"
        return await fetch_one(self._connection, BatchRow, query, {"id": batch_id} | owner(caller))

    async def of(self, batch_ids: Sequence[str]) -> dict[str, BatchRow]:
        """These batches, by id, for the engine."""
        query: LiteralString = f"SELECT {COLUMNS} FROM batches WHERE id = ANY(%(ids)s)"
        rows = await fetch_all(self._connection, BatchRow, query, {"ids": list(batch_ids)})
        return {row.id: row for row in rows}

    async def cancel(self, batch_id: str, caller: Caller) -> BatchRow | None:
        """validating | in_progress → cancelling; `None` if the batch is in another status or not the caller's."""
        query: LiteralString = f"""
            UPDATE batches SET status = 'cancelling', cancelling_at = now(), {WOKEN}
            WHERE id = %(id)s AND status IN ('validating', 'in_progress') AND {visible(caller)} RETURNING {COLUMNS}"""
        return await fetch_one(self._connection, BatchRow, query, {"id": batch_id} | owner(caller))

    async def started(self, batch_id: str) -> BatchStatus | None:
        """validating → in_progress. Returns the status: `cancelling` if a cancel came while the job was submitted."""
        cursor = await self._connection.execute(
            """UPDATE batches SET status = CASE status WHEN 'validating' THEN 'in_progress' ELSE status END,
                   in_progress_at = coalesce(in_progress_at, now())
               WHERE id = %s AND status IN ('validating', 'in_progress', 'cancelling') RETURNING status""",
            (batch_id,),
        )
        row = await cursor.fetchone()
        return row[0] if row else None

    async def lock(self, batch_id: str) -> None:
        """Lock the batch's row until the transaction ends. Rows that refer to it may be written meanwhile."""
        await self._connection.execute("SELECT 1 FROM batches WHERE id = %s FOR NO KEY UPDATE", (batch_id,))

    async def finalizing(self, batch_ids: Sequence[str]) -> None:
        """in_progress → finalizing, for batches in which no other shard is open.

        A batch that is being cancelled stays `cancelling` until its results are stored.
        """
        await self._connection.execute(
            """UPDATE batches SET status = 'finalizing', finalizing_at = now()
               WHERE id = ANY(%s) AND status = 'in_progress'
                   AND (SELECT count(*) FROM shards WHERE batch_id = batches.id AND state <> 'ended') <= 1""",
            (list(batch_ids),),
        )

    async def end(
        self,
        batch: BatchRow,
        outcome: Outcome,
        *,
        errors: Sequence[Mapping[str, Any]] = (),
        output_file_id: str | None = None,
        error_file_id: str | None = None,
        shard: "ShardRow | None" = None,
    ) -> bool:
        """Any open status → its end, by the holder of the batch's lease, or of that of its last open `shard`.

        Every job of the batch is closed by then. The same statement ends the shards that are left, and writes the
        deliveries of the end to the owner's webhooks.
        """
        columns: dict[Outcome, LiteralString] = {
            "completed": "completed_at",
            "failed": "failed_at",
            "expired": "expired_at",
            "cancelled": "cancelled_at",
        }
        cursor = await self._connection.execute(
            f"""WITH ended AS (
                    UPDATE batches SET status = %(outcome)s, {columns[outcome]} = now(), due_at = NULL, {RELEASED},
                        errors = %(errors)s, output_file_id = %(output)s, error_file_id = %(error)s
                    WHERE id = %(id)s AND status NOT IN {_ENDED} AND (lease = %(lease)s OR EXISTS (
                            SELECT 1 FROM shards WHERE id = %(shard)s AND lease = %(shard_lease)s))
                        AND NOT EXISTS (SELECT 1 FROM shards WHERE batch_id = %(id)s AND state <> 'ended'
                            AND id IS DISTINCT FROM %(shard)s AND %(shard)s::text IS NOT NULL)
                        AND NOT EXISTS (SELECT 1 FROM jobs WHERE batch_id = %(id)s AND {OPEN})
                    RETURNING id, status, user_id, team_id, key_id
                ), {SHARDS_ENDED}, {ANNOUNCED}
                SELECT id FROM ended""",
            {
                "outcome": outcome,
                "errors": Jsonb(storable.value(list(errors))) if errors else None,
                "output": output_file_id,
                "error": error_file_id,
                "id": batch.id,
                "lease": batch.lease,
                "shard": shard.id if shard else None,
                "shard_lease": shard.lease if shard else None,
            },
        )
        return await cursor.fetchone() is not None

    async def resize(self, batch: BatchRow, total: int) -> bool:
        """Write how many lines a `validating` batch has, by the holder of its lease, and make it due."""
        cursor = await self._connection.execute(
            f"""UPDATE batches SET total = %s, {WOKEN} WHERE id = %s AND lease = %s AND due_at IS NOT NULL
                RETURNING id""",
            (total, batch.id, batch.lease),
        )
        return await cursor.fetchone() is not None

    async def count(self, batch: BatchRow, completed: int, failed: int) -> None:
        """Write how many of an open batch's lines succeeded and failed, by the holder of its lease."""
        await self._connection.execute(
            """UPDATE batches SET completed = %(completed)s, failed = %(failed)s,
                   total = greatest(total, %(completed)s + %(failed)s)
               WHERE id = %(id)s AND lease = %(lease)s AND due_at IS NOT NULL""",
            {"completed": completed, "failed": failed, "id": batch.id, "lease": batch.lease},
        )

    async def stop(self, batch_id: str, errors: Sequence[Mapping[str, Any]]) -> BatchRow | None:
        """Any open status → failed, or cancelled where that was requested, whoever has the lease; with its deliveries.

        `None` if there is no such batch, or it has ended.
        """
        query: LiteralString = f"""
            WITH ended AS (
                UPDATE batches SET status = CASE status WHEN 'cancelling' THEN 'cancelled' ELSE 'failed' END,
                    cancelled_at = CASE status WHEN 'cancelling' THEN now() END,
                    failed_at = CASE status WHEN 'cancelling' THEN NULL ELSE now() END,
                    due_at = NULL, {RELEASED}, errors = %(errors)s
                WHERE id = %(id)s AND status IN ('validating', 'in_progress', 'finalizing', 'cancelling')
                RETURNING {COLUMNS}
            ), {SHARDS_ENDED}, {ANNOUNCED}
            SELECT * FROM ended"""
        parameters = {"id": batch_id, "errors": Jsonb([dict(error) for error in errors])}
        return await fetch_one(self._connection, BatchRow, query, parameters)
