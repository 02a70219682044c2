"""Statements of all tables: rows become records, whose fields the columns are named as, and changes of one row."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, LiteralString, TypeVar, get_args, get_type_hints

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


def from_json(record: type[Record], members: Mapping[str, Any]) -> Record:
    """The record of a row that a function of the schema wrote as JSON: times in ISO 8601, numerics as text."""
    kind: Any = record
    values = dict(members)
    for name, parse in _parsers(kind):
        if values[name] is not None:
            values[name] = parse(values[name])
    return record(**values)


async def changes_one(
    connection: Connection, query: LiteralString, parameters: Sequence[object] | Mapping[str, object]
) -> bool:
    """Whether the statement changed a row: it did not where one of its guards does not hold."""
    return (await connection.execute(query, parameters)).rowcount == 1


@cache
def _parsers(record: type[Any]) -> list[tuple[str, Callable[[str], Any]]]:
    parsers: dict[type, Callable[[str], Any]] = {datetime: datetime.fromisoformat, Decimal: Decimal}
    return [
        (name, parsers[kind])
        for name, hint in get_type_hints(record).items()
        for kind in (get_args(hint) or (hint,))
        if kind in parsers
    ]


async def _execute(
    connection: Connection, record: type[Record], query: LiteralString, parameters: Mapping[str, Any]
) -> AsyncCursor[Record]:
    cursor = connection.cursor(row_factory=class_row(record))
    await cursor.execute(query, parameters)
    return cursor
