"""Room: what a deployment can take now, and the line of the shards that wait for it.

A job holds room while it is `submitting`, `unknown` or `running` at its provider. What is held is summed from the jobs,
so it cannot drift from them. Whoever takes room locks the deployment's row first: no two workers take the same room.
"""

from collections.abc import Collection, Sequence
from typing import LiteralString, NamedTuple

from manifold.store.batches import WOKEN
from manifold.store.connection import Connection
from manifold.store.queries import fetch_all

MOST_OF_OWNER = 20
"""How many shards of one owner are read of a line: its later ones are read when these have gone."""
MOST_IN_LINE = 500
_HOLDS: LiteralString = "j.state IN ('submitting', 'unknown', 'running') AND j.execution = 'provider'"
_ALL_HELD: LiteralString = f"""(
    SELECT coalesce(sum(j.tokens), 0) FROM jobs j WHERE j.deployment_id = %(deployment)s AND {_HOLDS})"""
OWNER: LiteralString = "coalesce('user:' || b.user_id, 'team:' || b.team_id, 'key:' || b.key_id, '')"
"""Whose a batch `b` is."""
_LINE: LiteralString = f"""
    WITH waiting AS (
        SELECT s.id, s.requests, s.tokens, s.created_at, s.number, {OWNER} AS owner
        FROM shards s JOIN batches b ON b.id = s.batch_id
        WHERE s.state = 'waiting'
            AND ((s.waiting_since IS NOT NULL AND %(deployment)s = ANY(s.line_at)) OR s.id = %(shard)s)
    ), places AS (
        SELECT *, row_number() OVER (PARTITION BY owner ORDER BY created_at, number, id) AS place FROM waiting
    ), held AS (
        SELECT {OWNER} AS owner, sum(j.tokens) AS tokens FROM jobs j JOIN batches b ON b.id = j.batch_id
        WHERE {_HOLDS} AND EXISTS (SELECT 1 FROM waiting) GROUP BY 1
    )
    SELECT places.id, places.requests, places.tokens, owner, coalesce(held.tokens, 0)::bigint AS held,
        extract(epoch FROM now() - places.created_at)::float8 AS waited,
        extract(epoch FROM now() - turns.taken_at)::float8 AS since_turn
    FROM places LEFT JOIN held USING (owner) LEFT JOIN turns USING (owner)
    WHERE place <= {MOST_OF_OWNER} OR places.id = %(shard)s
    ORDER BY place, places.created_at, places.number, places.id LIMIT {MOST_IN_LINE}"""


class Held(NamedTuple):
    """What the open jobs at a deployment hold, and what it is believed to take."""

    deployment_id: str
    jobs: int
    requests: int
    tokens: int
    believed_tokens: int | None
    """`None`: no refusal for its quota says that it is less than configured."""


class InLine(NamedTuple):
    """A shard that waits for room at a deployment."""

    id: str
    requests: int
    tokens: int
    owner: str
    """Whose it is: a user, else a team, else a key."""
    held: int
    """The tokens of all open jobs of its owner."""
    waited: float
    """Seconds since the shard was written. So it keeps its place when a job of it fails."""
    since_turn: float | None
    """Seconds since its owner last took room; `None` if it never did."""


class Rooms:
    """The tables `rooms` and `turns`, and what jobs hold of deployments."""

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
            LEFT JOIN jobs j ON j.deployment_id = d.id AND {_HOLDS}
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

    async def line(self, deployment_id: str, shard_id: str | None = None) -> list[InLine]:
        """The shards that wait for room at a deployment, each owner's in the order in which they came.

        `shard_id` is among them, whether it waits already or asks for the first time.
        """
        return await fetch_all(self._connection, InLine, _LINE, {"deployment": deployment_id, "shard": shard_id})

    async def take_turn(self, batch_id: str) -> None:
        """Note that the batch's owner took room now."""
        await self._connection.execute(
            f"""INSERT INTO turns (owner, taken_at) SELECT {OWNER}, clock_timestamp() FROM batches b WHERE b.id = %s
                ON CONFLICT (owner) DO UPDATE SET taken_at = excluded.taken_at""",
            (batch_id,),
        )

    async def wake(self, shard_ids: Collection[str]) -> list[str]:
        """Make these shards due, as far as they still wait; returns their ids."""
        if not shard_ids:
            return []
        cursor = await self._connection.execute(
            f"""WITH first AS (
                    SELECT id FROM shards WHERE id = ANY(%s) AND state = 'waiting' ORDER BY id FOR UPDATE)
                UPDATE shards SET {WOKEN} WHERE id IN (SELECT id FROM first) RETURNING id""",
            (list(shard_ids),),
        )
        return [shard_id for (shard_id,) in await cursor.fetchall()]

    async def shrink(self, deployment_id: str, without: str) -> None:
        """Believe that the deployment takes less, as it refused the job `without` for its quota: what its other open
        jobs hold, or half of what they and that job would have held, whichever is more."""
        await self._connection.execute(
            f"""WITH others AS (
                    SELECT coalesce(sum(j.tokens), 0) AS tokens FROM jobs j
                    WHERE j.deployment_id = %(deployment)s AND {_HOLDS} AND j.id <> %(job)s
                )
                INSERT INTO rooms (deployment_id, tokens)
                SELECT %(deployment)s, greatest(others.tokens, (others.tokens + refused.tokens) / 2)
                FROM others, jobs refused WHERE refused.id = %(job)s
                ON CONFLICT (deployment_id) DO UPDATE
                    SET tokens = least(rooms.tokens, excluded.tokens), updated_at = now()""",
            {"deployment": deployment_id, "job": without},
        )

    async def grow(self, deployment_id: str, completed: Sequence[int]) -> None:
        """Believe in more room, as the deployment completed jobs of so many tokens each, which are still open here: in
        what they and the others hold, and in a quarter of theirs. Nothing changes where another one would fit beside
        them."""
        await self._connection.execute(
            f"""UPDATE rooms SET tokens = greatest(tokens, {_ALL_HELD}) + 1 + %(sum)s / 4, updated_at = now()
                WHERE deployment_id = %(deployment)s AND tokens < {_ALL_HELD} + %(most)s""",
            {"deployment": deployment_id, "sum": sum(completed), "most": max(completed)},
        )
