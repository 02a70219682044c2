"""Finds a job whose create was unclear at a provider that keeps no name of it: by size and time, then by its results.

docs/decisions/0029-unclear-creates.md says what that costs.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from manifold.errors import ProviderError, ProviderUnclear
from manifold.providers import Job
from manifold.providers.batch_jobs import CLOCK_MARGIN

CREATE_SECONDS = 900
"""How long after the job's row the create may have begun: the worker that wrote it has no longer."""


@dataclass(frozen=True, slots=True)
class Found:
    """A job as the provider lists it."""

    ref: str
    created_at: int | None
    """Unix seconds, if they can be read."""
    requests: int
    """How many there are; 0 where they are not counted yet."""
    ended: bool
    empty: bool = False
    """Whether it has ended without any result: then nothing was executed, and nothing can be lost by another job."""


Read = Callable[[Mapping[str, Any]], Found]
"""Reads an entry of the provider's listing."""
FirstId = Callable[[str], Awaitable[str | None]]
"""Reads the id of the first result of an ended job; `None` if it has no result."""


async def find(
    job: Job, pages: AsyncIterator[Sequence[Mapping[str, Any]]], read: Read, first_id: FirstId
) -> str | None:
    """`BatchProvider.find`. The pages list the newest jobs first.

    Results are read of the job first that was created closest to our row. One that cannot be read is raised only where
    no other one tells that its job is the one.
    """
    candidates = [found async for found in _candidates(job, pages, read)]
    candidates.sort(key=lambda found: abs((found.created_at or job.created_at) - job.created_at))
    unread: ProviderError | None = None
    for found in candidates:
        if found.ended and not found.empty:
            try:
                request_id = await first_id(found.ref)
            except ProviderError as error:
                unread = error
                continue
            if request_id is not None and request_id.startswith(f"{job.input_id}-"):
                return found.ref
    if unread is not None:
        raise unread
    running = sum(not found.ended for found in candidates)
    if running:
        raise ProviderUnclear(f"{running} running jobs may be this one: their results will tell")
    return None


async def _candidates(job: Job, pages: AsyncIterator[Sequence[Mapping[str, Any]]], read: Read) -> AsyncIterator[Found]:
    since, until = job.created_at - CLOCK_MARGIN, job.created_at + CREATE_SECONDS + CLOCK_MARGIN
    async for entries in pages:
        page = [read(entry) for entry in entries]
        for found in page:
            created_at = found.created_at
            in_time = created_at is None or since <= created_at <= until
            fits = not job.requests or found.requests in (0, job.requests)
            if in_time and fits and found.ref not in job.others:
                yield found
        if page and page[-1].created_at is not None and page[-1].created_at < since:
            return
