"""Why a batch's input file cannot be run, as the entries of its `errors.data`."""

from manifold.batch_status import ErrorEntry, batch_error
from manifold.jsonl.report import LineError, Report
from manifold.store.batches import BatchRow
from manifold.store.files import FileRow

MAX_ERRORS = 100
"""How many bad lines `errors.data` lists at most; one more entry then says how many there are."""


def input_errors(batch: BatchRow, file: FileRow | None) -> list[ErrorEntry]:
    """An entry for each bad line, in their order, `MAX_ERRORS` at most; empty if the file can run at the endpoint."""
    if file is None or file.report is None:
        return [batch_error("invalid_request", "The input file is gone. Upload it again.", param="input_file_id")]
    report = Report.from_json(file.report)
    errors = sorted([*report.errors, *report.endpoint_errors(batch.endpoint)], key=lambda error: error.line or 0)
    elsewhere = sum(use.count for url, use in report.urls.items() if url != batch.endpoint)
    count = report.error_count + elsewhere
    entries = [_line_entry(error) for error in errors[:MAX_ERRORS]]
    if count > len(entries):
        more = f"{count} errors in all; the first {len(entries)} are listed. Correct them and upload the file again."
        entries.append(batch_error("too_many_errors", more))
    return entries


def _line_entry(error: LineError) -> ErrorEntry:
    return batch_error(error.code, error.message, param=error.param, line=error.line)
