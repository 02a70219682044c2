"""Statements of all tables: rows become records, whose fields the columns are named as, and changes of one row."""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, TypeVar

from psycopg import AsyncCursor
from psycopg.rows import class_row

from manifold.store.connection import Connection

Record = TypeVar("Record")


async def fetch_one(
    connection: Connection, record: type[Record], query: LiteralString, parameters: Mapping[str, Any]
) -> Record | None:
    """The record of the first row, or `None` if there is none."""
    return await (await _execute(connection, record, query, parameters)).fetchone()


async def fetch_all(
    connection: Connection, record: type[Record], query: LiteralString, parameters: Mapping[str, Any]
) -> list[Record]:
    """The records of all rows, in the query's order."""
    return await (await _execute(connection, record, query, parameters)).fetchall()


async def changes_one(
    connection: Connection, query: LiteralString, parameters: Sequence[object] | Mapping[str, object]
) -> bool:
    """Whether the statement changed a row: it did not where one of its guards does not hold."""
    return (await connection.execute(query, parameters)).rowcount == 1


async def _execute(
    connection: Connection, record: type[Record], query: LiteralString, parameters: Mapping[str, Any]
) -> AsyncCursor[Record]:
    cursor = connection.cursor(row_factory=class_row(record))
    await cursor.execute(query, parameters)
    return cursor
