"""The states of a job by what they mean to others, as conditions of SQL. The states are in `manifold.store.jobs`."""

from typing import LiteralString

OPEN: LiteralString = "state NOT IN ('settled', 'refused', 'absent', 'abandoned')"
"""The job may still change, so no other one of its shard is written, and its batch does not end."""
