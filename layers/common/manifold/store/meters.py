"""How much of their limits keys, users and teams have used: one row for each that has a limit.

Calls under way are leases, which run out by themselves if the environment that took them dies.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import LiteralString

from manifold.limits import LimitedHolder, LimitStatus
from manifold.store.connection import Connection
from manifold.store.queries import fetch_all


class Meters:
    """The table `meters`. The ledger of completions admits calls by it; calls and batches add what they used."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def admit(
        self, limited: Sequence[LimitedHolder], calls: int, lease: str, seconds: float
    ) -> list[LimitStatus]:
        """Count so many calls for each holder, and hold the lease for `seconds`: for all or, at a limit, for none.

        Begins the periods of their budgets in either case; with no `calls`, it does no more. Returns how each stood
        before. The calls are admitted if no standing has a limit that was `reached`.
        """
        query: LiteralString = """SELECT * FROM meter_calls(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[],
            %s::numeric[], %s::float8[], %s::bigint, %s, %s::float8)"""
        return await fetch_all(self._connection, LimitStatus, query, requested(limited, calls, lease, seconds))

    async def use(self, subjects: Sequence[str], spent: Decimal) -> None:
        """Add what a batch has cost its holders."""
        await self._connection.execute("SELECT use_meters(%s::text[], 0, %s, '')", (list(subjects), spent))


def requested(limited: Sequence[LimitedHolder], calls: int, lease: str, seconds: float) -> tuple[object, ...]:
    """The parameters of `meter_calls`, in its order."""
    return (
        [one.subject for one in limited],
        [one.limits.rpm_limit for one in limited],
        [one.limits.tpm_limit for one in limited],
        [one.limits.max_parallel_requests for one in limited],
        [one.limits.max_budget for one in limited],
        [one.period for one in limited],
        calls,
        lease,
        seconds,
    )
