"""Room: what a deployment can take now, and the line of the shards that wait for it.

A job holds room while it is `submitting`, `unknown` or `running`. What is held is summed from the jobs, so it cannot
drift from them. Whoever takes room locks the deployment's row first: no two workers take the same room.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from manifold.store.batches import WOKEN
from manifold.store.connection import Connection
from manifold.store.queries import fetch_all

_HOLDS: LiteralString = "state IN ('submitting', 'unknown', 'running')"
PATIENCE_SECONDS = 900
"""Seconds of waiting after which a shard is no longer overtaken by one that came later."""
_MOST = 10**15
_LINE: LiteralString = f"""
    WITH waiting AS (
        SELECT s.id, s.requests, s.tokens, s.waiting_since, {{owner}} AS owner,
            s.waiting_since <= now() - make_interval(secs => {PATIENCE_SECONDS}) AS impatient
        FROM shards s JOIN batches b ON b.id = s.batch_id
        WHERE s.waiting_since IS NOT NULL AND %(deployment)s = ANY(s.line_at)
    ), held AS (
        SELECT {{owner}} AS owner, sum(j.tokens) AS tokens FROM jobs j JOIN batches b ON b.id = j.batch_id
        WHERE j.{_HOLDS} AND EXISTS (SELECT 1 FROM waiting) GROUP BY 1
    )
    SELECT id, requests, waiting.tokens, impatient FROM waiting LEFT JOIN held USING (owner)
    ORDER BY impatient DESC, CASE WHEN impatient THEN 0 ELSE coalesce(held.tokens, 0) END, waiting_since, id
    LIMIT %(limit)s"""
_OWNER: LiteralString = "coalesce('user:' || b.user_id, 'team:' || b.team_id, 'key:' || b.key_id, '')"
_IN_LINE: LiteralString = _LINE.replace("{owner}", _OWNER)


@dataclass(frozen=True, slots=True)
class Held:
    """What the open jobs at a deployment hold, and what it is believed to take."""

    deployment_id: str
    jobs: int
    requests: int
    tokens: int
    believed_tokens: int | None
    """`None`: no refusal for its quota says that it is less than configured."""


@dataclass(frozen=True, slots=True)
class InLine:
    """A shard that waits for room at a deployment."""

    id: str
    requests: int
    tokens: int
    impatient: bool
    """Whether it has waited for `PATIENCE_SECONDS`."""


class Rooms:
    """The table `rooms`, and what jobs hold of deployments."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def held(self, deployment_ids: Sequence[str]) -> dict[str, Held]:
        """What is held at these deployments, by id."""
        query: LiteralString = f"""
            SELECT d.id AS deployment_id, count(j.deployment_id)::int AS jobs,
                coalesce(sum(j.requests), 0)::bigint AS requests,
                coalesce(sum(j.tokens), 0)::bigint AS tokens, max(r.tokens) AS believed_tokens
            FROM unnest(%(ids)s::text[]) AS d (id)
            LEFT JOIN rooms r ON r.deployment_id = d.id
            LEFT JOIN jobs j ON j.deployment_id = d.id AND j.{_HOLDS}
            GROUP BY d.id"""
        rows = await fetch_all(self._connection, Held, query, {"ids": list(deployment_ids)})
        return {row.deployment_id: row for row in rows}

    async def lock(self, deployment_id: str) -> None:
        """Lock the deployment's room until the transaction ends."""
        await self._connection.execute(
            """INSERT INTO rooms (deployment_id) VALUES (%s)
               ON CONFLICT (deployment_id) DO UPDATE SET tokens = rooms.tokens""",
            (deployment_id,),
        )

    async def line(self, deployment_id: str, limit: int = 100) -> list[InLine]:
        """The shards that wait for room at a deployment, in the order in which they may take it.

        Those that have waited for long come first, in the order in which they came; then those whose owner's jobs hold
        the fewest tokens, and of one owner, those that came first.
        """
        return await fetch_all(self._connection, InLine, _IN_LINE, {"deployment": deployment_id, "limit": limit})

    async def wake(self, deployment_ids: Sequence[str], limit: int = 10) -> list[str]:
        """Make the first shards in the line of each of these deployments due, as room came free there; returns their
        ids."""
        cursor = await self._connection.execute(
            "SELECT DISTINCT d FROM shards, unnest(line_at) AS d WHERE waiting_since IS NOT NULL AND d = ANY(%s)",
            (list(deployment_ids),),
        )
        first = {row.id for (one,) in await cursor.fetchall() for row in await self.line(one, limit)}
        if not first:
            return []
        cursor = await self._connection.execute(
            f"UPDATE shards SET {WOKEN} WHERE id = ANY(%s) AND state = 'waiting' RETURNING id", (sorted(first),)
        )
        return [shard_id for (shard_id,) in await cursor.fetchall()]

    async def shrink(self, deployment_id: str, without: str) -> None:
        """Believe that the deployment takes no more than what its other open jobs hold: it refused the job `without`
        for its quota."""
        await self._connection.execute(
            f"""INSERT INTO rooms (deployment_id, tokens)
                SELECT %(deployment)s, coalesce(sum(tokens), 0) FROM jobs
                WHERE deployment_id = %(deployment)s AND {_HOLDS} AND id <> %(job)s
                ON CONFLICT (deployment_id) DO UPDATE SET tokens = excluded.tokens, updated_at = now()""",
            {"deployment": deployment_id, "job": without},
        )

    async def grow(self, deployment_id: str, tokens: int) -> None:
        """Believe in more room, now that the deployment took a job of so many tokens."""
        await self._connection.execute(
            f"""UPDATE rooms SET tokens = least({_MOST}, 2 * (rooms.tokens + %s)), updated_at = now()
                WHERE deployment_id = %s AND tokens IS NOT NULL""",
            (tokens, deployment_id),
        )
