"""Uploads: files that come in parts, or straight into the bucket, until they are whole.

pending ──► completed      An upload reserves its file, so who sees the file sees the upload. Whoever joins the parts
   ├──────► cancelled      holds a lease; all that a complete still needs then is in the row.
   └──────► expired
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, LiteralString

from psycopg.types.json import Jsonb

from manifold.access import Caller
from manifold.store.connection import Connection
from manifold.store.ownership import owner, visible
from manifold.store.queries import fetch_all, fetch_one

UploadStates = Literal["pending", "completed", "cancelled", "expired"]

UPLOAD_SECONDS = 3600
"""How long the parts of an upload may take to come: OpenAI's hour."""

_FREE: LiteralString = "(u.leased_until IS NULL OR u.leased_until <= now())"
_OPEN: LiteralString = "u.status = 'pending' AND u.expires_at > now()"
_COLUMNS: LiteralString = f"""u.id, u.file_id, f.filename, f.purpose, f.bytes, u.names, u.part_ids, u.attempts, u.md5,
    u.report, u.lease, u.created_at, u.expires_at, {_OPEN} AS takes_parts,
    CASE WHEN u.status = 'pending' AND u.expires_at <= now() AND {_FREE} THEN 'expired' ELSE u.status END AS status"""
_FROM: LiteralString = "FROM uploads u JOIN files f ON f.id = u.file_id"


@dataclass(frozen=True, slots=True)
class UploadRow:
    id: str
    file_id: str
    filename: str
    purpose: str
    bytes: int
    """As promised at its creation."""
    names: list[str]
    part_ids: list[str] | None
    attempts: int
    """Of a worker, at what it is to do next."""
    md5: str | None
    """Of the joined bytes; `None` until they are joined."""
    report: dict[str, Any] | None
    lease: str | None
    created_at: datetime
    expires_at: datetime
    takes_parts: bool
    """False also for a pending one whose hour ended while it is being completed."""
    status: UploadStates

    @property
    def prefix(self) -> str:
        """What the storage keys of its parts begin with."""
        return f"uploads/{self.id}/"

    def part_key(self, part_id: str) -> str:
        return self.prefix + part_id


@dataclass(frozen=True, slots=True)
class PartRow:
    id: str
    upload_id: str
    bytes: int
    created_at: datetime


