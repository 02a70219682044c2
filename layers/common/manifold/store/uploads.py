"""Uploads: files that are sent in parts, or by one PUT into the bucket, until they are complete.

pending ──► completed      An upload reserves its file, so who sees the file sees the upload. Whoever joins the parts
   ├──────► cancelled      holds a lease, and notes in the row all that the completion needs.
   └──────► expired
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, LiteralString, NamedTuple

from psycopg.types.json import Jsonb

from manifold.access import Caller
from manifold.store.connection import Connection
from manifold.store.ownership import owner, visible
from manifold.store.queries import changes_one, fetch_all, fetch_one

UploadStates = Literal["pending", "completed", "cancelled", "expired"]

UPLOAD_SECONDS = 3600
"""How long an upload takes parts: OpenAI's hour."""
JOIN_SECONDS = 3600
"""How much longer an upload that a client has completed may be joined."""

_FREE: LiteralString = "(u.leased_until IS NULL OR u.leased_until <= now())"
_OPEN: LiteralString = "u.status = 'pending' AND u.expires_at > now()"
_JOINABLE: LiteralString = f"""u.status = 'pending' AND (u.expires_at > now()
    OR u.due_at IS NOT NULL AND u.expires_at > now() - make_interval(secs => {JOIN_SECONDS}))"""
_COLUMNS: LiteralString = f"""u.id, u.file_id, f.filename, f.purpose, f.bytes, f.key_id, u.names, u.part_ids,
    u.expected_md5, u.attempts, u.md5, u.report, u.lease, u.created_at, u.expires_at, {_OPEN} AS takes_parts,
    CASE WHEN u.status = 'pending' AND NOT ({_JOINABLE}) AND {_FREE} THEN 'expired' ELSE u.status END AS status"""
_FROM: LiteralString = "FROM uploads u JOIN files f ON f.id = u.file_id"


class UploadRow(NamedTuple):
    """A row of `uploads`, with what it needs of its file."""

    id: str
    file_id: str
    filename: str
    purpose: str
    bytes: int
    """Bytes of the file, as announced."""
    key_id: str | None
    """The key that announced the file; `None` for the master key."""
    names: list[str]
    part_ids: list[str] | None
    """The parts of the client's complete, in order; `None` before it."""
    expected_md5: str | None
    """The MD5 that the client sent with its complete, in hex."""
    attempts: int
    """Attempts of the worker at its next step."""
    md5: str | None
    """MD5 of the joined bytes, in hex; `None` until they are joined."""
    report: dict[str, Any] | None
    lease: str | None
    created_at: datetime
    expires_at: datetime
    takes_parts: bool
    """Whether it is pending and its hour is not over."""
    status: UploadStates

    @property
    def has_expected_md5(self) -> bool:
        """Whether the joined bytes have the sum that the client sent, if it sent one."""
        return self.expected_md5 in (None, self.md5)

    @property
    def prefix(self) -> str:
        """The prefix of the storage keys of its parts."""
        return f"uploads/{self.id}/"

    def part_key(self, part_id: str) -> str:
        """The storage key of a part."""
        return self.prefix + part_id


class PartRow(NamedTuple):
    """A row of `upload_parts`."""

    id: str
    upload_id: str
    bytes: int
    created_at: datetime


