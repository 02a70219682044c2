"""Virtual keys: who holds one, what it may use, and until when. Of the key itself only a hash is stored."""

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, LiteralString

import orjson
from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from manifold.auth import KeyGrant
from manifold.errors import Conflict
from manifold.limits import Limits
from manifold.store.connection import Connection
from manifold.store.paging import Cursor, page_clause, page_parameters
from manifold.store.queries import fetch_all, fetch_one

_COLUMNS: LiteralString = """id, token_hash, name, alias, user_id, team_id, models, aliases, metadata, blocked,
    expires_at, rpm_limit, tpm_limit, max_parallel_requests, max_budget, budget_duration, created_by,
    created_at, updated_at"""


def _allowance(blocked: LiteralString) -> LiteralString:
    """An `Allowance` of the table's row. A numeric is written as text, which keeps its digits."""
    return f"""jsonb_build_object('models', models, 'blocked', {blocked}, 'limits', jsonb_build_object(
        'rpm_limit', rpm_limit, 'tpm_limit', tpm_limit, 'max_parallel_requests', max_parallel_requests,
        'max_budget', max_budget::text, 'budget_duration', budget_duration))"""


# Every request plans and reads it anew: joins in place of the subqueries take Postgres twice as long, and columns in
# place of the one text take psycopg 40 µs more.
_GRANT: LiteralString = f"""
    SELECT jsonb_build_object('key_id', id, 'user_id', user_id, 'team_id', team_id, 'aliases', aliases,
        'expired', coalesce(expires_at <= now(), false), 'key', {_allowance("blocked")},
        'user', (SELECT {_allowance("false")} FROM users WHERE id = api_keys.user_id),
        'team', (SELECT {_allowance("blocked")} FROM teams WHERE id = api_keys.team_id))::text
    FROM api_keys WHERE token_hash = %s AND deleted_at IS NULL"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key(Limits):
    """A virtual key as an admin makes it. `id` outlives a regenerated key, so what the key owns stays its own."""

    id: str
    token_hash: str
    name: str
    """What lists show of the key: `sk-...` and its last four characters."""
    alias: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    models: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    blocked: bool = False
    expires_at: datetime | None = None
    expires_in: timedelta | None = None
    """From the moment in which it is written, in place of `expires_at`."""
    created_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow(Key):
    created_at: datetime
    updated_at: datetime


class Keys:
    """The keys that are not deleted. A deleted one stays as a row, for what it owns, and is never seen again."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def grant(self, token_hash: str) -> KeyGrant | None:
        """All that a request's authentication needs, by one query."""
        row = await (await self._connection.execute(_GRANT, (token_hash,))).fetchone()
        return None if row is None else KeyGrant(**orjson.loads(row[0]))

    async def insert(self, key: Key) -> KeyRow:
        """Add a key; `Conflict` if its value or its alias is in use."""
        query: LiteralString = f"""
            INSERT INTO api_keys (id, token_hash, name, alias, user_id, team_id, models, aliases, metadata, blocked,
                expires_at, rpm_limit, tpm_limit, max_parallel_requests, max_budget, budget_duration, created_by)
            VALUES (%(id)s, %(token_hash)s, %(name)s, %(alias)s, %(user_id)s, %(team_id)s, %(models)s, %(aliases)s,
                %(metadata)s, %(blocked)s, coalesce(now() + %(expires_in)s, %(expires_at)s),
                %(rpm_limit)s, %(tpm_limit)s, %(max_parallel_requests)s, %(max_budget)s,
                %(budget_duration)s, %(created_by)s)
            RETURNING {_COLUMNS}"""
        return await self._write(query, key)

    async def save(self, key: Key) -> KeyRow:
        """Write every member of a key that was read in the same transaction; `Conflict` as for `insert`."""
        query: LiteralString = f"""
            UPDATE api_keys SET token_hash = %(token_hash)s, name = %(name)s, alias = %(alias)s, user_id = %(user_id)s,
                team_id = %(team_id)s, models = %(models)s, aliases = %(aliases)s, metadata = %(metadata)s,
                blocked = %(blocked)s, expires_at = coalesce(now() + %(expires_in)s, %(expires_at)s),
                rpm_limit = %(rpm_limit)s, tpm_limit = %(tpm_limit)s, max_parallel_requests = %(max_parallel_requests)s,
                max_budget = %(max_budget)s, budget_duration = %(budget_duration)s, updated_at = now()
            WHERE id = %(id)s AND deleted_at IS NULL
            RETURNING {_COLUMNS}"""
        return await self._write(query, key)

    async def find(self, by: Literal["id", "token_hash", "alias"], value: str, *, lock: bool = False) -> KeyRow | None:
        """The key with this id, hash or alias; locked until the end of the transaction if it is to be changed."""
        conditions: dict[str, LiteralString] = {
            "id": "id = %(value)s",
            "token_hash": "token_hash = %(value)s",
            "alias": "alias = %(value)s",
        }
        for_update: LiteralString = " FOR UPDATE" if lock else ""
        query = f"SELECT {_COLUMNS} FROM api_keys WHERE deleted_at IS NULL AND " + conditions[by] + for_update
        return await fetch_one(self._connection, KeyRow, query, {"value": value})

    async def page(
        self,
        *,
        limit: int,
        after: Cursor | None = None,
        user_id: str | None = None,
        team_id: str | None = None,
        alias: str | None = None,
    ) -> list[KeyRow]:
        """The newest keys first; one row more than `limit`, if there is one, tells that there is another page."""
        by_user: LiteralString = " AND user_id = %(user_id)s" if user_id else ""
        by_team: LiteralString = " AND team_id = %(team_id)s" if team_id else ""
        by_alias: LiteralString = " AND alias = %(alias)s" if alias else ""
        query: LiteralString = f"SELECT {_COLUMNS} FROM api_keys WHERE deleted_at IS NULL" + (
            by_user + by_team + by_alias + page_clause(after, "desc")
        )
        filters = {"user_id": user_id, "team_id": team_id, "alias": alias}
        return await fetch_all(self._connection, KeyRow, query, filters | page_parameters(after, limit))

    async def delete(self, key_id: str) -> None:
        """Turn the key off for good. Its alias and its value's place become free; what it owns stays."""
        await self._connection.execute(
            "UPDATE api_keys SET deleted_at = now() WHERE id = %s AND deleted_at IS NULL", (key_id,)
        )

    async def _write(self, query: LiteralString, key: Key) -> KeyRow:
        values = asdict(key) | {"aliases": Jsonb(key.aliases), "metadata": Jsonb(key.metadata)}
        try:
            row = await fetch_one(self._connection, KeyRow, query, values)
        except UniqueViolation as error:
            if error.diag.constraint_name == "api_keys_alias":
                raise Conflict(f"The key_alias '{key.alias}' is in use. Choose another.", param="key_alias") from error
            raise Conflict("This key is in use, or was once. Choose another value.", param="key") from error
        if row is None:
            raise Conflict("The key was deleted meanwhile.")
        return row
