"""Jobs and inputs at a provider: what a 404 means, and what a cancel does that is refused."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any

from manifold.errors import ProviderRefused, ProviderUnclear
from manifold.providers import ENDED, JobStatus

GONE = 404
CLOCK_MARGIN = 600
"""Seconds by which a provider's clock may differ from ours."""
CANNOT_CANCEL = frozenset({400, 404, 409})
"""The statuses of a cancel of a job that has ended."""


async def known(
    ref: str,
    job: Awaitable[Mapping[str, Any]],
    listing: AsyncIterator[object],
    ref_of: Callable[[Mapping[str, Any]], str],
) -> Mapping[str, Any] | None:
    """The job that is retrieved; `None` if the provider does not know it.

    A wrong base URL answers 404 for each job, too: the job is unknown only where the jobs can be listed.
    """
    try:
        found = await job
    except ProviderRefused as refusal:
        if refusal.status != GONE:
            raise
        await anext(listing, None)
        return None
    if ref_of(found) != ref:
        raise ProviderUnclear("an answer about another job")
    return found


async def cancel(
    call: Awaitable[object],
    status: Callable[[], Awaitable[JobStatus | None]],
    refusals: Collection[int] = CANNOT_CANCEL,
) -> None:
    """Send a cancel. It may be refused, with one of these HTTP statuses, for a job that has ended or is about to."""
    try:
        await call
    except ProviderRefused as refusal:
        if refusal.status not in refusals or not is_ending(await status()):
            raise


async def discard(call: Awaitable[object]) -> None:
    """Send a delete. No error if what it deletes is gone already."""
    try:
        await call
    except ProviderRefused as refusal:
        if refusal.status != GONE:
            raise


def is_ending(status: JobStatus | None) -> bool:
    """Whether a job is known that has ended, or is being cancelled."""
    return status is not None and not status.lost and (status.state in ENDED or status.state == "cancelling")
