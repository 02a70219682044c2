"""What the states of a job mean to others, as parts of SQL. The states are in `manifold.store.jobs`."""

from typing import LiteralString

OPEN: LiteralString = "state NOT IN ('settled', 'refused', 'absent', 'abandoned')"
"""The job may still change, so no other one of its shard is written, and its batch does not end."""
_TAKEN: LiteralString = "state = 'ended', due_at = NULL, lease = NULL"
"""The same of a chunk whose worker does not know yet: up to `leased_until` it may write results."""
CHUNKS_ENDED: LiteralString = f"""
    WITH of_closed AS (SELECT id FROM chunks WHERE job_id = ANY(%s) AND state = 'open' ORDER BY id FOR UPDATE)
    UPDATE chunks SET {_TAKEN} WHERE id IN (SELECT id FROM of_closed)"""
"""Ends the chunks of jobs (ids) that are closed. Their workers lose the lease."""
