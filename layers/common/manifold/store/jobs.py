"""Jobs: the attempts of shards, each one submission to one deployment, written before the provider is called.

    submitting ──► running ──► ended ──► stored ──► settled
        │  │          ▲
        │  └─► unknown ──► absent
        ▼
      refused            each of the open ones ──► abandoned

`refused` and `absent` jobs never came to be at the provider; another one may follow. `abandoned` ones may still run
there, but their results are not used. ended → stored is in `manifold.store.job_results`. The unique index
`jobs_one_open` keeps two jobs of a shard from being open at once. A job holds room at its deployment while it is
`submitting`, `unknown` or `running` (`manifold.store.rooms`).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, LiteralString, NamedTuple

from psycopg.types.json import Jsonb

from manifold import storable
from manifold.batch_status import BatchStatus
from manifold.profiles import Execution
from manifold.store.batches import Outcome
from manifold.store.connection import Connection
from manifold.store.job_changes import Fault, JobEnd, JobPoll, columns
from manifold.store.job_states import CHUNKS_ENDED, OPEN
from manifold.store.queries import changes_one, fetch_all, fetch_one
from manifold.store.shards import OUT_OF_LINE, ShardRow

States = Literal["submitting", "unknown", "running", "ended", "stored", "settled", "refused", "absent", "abandoned"]

COLUMNS: LiteralString = """id, batch_id, shard_id, input_id, deployment_id, state, provider_ref, outcome, error,
    execution, lasting, errors, output_ref, error_ref, output_file_id, error_file_id, results, polls, polled_at,
    attempts, lease, created_at, submitted_at, status,
    extract(epoch FROM now() - cancel_sent_at)::float8 AS cancel_sent_for,
    extract(epoch FROM now() - created_at)::float8 AS age, answers,
    coalesce(kept, '{}') AS kept, extract(epoch FROM now() - end_seen_at)::float8 AS end_seen_for,
    extract(epoch FROM now() - doubted_at)::float8 AS mismatch_for,
    requests, refused, tokens, fault,
    (SELECT extract(epoch FROM now() - overdue_at)::float8 FROM batches WHERE id = jobs.batch_id) AS overdue_for"""


class JobRow(NamedTuple):
    """A row of `jobs`, with the ages that decide and what they need of the batch."""

    id: str
    batch_id: str
    shard_id: str | None
    """`None` for one that old code has written."""
    input_id: str | None
    """`None` where the gateway itself runs it."""
    deployment_id: str
    state: States
    provider_ref: str | None
    outcome: Outcome | None
    error: str | None
    execution: Execution
    lasting: bool
    errors: list[dict[str, Any]] | None
    output_ref: str | None
    error_ref: str | None
    output_file_id: str | None
    error_file_id: str | None
    results: dict[str, Any] | None
    polls: int
    polled_at: datetime | None
    attempts: int
    lease: str | None
    created_at: datetime
    submitted_at: datetime | None
    status: int | None
    """The HTTP status that it was refused with."""
    cancel_sent_for: float | None
    """Seconds since its provider accepted a cancel."""
    age: float
    """Seconds since it was written, by the database's clock when the row was read, as in those beside it."""
    answers: int | None
    """How many results the provider's counts announced."""
    kept: dict[str, int]
    """The number of lines of "output" and "error" that are in S3 while the results are incomplete."""
    end_seen_for: float | None
    """Seconds since the provider first reported an end that cannot be right yet."""
    mismatch_for: float | None
    """Seconds since its results were first found not to be what the provider had announced."""
    requests: int
    """The number of requests of its shard."""
    refused: int
    """Those of them that the provider does not get, as they cannot be translated for it."""
    tokens: int
    """The estimated input tokens of its shard."""
    fault: Fault | None
    """Whose fault it was, where it ended as `failed`."""
    overdue_for: float | None
    """`BatchRow.overdue_for` of its batch, in seconds."""


