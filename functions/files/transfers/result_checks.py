"""Whether a job's result files are what its provider announced, and what the batch's `errors` say if they are not."""

from collections.abc import Sequence

from files.transfers.fetched_results import FetchedResults
from files.transfers.result_scan import ResultScan
from files.transfers.retry_policy import owner_message
from manifold.batch_status import ErrorEntry, batch_error
from manifold.store.jobs import JobRow


def problems(job: JobRow, results: FetchedResults) -> list[ErrorEntry]:
    """What is wrong with the results and may be right when they are fetched again."""
    entries = [
        batch_error("results_incomplete", f"Not all results could be downloaded. {owner_message(fault)}")
        for fault in results.faults
    ]
    for kind, scan in results.files.items():
        entries += _problems_of_file(kind, scan, job.kept.get(kind, 0))
    if not results.faults and results.lines < (job.answers or 0):
        message = f"By the provider's counts, {job.answers} requests have a result; its files have {results.lines}."
        entries.append(batch_error("results_incomplete", message))
    return entries


def warnings(results: FetchedResults) -> list[ErrorEntry]:
    """What is unexpected in the results. They are accepted nevertheless."""
    repeated = results.answered.repeated
    if not repeated:
        return []
    message = f"{repeated} results have the custom_id of another one. Only the first of each is kept."
    return [batch_error("results_repeated", message)]


def is_exact(job: JobRow, results: FetchedResults, checksum: int | None) -> bool:
    """Whether the copies in S3 answer each request of the job once, and hold nothing else.

    `checksum` is the `custom_id_checksum` of the requests, as far as it is known: as many results with another one
    answer other requests.
    """
    if any(scan.invalid or scan.unread for scan in results.files.values()) or results.has_repeated:
        return False
    answered = results.answered
    if not job.requests:  # old code wrote it
        return True
    return len(answered) == job.requests and checksum in (None, answered.checksum)


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
