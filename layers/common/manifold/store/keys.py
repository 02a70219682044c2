"""Virtual keys: their owners, access, limits and expiry. Of a key's value only the hash is stored."""

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, LiteralString

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from manifold.errors import Conflict
from manifold.store import holders
from manifold.store.connection import Connection
from manifold.store.holders import HolderSettings
from manifold.store.paging import Cursor, page_clause, page_parameters
from manifold.store.queries import fetch_all, fetch_one

_COLUMNS: LiteralString = f"""id, token_hash, name, alias, user_id, team_id, models, aliases, metadata, blocked,
    expires_at, {holders.COLUMNS}, created_by, created_at, updated_at"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key(HolderSettings):
    """A virtual key as an admin sets it. A regeneration keeps `id`, and so what the key owns."""

    id: str
    token_hash: str
    name: str
    """The key as lists show it: `sk-...` and its last four characters."""
    alias: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    models: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    blocked: bool = False
    expires_at: datetime | None = None
    expires_in: timedelta | None = None
    """Time to expiry from the database's time at the write; it takes precedence over `expires_at`."""
    created_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow(Key):
    """A row of `keys`, not deleted."""

    created_at: datetime
    updated_at: datetime


class Keys:
    """Reads and writes keys. The row of a deleted key stays, for what the key owns, but no method returns it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, key: Key) -> KeyRow:
        """Insert a key; raises `Conflict` if its value or its alias is in use."""
        query: LiteralString = f"""
            INSERT INTO api_keys (id, token_hash, name, alias, user_id, team_id, models, aliases, metadata, blocked,
                expires_at, {holders.COLUMNS}, created_by)
            VALUES (%(id)s, %(token_hash)s, %(name)s, %(alias)s, %(user_id)s, %(team_id)s, %(models)s, %(aliases)s,
                %(metadata)s, %(blocked)s, coalesce(now() + %(expires_in)s, %(expires_at)s),
                {holders.VALUES}, %(created_by)s)
            RETURNING {_COLUMNS}"""
        return await self._write(query, key)

    async def save(self, key: Key) -> KeyRow:
        """Write all members of a key that was read in the same transaction.

        Raises `Conflict` as `insert` does, or if the key was deleted.
        """
        query: LiteralString = f"""
            UPDATE api_keys SET token_hash = %(token_hash)s, name = %(name)s, alias = %(alias)s, user_id = %(user_id)s,
                team_id = %(team_id)s, models = %(models)s, aliases = %(aliases)s, metadata = %(metadata)s,
                blocked = %(blocked)s, expires_at = coalesce(now() + %(expires_in)s, %(expires_at)s),
                ({holders.COLUMNS}) = ({holders.VALUES}), updated_at = now()
            WHERE id = %(id)s AND deleted_at IS NULL
            RETURNING {_COLUMNS}"""
        return await self._write(query, key)

    async def find(self, by: Literal["id", "token_hash", "alias"], value: str, *, lock: bool = False) -> KeyRow | None:
        """The key with this id, hash or alias; `lock` locks its row until the transaction ends."""
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
        """The newest keys first. Up to `limit + 1` rows: the extra one tells that there is another page."""
        by_user: LiteralString = " AND user_id = %(user_id)s" if user_id else ""
        by_team: LiteralString = " AND team_id = %(team_id)s" if team_id else ""
        by_alias: LiteralString = " AND alias = %(alias)s" if alias else ""
        query: LiteralString = f"SELECT {_COLUMNS} FROM api_keys WHERE deleted_at IS NULL" + (
            by_user + by_team + by_alias + page_clause(after, "desc")
        )
        filters = {"user_id": user_id, "team_id": team_id, "alias": alias}
        return await fetch_all(self._connection, KeyRow, query, filters | page_parameters(after, limit))

    async def delete(self, key_id: str) -> None:
        """Mark the key as deleted. Its alias may be used again, its value not; what it owns stays."""
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
