"""Teams: owners of keys and of what these create, beside or instead of a user."""

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

_COLUMNS: LiteralString = f"""id, alias, models, metadata, blocked,
    {holders.COLUMNS}, created_at, updated_at"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Team(HolderSettings):
    """A team as an admin sets it. A blocked team blocks all of its keys."""

    id: str
    alias: str | None = None
    models: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    blocked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamRow(Team):
    """A row of `teams`."""

    created_at: datetime
    updated_at: datetime


class Teams:
    """Reads and writes teams."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, team: Team) -> TeamRow:
        """Insert a team; raises `Conflict` if this id exists."""
        query: LiteralString = f"""
            INSERT INTO teams (id, alias, models, metadata, blocked,
                {holders.COLUMNS})
            VALUES (%(id)s, %(alias)s, %(models)s, %(metadata)s, %(blocked)s,
                {holders.VALUES})
            RETURNING {_COLUMNS}"""
        try:
            row = await fetch_one(self._connection, TeamRow, query, asdict(team) | {"metadata": Jsonb(team.metadata)})
        except UniqueViolation as error:
            raise Conflict(f"There is a team '{team.id}' already.", param="team_id") from error
        assert row is not None  # noqa: S101 (an INSERT without ON CONFLICT returns its row)
        return row

    async def get(self, team_id: str) -> TeamRow | None:
        query: LiteralString = f"SELECT {_COLUMNS} FROM teams WHERE id = %(id)s"
        return await fetch_one(self._connection, TeamRow, query, {"id": team_id})
