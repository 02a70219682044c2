"""Chunks: ranges of a job's requests that the gateway itself runs, each by one worker at a time.

    queued ──► due ◄──► leased ──► ended

| `state` | `due_at` | meaning |
|---|---|---|
| `open` | null | queued: it waits for its turn at the deployment |
| `open` | set | due then; a worker that runs it has its lease |
| `ended` | null | each request is answered, or it was stopped, or its batch's window is over |

A chunk runs only while its job is open. What it has answered is in S3 (`manifold.execution.parts`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString, NamedTuple

from psycopg.types.json import Jsonb

from manifold.store.connection import Connection
from manifold.store.queries import changes_one, fetch_all, fetch_one
from manifold.store.rooms import OWNER

_FREE: LiteralString = "(chunks.leased_until IS NULL OR chunks.leased_until <= now())"
_ENDED: LiteralString = "state = 'ended', due_at = NULL, lease = NULL, leased_until = NULL"
_TO_STOP: LiteralString = """
    chunks JOIN jobs ON jobs.id = job_id JOIN batches ON batches.id = jobs.batch_id
    WHERE job_id = ANY(%s) AND chunks.state = 'open'
        AND (stopping OR batches.status = 'cancelling' OR batches.expires_at <= now())"""
_LEFT: LiteralString = "extract(epoch FROM batches.expires_at - now())::float8"
_RUNS: LiteralString = "jobs.state IN ('submitting', 'unknown', 'running')"


class NewChunk(NamedTuple):
    """A chunk as it is to be written: where its lines are."""

    id: str
    number: int
    file_id: str
    start: int
    bytes: int
    skip: int
    requests: int


class JobSource(NamedTuple):
    """Which lines a job runs, and where."""

    deployment_id: str
    selection: str
    """`manifold.selection.Selection` as text."""
    input_file_id: str
    requests: int


class ChunkRow(NamedTuple):
    """A leased chunk, with what its worker needs of its job and its batch."""

    id: str
    job_id: str
    deployment_id: str
    file_id: str
    start: int
    bytes: int
    skip: int
    requests: int
    attempts: int
    """How often it was leased, this time included."""
    failures: Mapping[str, int]
    """The failed calls of requests that were called in vain, by their numbers in the chunk."""
    silent: float | None
    """Seconds for which its provider has failed and given no result; `None` if it has not."""
    parts: list[list[int]]
    """How many objects of each kind its first attempts have left: of those that a worker has ended."""
    stopping: bool
    lease: str
    shard_id: str
    batch_id: str
    input_file_id: str
    """The batch's file, below which its results are kept."""
    endpoint: str
    left: float
    """Seconds to the end of the batch's window, by the database's clock when the row was read."""
    moves: int
    """How often its requests have left a deployment of which none was answered."""


@dataclass(frozen=True, slots=True)
class ChunkProgress:
    """What is stored of a chunk."""

    completed: int = 0
    failed: int = 0
    parts: list[list[int]] = field(default_factory=list)
    """Of each attempt the numbers of its output objects and of its error objects; the first attempt comes first."""


class ChunkSums(NamedTuple):
    """The chunks of one job, all together."""

    job_id: str
    requests: int
    completed: int
    failed: int
    open: int
    """Chunks that have not ended."""
    stopping: bool
    error: dict[str, str] | None
    """Why one gave up: `code` and `message`."""


class StoredChunk(NamedTuple):
    """Where the results of a chunk are, once it has ended."""

    id: str
    input_file_id: str
    parts: list[list[int]]
    """Of each attempt the numbers of its output objects and of its error objects; the first attempt comes first."""


