"""The files and uploads that the holder of a key sees."""

from collections.abc import Sequence
from typing import Literal

from files.serializers import file_object, future_file, upload_object
from manifold.deployments import Deployments
from manifold.errors import InvalidRequest, NotFound
from manifold.reading import Reading
from manifold.responses import Page, carried_bytes
from manifold.schemas import File, FilePurpose, Upload
from manifold.store.uploads import UploadRow

MAX_PAGE_BYTES = 5_000_000
"""Of a page within Lambda's response, which has 6 MB at most. A longer page is cut, with `has_more`."""


class Catalog:
    """Reads the files that the holder of a key sees, with the states of their inputs. The routes that show a file or an
    upload call it.

    Holds the reading and the deployments. Raises `NotFound` for a file that the holder does not see.
    """

    def __init__(self, reading: Reading, deployments: Deployments) -> None:
        self._reading = reading
        self._deployments = deployments

    async def retrieve(self, file_id: str) -> File:
        """A file, with the states of its inputs."""
        file = await self._find(file_id)
        if file is None:
            raise file_not_found(file_id)
        return file

    async def file_of(self, row: UploadRow) -> File:
        """The file of a presigned upload, as it will be if the upload is pending."""
        return future_file(row) if row.status == "pending" else await self.retrieve(row.file_id)

    async def upload(self, row: UploadRow) -> Upload:
        """An upload, with its file if it is completed and the file was not deleted since."""
        return upload_object(row, await self._find(row.file_id))

    async def page(
        self,
        *,
        limit: int,
        order: Literal["asc", "desc"],
        after: str | None,
        purpose: FilePurpose | None,
        names: Sequence[str],
    ) -> Page[File]:
        """The files by age. With `names`, only those that one of these model groups may run.

        Raises `InvalidRequest` (`invalid_cursor`) if `after` is no file that the holder sees.
        """
        _, seen = await self._reading.read(
            lambda reads: reads.files(limit=limit, order=order, after=after, purpose=purpose, names=names)
        )
        if seen is None:
            raise InvalidRequest(f"No such File object: {after}.", param="after", code="invalid_cursor")
        files = [file_object(one.file, one.inputs, self._deployments) for one in seen]
        return Page[File].of(files, min(limit, _fitting(files)))

    async def _find(self, file_id: str) -> File | None:
        _, seen = await self._reading.read(lambda reads: reads.file(file_id, inputs=True))
        return file_object(seen.file, seen.inputs, self._deployments) if seen else None


def file_not_found(file_id: str) -> NotFound:
    """The error for a file that the caller does not have."""
    return NotFound(f"No such File object: {file_id}.", param="id", code="file_not_found")


def _fitting(files: Sequence[File]) -> int:
    """How many of these files one answer can hold: one at least."""
    left = MAX_PAGE_BYTES
    for count, file in enumerate(files):
        left -= carried_bytes(file.model_dump_json().encode()) + 1
        if left < 0:
            return max(1, count)
    return len(files)
