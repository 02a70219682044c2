"""The last step of an upload: its joined bytes become a file. A request and the worker share it."""

from files import inputs
from files.target_groups import TargetGroups
from manifold.access import Caller
from manifold.deployments import Deployments
from manifold.errors import InvalidRequest, ManifoldError, Unavailable
from manifold.jsonl.report import Report
from manifold.queue import Message, Queue
from manifold.store import Store, Tables
from manifold.store.files import FileRow
from manifold.store.uploads import UploadRow


class Finishing:
    """Makes a joined upload, whose lease is held, a file. `Completion` and the worker's `Joining` call it.

    Holds the store, the queue and the deployments. Raises `Unavailable` if the upload ended meanwhile, or Postgres does
    not answer.
    """

    def __init__(self, store: Store, queue: Queue, deployments: Deployments) -> None:
        self._store = store
        self._queue = queue
        self._deployments = deployments

    async def finish(self, row: UploadRow, caller: Caller) -> None:
        """Show the file, complete the upload and add the inputs, in one transaction.

        Raises `InvalidRequest` if the sum is not the expected one, and `PermissionDenied` or `InvalidRequest` for model
        groups that the caller may not use.
        """
        if not row.has_expected_md5:
            raise wrong_md5(row)
        groups, report = self._target_groups(row, caller)
        async with self._store.transaction() as tables:
            file = await tables.files.register(row.file_id, groups=groups, report=report.to_json() if report else None)
            await _complete(tables, row, file)
            pending = await inputs.ensure(tables, file, self._deployments) if file else []
        await self._queue.announce(Message("input", input_id) for input_id in pending)
        await self._queue.announce([Message("upload", row.id)])

    async def fail(self, row: UploadRow, error: ManifoldError) -> None:
        """Complete the upload with a file that says why it cannot be used. It has no report, so no batch takes it."""
        async with self._store.transaction() as tables:
            await _complete(tables, row, await tables.files.register(row.file_id, error=error.message))
        await self._queue.announce([Message("upload", row.id)])

    def _target_groups(self, row: UploadRow, caller: Caller) -> tuple[list[str], Report | None]:
        if row.report is None:
            return [], None
        return TargetGroups(self._deployments, caller).for_report(row.names, Report.from_json(row.report))


async def _complete(tables: Tables, row: UploadRow, file: FileRow | None) -> None:
    if file is None or not await tables.uploads.complete(row):
        raise Unavailable("The upload ended meanwhile. Send the request again to see how.")


def wrong_md5(row: UploadRow) -> InvalidRequest:
    """The error for bytes whose sum is not the one that the client sent."""
    message = f"The file's md5 is {row.md5}, which is not the one that was sent. Check the parts and their order."
    return InvalidRequest(message, param="md5", code="md5_mismatch")
