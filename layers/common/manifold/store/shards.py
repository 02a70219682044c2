"""Shards: the selections of a batch's lines that one deployment runs as one job, and every change of their state.

    waiting ◄──► running ──► ended
       └────────────────────────▲

| state | meaning | next | by |
|---|---|---|---|
| `waiting` | it has no open job: no attempt yet, or the last one failed | `running` | `Jobs.insert` |
| `running` | it has an open job (`jobs_one_open`) | `waiting`, to be tried again | `Shards.wait` |
| | | `ended` | `Shards.end`, `Batches.end` |
| `ended` | its outcome is known | | |

A batch that fits one deployment is one shard of all its lines.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, LiteralString, NamedTuple

from psycopg.types.json import Jsonb

from manifold import storable
from manifold.batch_status import ErrorEntry
from manifold.store.batches import RELEASED, BatchRow, Outcome
from manifold.store.connection import Connection
from manifold.store.job_states import OPEN
from manifold.store.queries import changes_one, fetch_all, fetch_one

ShardState = Literal["waiting", "running", "ended"]
WaitingFor = Literal["room", "input", "cooldown"]

COLUMNS: LiteralString = """id, batch_id, number, round, selection, requests, bytes, tokens, state, outcome, errors,
    completed, failed, waiting_for, lease, extract(epoch FROM now() - created_at)::float8 AS age,
    NOT EXISTS (SELECT 1 FROM shards o WHERE o.batch_id = shards.batch_id AND o.id <> shards.id) AS alone,
    extract(epoch FROM now() - ended_at)::float8 AS ended_for,
    coalesce(extract(epoch FROM now() - due_at), 0)::float8 AS due_for"""
_MOST = 10**9
_HAS_NO_OPEN_JOB: LiteralString = f"NOT EXISTS (SELECT 1 FROM jobs WHERE shard_id = shards.id AND {OPEN})"
OUT_OF_LINE: LiteralString = "waiting_for = NULL, waiting_since = NULL, line_at = '{}'"


class Counts(NamedTuple):
    """The requests of a shard, as its provider counts them. `total` counts where the file says nothing."""

    shard_id: str
    total: int
    completed: int
    failed: int


class ShardRow(NamedTuple):
    """A row of `shards`."""

    id: str
    batch_id: str
    number: int
    round: int
    selection: str
    """`manifold.selection.Selection` as text; empty: all lines."""
    requests: int
    bytes: int
    tokens: int
    """Its estimated input tokens."""
    state: ShardState
    outcome: Outcome | None
    errors: list[ErrorEntry] | None
    completed: int
    failed: int
    waiting_for: WaitingFor | None
    lease: str | None
    age: float
    """Seconds since it was written, by the database's clock when the row was read."""
    alone: bool
    """Whether its batch has no other shard."""
    ended_for: float | None = None
    """Seconds since it ended, likewise."""
    due_for: float = 0.0
    """Seconds since its step was due; 0 once it has ended."""

    @property
    def counts(self) -> Counts:
        """The counts that were written last."""
        return Counts(self.id, self.requests, self.completed, self.failed)


class NewShard(NamedTuple):
    """A shard to be added."""

    id: str
    number: int
    selection: str
    requests: int
    bytes: int
    tokens: int
    round: int = 0


