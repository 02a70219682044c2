"""Inputs: a file's lines, or a shard's, in the form that one deployment takes.

pending ──► ready ──► discarded
   │ ▲                    ▲
   ▼ │ (a batch asks)     │
 failed ──────────────────┘
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, LiteralString, NamedTuple, Self

from manifold import ids, storable
from manifold.store.connection import Connection
from manifold.store.queries import changes_one, fetch_all, fetch_one

InputStates = Literal["pending", "ready", "failed", "discarded"]

_ORPHAN_CHECK_DUE: LiteralString = "doubtful_at <= now() - interval '1 hour'"
"""Longer than any attempt (900 s), so that what an attempt left is at the provider by then."""
_FRESH: LiteralString = """(expires_at IS NULL
    OR expires_at > now() + least(interval '1 day', (expires_at - updated_at) / 2))"""
"""A copy is replaced a day before it expires, or after half of its life if that is shorter than two days."""
_COLUMNS: LiteralString = f"""id, file_id, shard_id, deployment_id, state, provider_ref, error, attempts, lease,
    expires_at, created_at, refused, {_FRESH} AS fresh"""


class InputView(NamedTuple):
    """What clients read of a row of `inputs`."""

    deployment_id: str
    state: InputStates
    error: str | None


class InputRow(NamedTuple):
    """A row of `inputs`."""

    id: str
    deployment_id: str
    state: InputStates
    error: str | None
    file_id: str | None
    """The file, if it is an input of all its lines."""
    shard_id: str | None
    """The shard, if it is one of a shard's lines."""
    provider_ref: str | None
    attempts: int
    lease: str | None
    expires_at: datetime | None
    created_at: datetime
    refused: int = 0
    """How many requests are not in it, as they cannot be translated for the provider."""
    fresh: bool = True
    """Whether its copy at the provider need not be replaced yet."""


class InputKeys(NamedTuple):
    """The keys in the bucket of what was made of an input's lines for its provider."""

    lines: str
    """The translated lines, where they travel with the job."""
    refused: str
    """The error lines of those requests that cannot be translated."""

    @classmethod
    def of(cls, file_id: str, input_id: str) -> Self:
        """Those of an input of this file's lines."""
        start = f"{inputs_prefix(file_id)}{input_id}"
        return cls(f"{start}.jsonl", f"{start}.refused.jsonl")


def inputs_prefix(file_id: str) -> str:
    """How the keys of all that was made of a file's lines begin."""
    return f"inputs/{file_id}/"


