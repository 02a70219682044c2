"""The calls that were sent to deployments: a row for each, with its caller and cost, written when it has ended."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString

import orjson

from manifold import storable
from manifold.access import Caller
from manifold.store.connection import Connection
from manifold.store.meters import USED
from manifold.store.ownership import owner, visible
from manifold.store.paging import Cursor, page_clause, page_parameters
from manifold.store.queries import fetch_all, fetch_one


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """A call that was sent to a deployment, whatever ended it."""

    id: str
    model_group: str
    deployment_id: str
    route: str
    status: int
    """200, or that of the provider's refusal; 0 where there was no answer, 499 and 504 where it was given up."""
    error: str | None = None
    input_tokens: int = 0
    cached_tokens: int = 0
    """Those of the input that the provider had in its cache."""
    output_tokens: int = 0
    reasoning_tokens: int = 0
    """Those of the output that were reasoning."""
    cost: Decimal | None = None
    """US dollars; `None` where no price is known."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow(CallRecord):
    """A record as it was stored: with the key, user and team of its caller, and the time."""

    key_id: str | None
    user_id: str | None
    team_id: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFilter:
    """Which calls a list shows; `None` is no condition."""

    key_id: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    start: datetime | None = None
    """The first moment."""
    end: datetime | None = None
    """The first moment that no longer counts."""


LONGEST_ERROR = 200
"""Characters that are kept of a provider's error code."""

_COLUMNS: LiteralString = """id, key_id, user_id, team_id, model_group, deployment_id, route, status, error,
    input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost, seconds, created_at"""
_INSERT: LiteralString = """
    INSERT INTO calls (key_id, user_id, team_id, id, model_group, deployment_id, route, status, error,
        input_tokens, cached_tokens, output_tokens, reasoning_tokens, cost, seconds)
    SELECT %(key_id)s, %(user_id)s, %(team_id)s, call.* FROM json_to_recordset(%(calls)s::json) AS call (
        id text, model_group text, deployment_id text, route text, status integer, error text, input_tokens bigint,
        cached_tokens bigint, output_tokens bigint, reasoning_tokens bigint, cost numeric, seconds float8)"""
_FORGET: LiteralString = """
    WITH old AS (
        SELECT id FROM calls WHERE created_at < now() - make_interval(secs => %(seconds)s)
        ORDER BY created_at, id LIMIT %(many)s FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM calls USING old WHERE calls.id = old.id RETURNING key_id, cost
    ), kept AS (
        INSERT INTO past_spend (key_id, cost)
        SELECT key_id, sum(cost) FROM gone WHERE key_id IS NOT NULL AND cost IS NOT NULL
        GROUP BY key_id ORDER BY key_id
        ON CONFLICT (key_id) DO UPDATE SET cost = past_spend.cost + excluded.cost
    )
    SELECT count(*) FROM gone"""
_METERED: LiteralString = f"WITH recorded AS ({_INSERT}), {USED}"


class Calls:
    """The table `calls`. The ledger of completions writes it; admins and the holders of keys list it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def record(self, calls: Sequence[CallRecord], caller: Caller, lease: str) -> None:
        """Write the calls of one request, by one statement.

        For a caller that has limits, the statement also adds tokens and cost to its meters, and ends the lease of its
        admission. A provider's value that cannot be stored is mended, so that no record is lost.
        """
        calls = [_storable(call) for call in calls]
        # As one text: psycopg takes twice as long over an array for each column.
        written = {"calls": orjson.dumps(calls, default=str).decode()} | owner(caller)
        if not caller.limited:
            await self._connection.execute(_INSERT, written)
            return
        used = {
            "subjects": [one.subject for one in caller.limited],
            "tokens": sum(call.input_tokens + call.output_tokens for call in calls),
            "spent": sum((call.cost or Decimal(0) for call in calls), Decimal(0)),
            "lease": lease,
        }
        await self._connection.execute(_METERED, written | used)

    async def page(
        self, caller: Caller, conditions: CallFilter, *, limit: int, after: Cursor | None = None
    ) -> list[CallRow]:
        """Those that the caller may see, the newest first; one row more than `limit`, if there is one."""
        query: LiteralString = f"SELECT {_COLUMNS} FROM calls WHERE {visible(caller)}" + _condition(conditions)
        parameters = owner(caller) | _parameters(conditions) | page_parameters(after, limit)
        return await fetch_all(self._connection, CallRow, query + page_clause(after, "desc"), parameters)

    async def get(self, call_id: str, caller: Caller) -> CallRow | None:
        """A call that the caller may see."""
        query: LiteralString = f"SELECT {_COLUMNS} FROM calls WHERE id = %(id)s AND {visible(caller)}"
        return await fetch_one(self._connection, CallRow, query, {"id": call_id} | owner(caller))

    async def spend(self, key_id: str) -> Decimal:
        """What a key has cost so far, batches included, as far as prices are known: US dollars."""
        cursor = await self._connection.execute(
            """SELECT coalesce((SELECT sum(cost) FROM calls WHERE key_id = %(id)s), 0)
                   + coalesce((SELECT cost FROM past_spend WHERE key_id = %(id)s), 0)
                   + coalesce((SELECT sum(cost) FROM usage WHERE key_id = %(id)s), 0)""",
            {"id": key_id},
        )
        row = await cursor.fetchone()
        return Decimal(row[0]) if row else Decimal(0)

    async def forget(self, older_than_seconds: float, many: int) -> int:
        """Delete the oldest of those calls, `many` at most, and return how many there were.

        Their cost stays in their keys' spend: the same statement adds it to `past_spend`, so that nobody sees it twice
        or not at all.
        """
        cursor = await self._connection.execute(_FORGET, {"seconds": older_than_seconds, "many": many})
        row = await cursor.fetchone()
        return int(row[0]) if row else 0


def _storable(call: CallRecord) -> CallRecord:
    return replace(
        call,
        status=min(storable.count(call.status), 999),
        error=None if call.error is None else storable.text(call.error, LONGEST_ERROR),
        input_tokens=storable.count(call.input_tokens),
        cached_tokens=storable.count(call.cached_tokens),
        output_tokens=storable.count(call.output_tokens),
        reasoning_tokens=storable.count(call.reasoning_tokens),
    )


def _condition(conditions: CallFilter) -> LiteralString:
    by_key: LiteralString = " AND key_id = %(by_key)s" if conditions.key_id else ""
    by_user: LiteralString = " AND user_id = %(by_user)s" if conditions.user_id else ""
    by_team: LiteralString = " AND team_id = %(by_team)s" if conditions.team_id else ""
    since: LiteralString = " AND created_at >= %(start)s" if conditions.start else ""
    until: LiteralString = " AND created_at < %(end)s" if conditions.end else ""
    return by_key + by_user + by_team + since + until


def _parameters(conditions: CallFilter) -> dict[str, Any]:
    """Beside the caller's own `key_id`, `user_id` and `team_id`, which `visible` has."""
    given = asdict(conditions)
    return {"by_key": given["key_id"], "by_user": given["user_id"], "by_team": given["team_id"]} | {
        name: given[name] for name in ("start", "end")
    }