class Shards:
    """The table `shards`; its leases are `ShardLeases`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def plan(self, batch: BatchRow, shards: Sequence[NewShard], lease: str, seconds: int) -> list[ShardRow]:
        """Write a batch's shards, by the holder of the batch's lease; the first one leased for `seconds`.

        None if the batch is no longer to be planned. Closed jobs that old code wrote for the batch become the first
        shard's: they count as its attempts.
        """
        query: LiteralString = f"""
            WITH planned AS (
                SELECT id FROM batches WHERE id = %(batch)s AND status = 'validating' AND lease = %(batch_lease)s
                    AND NOT EXISTS (SELECT 1 FROM shards WHERE batch_id = %(batch)s) FOR UPDATE
            ), given AS (
                SELECT * FROM jsonb_to_recordset(%(shards)s) AS one (
                    id text, number int, selection text, requests bigint, bytes bigint, tokens bigint)
            ), adopted AS (
                UPDATE jobs SET shard_id = given.id FROM given, planned
                WHERE jobs.batch_id = planned.id AND jobs.shard_id IS NULL AND given.number = 0
            )
            INSERT INTO shards (id, batch_id, number, selection, requests, bytes, tokens,
                lease, leased_at, leased_until)
            SELECT given.id, planned.id, number, selection, requests, bytes, tokens,
                CASE number WHEN 0 THEN %(lease)s END, CASE number WHEN 0 THEN now() END,
                CASE number WHEN 0 THEN now() + make_interval(secs => %(seconds)s) END
            FROM given, planned RETURNING {COLUMNS}"""
        parameters = {
            "batch": batch.id,
            "batch_lease": batch.lease,
            "shards": Jsonb([_columns(shard) for shard in shards]),
            "lease": lease,
            "seconds": seconds,
        }
        rows = await fetch_all(self._connection, ShardRow, query, parameters)
        # the statement does not see the rows that it writes
        return sorted((row._replace(alone=len(rows) == 1) for row in rows), key=lambda row: row.number)

    async def add_round(self, shard: ShardRow, again: NewShard, failed: int) -> bool:
        """Write a shard of lines of this shard that run again, and take the `failed` ones of them off its counts.

        False if the batch has ended.
        """
        return await changes_one(
            self._connection,
            """WITH base AS (
                UPDATE shards SET failed = greatest(0, failed - %(failed)s) WHERE id = %(base)s
                RETURNING batch_id
            ), batch AS (
                UPDATE batches SET failed = greatest(0, failed - %(failed)s)
                WHERE id = (SELECT batch_id FROM base) AND due_at IS NOT NULL RETURNING id
            )
            INSERT INTO shards (id, batch_id, number, round, selection, requests, bytes, tokens)
            SELECT %(id)s, batch.id, (SELECT max(number) + 1 FROM shards WHERE batch_id = batch.id), %(round)s,
                %(selection)s, %(requests)s, %(bytes)s, %(tokens)s FROM batch""",
            {**_columns(again), "base": shard.id, "failed": failed},
        )

    async def get(self, shard_id: str) -> ShardRow | None:
        """Any shard."""
        query: LiteralString = f"SELECT {COLUMNS} FROM shards WHERE id = %(id)s"
        return await fetch_one(self._connection, ShardRow, query, {"id": shard_id})

    async def of_batch(self, batch_id: str) -> list[ShardRow]:
        """All shards of a batch, in their order."""
        query: LiteralString = f"SELECT {COLUMNS} FROM shards WHERE batch_id = %(batch)s ORDER BY number"
        return await fetch_all(self._connection, ShardRow, query, {"batch": batch_id})

    async def wait(self, shard: ShardRow) -> bool:
        """running → waiting, by the holder of the lease: its job is closed, and another attempt is to follow."""
        return await changes_one(
            self._connection,
            f"""UPDATE shards SET state = 'waiting' WHERE id = %s AND lease = %s AND state = 'running'
                    AND {_HAS_NO_OPEN_JOB}""",
            (shard.id, shard.lease),
        )

    async def note_waiting(self, shard: ShardRow, cause: WaitingFor, line_at: Sequence[str] = ()) -> None:
        """Note what a waiting shard waits for, by the holder of the lease; `line_at`: the deployments (ids) for whose
        room. Its place in line is kept while it waits for room."""
        await self._connection.execute(
            """UPDATE shards SET waiting_for = %(cause)s, line_at = %(line)s,
                   waiting_since = CASE %(cause)s WHEN 'room' THEN coalesce(waiting_since, now()) ELSE waiting_since END
               WHERE id = %(id)s AND lease = %(lease)s AND state = 'waiting'""",
            {"cause": cause, "line": list(line_at), "id": shard.id, "lease": shard.lease},
        )

    async def end(self, shard: ShardRow, outcome: Outcome, errors: Sequence[Mapping[str, Any]] = ()) -> bool:
        """waiting | running → ended, by the holder of the lease, once its jobs are closed."""
        return await changes_one(
            self._connection,
            f"""UPDATE shards SET state = 'ended', outcome = %(outcome)s, errors = %(errors)s, due_at = NULL,
                    ended_at = now(), {OUT_OF_LINE}, {RELEASED}
                WHERE id = %(id)s AND lease = %(lease)s AND state <> 'ended'
                    AND {_HAS_NO_OPEN_JOB}""",
            {
                "outcome": outcome,
                "errors": Jsonb(storable.value(list(errors))) if errors else None,
                "id": shard.id,
                "lease": shard.lease,
            },
        )

    async def give_up(self, batch_id: str, outcome: Outcome, errors: Sequence[Mapping[str, Any]]) -> int:
        """Any open state → ended, for the shards of a batch without an open job, whoever has their leases."""
        changed = await self._connection.execute(
            f"""WITH open AS (
                    SELECT id FROM shards WHERE batch_id = %(batch)s AND state <> 'ended' AND {_HAS_NO_OPEN_JOB}
                    ORDER BY id FOR UPDATE)
                UPDATE shards SET state = 'ended', outcome = %(outcome)s, errors = %(errors)s, due_at = NULL,
                    ended_at = now(), {OUT_OF_LINE}, {RELEASED}
                WHERE id IN (SELECT id FROM open)""",
            {"outcome": outcome, "errors": Jsonb([dict(error) for error in errors]), "batch": batch_id},
        )
        return changed.rowcount

    async def are_ended(self, batch_id: str) -> bool:
        """Whether no shard of the batch is open, for a transaction that has locked the batch (`Batches.lock`)."""
        cursor = await self._connection.execute(
            "SELECT 1 FROM shards WHERE batch_id = %s AND state <> 'ended' LIMIT 1", (batch_id,)
        )
        return await cursor.fetchone() is None

    async def uncount(self, shards: Sequence[ShardRow]) -> None:
        """Take off what was counted of these shards, as another job is to run all of their lines.

        Rows are locked as by `progress`.
        """
        if counted := [shard for shard in shards if shard.completed or shard.failed]:
            await self.progress([Counts(shard.id, shard.requests, 0, 0) for shard in counted], final=True)

    async def progress(self, counts: Sequence[Counts], *, final: bool = False) -> None:
        """Write the counts of shards, and add what is new to those of their batches.

        A shard has `requests` in all at most. Where the sum is below the one that is there, nothing is written, as a
        late poll brings old counts; unless these are `final`: those of stored results. The batches are locked first,
        until the transaction ends.
        """
        await self._connection.execute(
            """WITH owners AS MATERIALIZED (
                SELECT id FROM batches WHERE id IN (SELECT batch_id FROM shards WHERE id = ANY(%(ids)s))
                ORDER BY id FOR NO KEY UPDATE
            ), given AS (
                SELECT s.id, s.batch_id,
                    s.requests AS old_requests, s.completed AS old_completed, s.failed AS old_failed,
                    greatest(s.requests, given.total) AS requests,
                    least(given.failed, greatest(s.requests, given.total)) AS failed,
                    least(given.completed, greatest(0, greatest(s.requests, given.total) - given.failed)) AS completed
                FROM unnest(%(ids)s::text[], %(totals)s::bigint[], %(completed)s::bigint[], %(failed)s::bigint[])
                    AS given (id, total, completed, failed)
                JOIN shards s ON s.id = given.id JOIN owners ON owners.id = s.batch_id
                WHERE s.state <> 'ended' ORDER BY s.id FOR UPDATE OF s
            ), changed AS (
                UPDATE shards SET requests = given.requests, completed = given.completed, failed = given.failed
                FROM given WHERE shards.id = given.id
                    AND (%(final)s OR given.completed + given.failed >= given.old_completed + given.old_failed)
                RETURNING given.*
            ), added AS (
                SELECT batch_id, sum(requests - old_requests) AS requests, sum(completed - old_completed) AS completed,
                    sum(failed - old_failed) AS failed
                FROM changed GROUP BY batch_id
            )
            UPDATE batches SET total = total + added.requests,
                completed = batches.completed + added.completed, failed = batches.failed + added.failed
            FROM added WHERE batches.id = added.batch_id AND due_at IS NOT NULL""",
            {
                "ids": [one.shard_id for one in counts],
                "totals": [_bounded(one.total) for one in counts],
                "completed": [_bounded(one.completed) for one in counts],
                "failed": [_bounded(one.failed) for one in counts],
                "final": final,
            },
        )


def _columns(shard: NewShard) -> dict[str, Any]:
    return {
        "id": shard.id,
        "number": shard.number,
        "round": shard.round,
        "selection": shard.selection,
        "requests": shard.requests,
        "bytes": shard.bytes,
        "tokens": shard.tokens,
    }


def _bounded(count: int) -> int:
    """A provider's count, within what the columns can hold."""
    return min(max(count, 0), _MOST)
