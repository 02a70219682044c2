"""How rows become records, how lists page, and what a caller may see."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, LiteralString, TypeVar

from psycopg import AsyncCursor
from psycopg.rows import class_row

from manifold.access import Caller
from manifold.store.connection import Connection

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page starts: just after the row with this creation time and id."""

    created_at: datetime
    id: str


def owner(caller: Caller) -> dict[str, Any]:
    """The parameters that `visible` and inserts of owned rows need."""
    return {"user_id": caller.user_id, "team_id": caller.team_id, "key_id": caller.key_id}


def visible(caller: Caller) -> LiteralString:
    """A condition on tables that have owners: true for what the caller may see. Needs the parameters of `owner`.

    It has no part that this caller does not need: Postgres parses and plans it at each request.
    """
    if caller.admin:
        return "true"
    by_user: LiteralString = "user_id = %(user_id)s OR " if caller.user_id else ""
    by_team: LiteralString = "team_id = %(team_id)s OR " if caller.team_id else ""
    return f"({by_user}{by_team}(user_id IS NULL AND team_id IS NULL AND key_id = %(key_id)s))"


def page_clause(after: Cursor | None, order: Literal["asc", "desc"]) -> LiteralString:
    """`AND` + `ORDER BY` for keyset paging; needs the parameters of `page_parameters`."""
    if order == "asc":
        beyond: LiteralString = " AND (created_at, id) > (%(after_at)s, %(after_id)s)" if after else ""
        return beyond + " ORDER BY created_at, id LIMIT %(limit)s"
    beyond = " AND (created_at, id) < (%(after_at)s, %(after_id)s)" if after else ""
    return beyond + " ORDER BY created_at DESC, id DESC LIMIT %(limit)s"


def page_parameters(after: Cursor | None, limit: int) -> dict[str, Any]:
    """One row more than `limit`, which tells whether there is another page."""
    return {"after_at": after and after.created_at, "after_id": after and after.id, "limit": limit + 1}


async def fetch_one(
    connection: Connection, record: type[Record], query: LiteralString, parameters: Mapping[str, Any]
) -> Record | None:
    return await (await _execute(connection, record, query, parameters)).fetchone()


async def fetch_all(
    connection: Connection, record: type[Record], query: LiteralString, parameters: Mapping[str, Any]
) -> list[Record]:
    return await (await _execute(connection, record, query, parameters)).fetchall()


async def _execute(
    connection: Connection, record: type[Record], query: LiteralString, parameters: Mapping[str, Any]
) -> AsyncCursor[Record]:
    cursor = connection.cursor(row_factory=class_row(record))
    await cursor.execute(query, parameters)
    return cursor
