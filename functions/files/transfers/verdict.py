"""Whether a job's result files are what its provider announced, and what the batch's `errors` say of them if not."""

from collections.abc import Sequence
from typing import Any

from files.transfers.fetching import Found
from files.transfers.retry_policy import public
from files.transfers.tally import Tally
from manifold.store.jobs import JobRow

Entry = dict[str, Any]


def flaws(job: JobRow, found: Found) -> list[Entry]:
    """What fetching them again may mend."""
    entries = [entry("results_incomplete", f"Not all results could be had. {public(one)}") for one in found.faults]
    entries += [one for name, tally in found.files.items() for one in _of_file(name, tally, job.kept.get(name, 0))]
    distinct = found.lines - found.answered.repeated()
    if not found.faults and distinct < (job.answers or 0):
        message = f"By the provider's counts, {job.answers} requests have a result; its files have {distinct}."
        entries.append(entry("results_incomplete", message))
    return entries


def oddities(job: JobRow, found: Found) -> list[Entry]:
    """What is told, and taken as it is."""
    repeated, entries = found.answered.repeated(), []
    if repeated:
        message = f"{repeated} results have the custom_id of another one. All of them are kept."
        entries.append(entry("results_repeated", message))
    extra = found.lines - repeated - job.requests
    if job.requests and extra > 0:
        entries.append(entry("results_unknown", f"{extra} results answer no request of the input. They are kept."))
    return entries


def told(entries: Sequence[Entry]) -> str:
    """The same as one text."""
    return " ".join(entry["message"] for entry in entries)


def _of_file(name: str, tally: Tally, kept: int) -> list[Entry]:
    entries = []
    if tally.torn or tally.cut or tally.lines < kept:
        message = f"The provider's {name} file broke off. Only whole lines of it are kept."
        entries.append(entry("results_incomplete", message))
    if tally.strange:
        message = f"{tally.strange} lines of the provider's {name} file are no JSON object with a custom_id."
        entries.append(entry("results_invalid", message))
    return entries


def entry(code: str, message: str) -> Entry:
    """One entry of `errors.data`."""
    return {"code": code, "message": message, "param": None, "line": None}
