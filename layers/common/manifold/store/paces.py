"""How fast the gateway's own execution may call each deployment, by all workers together: columns of `traffic`.

A worker's `leases` entry has the calls that it may have under way, as those of completions have. Whoever changes a pace
locks its row first, so no two workers take the same share. The rules are in `manifold.execution.pace`.
"""

from collections.abc import Mapping
from typing import Any, LiteralString, NamedTuple

from psycopg.types.json import Jsonb

from manifold.store.connection import Connection
from manifold.store.queries import fetch_one


class PaceRow(NamedTuple):
    """The pace of a deployment, by the database's clock."""

    now: float
    """Unix time, as are the next two."""
    paced_at: float | None
    """When `free_requests` and `free_tokens` were right; `None`: all is free."""
    paused_until: float
    free_requests: float
    """Calls that may begin; below 0 after more completions than there was room for."""
    free_tokens: float
    leases: Mapping[str, Any]
    """By worker or request: the calls that it has under way at most, and when that ends (Unix time)."""


class Paces:
    """Reads and writes paces, within a transaction of the caller's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock(self, deployment_id: str) -> PaceRow:
        """The pace, locked until the transaction ends."""
        query: LiteralString = """
            INSERT INTO traffic (deployment_id) VALUES (%(id)s)
            ON CONFLICT (deployment_id) DO UPDATE SET deployment_id = traffic.deployment_id
            RETURNING extract(epoch FROM clock_timestamp())::float8 AS now,
                extract(epoch FROM paced_at)::float8 AS paced_at,
                coalesce(extract(epoch FROM paused_until), 0)::float8 AS paused_until,
                free_requests, free_tokens, leases"""
        row = await fetch_one(self._connection, PaceRow, query, {"id": deployment_id})
        assert row is not None  # noqa: S101 (the statement returns a row)
        return row

    async def write(self, deployment_id: str, pace: PaceRow) -> None:
        """Write a pace that was locked."""
        await self._connection.execute(
            """UPDATE traffic SET paced_at = to_timestamp(%s), paused_until = to_timestamp(nullif(%s, 0)),
                   free_requests = %s, free_tokens = %s, leases = %s
               WHERE deployment_id = %s""",
            (
                pace.paced_at,
                pace.paused_until,
                pace.free_requests,
                pace.free_tokens,
                Jsonb(dict(pace.leases)),
                deployment_id,
            ),
        )
