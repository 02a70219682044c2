"""Files whose bytes are sent by one PUT into the bucket, for clients without an SDK.

Such a file is an upload with one part, which the client writes itself. The part is copied when the file is completed,
so that a later PUT, which the link allows for an hour, changes no file.
"""

from typing import cast

from manifold.schemas import FilePurpose, PresignedFile
from manifold.storage import Storage
from manifold.store.uploads import UPLOAD_SECONDS, UploadRow

CONTENT_PART = "content"
"""The id of that part, which has no row."""


def presigned(row: UploadRow, storage: Storage) -> PresignedFile:
    """The presigned file of an upload, with the link that takes its bytes for an hour."""
    return PresignedFile(
        id=row.file_id,
        bytes=row.bytes,
        created_at=int(row.created_at.timestamp()),
        expires_at=int(row.expires_at.timestamp()),
        filename=row.filename,
        purpose=cast(FilePurpose, row.purpose),
        url=storage.upload_link(row.part_key(CONTENT_PART), size=row.bytes, seconds=UPLOAD_SECONDS),
        headers={"Content-Length": str(row.bytes)},
    )
