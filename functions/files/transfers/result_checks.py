"""Whether a job's result files are what its provider announced, and what the batch's `errors` say if they are not."""

from collections.abc import Sequence

from files.transfers.fetching import FetchedResults
from files.transfers.result_scan import ResultScan
from files.transfers.retry_policy import owner_message
from manifold.schemas import ErrorEntry, batch_error
from manifold.store.jobs import JobRow


def problems(job: JobRow, results: FetchedResults) -> list[ErrorEntry]:
    """What is wrong with the results and may be right when they are fetched again."""
    entries = [
        batch_error("results_incomplete", f"Not all results could be downloaded. {owner_message(fault)}")
        for fault in results.faults
    ]
    for kind, scan in results.files.items():
        entries += _problems_of_file(kind, scan, job.kept.get(kind, 0))
    distinct = results.lines - results.answered.repeated()
    if not results.faults and distinct < (job.answers or 0):
        message = f"By the provider's counts, {job.answers} requests have a result; its files have {distinct}."
        entries.append(batch_error("results_incomplete", message))
    return entries


def warnings(job: JobRow, results: FetchedResults) -> list[ErrorEntry]:
    """What is unexpected in the results. They are accepted nevertheless."""
    repeated, entries = results.answered.repeated(), []
    if repeated:
        message = f"{repeated} results have the custom_id of another one. All of them are kept."
        entries.append(batch_error("results_repeated", message))
    extra = results.lines - repeated - job.requests
    if job.requests and extra > 0:
        message = f"{extra} results answer no request of the input. They are kept."
        entries.append(batch_error("results_unknown", message))
    return entries


def summary(entries: Sequence[ErrorEntry]) -> str:
    """The messages as one text."""
    return " ".join(entry["message"] for entry in entries)


def _problems_of_file(kind: str, scan: ResultScan, kept: int) -> list[ErrorEntry]:
    """`kept` is how many lines of an earlier copy are in S3."""
    entries = []
    if scan.is_torn or scan.fault or scan.lines < kept:
        message = f"The provider's {kind} file broke off. Only whole lines of it are kept."
        entries.append(batch_error("results_incomplete", message))
    if scan.invalid:
        message = f"{scan.invalid} lines of the provider's {kind} file are no JSON object with a custom_id."
        entries.append(batch_error("results_invalid", message))
    return entries
