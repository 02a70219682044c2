"""Managed files: the rows behind `file-…`. The bytes are in S3 under `storage_key`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, LiteralString, NamedTuple

from psycopg.types.json import Jsonb

from manifold.access import Caller
from manifold.store.connection import Connection
from manifold.store.ownership import owner, visible
from manifold.store.queries import fetch_one

_COLUMNS: LiteralString = """id, purpose, filename, bytes, status, status_details, groups, user_id, team_id, key_id,
    created_at, expires_at, deleted_at, report"""

RESERVED_SECONDS = 3600
"""How long a file of one request stays reserved while its bytes are stored: many times what that takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileView:
    """What clients read of a row of `files`."""

    id: str
    purpose: str
    filename: str
    bytes: int
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None
    groups: list[str]
    created_at: datetime
    expires_at: datetime | None

    @property
    def storage_key(self) -> str:
        return storage_key(self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow(FileView):
    """A row of `files`."""

    report: dict[str, Any] | None
    user_id: str | None
    team_id: str | None
    key_id: str | None
    deleted_at: datetime | None


class NewFile(NamedTuple):
    """A file to be added. `expires_after` is in seconds."""

    id: str
    purpose: str
    filename: str
    bytes: int
    groups: list[str]
    report: dict[str, Any] | None = None
    expires_after: int | None = None
    status: Literal["uploaded", "processed"] = "processed"


class PurgeRow(NamedTuple):
    """A deleted file that a worker has leased to purge it."""

    id: str
    attempts: int
    lease: str


def storage_key(file_id: str) -> str:
    """The key of a managed file's bytes in the bucket."""
    return f"files/{file_id}"


class Files:
    """The table `files`, and every change of a file's status and deletion."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, file: NewFile, caller: Caller) -> FileRow:
        """Add a file that belongs to `caller`."""
        return await self._insert(file, caller, None)

    async def reserve(self, file: NewFile, caller: Caller, seconds: int = RESERVED_SECONDS) -> None:
        """Write a file before its bytes are stored. Nobody sees the file until it is registered.

        It is written as a file that will be deleted after `seconds`, so that what a create leaves that did not end is
        purged like any other file.
        """
        await self._insert(file, caller, seconds)

    async def fill(self, file_id: str, *, size: int, report: dict[str, Any] | None = None) -> None:
        """Note the size and the report of a reserved file, whose bytes are stored now. It stays reserved."""
        await self._connection.execute(
            "UPDATE files SET bytes = %s, report = coalesce(%s, report) WHERE id = %s AND deleted_at > now()",
            (size, None if report is None else Jsonb(report), file_id),
        )

    async def end_reservations(self, file_ids: Sequence[str]) -> None:
        """Have these reserved files purged now: nobody needs them any more."""
        await self._connection.execute(
            "UPDATE files SET deleted_at = now() WHERE id = ANY(%s) AND deleted_at > now()", (list(file_ids),)
        )

    async def register(
        self,
        file_id: str,
        *,
        groups: list[str] | None = None,
        report: dict[str, Any] | None = None,
        error: str | None = None,
    ) -> FileRow | None:
        """Show a reserved file, whose bytes are stored now; `None` if its reservation is over.

        Its creation time is now. `groups` and `report` are those that were found since the reservation. With `error`,
        the file cannot be used, and that is why.
        """
        query: LiteralString = f"""
            UPDATE files SET deleted_at = NULL, created_at = now(),
                status = CASE WHEN %(error)s::text IS NULL THEN 'processed' ELSE 'error' END,
                status_details = %(error)s, expires_at = now() + (expires_at - created_at),
                groups = COALESCE(%(groups)s, groups), report = COALESCE(%(report)s, report)
            WHERE id = %(id)s AND deleted_at > clock_timestamp() RETURNING {_COLUMNS}"""
        parameters = {
            "id": file_id,
            "groups": groups,
            "report": None if report is None else Jsonb(report),
            "error": error,
        }
        return await fetch_one(self._connection, FileRow, query, parameters)

    async def get(self, file_id: str, caller: Caller, *, keep: bool = False) -> FileRow | None:
        """A file that the caller may see and that is neither deleted nor expired.

        With `keep` nobody can delete the file until the transaction ends, which adds a batch that needs it.
        """
        lock: LiteralString = " FOR SHARE" if keep else ""
        query: LiteralString = (
            f"SELECT {_COLUMNS} FROM files WHERE id = %(id)s AND {_LIVE} AND {visible(caller)}" + lock
        )
        return await fetch_one(self._connection, FileRow, query, {"id": file_id} | owner(caller))

    async def load(self, file_id: str) -> FileRow | None:
        """Any file that is not purged, for the workers: also one that was deleted while a batch needs it."""
        query: LiteralString = f"SELECT {_COLUMNS} FROM files WHERE id = %(id)s AND purged_at IS NULL"
        return await fetch_one(self._connection, FileRow, query, {"id": file_id})

    async def delete(self, file_id: str, caller: Caller) -> FileRow | None:
        """live → deleted, by its owner; `None` if the caller has no such file."""
        query: LiteralString = f"""
            UPDATE files SET deleted_at = clock_timestamp() WHERE id = %(id)s AND {_LIVE} AND {visible(caller)}
            RETURNING {_COLUMNS}"""
        return await fetch_one(self._connection, FileRow, query, {"id": file_id} | owner(caller))

    async def is_deleted(self, file_id: str, caller: Caller) -> bool:
        """Whether it is a deleted file of the caller."""
        cursor = await self._connection.execute(
            f"SELECT 1 FROM files WHERE id = %(id)s AND deleted_at <= now() AND {visible(caller)}",
            {"id": file_id} | owner(caller),
        )
        return await cursor.fetchone() is not None

    async def expire(self, limit: int) -> list[str]:
        """live → deleted, for up to `limit` files that have expired; returns their ids."""
        cursor = await self._connection.execute(
            """WITH due AS MATERIALIZED (
                   SELECT id FROM files WHERE deleted_at IS NULL AND expires_at <= now()
                   ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)
               UPDATE files SET deleted_at = now() WHERE id IN (SELECT id FROM due) RETURNING id""",
            (limit,),
        )
        return [file_id for (file_id,) in await cursor.fetchall()]

    async def to_purge(self, limit: int) -> list[str]:
        """The files whose purge has been due for 15 seconds and that no worker holds; `limit` at most."""
        cursor = await self._connection.execute(
            f"""SELECT id FROM files f WHERE {_PURGEABLE} AND {_FREE}
                    AND coalesce(f.due_at, f.deleted_at) <= now() - interval '15 seconds'
                ORDER BY coalesce(f.due_at, f.deleted_at) LIMIT %s""",
            (limit,),
        )
        return [file_id for (file_id,) in await cursor.fetchall()]

    async def purgeable(self, file_id: str) -> bool:
        """Whether the file is deleted, not yet purged, and needed by no open batch, nor by a worker of an ended one."""
        cursor = await self._connection.execute(f"SELECT 1 FROM files f WHERE f.id = %s AND {_PURGEABLE}", (file_id,))
        return await cursor.fetchone() is not None

    async def claim_purge(self, file_id: str, lease: str, seconds: float) -> PurgeRow | None:
        """Lease a purgeable file for `seconds`; `None` if it is needed, purged, not due, or leased already."""
        query: LiteralString = f"""
            UPDATE files f SET lease = %(lease)s, leased_until = now() + make_interval(secs => %(seconds)s),
                attempts = attempts + 1
            WHERE f.id = %(id)s AND {_PURGEABLE} AND {_FREE} AND coalesce(f.due_at, f.deleted_at) <= now()
            RETURNING id, attempts, lease"""
        return await fetch_one(self._connection, PurgeRow, query, {"id": file_id, "lease": lease, "seconds": seconds})

    async def retry_purge(self, row: PurgeRow, seconds: float) -> None:
        """Give the lease back, to try again after `seconds`."""
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
    AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.input_file_id = f.id AND b.due_at IS NOT NULL)
    AND NOT EXISTS (
        SELECT 1 FROM batches b JOIN jobs j ON j.batch_id = b.id JOIN chunks c ON c.job_id = j.id
        WHERE b.input_file_id = f.id AND c.leased_until > now())"""
