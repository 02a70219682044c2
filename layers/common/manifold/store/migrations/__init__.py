"""Plain SQL migrations, applied in the order of their names, each once; safe to run twice at the same time."""

from importlib.resources import files

from psycopg import AsyncConnection
from psycopg.errors import LockNotAvailable
from psycopg.rows import TupleRow

from manifold.errors import Unavailable

LOCK_SECONDS = 3.0
"""How long a migration waits for a table. Every statement on that table waits behind it, also one that only reads."""
_LOCK = 7_281_905_113  # any constant: it keeps two migrators apart


class TableBusy(Unavailable):
    """A statement or transaction of another connection held a table for `LOCK_SECONDS`: nothing was applied."""


async def apply(connection: AsyncConnection[TupleRow]) -> list[str]:
    """Apply what is missing, all of it or nothing, and return the names of what was applied.

    Raises `TableBusy`. A transaction in which this ran is then to be rolled back, as it may hold other tables.
    """
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute("SET LOCAL lock_timeout = 0")  # for the other migrator, which may take long
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        await connection.execute(
            """CREATE TABLE IF NOT EXISTS migrations (
                   name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"""
        )
        rows = await (await connection.execute("SELECT name FROM migrations")).fetchall()
        done = {name for (name,) in rows}
        missing = [name for name in names() if name not in done]
        await connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{LOCK_SECONDS:g}s",))
        for name in missing:
            await _apply(connection, name)
    return missing


async def _apply(connection: AsyncConnection[TupleRow], name: str) -> None:
    try:
        await connection.execute((files(__package__) / name).read_bytes())
    except LockNotAvailable as error:
        raise TableBusy(
            f"Migration {name} waited {LOCK_SECONDS:g} seconds for a table that another connection holds. Find it in"
            " pg_stat_activity (a long query, or a session that is idle in a transaction), end it, and deploy again."
        ) from error
    await connection.execute("INSERT INTO migrations (name) VALUES (%s)", (name,))


def names() -> list[str]:
    """The migrations that this version of the code carries."""
    return sorted(entry.name for entry in files(__package__).iterdir() if entry.name.endswith(".sql"))
