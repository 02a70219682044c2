"""Fireworks' jobs and datasets as values: names, states, statuses and signed URLs.

https://docs.fireworks.ai/api-reference/get-batch-inference-job
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from manifold.errors import ProviderUnclear
from manifold.providers import ENDED, JobState, JobStatus, LineFailure
from manifold.providers.openai.batch_object import count, mapping, reference

STATES: Mapping[str, JobState] = {
    "JOB_STATE_CREATING": "validating",
    "JOB_STATE_CREATING_INPUT_DATASET": "validating",
    "JOB_STATE_VALIDATING": "validating",
    "JOB_STATE_PENDING": "validating",
    "JOB_STATE_RUNNING": "in_progress",
    "JOB_STATE_RE_QUEUEING": "in_progress",
    "JOB_STATE_IDLE": "in_progress",
    "JOB_STATE_PAUSED": "in_progress",
    "JOB_STATE_WRITING_RESULTS": "finalizing",
    "JOB_STATE_COMPLETED": "completed",
    "JOB_STATE_FAILED": "failed",
    "JOB_STATE_EARLY_STOPPED": "expired",
    "JOB_STATE_EXPIRED": "expired",
    "JOB_STATE_CANCELLING": "cancelling",
    "JOB_STATE_DELETING": "cancelling",
    "JOB_STATE_DELETING_CLEANING_UP": "cancelling",
    "JOB_STATE_CANCELLED": "cancelled",
    "JOB_STATE_DELETED": "cancelled",
    "JOB_STATE_ARCHIVED": "cancelled",
}
LONGEST_MESSAGE = 500
LENGTH_RANGE = "x-goog-content-length-range"


def job_status(job: Mapping[str, Any]) -> JobStatus | None:
    """The status of Fireworks' job, or `None` if its `state` is unknown.

    The dataset of the results is named where it must be there: of a job that completed, or that counts results. The
    number of input requests is the one that the dataset was declared with.
    """
    state = STATES.get(str(job.get("state")))
    if state is None:
        return None
    progress, (_, message) = mapping(job.get("jobProgress")), status_of(job)
    completed, failed = count(progress.get("successfullyProcessedRequests")), count(progress.get("failedRequests"))
    has_results = state == "completed" or (state in ENDED and completed + failed > 0)
    return JobStatus(
        state=state,
        total=max(count(progress.get("totalInputRequests")), completed + failed),
        completed=completed,
        failed=failed,
        output_ref=last_of(job.get("outputDatasetId")) if has_results else None,
        errors=(LineFailure(None, message or "The provider gave no reason."),) if state == "failed" else (),
    )


def own_name(own_id: str) -> str:
    """The name of a dataset or job of ours at Fireworks: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", own_id.lower()).strip("-")


def upload_headers(url: str, size: int) -> dict[str, str]:
    """The headers that the URL was signed with. A store refuses one of its own that it was not signed with."""
    signed = " ".join(parse_qs(urlsplit(url).query).get("X-Goog-SignedHeaders", [])).split(";")
    return {LENGTH_RANGE: f"{size},{size}"} if LENGTH_RANGE in signed else {}


def signed_urls_of(answer: Mapping[str, Any]) -> list[str]:
    """The URLs of the files, in the order of their names."""
    urls = answer.get("filenameToSignedUrls")
    if not isinstance(urls, dict) or not urls or not all(isinstance(url, str) for url in urls.values()):
        raise ProviderUnclear("an answer without signed URLs")
    return [urls[name] for name in sorted(urls)]


def status_of(owner: Mapping[str, Any]) -> tuple[object, str]:
    """The code and the message of a resource's `status`."""
    status = mapping(owner.get("status"))
    code, message = status.get("code"), status.get("message")
    return code if isinstance(code, str | int | None) else str(code), str(message or "")[:LONGEST_MESSAGE]


def id_of(owner: Mapping[str, Any]) -> str:
    """The id at the end of a resource's name: `accounts/…/batchInferenceJobs/<id>`."""
    ref = last_of(owner.get("name"))
    if ref is None:
        raise ProviderUnclear("an answer without a name")
    return ref


def last_of(name: object) -> str | None:
    """The id at the end of a resource's name, `None` if it is no name."""
    return reference(name.rpartition("/")[2]) if isinstance(name, str) else None
