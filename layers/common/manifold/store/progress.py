"""How a batch runs, for its owner: its shards by state, what those that wait wait for, its jobs as attempts."""

from dataclasses import dataclass
from typing import LiteralString, TypedDict

from manifold.batch_status import ErrorEntry
from manifold.store.batches import Outcome
from manifold.store.connection import Connection
from manifold.store.jobs import States
from manifold.store.queries import fetch_one
from manifold.store.shards import WaitingFor

MOST_ATTEMPTS = 100
"""How many attempts of a batch are read: the newest."""


class Attempt(TypedDict):
    """A job, with its times in Unix seconds."""

    shard: int
    deployment_id: str
    state: States
    outcome: Outcome | None
    requests: int
    error: str | None
    first_error: ErrorEntry | None
    """The provider's first error, of a job that it ended."""
    created_at: int
    submitted_at: int | None
    ended_at: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How the shards and jobs of a batch stand."""

    total: int
    waiting: int
    running: int
    ended: int
    waiting_for: WaitingFor | None
    """What shards wait for: room, if any does; else the end of a cooldown, else an input."""
    waiting_since: int | None
    """Since when the first of the shards that wait for this has been without a job, in Unix seconds."""
    waiting_shards: int | None
    """How many wait for this."""
    attempts: list[Attempt]
    """The newest first."""


class BatchProgress:
    """Reads the progress of batches: one statement for each."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of(self, batch_id: str) -> Progress:
        """The progress of any batch, also of one without shards."""
        row = await fetch_one(self._connection, Progress, _PROGRESS, {"batch": batch_id, "most": MOST_ATTEMPTS})
        assert row is not None  # noqa: S101 (an aggregate without GROUP BY has one row)
        return row


_PROGRESS: LiteralString = """
    WITH counted AS (
        SELECT count(*) AS total, count(*) FILTER (WHERE state = 'waiting') AS waiting,
            count(*) FILTER (WHERE state = 'running') AS running, count(*) FILTER (WHERE state = 'ended') AS ended
        FROM shards WHERE batch_id = %(batch)s
    ), waits AS (
        SELECT waiting_for, count(*) AS waiting_shards, floor(extract(epoch FROM min(coalesce(
            (SELECT max(coalesce(ended_at, created_at)) FROM jobs WHERE shard_id = shards.id), created_at
        ))))::bigint AS waiting_since
        FROM shards WHERE batch_id = %(batch)s AND state = 'waiting' AND waiting_for IS NOT NULL GROUP BY waiting_for
        ORDER BY array_position(ARRAY['room', 'cooldown', 'input'], waiting_for) LIMIT 1
    ), attempted AS (
        SELECT coalesce((SELECT number FROM shards WHERE id = shard_id), 0) AS shard, deployment_id, state, outcome,
            requests, error, errors -> 0 AS first_error, floor(extract(epoch FROM created_at))::bigint AS created_at,
            floor(extract(epoch FROM submitted_at))::bigint AS submitted_at,
            floor(extract(epoch FROM ended_at))::bigint AS ended_at
        FROM jobs WHERE batch_id = %(batch)s ORDER BY jobs.created_at DESC, id DESC LIMIT %(most)s
    )
    SELECT counted.*, waiting_for, waiting_since, waiting_shards,
        coalesce((SELECT jsonb_agg(attempted) FROM attempted), '[]') AS attempts
    FROM counted LEFT JOIN waits ON true"""