class Inputs:
    """The table `inputs`, and every change of an input's state."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, input_id: str) -> InputRow | None:
        """Any input."""
        query: LiteralString = f"SELECT {_COLUMNS} FROM inputs WHERE id = %(id)s"
        return await fetch_one(self._connection, InputRow, query, {"id": input_id})

    async def of_file(self, file_id: str) -> list[InputRow]:
        """The inputs of a file that are not discarded: at most one for each deployment."""
        query: LiteralString = f"""
            SELECT {_COLUMNS} FROM inputs WHERE file_id = %(file)s AND state <> 'discarded'
            ORDER BY created_at, deployment_id"""
        return await fetch_all(self._connection, InputRow, query, {"file": file_id})

    async def of_shard(self, shard_id: str) -> list[InputRow]:
        """The inputs of a shard that are not discarded: at most one for each deployment."""
        query: LiteralString = f"""
            SELECT {_COLUMNS} FROM inputs WHERE shard_id = %(shard)s AND state <> 'discarded'
            ORDER BY created_at, deployment_id"""
        return await fetch_all(self._connection, InputRow, query, {"shard": shard_id})

    async def of_file_and_shards(self, file_id: str) -> list[InputRow]:
        """All inputs that are not discarded of a file and of the shards of its batches."""
        query: LiteralString = f"""
            SELECT {_COLUMNS} FROM inputs WHERE state <> 'discarded' AND (file_id = %(file)s OR shard_id IN (
                SELECT s.id FROM shards s JOIN batches b ON b.id = s.batch_id WHERE b.input_file_id = %(file)s))
            ORDER BY created_at, deployment_id"""
        return await fetch_all(self._connection, InputRow, query, {"file": file_id})

    async def ensure(self, file_id: str, deployment_ids: Iterable[str]) -> list[str]:
        """Add an input for each of these deployments that has none; returns the ids of those to upload.

        A failed input becomes pending again, and one that the provider will soon drop is replaced.
        """
        deployments = list(deployment_ids)
        await self._connection.execute(
            f"""UPDATE inputs SET state = 'discarded', due_at = NULL, updated_at = now()
                WHERE file_id = %s AND deployment_id = ANY(%s) AND state = 'ready' AND NOT {_FRESH}""",
            (file_id, deployments),
        )
        cursor = await self._connection.execute(
            """INSERT INTO inputs (id, file_id, deployment_id)
               SELECT * FROM unnest(%s::text[], array_fill(%s::text, ARRAY[%s]), %s::text[])
               ON CONFLICT (file_id, deployment_id) WHERE state <> 'discarded' DO UPDATE
               SET state = 'pending', attempts = 0, error = NULL, due_at = now(), updated_at = now()
               WHERE inputs.state = 'failed' AND inputs.updated_at < now() - interval '30 seconds'
               RETURNING id""",
            ([ids.new("input") for _ in deployments], file_id, len(deployments), deployments),
        )
        return [input_id for (input_id,) in await cursor.fetchall()]

    async def ensure_for_shard(self, shard_id: str, deployment_id: str) -> str | None:
        """The same for a shard at one deployment; the id of the input to upload, if there is one."""
        await self._connection.execute(
            f"""UPDATE inputs SET state = 'discarded', due_at = NULL, updated_at = now()
                WHERE shard_id = %s AND deployment_id = %s AND state = 'ready' AND NOT {_FRESH}""",
            (shard_id, deployment_id),
        )
        cursor = await self._connection.execute(
            """INSERT INTO inputs (id, shard_id, deployment_id) VALUES (%s, %s, %s)
               ON CONFLICT (shard_id, deployment_id) WHERE state <> 'discarded' DO UPDATE
               SET state = 'pending', attempts = 0, error = NULL, due_at = now(), updated_at = now()
               WHERE inputs.state = 'failed' AND inputs.updated_at < now() - interval '30 seconds'
               RETURNING id""",
            (ids.new("input"), shard_id, deployment_id),
        )
        row = await cursor.fetchone()
        return row[0] if row else None

    async def refs(self, input_ids: Sequence[str]) -> dict[str, str]:
        """The provider's names of those of these inputs that have one, by our id."""
        cursor = await self._connection.execute(
            "SELECT id, provider_ref FROM inputs WHERE id = ANY(%s) AND provider_ref IS NOT NULL", (list(input_ids),)
        )
        return dict(await cursor.fetchall())

    async def claim(self, input_id: str, lease: str, seconds: int) -> InputRow | None:
        """Lease a due input for `seconds`; `None` if it is not due, or leased by another worker.

        It is to be uploaded, or discarded: `unneeded`. From the second attempt at an upload on, its deployment may hold
        an orphan: what an earlier attempt left there.
        """
        query: LiteralString = f"""
            UPDATE inputs SET lease = %(lease)s, leased_until = now() + make_interval(secs => %(seconds)s),
                attempts = attempts + 1, updated_at = now(),
                doubtful_at = CASE WHEN attempts > 0 AND provider_ref IS NULL THEN now() ELSE doubtful_at END
            WHERE id = %(id)s AND due_at <= now()
                AND (leased_until IS NULL OR leased_until <= now())
            RETURNING {_COLUMNS}"""
        return await fetch_one(self._connection, InputRow, query, {"id": input_id, "lease": lease, "seconds": seconds})

    async def renew(self, row: InputRow, seconds: float) -> bool:
        """Extend the lease to `seconds` from now; false if it is lost."""
        return await changes_one(
            self._connection,
            """UPDATE inputs SET leased_until = clock_timestamp() + make_interval(secs => %s)
               WHERE id = %s AND state = 'pending' AND lease = %s""",
            (seconds, row.id, row.lease),
        )

    async def ready(self, row: InputRow, provider_ref: str | None, expires_at: int | None, refused: int = 0) -> bool:
        """pending → ready, by the holder of the lease. `expires_at` is a Unix time."""
        return await changes_one(
            self._connection,
            """UPDATE inputs SET state = 'ready', provider_ref = %s, expires_at = to_timestamp(%s), refused = %s,
                   error = NULL, due_at = NULL, lease = NULL, leased_until = NULL, updated_at = now()
               WHERE id = %s AND state = 'pending' AND lease = %s""",
            (provider_ref, expires_at, refused, row.id, row.lease),
        )

    async def retry(self, row: InputRow, error: str, seconds: float) -> bool:
        """Give the lease back, to try again after `seconds`; false if it is lost."""
        return await changes_one(
            self._connection,
            """UPDATE inputs SET error = %s, due_at = now() + make_interval(secs => %s), lease = NULL,
                   leased_until = NULL, updated_at = now()
               WHERE id = %s AND state <> 'discarded' AND lease = %s""",
            (storable.text(error), seconds, row.id, row.lease),
        )

    async def fail(self, row: InputRow, error: str) -> bool:
        """pending → failed, by the holder of the lease, with the cause."""
        return await changes_one(
            self._connection,
            """UPDATE inputs SET state = 'failed', error = %s, due_at = NULL, lease = NULL, leased_until = NULL,
                   updated_at = now(), doubtful_at = now()
               WHERE id = %s AND state = 'pending' AND lease = %s""",
            (storable.text(error), row.id, row.lease),
        )

    async def discard(self, input_id: str, *, deleted: InputRow | None = None) -> bool:
        """Any state → discarded: the provider's copy is gone, or nobody needs it.

        With `deleted`, the row as it was when its copy was deleted: false if it has another copy by now.
        """
        return await changes_one(
            self._connection,
            """UPDATE inputs SET state = 'discarded', due_at = NULL, lease = NULL, leased_until = NULL,
                   updated_at = now(),
                   doubtful_at = CASE WHEN provider_ref IS NULL AND attempts > 0 THEN now() ELSE doubtful_at END
               WHERE id = %s AND state <> 'discarded' AND (%s OR provider_ref IS NOT DISTINCT FROM %s)""",
            (input_id, deleted is None, deleted.provider_ref if deleted else None),
        )

    async def due(self, limit: int) -> list[str]:
        """The inputs that have been due for 15 seconds and that nobody holds; `limit` at most."""
        cursor = await self._connection.execute(
            """SELECT id FROM inputs WHERE due_at <= now() - interval '15 seconds'
                   AND (leased_until IS NULL OR leased_until <= now())
               ORDER BY due_at LIMIT %s""",
            (limit,),
        )
        return [input_id for (input_id,) in await cursor.fetchall()]

    # Suspected orphans: copies that no row names, left by a worker that died or an upload whose response was lost.
    # `doubtful_at` is since when an input's deployment may hold one.

    async def due_orphan_checks(self) -> list[str]:
        """The deployments that may hold orphans, where no attempt that left one can still be running."""
        cursor = await self._connection.execute(f"SELECT DISTINCT deployment_id FROM inputs WHERE {_ORPHAN_CHECK_DUE}")
        return [deployment_id for (deployment_id,) in await cursor.fetchall()]

    async def claim_orphan_check(self, deployment_id: str) -> datetime | None:
        """Take a deployment's check for an hour, after which it is due again; `None` if none is due.

        Returns the time of the claim, by the database's clock.
        """
        cursor = await self._connection.execute(
            f"""UPDATE inputs SET doubtful_at = now() WHERE deployment_id = %s AND {_ORPHAN_CHECK_DUE}
                RETURNING doubtful_at""",
            (deployment_id,),
        )
        taken = await cursor.fetchone()
        return taken[0] if taken else None

    async def end_orphan_check(self, deployment_id: str, since: datetime) -> None:
        """End the check that was claimed at that time. What was suspected later stays due, and so do the inputs that a
        worker held: copies of theirs were passed over."""
        await self._connection.execute(
            """UPDATE inputs SET doubtful_at = NULL WHERE deployment_id = %s AND doubtful_at = %s
                   AND (leased_until IS NULL OR leased_until <= now())""",
            (deployment_id, since),
        )

    async def orphans(self, copies: Sequence[tuple[str, str]]) -> list[str]:
        """The references of those copies that no input needs. Each copy is the id of an input and a reference.

        An input that a worker holds may still name the copy. A discarded input needs its copy while a job runs it.
        """
        cursor = await self._connection.execute(
            """SELECT copy.ref FROM unnest(%s::text[], %s::text[]) AS copy (input_id, ref)
               JOIN inputs i ON i.id = copy.input_id
               WHERE (i.leased_until IS NULL OR i.leased_until <= now())
                   AND NOT (i.provider_ref IS NOT DISTINCT FROM copy.ref AND (i.state = 'ready' OR EXISTS (
                       SELECT 1 FROM jobs j JOIN batches b ON b.id = j.batch_id
                       WHERE j.input_id = i.id AND b.due_at IS NOT NULL)))""",
            ([input_id for input_id, _ in copies], [ref for _, ref in copies]),
        )
        return [ref for (ref,) in await cursor.fetchall()]
