"""The load, latency and failures of deployments, which all environments share.

It is written and read only where a routing strategy needs it, where the gateway also runs batches on a deployment
(`manifold.store.paces`), or where a call has failed.
"""

from collections.abc import Mapping, Sequence
from typing import LiteralString, NamedTuple

from manifold.routing import Load
from manifold.store.connection import Connection
from manifold.store.queries import fetch_all

NEW_SHARE = 0.3
"""The weight of the latest answers in a deployment's latency."""

_THIS_MINUTE: LiteralString = "date_trunc('minute', now())"
_IS_THIS_MINUTE: LiteralString = f"traffic.minute >= {_THIS_MINUTE}"
_ALIVE: LiteralString = "(value ->> 1)::float8 > extract(epoch FROM now())"


class DeploymentStats(NamedTuple):
    """The load of a deployment now, and the seconds that are left of its cooldown.

    `requests` and `tokens` are those of this minute, of which `minute_left` seconds are left; `latency` is seconds for
    each token.
    """

    deployment_id: str
    busy: int
    requests: int
    tokens: int
    latency: float | None
    cooldown: float
    minute_left: float

    @property
    def load(self) -> Load:
        return Load(self.busy, self.requests, self.tokens, self.latency)


class Ended(NamedTuple):
    """The tokens and the mean latency, in seconds for each token, of one request's calls to a deployment."""

    tokens: int
    latency: float | None


class Traffic:
    """The table `traffic`, which `manifold.dispatch.choice` reads and writes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def stats(self, deployment_ids: Sequence[str]) -> list[DeploymentStats]:
        """The stats of those that have a row. A latency that is older than an hour is none."""
        query: LiteralString = f"""
            SELECT deployment_id,
                (SELECT coalesce(sum((value ->> 0)::bigint), 0)::bigint FROM jsonb_each(leases) WHERE {_ALIVE}) AS busy,
                CASE WHEN {_IS_THIS_MINUTE} THEN requests ELSE 0 END AS requests,
                CASE WHEN {_IS_THIS_MINUTE} THEN tokens ELSE 0 END AS tokens,
                CASE WHEN measured_at > now() - interval '1 hour' THEN latency END AS latency,
                greatest(0, coalesce(extract(epoch FROM cool_until - now()), 0))::float8 AS cooldown,
                extract(epoch FROM {_THIS_MINUTE} + interval '1 minute' - now())::float8 AS minute_left
            FROM traffic WHERE deployment_id = ANY(%(ids)s)"""
        return await fetch_all(self._connection, DeploymentStats, query, {"ids": list(deployment_ids)})

    async def began(self, deployment_id: str, lease: str, calls: int, seconds: float) -> None:
        """Note a call that begins: this lease now stands for `calls` of them, for `seconds` at most."""
        await self._connection.execute(
            f"""INSERT INTO traffic (deployment_id, minute, requests, leases)
                VALUES (%(id)s, {_THIS_MINUTE}, 1, jsonb_build_object(%(lease)s::text,
                    jsonb_build_array(%(calls)s::bigint, extract(epoch FROM now()) + %(seconds)s)))
                ON CONFLICT (deployment_id) DO UPDATE SET minute = greatest(traffic.minute, {_THIS_MINUTE}),
                    requests = CASE WHEN {_IS_THIS_MINUTE} THEN traffic.requests ELSE 0 END + 1,
                    tokens = CASE WHEN {_IS_THIS_MINUTE} THEN traffic.tokens ELSE 0 END,
                    failures = CASE WHEN {_IS_THIS_MINUTE} THEN traffic.failures ELSE 0 END,
                    free_requests = traffic.free_requests - 1,
                    leases = excluded.leases || (SELECT coalesce(jsonb_object_agg(key, value), '{{}}')
                        FROM jsonb_each(traffic.leases) WHERE {_ALIVE} AND key <> %(lease)s)""",
            {"id": deployment_id, "lease": lease, "calls": calls, "seconds": seconds},
        )

    async def ended(self, lease: str, deployments: Mapping[str, Ended]) -> None:
        """Note that the calls of this lease have ended, at all of these deployments."""
        await self._connection.execute(
            f"""INSERT INTO traffic (deployment_id, minute, tokens, latency, measured_at)
                SELECT id, {_THIS_MINUTE}, tokens, latency, CASE WHEN latency IS NOT NULL THEN now() END
                FROM unnest(%(ids)s::text[], %(tokens)s::bigint[], %(latencies)s::float8[]) AS one (id, tokens, latency)
                ORDER BY id
                ON CONFLICT (deployment_id) DO UPDATE SET minute = greatest(traffic.minute, {_THIS_MINUTE}),
                    requests = CASE WHEN {_IS_THIS_MINUTE} THEN traffic.requests ELSE 0 END,
                    tokens = CASE WHEN {_IS_THIS_MINUTE} THEN traffic.tokens ELSE 0 END + excluded.tokens,
                    failures = CASE WHEN {_IS_THIS_MINUTE} THEN traffic.failures ELSE 0 END,
                    leases = traffic.leases - %(lease)s::text,
                    free_tokens = traffic.free_tokens - excluded.tokens,
                    latency = CASE WHEN excluded.latency IS NULL THEN traffic.latency
                        WHEN traffic.measured_at > now() - interval '1 hour'
                        THEN traffic.latency + %(share)s * (excluded.latency - traffic.latency)
                        ELSE excluded.latency END,
                    measured_at = coalesce(excluded.measured_at, traffic.measured_at)""",
            {
                "lease": lease,
                "share": NEW_SHARE,
                "ids": list(deployments),
                "tokens": [one.tokens for one in deployments.values()],
                "latencies": [one.latency for one in deployments.values()],
            },
        )

    async def failed(self, deployment_id: str, allowed_fails: int, cooldown: float) -> dict[str, float]:
        """Count a failure. After more than `allowed_fails` in a minute, a cooldown of so many seconds begins.

        Returns all deployments in cooldown, each with the seconds left.
        """
        cursor = await self._connection.execute(
            f"""WITH failed AS (
                    INSERT INTO traffic (deployment_id, minute, failures, cool_until)
                    VALUES (%(id)s, {_THIS_MINUTE}, 1,
                        CASE WHEN %(allowed)s < 1 THEN now() + make_interval(secs => %(cooldown)s) END)
                    ON CONFLICT (deployment_id) DO UPDATE SET minute = greatest(traffic.minute, {_THIS_MINUTE}),
                        requests = CASE WHEN {_IS_THIS_MINUTE} THEN traffic.requests ELSE 0 END,
                        tokens = CASE WHEN {_IS_THIS_MINUTE} THEN traffic.tokens ELSE 0 END,
                        failures = CASE WHEN {_IS_THIS_MINUTE} THEN traffic.failures ELSE 0 END + 1,
                        cool_until = CASE
                            WHEN CASE WHEN {_IS_THIS_MINUTE} THEN traffic.failures ELSE 0 END + 1 > %(allowed)s
                            THEN greatest(traffic.cool_until, now() + make_interval(secs => %(cooldown)s))
                            ELSE traffic.cool_until END
                    RETURNING deployment_id, cool_until)
                SELECT deployment_id, extract(epoch FROM cool_until - now())::float8 FROM (
                    SELECT * FROM failed UNION ALL
                    SELECT deployment_id, cool_until FROM traffic WHERE deployment_id <> %(id)s) known
                WHERE cool_until > now()""",
            {"id": deployment_id, "allowed": allowed_fails, "cooldown": cooldown},
        )
        return {known_id: seconds for known_id, seconds in await cursor.fetchall()}
