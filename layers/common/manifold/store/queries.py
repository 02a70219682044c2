"""Queries whose rows become records: the columns are named as the fields of a dataclass."""

from collections.abc import Mapping
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


async def _execute(
    connection: Connection, record: type[Record], query: LiteralString, parameters: Mapping[str, Any]
) -> AsyncCursor[Record]:
    cursor = connection.cursor(row_factory=class_row(record))
    await cursor.execute(query, parameters)
    return cursor
