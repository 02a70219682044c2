"""Users: owners of keys, and of what these create."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, LiteralString

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from manifold.errors import Conflict
from manifold.store import holders
from manifold.store.connection import Connection
from manifold.store.holders import HolderSettings
from manifold.store.queries import fetch_one

_COLUMNS: LiteralString = f"""id, alias, email, models, metadata,
    {holders.COLUMNS}, created_at, updated_at"""


@dataclass(frozen=True, slots=True, kw_only=True)
class User(HolderSettings):
    """A user as an admin sets it."""

    id: str
    alias: str | None = None
    email: str | None = None
    models: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow(User):
    """A row of `users`."""

    created_at: datetime
    updated_at: datetime


class Users:
    """Writes users."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, user: User) -> UserRow:
        """Insert a user; raises `Conflict` if this id exists."""
        query: LiteralString = f"""
            INSERT INTO users (id, alias, email, models, metadata,
                {holders.COLUMNS})
            VALUES (%(id)s, %(alias)s, %(email)s, %(models)s, %(metadata)s,
                {holders.VALUES})
            RETURNING {_COLUMNS}"""
        try:
            row = await fetch_one(self._connection, UserRow, query, asdict(user) | {"metadata": Jsonb(user.metadata)})
        except UniqueViolation as error:
            raise Conflict(f"There is a user '{user.id}' already.", param="user_id") from error
        assert row is not None  # noqa: S101 (an INSERT without ON CONFLICT returns its row)
        return row

    async def ensure(self, user_id: str) -> None:
        """Insert a user with this id alone, unless it exists."""
        await self._connection.execute("INSERT INTO users (id) VALUES (%s) ON CONFLICT DO NOTHING", (user_id,))
