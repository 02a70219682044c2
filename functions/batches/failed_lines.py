"""The lines of an ended batch that have no successful answer, and the batch that runs them again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from batches.errors import batch_not_found
from manifold import ids
from manifold.errors import InvalidRequest, NotFound
from manifold.jsonl.report import Report
from manifold.store.batches import GRACE_SECONDS, BatchRow, NewBatch
from manifold.store.files import FileRow, NewFile

_KEPT_SECONDS = 2_592_000
"""A batch's file is kept for thirty days, as after an upload."""
RETRY_FILE_SECONDS = 3 * GRACE_SECONDS
"""The file of a retry stays reserved until its batch cannot be open any more."""


@dataclass(frozen=True, slots=True)
class FailedLines:
    """Those lines, and the file that is to be made of them."""

    batch: BatchRow
    file: NewFile

    @property
    def files(self) -> list[str]:
        """The files (ids) that are needed to find the lines."""
        return [file_id for file_id in (self.batch.input_file_id, self.batch.output_file_id) if file_id]

    def report(self, found: Sequence[FileRow | None]) -> Report:
        """About what a report of them would say: of each number of the input's their part.

        Raises `NotFound` if one of the `files` was not found, and `InvalidRequest` if the input has bad lines: a batch
        may have ended before they were checked.
        """
        for file_id, file in zip(self.files, found, strict=True):
            if file is None:
                message = f"No such File object: {file_id}. The lines cannot be found without this file of the batch."
                raise NotFound(message, param="batch_id", code="file_not_found")
        assert found[0] is not None and found[0].report is not None  # noqa: S101, PT018 (an input has one)
        whole, part = Report.from_json(found[0].report), self.batch.total - _succeeded(self.batch)
        if whole.error_count or whole.endpoint_errors(self.batch.endpoint):
            raise _nothing_to_retry("its file has bad lines")

        def of(number: int) -> int:
            return -(-number * part // max(whole.lines, 1))

        tokens = None if whole.input_tokens is None else (of(sum(whole.input_tokens)),)
        stated = whole.output_limits == whole.lines
        return replace(
            whole,
            lines=part,
            bytes=of(whole.bytes),
            input_tokens=tokens,
            output_tokens=(of(sum(whole.output_tokens or ())),),
            output_limits=part if stated else 0,
        )

    def retry(self, groups: Sequence[str], expires_in: int) -> NewBatch:
        """The batch that runs them, in those groups."""
        before = self.batch
        return NewBatch(
            id=ids.new("batch"),
            input_file_id=self.file.id,
            endpoint=before.endpoint,
            completion_window=before.completion_window,
            groups=list(groups),
            metadata=before.metadata,
            total=before.total - _succeeded(before),
            output_expires_after=before.output_expires_after,
            expires_in=expires_in,
            retry_rounds=before.retry_rounds,
            retry_of=before.id,
        )


def failed_lines(batch: BatchRow | None, batch_id: str) -> FailedLines:
    """The failed lines of a batch. Raises `NotFound`, and `InvalidRequest` if it is open or nothing is left to do."""
    if batch is None:
        raise batch_not_found(batch_id)
    if batch.due_at is not None:
        message = f"The batch is still {batch.status}. Send this when it has ended, or cancel it first."
        raise InvalidRequest(message, param="batch_id", code="batch_not_ended")
    is_checked = batch.in_progress_at is not None or batch.status in ("expired", "cancelled")
    if not is_checked or batch.total <= _succeeded(batch):
        raise _nothing_to_retry(
            "every line of it has a successful answer" if is_checked else "it failed before any line was run"
        )
    file = NewFile(
        id=ids.new("file"),
        purpose="batch",
        filename=f"{batch.id}_retry.jsonl",
        bytes=0,
        groups=batch.groups,
        expires_after=_KEPT_SECONDS,
    )
    return FailedLines(batch, file)


def _nothing_to_retry(reason: str) -> InvalidRequest:
    message = f"The batch has no lines to run again: {reason}. Create another batch to run the whole file."
    return InvalidRequest(message, param="batch_id", code="nothing_to_retry")


def _succeeded(batch: BatchRow) -> int:
    """The lines with a successful answer that can be read."""
    return batch.completed if batch.output_file_id else 0
