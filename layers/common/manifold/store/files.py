"""Managed files: the rows behind `file-…`. The bytes are in S3 under `storage_key`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, LiteralString

from psycopg.types.json import Jsonb

from manifold.access import Caller
from manifold.store.connection import Connection
from manifold.store.ownership import owner, visible
from manifold.store.paging import Cursor, page_clause, page_parameters
from manifold.store.queries import fetch_all, fetch_one

_BRIEF: LiteralString = """id, purpose, filename, bytes, status, status_details, groups, user_id, team_id, key_id,
    created_at, expires_at, deleted_at"""
_COLUMNS: LiteralString = _BRIEF + ", report"
_LISTED: LiteralString = _BRIEF + ", NULL::jsonb AS report"

RESERVED_SECONDS = 3600
"""How long the bytes of a create may take to come within one request: many times what they need."""


@dataclass(frozen=True, slots=True)
class FileRow:
    id: str
    purpose: str
    filename: str
    bytes: int
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None
    groups: list[str]
    report: dict[str, Any] | None
    user_id: str | None
    team_id: str | None
    key_id: str | None
    created_at: datetime
    expires_at: datetime | None
    deleted_at: datetime | None

    @property
    def storage_key(self) -> str:
        return storage_key(self.id)


@dataclass(frozen=True, slots=True)
class NewFile:
    """What an insert needs; `expires_after` is in seconds."""

    id: str
    purpose: str
    filename: str
    bytes: int
    groups: list[str]
    report: dict[str, Any] | None = None
    expires_after: int | None = None
    status: Literal["uploaded", "processed"] = "processed"


@dataclass(frozen=True, slots=True)
class PurgeRow:
    """A deleted file that somebody holds to purge it."""

    id: str
    attempts: int
    lease: str


def storage_key(file_id: str) -> str:
    """Where the bytes of a managed file are in the bucket."""
    return f"files/{file_id}"


class Files:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, file: NewFile, caller: Caller) -> FileRow:
        """Add a file that belongs to `caller`."""
        return await self._insert(file, caller, None)

    async def reserve(self, file: NewFile, caller: Caller, seconds: int = RESERVED_SECONDS) -> None:
        """Write a file ahead of its bytes: nobody sees it until it is registered.

        It is born as one that is deleted after so many seconds, so that the bytes of a create that never came to its
        end are purged like any other's.
        """
        await self._insert(file, caller, seconds)

    async def register(
        self, file_id: str, *, groups: list[str] | None = None, report: dict[str, Any] | None = None
    ) -> FileRow | None:
        """Show a reserved file, whose bytes are there now; `None` if its time is over.

        It counts as created now. `groups` and `report` are those found since it was reserved.
        """
        query: LiteralString = f"""
            UPDATE files SET deleted_at = NULL, status = 'processed', created_at = now(),
                expires_at = now() + (expires_at - created_at), groups = COALESCE(%(groups)s, groups),
                report = COALESCE(%(report)s, report)
            WHERE id = %(id)s AND deleted_at > clock_timestamp() RETURNING {_COLUMNS}"""
        parameters = {"id": file_id, "groups": groups, "report": None if report is None else Jsonb(report)}
        return await fetch_one(self._connection, FileRow, query, parameters)

    async def get(self, file_id: str, caller: Caller, *, keep: bool = False) -> FileRow | None:
        """A file that the caller may see and that is neither deleted nor expired.

        With `keep` nobody can delete it until the transaction ends: a batch is about to need it.
        """
        lock: LiteralString = " FOR SHARE" if keep else ""
        query: LiteralString = (
            f"SELECT {_COLUMNS} FROM files WHERE id = %(id)s AND {_LIVE} AND {visible(caller)}" + lock
        )
        return await fetch_one(self._connection, FileRow, query, {"id": file_id} | owner(caller))

    async def load(self, file_id: str) -> FileRow | None:
        """Any file, for the engine: also one that its owner has deleted while a batch still needs it."""
        query: LiteralString = f"SELECT {_COLUMNS} FROM files WHERE id = %(id)s AND purged_at IS NULL"
        return await fetch_one(self._connection, FileRow, query, {"id": file_id})

    async def page(
        self,
        caller: Caller,
        *,
        limit: int,
        order: Literal["asc", "desc"] = "desc",
        after: Cursor | None = None,
        purpose: str | None = None,
        groups: list[str] | None = None,
    ) -> list[FileRow]:
        """Files without their reports; one row more than `limit`, if there is one: it tells of another page."""
        by_purpose: LiteralString = " AND purpose = %(purpose)s" if purpose else ""
        by_group: LiteralString = " AND groups && %(groups)s" if groups else ""
        query: LiteralString = f"SELECT {_LISTED} FROM files WHERE {_LIVE} AND {visible(caller)}" + (
            by_purpose + by_group + page_clause(after, order)
        )
        parameters = owner(caller) | page_parameters(after, limit) | {"purpose": purpose, "groups": groups}
        return await fetch_all(self._connection, FileRow, query, parameters)

    async def cursor(self, file_id: str, caller: Caller) -> Cursor | None:
        """Where the page after this file starts, also if it was deleted since; `None` if the caller never saw it."""
        query: LiteralString = f"SELECT created_at, id FROM files WHERE id = %(id)s AND {visible(caller)}"
        return await fetch_one(self._connection, Cursor, query, {"id": file_id} | owner(caller))

    async def delete(self, file_id: str, caller: Caller) -> FileRow | None:
        """Mark a file as deleted by its owner; `None` if the caller has no such file."""
        query: LiteralString = f"""
            UPDATE files SET deleted_at = clock_timestamp() WHERE id = %(id)s AND {_LIVE} AND {visible(caller)}
            RETURNING {_COLUMNS}"""
        return await fetch_one(self._connection, FileRow, query, {"id": file_id} | owner(caller))

    async def is_deleted(self, file_id: str, caller: Caller) -> bool:
        """Whether it is a deleted file that the caller saw before."""
        cursor = await self._connection.execute(
            f"SELECT 1 FROM files WHERE id = %(id)s AND deleted_at <= now() AND {visible(caller)}",
            {"id": file_id} | owner(caller),
        )
        return await cursor.fetchone() is not None

    async def expire(self, limit: int) -> list[str]:
        """Mark as deleted what has expired, and return the ids."""
        cursor = await self._connection.execute(
            """UPDATE files SET deleted_at = now() WHERE id IN (
                   SELECT id FROM files WHERE deleted_at IS NULL AND expires_at <= now()
                   ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)
               RETURNING id""",
            (limit,),
        )
        return [file_id for (file_id,) in await cursor.fetchall()]

    async def to_purge(self, limit: int) -> list[str]:
        """Deleted files that no open batch needs, whose bytes are there for too long, and which nobody holds."""
        cursor = await self._connection.execute(
            f"""SELECT id FROM files f WHERE {_PURGEABLE} AND {_FREE}
                    AND coalesce(f.due_at, f.deleted_at) <= now() - interval '15 seconds'
                ORDER BY coalesce(f.due_at, f.deleted_at) LIMIT %s""",
            (limit,),
        )
        return [file_id for (file_id,) in await cursor.fetchall()]

    async def purgeable(self, file_id: str) -> bool:
        """Whether this file is deleted, not purged yet, and needed by no open batch."""
        cursor = await self._connection.execute(f"SELECT 1 FROM files f WHERE f.id = %s AND {_PURGEABLE}", (file_id,))
        return await cursor.fetchone() is not None

    async def claim_purge(self, file_id: str, lease: str, seconds: float) -> PurgeRow | None:
        """Take a purgeable file for this long, or `None`: needed, gone, not due, or another worker has it."""
        query: LiteralString = f"""
            UPDATE files f SET lease = %(lease)s, leased_until = now() + make_interval(secs => %(seconds)s),
                attempts = attempts + 1
            WHERE f.id = %(id)s AND {_PURGEABLE} AND {_FREE} AND coalesce(f.due_at, f.deleted_at) <= now()
            RETURNING id, attempts, lease"""
        return await fetch_one(self._connection, PurgeRow, query, {"id": file_id, "lease": lease, "seconds": seconds})

    async def retry_purge(self, row: PurgeRow, seconds: float) -> None:
        """Give the lease back and try again after this long."""
        await self._connection.execute(
            """UPDATE files SET due_at = now() + make_interval(secs => %s), lease = NULL, leased_until = NULL
               WHERE id = %s AND purged_at IS NULL AND lease = %s""",
            (seconds, row.id, row.lease),
        )

    async def purged(self, row: PurgeRow) -> bool:
        """deleted → purged, by the holder of the lease: the bytes and the providers' copies are gone."""
        changed = await self._connection.execute(
            """UPDATE files SET purged_at = now(), due_at = NULL, lease = NULL, leased_until = NULL
               WHERE id = %s AND deleted_at IS NOT NULL AND purged_at IS NULL AND lease = %s""",
            (row.id, row.lease),
        )
        return changed.rowcount == 1

    async def _insert(self, file: NewFile, caller: Caller, deleted_after: int | None) -> FileRow:
        query: LiteralString = f"""
            INSERT INTO files (id, purpose, filename, bytes, status, groups, report, expires_at, deleted_at,
                user_id, team_id, key_id)
            VALUES (%(id)s, %(purpose)s, %(filename)s, %(bytes)s, %(status)s, %(groups)s, %(report)s,
                now() + make_interval(secs => %(expires_after)s), now() + make_interval(secs => %(deleted_after)s),
                %(user_id)s, %(team_id)s, %(key_id)s)
            RETURNING {_COLUMNS}"""
        parameters = {
            "id": file.id,
            "purpose": file.purpose,
            "filename": file.filename,
            "bytes": file.bytes,
            "status": file.status,
            "groups": file.groups,
            "report": None if file.report is None else Jsonb(file.report),
            "expires_after": file.expires_after,
            "deleted_after": deleted_after,
        }
        row = await fetch_one(self._connection, FileRow, query, parameters | owner(caller))
        assert row is not None  # noqa: S101 (an INSERT without ON CONFLICT returns its row)
        return row


_LIVE: LiteralString = "deleted_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())"
_FREE: LiteralString = "(leased_until IS NULL OR leased_until <= now())"
_PURGEABLE: LiteralString = """deleted_at <= now() AND purged_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.input_file_id = f.id AND b.due_at IS NOT NULL)"""
