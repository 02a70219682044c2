"""How much of their limits keys, users and teams have used: one row for each that has a limit.

Calls under way are leases, which run out by themselves if the environment that took them dies.
"""

from collections.abc import Sequence
from typing import LiteralString

from manifold.limits import LimitedHolder, LimitStatus
from manifold.store.connection import Connection
from manifold.store.queries import fetch_all

_THIS_MINUTE: LiteralString = "date_trunc('minute', now())"

# One statement, so that it is atomic: the rows are locked first, in one order, and read as they are then. All of them
# change, or none.
_ADMIT: LiteralString = f"""
    WITH requested AS (
        SELECT * FROM unnest(%(subjects)s::text[], %(rpm)s::bigint[], %(tpm)s::bigint[], %(parallel)s::bigint[],
            %(budgets)s::numeric[], %(periods)s::float8[])
            AS requested (subject, rpm_limit, tpm_limit, max_parallel_requests, max_budget, period)
    ), held AS MATERIALIZED (
        SELECT * FROM meters WHERE subject = ANY(%(subjects)s) ORDER BY subject FOR UPDATE
    ), standing AS (
        SELECT requested.*, live.*,
            CASE WHEN minute >= {_THIS_MINUTE} THEN requests ELSE 0 END AS requests,
            CASE WHEN minute >= {_THIS_MINUTE} THEN tokens ELSE 0 END AS tokens,
            CASE WHEN period_ends_at > now() THEN spent ELSE 0 END AS spent,
            CASE WHEN period IS NULL THEN 'infinity' WHEN period_ends_at > now()
                THEN least(period_ends_at, now() + make_interval(secs => period))
                ELSE now() + make_interval(secs => period) END AS period_ends_at
        FROM held JOIN requested USING (subject) CROSS JOIN LATERAL (
            SELECT coalesce(jsonb_object_agg(key, value), '{{}}') AS leases,
                coalesce(sum((value ->> 0)::bigint), 0)::bigint AS under_way
            FROM jsonb_each(leases) WHERE (value ->> 1)::float8 > extract(epoch FROM now())) live
    ), judged AS (
        SELECT *, array_remove(ARRAY[
            CASE WHEN spent >= max_budget THEN 'max_budget' END,
            CASE WHEN requests + %(calls)s > rpm_limit THEN 'rpm_limit' END,
            CASE WHEN tokens >= tpm_limit THEN 'tpm_limit' END,
            CASE WHEN under_way + %(calls)s > max_parallel_requests THEN 'max_parallel_requests' END], NULL) AS reached
        FROM standing
    ), admitted AS (
        UPDATE meters SET minute = greatest(meters.minute, {_THIS_MINUTE}), requests = judged.requests + %(calls)s,
            tokens = judged.tokens, spent = judged.spent, period_ends_at = judged.period_ends_at,
            period_seconds = judged.period,
            leases = CASE WHEN judged.max_parallel_requests IS NULL THEN judged.leases
                ELSE judged.leases || jsonb_build_object(%(lease)s::text,
                    jsonb_build_array(%(calls)s::bigint, extract(epoch FROM now()) + %(seconds)s)) END
        FROM judged WHERE meters.subject = judged.subject
            AND (SELECT count(*) = cardinality(%(subjects)s) AND bool_and(cardinality(reached) = 0) FROM judged)
    )
    SELECT subject, reached, spent,
        extract(epoch FROM {_THIS_MINUTE} + interval '1 minute' - now())::float8 AS minute_left
    FROM judged"""

USED: LiteralString = f"""
    held AS MATERIALIZED (SELECT subject FROM meters WHERE subject = ANY(%(subjects)s) ORDER BY subject FOR UPDATE)
    UPDATE meters SET minute = greatest(minute, {_THIS_MINUTE}),
        requests = CASE WHEN minute >= {_THIS_MINUTE} THEN requests ELSE 0 END,
        tokens = CASE WHEN minute >= {_THIS_MINUTE} THEN tokens ELSE 0 END + %(tokens)s,
        spent = CASE WHEN period_ends_at > now() THEN spent ELSE 0 END + %(spent)s,
        period_ends_at = CASE WHEN period_ends_at > now() OR period_seconds IS NULL THEN period_ends_at
            ELSE now() + make_interval(secs => period_seconds) END,
        leases = leases - %(lease)s::text
    FROM held WHERE meters.subject = held.subject"""
"""The last part of a statement after a WITH: adds what calls used, and ends their lease.

What ends after its budget's period, as a batch may, begins the next one.
"""


class Meters:
    """The table `meters`. The ledger of completions admits calls by it; calls and batches add what they used."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def admit(
        self, limited: Sequence[LimitedHolder], calls: int, lease: str, seconds: float
    ) -> list[LimitStatus]:
        """Count so many calls for each holder, and hold the lease for `seconds`: for all or, at a limit, for none.

        With no `calls`, it only begins a budget's period and tells how much is used. Returns how each stood before. The
        calls are admitted if no standing has a limit that was `reached`.
        """
        parameters = {
            "subjects": [one.subject for one in limited],
            "rpm": [one.limits.rpm_limit for one in limited],
            "tpm": [one.limits.tpm_limit for one in limited],
            "parallel": [one.limits.max_parallel_requests for one in limited],
            "budgets": [one.limits.max_budget for one in limited],
            "periods": [one.period for one in limited],
            "calls": calls,
            "lease": lease,
            "seconds": seconds,
        }
        standings = await fetch_all(self._connection, LimitStatus, _ADMIT, parameters)
        if len(standings) == len(limited):
            return standings
        await self._connection.execute(
            "INSERT INTO meters (subject) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING",
            ([one.subject for one in limited],),
        )
        return await fetch_all(self._connection, LimitStatus, _ADMIT, parameters)