class Jobs:
    """The jobs of batches, and the statements that set a state; fetching their results is `JobResults`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(
        self, job_id: str, shard: ShardRow, input_id: str | None, deployment_id: str, execution: Execution = "provider"
    ) -> JobRow | None:
        """Write a job ahead of its submission, for a waiting shard: waiting → running.

        `None` if the shard is no longer to be submitted by this lease, as after a cancel. A second open job of a shard
        violates `jobs_one_open`.
        """
        query: LiteralString = f"""
            WITH batch AS (
                SELECT id FROM batches WHERE id = %(batch)s AND status IN ('validating', 'in_progress') FOR SHARE
            ), shard AS (
                UPDATE shards SET state = 'running', {OUT_OF_LINE} FROM batch
                WHERE shards.id = %(shard)s AND lease = %(lease)s AND state = 'waiting' AND batch_id = batch.id
                RETURNING shards.id, batch_id, requests, bytes, tokens
            )
            INSERT INTO jobs (
                id, batch_id, shard_id, input_id, deployment_id, execution, requests, refused, bytes, tokens)
            SELECT %(id)s, batch_id, shard.id, inputs.id, %(deployment)s, %(execution)s, requests,
                coalesce(refused, 0), shard.bytes, tokens
            FROM shard LEFT JOIN inputs ON inputs.id = %(input)s::text
            RETURNING {COLUMNS}"""
        parameters = {
            "id": job_id,
            "batch": shard.batch_id,
            "shard": shard.id,
            "lease": shard.lease,
            "input": input_id,
            "deployment": deployment_id,
            "execution": execution,
        }
        return await fetch_one(self._connection, JobRow, query, parameters)

    async def open(self, shard_ids: Sequence[str]) -> dict[str, JobRow]:
        """The open job of each of these shards that has one, by the shard's id."""
        query: LiteralString = f"SELECT {COLUMNS} FROM jobs WHERE shard_id = ANY(%(shards)s) AND {OPEN}"
        rows = await fetch_all(self._connection, JobRow, query, {"shards": list(shard_ids)})
        return {row.shard_id: row for row in rows if row.shard_id}

    async def of_shard(self, shard_id: str) -> list[JobRow]:
        """All jobs of a shard, also the closed ones, the oldest first."""
        query: LiteralString = f"SELECT {COLUMNS} FROM jobs WHERE shard_id = %(shard)s ORDER BY created_at, id"
        return await fetch_all(self._connection, JobRow, query, {"shard": shard_id})

    async def of_batch(self, batch_id: str) -> list[JobRow]:
        """All jobs of a batch, also the closed ones, the oldest first."""
        query: LiteralString = f"SELECT {COLUMNS} FROM jobs WHERE batch_id = %(batch)s ORDER BY created_at, id"
        return await fetch_all(self._connection, JobRow, query, {"batch": batch_id})

    async def settled_with_results(self, batch_id: str) -> list[JobRow]:
        """The jobs of a batch whose results are stored for a join."""
        query: LiteralString = f"""
            SELECT {COLUMNS} FROM jobs WHERE batch_id = %(batch)s AND state = 'settled' AND results IS NOT NULL
            ORDER BY created_at, id"""
        return await fetch_all(self._connection, JobRow, query, {"batch": batch_id})

    async def refs_beside(self, job: JobRow) -> frozenset[str]:
        """The provider's ids of this input's other jobs, and of all jobs written within an hour before or after."""
        cursor = await self._connection.execute(
            """SELECT provider_ref FROM jobs
            WHERE provider_ref IS NOT NULL AND id <> %(job)s AND (
                input_id = %(input)s
                OR created_at BETWEEN %(at)s - interval '1 hour' AND %(at)s + interval '1 hour'
            )""",
            {"job": job.id, "input": job.input_id, "at": job.created_at},
        )
        return frozenset([ref for (ref,) in await cursor.fetchall()])

    async def open_deployments(self) -> dict[str, list[str]]:
        """The deployments that open jobs run on, each with its batches."""
        cursor = await self._connection.execute(
            f"SELECT deployment_id, array_agg(batch_id ORDER BY batch_id) FROM jobs WHERE {OPEN} GROUP BY 1 ORDER BY 1"
        )
        return {deployment_id: batch_ids for deployment_id, batch_ids in await cursor.fetchall()}

    async def cooldowns(self, batch_id: str) -> dict[tuple[str, Execution], float]:
        """The seconds of cooldown left, by deployment and execution: of those that are busy, and of those that refused
        this batch or failed it."""
        cursor = await self._connection.execute(
            """SELECT deployment_id, execution, extract(epoch FROM max(cool_until) - now())::float8 FROM jobs
               WHERE cool_until > now() AND (batch_id = %s OR NOT lasting) GROUP BY 1, 2""",
            (batch_id,),
        )
        return {(deployment_id, execution): seconds for deployment_id, execution, seconds in await cursor.fetchall()}

    async def running(self, job: JobRow, provider_ref: str) -> BatchStatus | None:
        """submitting | unknown → running: the provider has it. Its batch is validating → in_progress, as by
        `Batches.started`, with the same statement.

        Returns the batch's status: `cancelling` if a cancel came while the job was submitted. `None`, and nothing is
        changed, if the job is no longer submitted, or if it is another one of ours there.
        """
        cursor = await self._connection.execute(
            """WITH job AS (
                    UPDATE jobs SET state = 'running', provider_ref = %(ref)s, submitted_at = now(), error = NULL
                    WHERE id = %(id)s AND state IN ('submitting', 'unknown') AND NOT EXISTS (
                        SELECT 1 FROM jobs other
                        WHERE other.deployment_id = %(deployment)s AND other.provider_ref = %(ref)s)
                    RETURNING batch_id
                ), started AS (
                    UPDATE batches SET status = CASE status WHEN 'validating' THEN 'in_progress' ELSE status END,
                        in_progress_at = coalesce(in_progress_at, now())
                    FROM job WHERE id = job.batch_id AND status IN ('validating', 'in_progress', 'cancelling')
                    RETURNING status
                )
                SELECT coalesce((SELECT status FROM started), batches.status)
                FROM job JOIN batches ON batches.id = job.batch_id""",
            {"ref": provider_ref, "id": job.id, "deployment": job.deployment_id},
        )
        row = await cursor.fetchone()
        return row[0] if row else None

    async def ended_unsent(self, job: JobRow, error_file_id: str) -> bool:
        """submitting → ended: none of its requests can be translated, so it never comes to be at the provider."""
        return await changes_one(
            self._connection,
            """UPDATE jobs SET state = 'ended', outcome = 'completed', error_file_id = %s, errors = '[]',
                   answers = requests, ended_at = now(), due_at = now()
               WHERE id = %s AND state = 'submitting'""",
            (error_file_id, job.id),
        )

    async def unknown(self, job: JobRow, error: str) -> bool:
        """submitting → unknown: it may or may not have come to be."""
        return await changes_one(
            self._connection,
            "UPDATE jobs SET state = 'unknown', error = %s WHERE id = %s AND state = 'submitting'",
            (storable.text(error), job.id),
        )

    async def refused(self, job: JobRow, error: str, *, status: int | None, lasting: bool, cooldown: float) -> bool:
        """submitting → refused, with the HTTP status and the seconds of cooldown for the deployment."""
        return await changes_one(
            self._connection,
            """UPDATE jobs SET state = 'refused', error = %s, status = %s, lasting = %s,
                   cool_until = now() + make_interval(secs => %s)
               WHERE id = %s AND state = 'submitting'""",
            (storable.text(error), status, lasting, cooldown, job.id),
        )

    async def abandon(self, batch_id: str) -> list[JobRow]:
        """Any open state → abandoned: its results will not be used. Returns the jobs as they were before.

        Within a transaction of the caller's. The chunks come in a statement of their own: it sees those that were
        written while the first one waited.
        """
        query: LiteralString = f"""
            WITH open AS (
                SELECT {COLUMNS} FROM jobs WHERE batch_id = %(batch)s AND {OPEN} ORDER BY id FOR UPDATE),
            closed AS (
                UPDATE jobs SET state = 'abandoned', outcome = NULL, due_at = NULL, lease = NULL, leased_until = NULL
                WHERE id IN (SELECT id FROM open))
            SELECT * FROM open"""
        jobs = await fetch_all(self._connection, JobRow, query, {"batch": batch_id})
        if jobs:
            await self._connection.execute(CHUNKS_ENDED, ([job.id for job in jobs],))
        return jobs

    async def give_up(self, job_ids: Sequence[str]) -> set[str]:
        """running → abandoned, of these jobs, as another one is to run their shards; the ids of those that changed."""
        cursor = await self._connection.execute(
            "UPDATE jobs SET state = 'abandoned' WHERE id = ANY(%s) AND state = 'running' RETURNING id",
            (list(job_ids),),
        )
        return {job_id for (job_id,) in await cursor.fetchall()}

    async def absent(self, job: JobRow) -> bool:
        """unknown → absent: the provider did not list it when its listing delay was over."""
        return await changes_one(
            self._connection, "UPDATE jobs SET state = 'absent' WHERE id = %s AND state = 'unknown'", (job.id,)
        )

    async def polled(self, polls: Sequence[JobPoll]) -> None:
        """Note polls after which their jobs go on, or that got no answer.

        After an end that cannot be right yet, the pauses between polls begin anew.
        """
        await self._connection.execute(
            """UPDATE jobs SET polls = CASE WHEN premature AND end_seen_at IS NULL THEN 0 ELSE polls + 1 END,
                   polled_at = now(),
                   end_seen_at = CASE WHEN premature THEN coalesce(end_seen_at, now())
                       WHEN answered THEN NULL ELSE end_seen_at END,
                   cancel_sent_at = CASE WHEN cancelled THEN now() ELSE cancel_sent_at END
               FROM unnest(%(ids)s::text[], %(answered)s::bool[], %(premature)s::bool[], %(cancelled)s::bool[])
                   AS poll (job_id, answered, premature, cancelled)
               WHERE id = job_id AND state = 'running'""",
            {
                "ids": [poll.job_id for poll in polls],
                "answered": [poll.answered for poll in polls],
                "premature": [poll.premature for poll in polls],
                "cancelled": [poll.cancelled for poll in polls],
            },
        )

    async def ended(self, ends: Mapping[str, JobEnd]) -> set[str]:
        """running → ended, or → stored where the provider left nothing to store; the jobs (ids) that changed.

        `ends` are by the job's id.
        """
        cursor = await self._connection.execute(
            """UPDATE jobs SET state = CASE WHEN stop.stores THEN 'ended' ELSE 'stored' END,
                   outcome = stop.outcome, output_ref = stop.output_ref, error_ref = stop.error_ref,
                   output_file_id = stop.output_file_id, error_file_id = stop.error_file_id,
                   errors = stop.errors, answers = stop.answers, fault = stop.fault,
                   polls = polls + 1, polled_at = now(), ended_at = now(),
                   due_at = CASE WHEN stop.stores THEN now() END
               FROM jsonb_to_recordset(%s) AS stop (id text, stores boolean, outcome text, output_ref text,
                   error_ref text, output_file_id text, error_file_id text, errors jsonb, answers int, fault text)
               WHERE jobs.id = stop.id AND state = 'running' RETURNING jobs.id""",
            (Jsonb([{"id": job_id, **columns(end)} for job_id, end in ends.items()]),),
        )
        return {job_id for (job_id,) in await cursor.fetchall()}

    async def settled(self, job: JobRow, *, cooldown: float | None = None, lasting: bool = False) -> bool:
        """stored → settled. With a `cooldown` in seconds, its deployment gets no job for so long: of its batch where
        the failure is `lasting`, else of any."""
        return await changes_one(
            self._connection,
            """UPDATE jobs SET state = 'settled', lasting = %s, cool_until = now() + make_interval(secs => %s)
               WHERE id = %s AND state = 'stored'""",
            (lasting, cooldown, job.id),
        )