class Uploads:
    """The tables `uploads` and `upload_parts`, and every change of an upload's status."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def insert(self, upload_id: str, file_id: str, names: Sequence[str]) -> UploadRow:
        """Add an upload of a file that is reserved in the same transaction."""
        await self._connection.execute(
            """INSERT INTO uploads (id, file_id, names, expires_at)
               VALUES (%s, %s, %s, now() + make_interval(secs => %s))""",
            (upload_id, file_id, list(names), UPLOAD_SECONDS),
        )
        row = await self._one("u.id = %(id)s", {"id": upload_id})
        assert row is not None  # noqa: S101 (it was just inserted)
        return row

    async def get(self, upload_id: str, caller: Caller) -> UploadRow | None:
        """An upload that the caller may see."""
        return await self._one(f"u.id = %(id)s AND {visible(caller)}", {"id": upload_id} | owner(caller))

    async def of_file(self, file_id: str, caller: Caller) -> UploadRow | None:
        """The upload of a file that the caller may see, whether it is completed or not."""
        return await self._one(f"u.file_id = %(id)s AND {visible(caller)}", {"id": file_id} | owner(caller))

    async def load(self, upload_id: str) -> UploadRow | None:
        """Any upload, for the worker."""
        return await self._one("u.id = %(id)s", {"id": upload_id})

    async def add_part(
        self, part_id: str, upload_id: str, size: int, *, most_bytes: int, most_parts: int
    ) -> PartRow | None:
        """Note a part of `size` bytes that is stored; `None` if the upload has ended or would exceed a limit.

        Parts that are noted at the same moment do not see each other, so together they may exceed a limit.
        """
        query: LiteralString = f"""
            INSERT INTO upload_parts (id, upload_id, bytes)
            SELECT %(id)s, u.id, %(bytes)s FROM uploads u WHERE u.id = %(upload)s AND {_OPEN} AND (
                SELECT coalesce(sum(p.bytes), 0) + %(bytes)s <= %(most_bytes)s AND count(*) < %(most_parts)s
                FROM upload_parts p WHERE p.upload_id = u.id)
            RETURNING id, upload_id, bytes, created_at"""
        parameters = {
            "id": part_id,
            "upload": upload_id,
            "bytes": size,
            "most_bytes": most_bytes,
            "most_parts": most_parts,
        }
        return await fetch_one(self._connection, PartRow, query, parameters)

    async def parts(self, upload_id: str, part_ids: Sequence[str]) -> dict[str, PartRow]:
        """The parts with these ids that the upload has, by id."""
        query: LiteralString = """SELECT id, upload_id, bytes, created_at FROM upload_parts
            WHERE upload_id = %(upload)s AND id = ANY(%(ids)s)"""
        rows = await fetch_all(self._connection, PartRow, query, {"upload": upload_id, "ids": list(part_ids)})
        return {row.id: row for row in rows}

    async def claim(
        self, upload_id: str, part_ids: Sequence[str], md5: str | None, lease: str, seconds: float, *, rejoin: bool
    ) -> UploadRow | None:
        """Lease a pending upload for `seconds`, to complete it with these parts; `None` if another one holds it.

        What was joined of other parts is forgotten, and with `rejoin` all of it: their bytes may have changed. If the
        lease runs out, the upload is due for a worker.
        """
        query: LiteralString = f"""
            UPDATE uploads u SET lease = %(lease)s, leased_until = now() + make_interval(secs => %(seconds)s),
                due_at = now() + make_interval(secs => %(seconds)s),
                md5 = CASE WHEN u.part_ids = %(parts)s AND NOT %(rejoin)s THEN u.md5 END,
                report = CASE WHEN u.part_ids = %(parts)s AND NOT %(rejoin)s THEN u.report END,
                part_ids = %(parts)s,
                expected_md5 = %(md5)s, attempts = 0
            FROM files f
            WHERE u.id = %(id)s AND f.id = u.file_id AND {_JOINABLE} AND {_FREE} RETURNING {_COLUMNS}"""
        parameters = {
            "id": upload_id,
            "parts": list(part_ids),
            "md5": md5.lower() if md5 else None,
            "lease": lease,
            "seconds": seconds,
            "rejoin": rejoin,
        }
        return await fetch_one(self._connection, UploadRow, query, parameters)

    async def claim_due(self, upload_id: str, lease: str, seconds: float) -> UploadRow | None:
        """Lease an upload for `seconds` that a worker is to complete, or whose parts are to be deleted at its end."""
        query: LiteralString = f"""
            UPDATE uploads u SET lease = %(lease)s, leased_until = now() + make_interval(secs => %(seconds)s),
                attempts = u.attempts + 1
            FROM files f
            WHERE u.id = %(id)s AND f.id = u.file_id AND {_FREE} AND u.due_at <= now()
                AND (u.status <> 'pending' OR {_JOINABLE})
            RETURNING {_COLUMNS}"""
        return await fetch_one(
            self._connection, UploadRow, query, {"id": upload_id, "lease": lease, "seconds": seconds}
        )

    async def renew(self, row: UploadRow, seconds: float) -> bool:
        """Extend the lease to `seconds` from now; false if it is lost."""
        return await changes_one(
            self._connection,
            """UPDATE uploads SET leased_until = clock_timestamp() + make_interval(secs => %s)
               WHERE id = %s AND lease = %s""",
            (seconds, row.id, row.lease),
        )

    async def joined(self, row: UploadRow, md5: str, report: dict[str, Any] | None) -> bool:
        """Note what the joined bytes are like."""
        return await changes_one(
            self._connection,
            "UPDATE uploads SET md5 = %s, report = %s WHERE id = %s AND lease = %s",
            (md5, None if report is None else Jsonb(report), row.id, row.lease),
        )

    async def forget(self, row: UploadRow) -> bool:
        """Forget what was joined, since it is not what the client meant. To be called before its deletion."""
        return await changes_one(
            self._connection,
            """UPDATE uploads SET part_ids = NULL, expected_md5 = NULL, md5 = NULL, report = NULL
               WHERE id = %s AND lease = %s""",
            (row.id, row.lease),
        )

    async def release(self, row: UploadRow, due_in: float | None = None) -> bool:
        """Give the lease back. With `due_in`, the upload is due for a worker after so many seconds."""
        return await changes_one(
            self._connection,
            """UPDATE uploads SET lease = NULL, leased_until = NULL, due_at = now() + make_interval(secs => %s)
               WHERE id = %s AND lease = %s""",
            (due_in, row.id, row.lease),
        )

    async def complete(self, row: UploadRow) -> bool:
        """pending → completed, by the holder of the lease; its parts are then to be deleted."""
        return await changes_one(
            self._connection,
            """UPDATE uploads SET status = 'completed', report = NULL, due_at = now(), attempts = 0, lease = NULL,
                   leased_until = NULL
               WHERE id = %s AND status = 'pending' AND lease = %s""",
            (row.id, row.lease),
        )

    async def cancel(self, upload_id: str) -> bool:
        """pending → cancelled, also while its parts are joined; they are then to be deleted."""
        return await changes_one(
            self._connection,
            """UPDATE uploads SET status = 'cancelled', due_at = now(), attempts = 0, lease = NULL, leased_until = NULL
               WHERE id = %s AND status = 'pending' AND (expires_at > now() OR due_at IS NOT NULL)""",
            (upload_id,),
        )

    async def expire(self, limit: int) -> None:
        """pending → expired, where the hour is over and nothing is to be joined; the parts are then to be deleted."""
        await self._connection.execute(
            f"""WITH due AS MATERIALIZED (
                   SELECT u.id FROM uploads u WHERE u.status = 'pending' AND u.expires_at <= now()
                       AND NOT ({_JOINABLE}) AND {_FREE}
                   ORDER BY u.expires_at LIMIT %s FOR UPDATE SKIP LOCKED)
               UPDATE uploads SET status = 'expired', due_at = now(), attempts = 0 WHERE id IN (SELECT id FROM due)""",
            (limit,),
        )

    async def cleared(self, row: UploadRow) -> None:
        """Note that the parts of an ended upload are deleted, and delete their rows."""
        await self._connection.execute(
            """WITH ended AS (
                   UPDATE uploads SET due_at = NULL, lease = NULL, leased_until = NULL
                   WHERE id = %s AND status <> 'pending' AND lease = %s RETURNING id)
               DELETE FROM upload_parts WHERE upload_id IN (SELECT id FROM ended)""",
            (row.id, row.lease),
        )

    async def due(self, limit: int) -> list[str]:
        """The uploads that have been due for a worker for 15 seconds and that nobody holds; `limit` at most."""
        cursor = await self._connection.execute(
            f"""SELECT u.id FROM uploads u WHERE u.due_at <= now() - interval '15 seconds' AND {_FREE}
                ORDER BY u.due_at LIMIT %s""",
            (limit,),
        )
        return [upload_id for (upload_id,) in await cursor.fetchall()]

    async def _one(self, condition: LiteralString, parameters: dict[str, Any]) -> UploadRow | None:
        query: LiteralString = f"SELECT {_COLUMNS} {_FROM} WHERE {condition}"
        return await fetch_one(self._connection, UploadRow, query, parameters)
