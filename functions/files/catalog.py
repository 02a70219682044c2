"""The files and uploads that a caller sees."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from files.serializers import file_object, future_file, upload_object
from manifold.access import Caller
from manifold.deployments import Deployments
from manifold.errors import InvalidRequest, NotFound
from manifold.responses import Page
from manifold.schemas import File, FilePurpose, Upload
from manifold.store import Store, Tables
from manifold.store.inputs import InputRow
from manifold.store.paging import Cursor
from manifold.store.uploads import UploadRow

MAX_PAGE_BYTES = 5_000_000
"""Lambda answers with 6 MB at most. A longer page is cut, with `has_more`."""


class Catalog:
    """Reads the files of a caller, with the states of their inputs. The routes that show a file or an upload call it.

    Holds the store and the deployments. Raises `NotFound` for a file that the caller does not have.
    """

    def __init__(self, store: Store, deployments: Deployments, caller: Caller) -> None:
        self._store = store
        self._deployments = deployments
        self._caller = caller

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
        """The caller's files by age. With `names`, only those that one of these model groups may run.

        Raises `InvalidRequest` if `after` is no file of the caller.
        """
        groups = [self._caller.group(name) for name in names]
        async with self._store.session() as tables:
            cursor = await self._cursor(tables, after)
            rows = await tables.files.page(
                self._caller, limit=limit, order=order, after=cursor, purpose=purpose, groups=groups
            )
            inputs = await tables.inputs.of_files([row.id for row in rows])
        by_file: dict[str, list[InputRow]] = defaultdict(list)
        for one in inputs:
            by_file[one.file_id or ""].append(one)
        files = [file_object(row, by_file[row.id], self._deployments) for row in rows]
        return Page[File].of(files, min(limit, _fitting(files)))

    async def _find(self, file_id: str) -> File | None:
        async with self._store.session() as tables:
            row = await tables.files.get(file_id, self._caller)
            inputs = await tables.inputs.of_file(file_id) if row else []
        return file_object(row, inputs, self._deployments) if row else None

    async def _cursor(self, tables: Tables, after: str | None) -> Cursor | None:
        if after is None:
            return None
        cursor = await tables.files.cursor(after, self._caller)
        if cursor is None:
            raise InvalidRequest(f"No such File object: {after}.", param="after", code="invalid_cursor")
        return cursor


def file_not_found(file_id: str) -> NotFound:
    """The error for a file that the caller does not have."""
    return NotFound(f"No such File object: {file_id}.", param="id", code="file_not_found")


def _fitting(files: Sequence[File]) -> int:
    """How many of these files one answer can hold: one at least."""
    left = MAX_PAGE_BYTES
    for count, file in enumerate(files):
        left -= len(file.model_dump_json()) + 1
        if left < 0:
            return max(1, count)
    return len(files)