class Chunks:
    """The table `chunks`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def plan(self, job_id: str, chunks: Sequence[NewChunk]) -> bool:
        """Write the chunks of a job that is being submitted, all of them queued; false if it is closed by now."""
        cursor = await self._connection.execute(
            f"""INSERT INTO chunks (id, job_id, number, deployment_id, owner, file_id, start, bytes, skip, requests)
                SELECT c.id, j.id, c.number, j.deployment_id, j.owner, c.file_id, c.start, c.bytes, c.skip, c.requests
                FROM (SELECT jobs.id, deployment_id, {OWNER} AS owner FROM jobs JOIN batches b ON b.id = batch_id
                      WHERE jobs.id = %(job)s AND jobs.state IN ('submitting', 'unknown') FOR SHARE OF jobs) j,
                    jsonb_to_recordset(%(chunks)s) AS c (id text, number int, file_id text, start bigint, bytes bigint,
                        skip int, requests int)
                ON CONFLICT (job_id, number) DO NOTHING""",
            {"job": job_id, "chunks": Jsonb([_columns(chunk) for chunk in chunks])},
        )
        return cursor.rowcount > 0

    async def source(self, job_id: str) -> JobSource | None:
        """What a job's chunks are made of; `None` if there is no such job."""
        query: LiteralString = """
            SELECT deployment_id, selection, input_file_id, shards.requests
            FROM jobs JOIN shards ON shards.id = shard_id JOIN batches ON batches.id = jobs.batch_id
            WHERE jobs.id = %(job)s"""
        return await fetch_one(self._connection, JobSource, query, {"job": job_id})

    async def exist(self, job_id: str) -> bool:
        """Whether the job has chunks: it was submitted."""
        cursor = await self._connection.execute("SELECT EXISTS (SELECT 1 FROM chunks WHERE job_id = %s)", (job_id,))
        row = await cursor.fetchone()
        return bool(row and row[0])

    async def activate(self, deployment_id: str, most: int) -> list[str]:
        """Make queued chunks due, so that at most so many of the deployment are; returns their ids.

        The owner of the fewest is next, then the one whose last turn is longest ago; of one owner, the chunk that came
        first.
        """
        cursor = await self._connection.execute(
            """WITH active AS MATERIALIZED (
                   SELECT owner, count(*) AS running FROM chunks
                   WHERE deployment_id = %(deployment)s AND state = 'open' AND due_at IS NOT NULL AND NOT yields
                   GROUP BY owner
               ), queued AS MATERIALIZED (
                   SELECT id, coalesce(running, 0) + row_number() OVER (
                           PARTITION BY owner ORDER BY created_at, job_id, number) AS turn,
                       coalesce(taken_at, '-infinity') AS taken_at, created_at, number
                   FROM chunks LEFT JOIN active USING (owner) LEFT JOIN chunk_turns USING (deployment_id, owner)
                   WHERE deployment_id = %(deployment)s AND state = 'open' AND due_at IS NULL
               ), next AS MATERIALIZED (
                   SELECT id FROM queued ORDER BY turn, taken_at, created_at, number, id
                   LIMIT greatest(0, %(most)s - (SELECT coalesce(sum(running), 0) FROM active))
               ), free AS MATERIALIZED (
                   SELECT id FROM chunks WHERE id IN (SELECT id FROM next) AND state = 'open' AND due_at IS NULL
                   FOR UPDATE SKIP LOCKED
               ), activated AS (
                   UPDATE chunks SET due_at = now() WHERE id IN (SELECT id FROM free) RETURNING id, owner
               ), turns AS (
                   INSERT INTO chunk_turns SELECT %(deployment)s, owner, clock_timestamp() FROM activated
                   GROUP BY owner ORDER BY owner
                   ON CONFLICT (deployment_id, owner) DO UPDATE SET taken_at = excluded.taken_at
               )
               SELECT id FROM activated""",
            {"deployment": deployment_id, "most": most},
        )
        return [chunk_id for (chunk_id,) in await cursor.fetchall()]

    async def with_queued(self) -> list[str]:
        """The deployments (ids) that have queued chunks."""
        cursor = await self._connection.execute(
            "SELECT DISTINCT deployment_id FROM chunks WHERE state = 'open' AND due_at IS NULL ORDER BY deployment_id"
        )
        return [deployment_id for (deployment_id,) in await cursor.fetchall()]

    async def claim(self, chunk_id: str, lease: str, seconds: float) -> ChunkRow | None:
        """Lease a due chunk of an open job for so many seconds; `None` if it is not due, or another worker has it."""
        query: LiteralString = f"""
            UPDATE chunks SET lease = %(lease)s, leased_until = now() + make_interval(secs => %(seconds)s),
                attempts = chunks.attempts + 1
            FROM jobs JOIN batches ON batches.id = jobs.batch_id
            WHERE chunks.id = %(id)s AND chunks.due_at <= now()
                AND {_FREE}
                AND jobs.id = chunks.job_id AND {_RUNS}
            RETURNING chunks.id, job_id, chunks.deployment_id, chunks.file_id, chunks.start, chunks.bytes, skip,
                chunks.requests, chunks.attempts, failures,
                extract(epoch FROM now() - silent_since)::float8 AS silent, parts, chunks.lease, jobs.shard_id,
                jobs.batch_id, input_file_id, endpoint, stopping OR batches.status = 'cancelling' AS stopping,
                {_LEFT} AS left,
                (SELECT count(*) FROM jobs o
                    WHERE o.shard_id = jobs.shard_id AND o.state = 'settled' AND o.fault IS NOT NULL) AS moves"""
        return await fetch_one(self._connection, ChunkRow, query, {"id": chunk_id, "lease": lease, "seconds": seconds})

    async def renew(
        self, chunk: ChunkRow, progress: ChunkProgress | None, seconds: float, *, yields: bool = False
    ) -> float | None:
        """Extend the lease, and note how many requests are answered, if that is known yet. Returns the seconds that are
        left for the chunk: 0 or less if it is to stop. `None`: the lease is lost, or the job is closed.

        A chunk that `yields` its place does not count among those that are due of its deployment.
        """
        cursor = await self._connection.execute(
            f"""UPDATE chunks SET leased_until = now() + make_interval(secs => %(seconds)s), yields = %(yields)s,
                    completed = coalesce(%(completed)s, chunks.completed),
                    failed = coalesce(%(failed)s, chunks.failed)
                FROM jobs JOIN batches ON batches.id = jobs.batch_id
                WHERE chunks.id = %(id)s AND chunks.lease = %(lease)s AND chunks.state = 'open'
                    AND jobs.id = chunks.job_id AND {_RUNS}
                RETURNING CASE WHEN stopping OR batches.status = 'cancelling' THEN 0 ELSE {_LEFT} END""",
            {
                "id": chunk.id,
                "lease": chunk.lease,
                "completed": progress and progress.completed,
                "failed": progress and progress.failed,
                "seconds": seconds,
                "yields": yields,
            },
        )
        row = await cursor.fetchone()
        return float(row[0]) if row else None

    async def release(
        self,
        chunk: ChunkRow,
        progress: ChunkProgress | None,
        pause: float,
        *,
        yields: bool,
        silent: float | None,
        failures: Mapping[int, int],
    ) -> bool:
        """Give the lease back; the chunk is due again after `pause` seconds. False if the lease is lost.

        `progress` is `None` where it is not known; `silent` and `failures` are as in a `ChunkRow`. Until it is due, a
        chunk that `yields` leaves its place to another.
        """
        return await changes_one(
            self._connection,
            """UPDATE chunks SET lease = NULL, leased_until = NULL, due_at = now() + make_interval(secs => %s),
                   completed = coalesce(%s, completed), failed = coalesce(%s, failed), parts = coalesce(%s, parts),
                   yields = %s, silent_since = now() - make_interval(secs => %s), failures = %s
               WHERE id = %s AND lease = %s AND state = 'open'""",
            (
                pause,
                progress and progress.completed,
                progress and progress.failed,
                Jsonb(progress.parts) if progress else None,
                yields,
                silent,
                Jsonb(failures),
                chunk.id,
                chunk.lease,
            ),
        )

    async def put_off(self, chunk: ChunkRow, seconds: float) -> None:
        """Give the lease back of a chunk that was not begun; it is due again after so many seconds."""
        await self._connection.execute(
            """UPDATE chunks SET lease = NULL, leased_until = NULL, due_at = now() + make_interval(secs => %s),
                   attempts = attempts - 1
               WHERE id = %s AND lease = %s AND state = 'open'""",
            (seconds, chunk.id, chunk.lease),
        )

    async def end(self, chunk: ChunkRow, progress: ChunkProgress, error: Mapping[str, str] | None = None) -> bool:
        """open → ended, by the holder of the lease, with where its results are, and why it gave up, if it did."""
        return await changes_one(
            self._connection,
            f"""UPDATE chunks SET {_ENDED}, completed = %s, failed = %s, parts = %s, error = %s
                WHERE id = %s AND lease = %s""",
            (
                progress.completed,
                progress.failed,
                Jsonb(progress.parts),
                Jsonb(dict(error)) if error else None,
                chunk.id,
                chunk.lease,
            ),
        )

    async def stop(self, job_id: str) -> None:
        """Have the chunks of a job stop: their workers learn of it at their next renewal."""
        await self._connection.execute(
            """WITH open AS (SELECT id FROM chunks WHERE job_id = %s AND state = 'open' ORDER BY id FOR UPDATE)
               UPDATE chunks SET stopping = true WHERE id IN (SELECT id FROM open)""",
            (job_id,),
        )

    async def stopped(self, job_ids: Sequence[str]) -> list[str]:
        """The chunks (ids) of these jobs that are to stop, as their batch is cancelled or its window is over, and that
        nobody holds. They become due, so that a worker ends them with what is stored of them."""
        cursor = await self._connection.execute(
            f"""WITH free AS (SELECT chunks.id FROM {_TO_STOP} AND {_FREE} ORDER BY chunks.id FOR UPDATE OF chunks)
                UPDATE chunks SET due_at = least(due_at, now()) WHERE id IN (SELECT id FROM free) RETURNING id""",
            (list(job_ids),),
        )
        return [chunk_id for (chunk_id,) in await cursor.fetchall()]

    async def end_untouched(self, job_ids: Sequence[str]) -> None:
        """open → ended, of those of these jobs that are to stop and that no worker has ever held: nothing is stored."""
        await self._connection.execute(
            f"""WITH untouched AS (
                    SELECT chunks.id FROM {_TO_STOP} AND chunks.attempts = 0 ORDER BY chunks.id FOR UPDATE OF chunks)
                UPDATE chunks SET {_ENDED} WHERE id IN (SELECT id FROM untouched)""",
            (list(job_ids),),
        )

    async def sums(self, job_ids: Sequence[str]) -> dict[str, ChunkSums]:
        """The sums of these jobs' chunks, by the job's id; of those that have some."""
        query: LiteralString = """
            SELECT job_id, sum(c.requests)::bigint AS requests, sum(c.completed)::bigint AS completed,
                sum(c.failed)::bigint AS failed, count(*) FILTER (WHERE c.state = 'open') AS open,
                bool_or(stopping OR b.status = 'cancelling') AS stopping,
                (array_agg(c.error) FILTER (WHERE c.error IS NOT NULL))[1] AS error
            FROM chunks c JOIN jobs j ON j.id = job_id JOIN batches b ON b.id = batch_id
            WHERE job_id = ANY(%(jobs)s) GROUP BY job_id"""
        rows = await fetch_all(self._connection, ChunkSums, query, {"jobs": list(job_ids)})
        return {row.job_id: row for row in rows}

    async def are_answered(self, job_id: str) -> bool:
        """Whether a request of the job has an answer."""
        cursor = await self._connection.execute(
            "SELECT EXISTS (SELECT 1 FROM chunks WHERE job_id = %s AND completed > 0)", (job_id,)
        )
        row = await cursor.fetchone()
        return bool(row and row[0])

    async def are_ended(self, job_id: str) -> bool:
        """Whether no chunk of a job is open."""
        cursor = await self._connection.execute(
            "SELECT NOT EXISTS (SELECT 1 FROM chunks WHERE job_id = %s AND state = 'open')", (job_id,)
        )
        row = await cursor.fetchone()
        return bool(row and row[0])

    async def stored(self, job_id: str) -> list[StoredChunk]:
        """The chunks of a job that have ended, in their order."""
        query: LiteralString = """
            SELECT chunks.id, batches.input_file_id, parts
            FROM chunks JOIN jobs ON jobs.id = job_id JOIN batches ON batches.id = jobs.batch_id
            WHERE job_id = %(job)s AND chunks.state = 'ended' ORDER BY number"""
        return await fetch_all(self._connection, StoredChunk, query, {"job": job_id})

    async def due(self, limit: int) -> list[str]:
        """Chunks of open jobs that are 15 s overdue and that nobody holds; `limit` ids at most."""
        cursor = await self._connection.execute(
            f"""SELECT chunks.id FROM chunks JOIN jobs ON jobs.id = job_id
                WHERE chunks.due_at <= now() - interval '15 seconds' AND {_RUNS}
                    AND {_FREE}
                ORDER BY chunks.due_at LIMIT %s""",
            (limit,),
        )
        return [chunk_id for (chunk_id,) in await cursor.fetchall()]


def _columns(chunk: NewChunk) -> Mapping[str, Any]:
    return {
        "id": chunk.id,
        "number": chunk.number,
        "file_id": chunk.file_id,
        "start": chunk.start,
        "bytes": chunk.bytes,
        "skip": chunk.skip,
        "requests": chunk.requests,
    }
