"""When the gateway has something to do next, by all rows that say so, and by the messages on their way."""

import math

from tests.faults.aws import SimulatedQueue
from tests.faults.clock import Clock
from tests.faults.database import ServerDatabase

ROWS = """
    SELECT 'batch ' || id || ' ' || status AS what, greatest(due_at, leased_until) AS at FROM batches
        WHERE due_at IS NOT NULL
    UNION ALL SELECT 'shard ' || id || ' ' || state, greatest(due_at, leased_until) FROM shards WHERE due_at IS NOT NULL
    UNION ALL SELECT 'job ' || id, greatest(due_at, leased_until) FROM jobs WHERE due_at IS NOT NULL
    UNION ALL SELECT 'chunk ' || chunks.id, greatest(chunks.due_at, chunks.leased_until)
        FROM chunks JOIN jobs ON jobs.id = job_id
        WHERE chunks.due_at IS NOT NULL AND jobs.state IN ('submitting', 'unknown', 'running')
    UNION ALL SELECT 'input ' || id, greatest(due_at, leased_until) FROM inputs WHERE due_at IS NOT NULL
    UNION ALL SELECT 'orphans at ' || deployment_id, doubtful_at + interval '1 hour' FROM inputs
        WHERE doubtful_at IS NOT NULL
    UNION ALL SELECT 'purge of ' || id, greatest(coalesce(due_at, deleted_at), leased_until) FROM files
        WHERE deleted_at IS NOT NULL AND purged_at IS NULL
    UNION ALL SELECT 'expiry of ' || id, expires_at FROM files WHERE deleted_at IS NULL AND expires_at IS NOT NULL
"""
PICKED_UP_AFTER = 16.0
"""The sweep sends again what has been due for 15 seconds."""


def rows(database: ServerDatabase) -> list[tuple[str, float]]:
    """What is due, each with its Unix time, the earliest first."""
    return [
        (what, float(at))
        for what, at in database.execute(f"SELECT what, extract(epoch FROM at) FROM ({ROWS}) open ORDER BY at, what")
    ]


def seconds(database: ServerDatabase, queue: SimulatedQueue, clock: Clock) -> float | None:
    """Seconds until the schedule or a message finds something to do; `None` if no row is due at any time."""
    open_rows = rows(database)
    if not open_rows:
        return None
    next_row = open_rows[0][1] + PICKED_UP_AFTER - clock.now()
    messages = [one.arrives_at - clock.now() for one in queue.deliveries]
    return math.ceil(10 * max(0.1, min([next_row, *messages]))) / 10


def is_overdue(database: ServerDatabase, clock: Clock) -> bool:
    """Whether the schedule finds something to do now."""
    return any(at + PICKED_UP_AFTER <= clock.now() for _, at in rows(database)[:1])