class Uploads:
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
        """The upload of a file that the caller may see, whether the file is whole already or not."""
        return await self._one(f"u.file_id = %(id)s AND {visible(caller)}", {"id": file_id} | owner(caller))

    async def load(self, upload_id: str) -> UploadRow | None:
        """Any upload, for the worker."""
        return await self._one("u.id = %(id)s", {"id": upload_id})

    async def add_part(
        self, part_id: str, upload_id: str, size: int, *, most_bytes: int, most_parts: int
    ) -> PartRow | None:
        """Note a part whose bytes are stored; `None` if the upload has ended or, with it, has more than the most.

        Parts that come at the same moment do not see each other, and may all be the last that is taken.
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
        """Those of these parts that the upload has, by their ids."""
        query: LiteralString = """SELECT id, upload_id, bytes, created_at FROM upload_parts
            WHERE upload_id = %(upload)s AND id = ANY(%(ids)s)"""
        found = await fetch_all(self._connection, PartRow, query, {"upload": upload_id, "ids": list(part_ids)})
        return {part.id: part for part in found}

    async def claim(self, upload_id: str, part_ids: Sequence[str], lease: str, seconds: float) -> UploadRow | None:
        """Take the lease on a pending upload that nobody holds, to complete it with these parts.

        What was joined of other parts is forgotten.
        """
        query: LiteralString = f"""
            UPDATE uploads u SET lease = %(lease)s, leased_until = now() + make_interval(secs => %(seconds)s),
                md5 = CASE WHEN u.part_ids = %(parts)s THEN u.md5 END,
                report = CASE WHEN u.part_ids = %(parts)s THEN u.report END, part_ids = %(parts)s, attempts = 0
            FROM files f
            WHERE u.id = %(id)s AND f.id = u.file_id AND {_OPEN} AND {_FREE} RETURNING {_COLUMNS}"""
        parameters = {"id": upload_id, "parts": list(part_ids), "lease": lease, "seconds": seconds}
        return await fetch_one(self._connection, UploadRow, query, parameters)

    async def claim_due(self, upload_id: str, lease: str, seconds: float) -> UploadRow | None:
        """Take the lease on an upload whose parts a worker is to join or, where it has ended, to clear."""
        query: LiteralString = f"""
            UPDATE uploads u SET lease = %(lease)s, leased_until = now() + make_interval(secs => %(seconds)s),
                attempts = u.attempts + 1
            FROM files f
            WHERE u.id = %(id)s AND f.id = u.file_id AND {_FREE} AND u.due_at <= now()
                AND (u.status <> 'pending' OR {_OPEN} AND u.md5 IS NULL)
            RETURNING {_COLUMNS}"""
        return await fetch_one(
            self._connection, UploadRow, query, {"id": upload_id, "lease": lease, "seconds": seconds}
        )

    async def renew(self, row: UploadRow, seconds: float) -> bool:
        """Hold on for this long, from now; false if the upload is somebody else's, or nobody's."""
        return await self._changed(
            """UPDATE uploads SET leased_until = clock_timestamp() + make_interval(secs => %s)
               WHERE id = %s AND lease = %s""",
            (seconds, row.id, row.lease),
        )

    async def joined(self, row: UploadRow, md5: str, report: dict[str, Any] | None) -> bool:
        """Note what the joined bytes are like."""
        return await self._changed(
            "UPDATE uploads SET md5 = %s, report = %s, due_at = NULL WHERE id = %s AND lease = %s",
            (md5, None if report is None else Jsonb(report), row.id, row.lease),
        )

    async def forget(self, row: UploadRow) -> bool:
        """The joined bytes are not those that the client meant, and are gone."""
        return await self._changed(
            "UPDATE uploads SET part_ids = NULL, md5 = NULL, report = NULL WHERE id = %s AND lease = %s",
            (row.id, row.lease),
        )

    async def release(self, row: UploadRow, due_in: float | None = None) -> bool:
        """Give the lease back; with `due_in` a worker is to look at it after so many seconds."""
        return await self._changed(
            """UPDATE uploads SET lease = NULL, leased_until = NULL, due_at = now() + make_interval(secs => %s)
               WHERE id = %s AND lease = %s""",
            (due_in, row.id, row.lease),
        )

    async def complete(self, row: UploadRow) -> bool:
        """pending → completed; its parts are to be cleared."""
        return await self._changed(
            """UPDATE uploads SET status = 'completed', report = NULL, due_at = now(), attempts = 0, lease = NULL,
                   leased_until = NULL
               WHERE id = %s AND status = 'pending' AND lease = %s""",
            (row.id, row.lease),
        )

    async def cancel(self, upload_id: str) -> bool:
        """pending → cancelled, also while its parts are joined; these are to be cleared."""
        return await self._changed(
            """UPDATE uploads SET status = 'cancelled', due_at = now(), attempts = 0, lease = NULL, leased_until = NULL
               WHERE id = %s AND status = 'pending' AND expires_at > now()""",
            (upload_id,),
        )

    async def expire(self, limit: int) -> None:
        """pending → expired, where the hour is over and nobody is joining; the parts are to be cleared."""
        await self._connection.execute(
            """UPDATE uploads SET status = 'expired', due_at = now(), attempts = 0 WHERE id IN (
                   SELECT id FROM uploads WHERE status = 'pending' AND expires_at <= now()
                       AND (leased_until IS NULL OR leased_until <= now())
                   ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)""",
            (limit,),
        )

    async def cleared(self, row: UploadRow) -> None:
        """The parts of an upload that has ended are gone; so are their rows, which nobody reads any more."""
        await self._connection.execute(
            """WITH ended AS (
                   UPDATE uploads SET due_at = NULL, lease = NULL, leased_until = NULL
                   WHERE id = %s AND status <> 'pending' AND lease = %s RETURNING id)
               DELETE FROM upload_parts WHERE upload_id IN (SELECT id FROM ended)""",
            (row.id, row.lease),
        )

    async def due(self, limit: int) -> list[str]:
        """Uploads that have waited for a worker too long and that nobody holds."""
        cursor = await self._connection.execute(
            f"""SELECT u.id FROM uploads u WHERE u.due_at <= now() - interval '15 seconds' AND {_FREE}
                ORDER BY u.due_at LIMIT %s""",
            (limit,),
        )
        return [upload_id for (upload_id,) in await cursor.fetchall()]

    async def _one(self, condition: LiteralString, parameters: dict[str, Any]) -> UploadRow | None:
        query: LiteralString = f"SELECT {_COLUMNS} {_FROM} WHERE {condition}"
        return await fetch_one(self._connection, UploadRow, query, parameters)

    async def _changed(self, query: LiteralString, parameters: Sequence[object]) -> bool:
        return (await self._connection.execute(query, parameters)).rowcount == 1
