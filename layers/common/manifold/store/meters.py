"""How much of their limits keys, users and teams have used: one row for each that has a limit.

Calls under way are leases, which run out by themselves if the environment that took them dies.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, LiteralString

import orjson

from manifold.access import Credential
from manifold.limits import LimitedHolder, LimitStatus
from manifold.store.connection import Connection
from manifold.store.queries import fetch_all

_OF_HOLDERS: LiteralString = """%(subjects)s::text[], %(rpm)s::bigint[], %(tpm)s::bigint[], %(parallel)s::bigint[],
    %(budgets)s::numeric[], %(periods)s::float8[], %(calls)s::bigint, %(lease)s, %(seconds)s::float8"""


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
        query: LiteralString = f"SELECT * FROM admit_calls({_OF_HOLDERS})"
        return await fetch_all(self._connection, LimitStatus, query, _parameters(limited, calls, lease, seconds))

    async def admit_of(
        self, credential: Credential, limited: Sequence[LimitedHolder], calls: int, lease: str, seconds: float
    ) -> tuple[str | None, list[LimitStatus]]:
        """The same for a key, whose grant is returned, too; where it is not the credential's any more, for none."""
        query: LiteralString = f"SELECT * FROM admit_calls_of(%(hash)s, %(known)s, {_OF_HOLDERS})"
        parameters = _parameters(limited, calls, lease, seconds)
        cursor = await self._connection.execute(
            query, parameters | {"hash": credential.token_hash, "known": credential.grant}
        )
        [(grant, standings)] = await cursor.fetchall()
        return grant, [] if standings is None else [_status(one) for one in orjson.loads(standings)]

    async def use(self, subjects: Sequence[str], spent: Decimal) -> None:
        """Add what a batch has cost its holders."""
        await self._connection.execute("SELECT use_meters(%s::text[], 0, %s, '')", (list(subjects), spent))


def _parameters(limited: Sequence[LimitedHolder], calls: int, lease: str, seconds: float) -> dict[str, Any]:
    return {
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


def _status(standing: Mapping[str, Any]) -> LimitStatus:
    return LimitStatus(**{**standing, "spent": Decimal(standing["spent"])})
