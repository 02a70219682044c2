"""Files whose bytes come by one PUT straight into the bucket, for clients that are no SDKs.

They are uploads with one part, which the client writes itself. It is copied when the file is completed: the link works
for an hour, and what was written after that is nobody's file.
"""

from typing import cast

from manifold.schemas import FilePurpose, PresignedFile
from manifold.storage import Storage
from manifold.store.uploads import UPLOAD_SECONDS, UploadRow

CONTENT = "content"
"""Stands for that part's id."""


def presigned(row: UploadRow, storage: Storage) -> PresignedFile:
    """Where the bytes are to be put."""
    return PresignedFile(
        id=row.file_id,
        bytes=row.bytes,
        created_at=int(row.created_at.timestamp()),
        expires_at=int(row.expires_at.timestamp()),
        filename=row.filename,
        purpose=cast(FilePurpose, row.purpose),
        url=storage.upload_link(row.part_key(CONTENT), size=row.bytes, seconds=UPLOAD_SECONDS),
        headers={"Content-Length": str(row.bytes)},
    )
