"""Mistral's batch jobs. Files are as OpenAI's; a job has its own shape and its own words for states.

https://docs.mistral.ai/api/#tag/batch; `BatchJob` in mistralai 3.7.0.
"""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from manifold import durations
from manifold.errors import ProviderRefused, ProviderUnclear
from manifold.profiles.profile import CHAT, EMBEDDINGS
from manifold.providers import Endpoint, Job, JobState
from manifold.providers.batch_jobs import GONE
from manifold.providers.batch_lines import LineTranslator
from manifold.providers.http_call import HttpCall
from manifold.providers.listings import MAX_PAGES
from manifold.providers.openai.batch_lines import BodyLines
from manifold.providers.openai.batch_object import listed
from manifold.providers.openai.batches import JOB_ID_KEY, PAGE, OpenAIBatches

STATES: Mapping[str, JobState] = {
    "QUEUED": "validating",
    "RUNNING": "in_progress",
    "SUCCESS": "completed",
    "FAILED": "failed",
    "TIMEOUT_EXCEEDED": "expired",
    "CANCELLATION_REQUESTED": "cancelling",
    "CANCELLED": "cancelled",
}
NO_ROUTE = "Not Found"
"""The `detail` of the 404 of a path that does not exist."""
MOST_HOURS = 167
"""`timeout_hours` must be less than seven days."""


class MistralBatches(OpenAIBatches):
    """A `BatchProvider` of Mistral. Its jobs are translated into OpenAI's batches, and then handled as those are.

    A job keeps our metadata. It is looked for in the listing, newest first, and not by the listing's `metadata` filter:
    a filter that the server reads otherwise would hide a job that exists.
    """

    def translator(self, endpoint: Endpoint) -> LineTranslator:
        routes = frozenset({CHAT, EMBEDDINGS})
        return BodyLines("mistral", endpoint.base_url, None, base_model=endpoint.family, routes=routes)

    def _input_filter(self, endpoint: Endpoint) -> dict[str, str]:
        return {"purpose": "batch", "limit": str(PAGE)}

    def _call(self, endpoint: Endpoint, *path: str, **params: str) -> HttpCall:
        if path[0] == "batches":
            path = ("batch", "jobs", *path[1:])
        if "limit" in params:
            params["page_size"] = params.pop("limit")
        return super()._call(endpoint, *path, **params)

    def _create_body(self, endpoint: Endpoint, job: Job) -> dict[str, Any]:
        return {
            "input_files": [job.input_ref],
            "endpoint": job.endpoint,
            "model": endpoint.model,
            "timeout_hours": timeout_hours(job.completion_window),
            "metadata": {JOB_ID_KEY: job.id},
        }

    def _batch(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        return as_openai(answer)

    def _is_gone(self, refusal: ProviderRefused) -> bool:
        """Of a file that is gone, Mistral says only `{"detail": "No file matches the given query."}`."""
        return refusal.status == GONE and refusal.detail not in (None, NO_ROUTE)

    async def _pages(self, endpoint: Endpoint, path: str, **params: str) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """The pages by their numbers, until one is empty or repeats the one before: `total` is not relied on."""
        previous: Sequence[Mapping[str, Any]] = ()
        for number in range(MAX_PAGES):
            answer = await self._client.call("GET", self._call(endpoint, path, page=str(number), **params))
            page = listed(answer, "data")
            if not page or _ids(page) == _ids(previous):
                return
            yield page
            previous = page
        raise ProviderUnclear("a listing that does not end")


def timeout_hours(completion_window: str) -> int:
    """A job's time limit in whole hours."""
    return min(math.ceil(durations.parse(completion_window).total_seconds() / 3600), MOST_HOURS)


def as_openai(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Mistral's job as OpenAI's batch, with the members that this gateway reads.

    `errors` sums up the messages of failed requests, too. It is a reason only of a job that failed.
    """
    state, files = STATES.get(str(job.get("status"))), job.get("input_files")
    return {
        "id": job.get("id"),
        "status": state,
        "metadata": job.get("metadata"),
        "input_file_id": files[0] if isinstance(files, list) and files else None,
        "created_at": job.get("created_at"),
        "request_counts": {
            "total": job.get("total_requests"),
            "completed": job.get("succeeded_requests"),
            "failed": job.get("failed_requests"),
        },
        "output_file_id": job.get("output_file"),
        "error_file_id": job.get("error_file"),
        "errors": job.get("errors") if state == "failed" else None,
    }


def _ids(page: Sequence[Mapping[str, Any]]) -> list[object]:
    return [entry.get("id") for entry in page]
