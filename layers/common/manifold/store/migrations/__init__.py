"""Plain SQL migrations, applied in the order of their names, each once; safe to run twice at the same time."""

from importlib.resources import files

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

_LOCK = 7_281_905_113  # any constant: it keeps two migrators apart


async def apply(connection: AsyncConnection[TupleRow]) -> list[str]:
    """Apply what is missing, all of it or nothing, and return the names of what was applied."""
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        await connection.execute(
            """CREATE TABLE IF NOT EXISTS migrations (
                   name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"""
        )
        rows = await (await connection.execute("SELECT name FROM migrations")).fetchall()
        done = {name for (name,) in rows}
        missing = [name for name in names() if name not in done]
        for name in missing:
            await connection.execute((files(__package__) / name).read_bytes())
            await connection.execute("INSERT INTO migrations (name) VALUES (%s)", (name,))
    return missing


def names() -> list[str]:
    """The migrations that this version of the code carries."""
    return sorted(entry.name for entry in files(__package__).iterdir() if entry.name.endswith(".sql"))
